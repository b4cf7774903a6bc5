//! Where a forecast stands in the traces of those who sent its input.

use std::fmt;

/// A [W3C trace context](https://www.w3.org/TR/trace-context/), version 00, as its header `traceparent` says it.
///
/// ```
/// use squall_fields::TraceParent;
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let incoming = TraceParent::parse(text).expect("a trace context");
/// assert_eq!(incoming.to_string(), text);
/// let own = incoming.child([1; 8]);
/// assert_eq!(own.to_string(), "00-0af7651916cd43dd8448eb211c80319c-0101010101010101-01");
/// assert_eq!(TraceParent::parse("00-0AF7-b7-01"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

/// Length of the text in bytes.
const LENGTH: usize = 55;

impl TraceParent {
    /// A trace of its own, sampled. Zeros are not allowed in a trace context; no digest has them in practice.
    pub const fn new(trace: [u8; 16], span: [u8; 8]) -> Self {
        Self { trace: u128::from_be_bytes(trace), span: u64::from_be_bytes(span), flags: 1 }
    }

    /// Reads exactly what version 00 allows: 55 bytes, lower-case hex, no ids of zero.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != LENGTH || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-')) {
            return None;
        }
        let mut parts = text.split('-');
        let ("00", Some(trace), Some(span), Some(flags), None) =
            (parts.next()?, parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        if (trace.len(), span.len(), flags.len()) != (32, 16, 2) {
            return None;
        }
        let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
        let flags = u8::from_str_radix(flags, 16).ok()?;
        (trace != 0 && span != 0).then_some(Self { trace, span, flags })
    }

    /// Another span of the same trace.
    #[must_use]
    pub const fn child(self, span: [u8; 8]) -> Self {
        Self { span: u64::from_be_bytes(span), ..self }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_recommendation_allows_is_taken() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        assert!(TraceParent::parse(good).is_some());
        for bad in [
            "",
            &good[..54],
            &format!("{good}-what-comes-later"),
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-00",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00é0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }
}
