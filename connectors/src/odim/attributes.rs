//! Attributes of ODIM groups, whatever type they were written with.

use hdf5_metno::types::{FixedAscii, FixedUnicode, FloatSize, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5_metno::{Attribute, Group};
use squall_fields::ValidTime;

use crate::error::FileError;
use crate::gridded::NumberType;

/// Longest text of fixed length that is read: a list of 200 radars has 1,600 characters.
const FIXED: usize = 8192;

/// A group with the groups around it, from the innermost outwards.
pub(super) struct Scope {
    /// `data1`, `dataset1`, root.
    pub(super) groups: Vec<Group>,
}

impl Scope {
    /// An attribute of `what`, `where` or `how`, from the innermost group that has it.
    pub(super) fn attribute(&self, group: &str, name: &str) -> Option<Attribute> {
        self.groups.iter().find_map(|outer| {
            if !outer.link_exists(group) {
                return None;
            }
            // Opened by name, not found in a list of all: listing damaged attributes crashes HDF5 1.10.
            outer.group(group).ok()?.attr(name).ok()
        })
    }

    /// The same as text.
    pub(super) fn text(&self, group: &str, name: &str) -> Option<String> {
        text(&self.attribute(group, name)?)
    }

    /// The same as a number.
    pub(super) fn number(&self, group: &str, name: &str) -> Option<f64> {
        number(&self.attribute(group, name)?)
    }

    /// The same as a number with the type that it is stored in; text that holds a number counts as f64.
    ///
    /// # Errors
    /// [`FileError::Malformed`] if there is such an attribute and it is no number.
    pub(super) fn typed_number(&self, group: &str, name: &str) -> Result<Option<(f64, NumberType)>, FileError> {
        let Some(attribute) = self.attribute(group, name) else { return Ok(None) };
        let value = number(&attribute).ok_or_else(|| {
            let got = text(&attribute).map_or_else(|| "something else".to_owned(), |text| format!("`{text}`"));
            FileError::malformed(format!("{group}/{name}"), format!("expected a number, got {got}"))
        })?;
        let single = attribute.dtype().and_then(|t| t.to_descriptor());
        let kind = match single {
            Ok(TypeDescriptor::Float(FloatSize::U4)) => NumberType::F32,
            _ => NumberType::F64,
        };
        Ok(Some((value, kind)))
    }

    /// The instant of a date `YYYYMMDD` and a time `HHmm` or `HHmmss`.
    pub(super) fn instant(&self, date: &str, time: &str) -> Result<Option<ValidTime>, FileError> {
        let (Some(date), Some(time)) = (self.text("what", date), self.text("what", time)) else { return Ok(None) };
        parse_instant(&date, &time).map(Some)
    }
}

fn parse_instant(date: &str, time: &str) -> Result<ValidTime, FileError> {
    let both = format!("{}{:0<6}", date.trim(), time.trim());
    chrono::NaiveDateTime::parse_from_str(&both, "%Y%m%d%H%M%S")
        .map(|t| ValidTime::from_unix_seconds(t.and_utc().timestamp()))
        .map_err(|_| FileError::malformed("time", format!("expected YYYYMMDD and HHmmss, got `{date}` and `{time}`")))
}

/// A text of fixed or variable length, ASCII or UTF-8, scalar or an array of one.
pub(super) fn text(attribute: &Attribute) -> Option<String> {
    let bytes = match attribute.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::FixedAscii(_) => attribute.read_raw::<FixedAscii<FIXED>>().ok()?.first()?.as_bytes().to_vec(),
        TypeDescriptor::FixedUnicode(_) => {
            attribute.read_raw::<FixedUnicode<FIXED>>().ok()?.first()?.as_bytes().to_vec()
        }
        TypeDescriptor::VarLenAscii => attribute.read_raw::<VarLenAscii>().ok()?.first()?.as_bytes().to_vec(),
        TypeDescriptor::VarLenUnicode => attribute.read_raw::<VarLenUnicode>().ok()?.first()?.as_bytes().to_vec(),
        _ => return None,
    };
    let text = String::from_utf8_lossy(&bytes);
    Some(text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned())
}

/// A number of any type, or a text that holds one.
pub(super) fn number(attribute: &Attribute) -> Option<f64> {
    match attribute.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) | TypeDescriptor::Float(_) => {
            attribute.read_raw::<f64>().ok()?.first().copied()
        }
        _ => text(attribute)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants() {
        let expected = ValidTime::parse_rfc3339("2024-11-26T02:05:00Z").unwrap();
        assert_eq!(parse_instant("20241126", "020500").unwrap(), expected);
        assert_eq!(parse_instant("20241126", "0205").unwrap(), expected);
        assert!(parse_instant("20241326", "0205").unwrap_err().to_string().contains("YYYYMMDD"));
    }
}
