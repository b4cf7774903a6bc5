//! What went wrong: in a word that decides what is done about it, and in words for a person.
//!
//! Each crate has error types of its own; all of them say their [`ErrorKind`] and whether a retry can help, and keep
//! what another library or the system said as a [`Cause`], not as text. The program prints an error with its causes
//! by [`lines`], writes it into one log line by [`Chain`], and ends with an exit code that follows from the kind. What
//! crosses from a thread that ends to whoever started it is a [`Failure`].

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Who can help with an error. Every error type of Squall says its kind and whether a retry can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The person who configured or called it: stops before anything starts.
    User,
    /// Whoever made the data: the record goes to dead letters and the stream goes on.
    Data,
    /// A device (GPU, disk) that is slow, full or broken.
    Device,
    /// The broker, the store, or the network to them.
    Broker,
    /// Nobody need: another instance has taken over, and this one must end.
    Fenced,
    /// Nobody need: another process of the cluster has ended, and this one must end with it.
    Peer,
    /// A defect in Squall: a panic, or a state that must not be.
    Internal,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::User, Self::Data, Self::Device, Self::Broker, Self::Fenced, Self::Peer, Self::Internal];

    /// Name in logs, as it is serialized.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Data => "data",
            Self::Device => "device",
            Self::Broker => "broker",
            Self::Fenced => "fenced",
            Self::Peer => "peer",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whatever can become a [`Cause`]: an error, or a text where a library gives no more.
pub type AnyError = Box<dyn Error + Send + Sync>;

/// What lies under an error: that of another library, of the system, or of another part of Squall.
///
/// Clones share it. It is no error itself, so that `#[source]` finds the one that it holds and a caller can downcast it.
///
/// ```
/// use squall_fields::error::Cause;
/// let cause = Cause::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
/// assert!(cause.is::<std::io::Error>());
/// assert_eq!(Cause::new("cut short").to_string(), "cut short");
/// ```
#[derive(Clone)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl Cause {
    /// A cause that others may share.
    pub fn new(error: impl Into<AnyError>) -> Self {
        Self(Arc::from(error.into()))
    }
}

impl Deref for Cause {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An error and its causes, each as a text, the outermost first and nothing twice.
///
/// Many libraries put the text of a cause into their own; a cause that was said already is passed over.
pub fn lines(error: &dyn Error) -> Vec<String> {
    let mut lines = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !lines.iter().any(|line| line.contains(&text)) {
            lines.push(text);
        }
        next = cause.source();
    }
    lines
}

/// Shows an error with its causes in one line, as [`lines`] gives them.
///
/// ```
/// use squall_fields::error::{Chain, ErrorKind, Failure};
/// let failure = Failure::new(ErrorKind::Device, "the disk took no more").because("it is full");
/// assert_eq!(Chain(&failure).to_string(), "the disk took no more: it is full");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&lines(self.0).join(": "))
    }
}

/// Why a stream or a thread ended before it should, as it is handed to whoever started it. Two are equal if they have
/// the same kind and say the same.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    kind: ErrorKind,
    what: String,
    #[source]
    cause: Option<Cause>,
}

impl Failure {
    /// A failure without a further cause.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), cause: None }
    }

    /// With what lies under it.
    pub fn because(self, cause: impl Into<AnyError>) -> Self {
        Self { cause: Some(Cause::new(cause)), ..self }
    }

    /// A panic of `who`, with the payload that it left.
    ///
    /// ```
    /// use squall_fields::error::{Chain, ErrorKind, Failure};
    /// let payload = std::panic::catch_unwind(|| panic!("no such row")).unwrap_err();
    /// let failure = Failure::panicked("the device thread cpu", &*payload);
    /// assert_eq!(failure.kind(), ErrorKind::Internal);
    /// assert_eq!(Chain(&failure).to_string(), "the device thread cpu panicked: no such row");
    /// ```
    pub fn panicked(who: impl fmt::Display, payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let failure = Self::new(ErrorKind::Internal, format!("{who} panicked"));
        match text {
            Some(text) => failure.because(text),
            None => failure,
        }
    }

    /// Who can help.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl PartialEq for Failure {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && lines(self) == lines(other)
    }
}

impl Eq for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write a.nc")]
    struct Outer(#[source] Cause);

    #[derive(Debug, thiserror::Error)]
    #[error("a.nc: {source}")]
    struct Repeats {
        source: std::io::Error,
    }

    #[test]
    fn a_source_is_found_through_a_cause_and_said_once() {
        let full = || std::io::Error::other("no space");
        let outer = Outer(Cause::new(Repeats { source: full() }));
        assert!(outer.source().is_some_and(|source| source.is::<Repeats>()));
        assert_eq!(lines(&outer), ["cannot write a.nc", "a.nc: no space"]);
        assert_eq!(Chain(&Repeats { source: full() }).to_string(), "a.nc: no space");
    }

    #[test]
    fn names_are_what_is_serialized() {
        for kind in ErrorKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn a_panic_without_a_text_is_told_too() {
        let failure = Failure::panicked("worker 1", &7);
        assert_eq!(lines(&failure), ["worker 1 panicked"]);
    }
}
