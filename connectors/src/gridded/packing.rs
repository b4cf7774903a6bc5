//! What a stored number means: packed, missing, out of range, or no echo.
//!
//! Everything is brought to the domain of the stored numbers, and to their type, before a field is read (CF 2.5.1 and
//! 8.1; NetCDF Users Guide, appendix A). `-999.9` as a double is another number than `-999.9` in a field of floats:
//! it is rounded as the field is. A range is in unpacked units if it has the type that `scale_factor` and `add_offset`
//! unpack to and the field has a narrower one; otherwise it is packed.

#[cfg(test)]
mod tests;

use super::Notes;
use super::number::{Attribute, NumberType};
use crate::error::FileError;

/// A stored number that means something else than its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sentinel {
    /// The number, as the field's type holds it.
    pub value: f64,
    /// Whether it was given as f32 beside a field of f64: then it is equal to what rounds to it.
    pub single: bool,
}

impl Sentinel {
    /// Of the field's own type.
    pub const fn exact(value: f64) -> Self {
        Self { value, single: false }
    }

    /// Whether a stored number is it.
    pub fn is(self, stored: f64) -> bool {
        stored == self.value || (self.single && stored as f32 == self.value as f32)
    }
}

/// How stored numbers become values.
#[derive(Clone, Debug, PartialEq)]
pub struct Packing {
    /// The type that stored numbers are read as: with `_Unsigned`, not that which the file declares.
    pub stored: NumberType,
    /// Whether that is another than the file declares.
    pub retyped: bool,
    /// Factor of a stored number.
    pub scale: f64,
    /// Added after the factor.
    pub offset: f64,
    /// Whether values are unpacked in f32, as netCDF4-python and xarray do: `scale_factor` and `add_offset` are f32, and
    /// f32 holds every stored number. If not, they are unpacked in f64 and rounded once.
    pub single: bool,
    /// Stored numbers that mean missing.
    pub missing: Vec<Sentinel>,
    /// Least and greatest stored number that is valid.
    pub valid: (f64, f64),
    /// The stored number that means *no echo* (ODIM's `undetect`), and what it becomes.
    pub no_echo: Option<(Sentinel, f32)>,
    /// Whether the NetCDF library's own fill value is missing: the file names none.
    pub default_fill: bool,
}

impl Packing {
    /// Numbers that mean what they are.
    pub const fn plain(stored: NumberType) -> Self {
        Self {
            stored,
            retyped: false,
            scale: 1.0,
            offset: 0.0,
            single: false,
            missing: Vec::new(),
            valid: (f64::NEG_INFINITY, f64::INFINITY),
            no_echo: None,
            default_fill: false,
        }
    }

    /// By the attributes of a CF-NetCDF variable.
    ///
    /// # Errors
    /// [`FileError::Malformed`] names the attribute that cannot be understood.
    pub fn of_cf<'a>(
        name: &str,
        declared: NumberType,
        attribute: impl Fn(&str) -> Option<&'a Attribute>,
        notes: &mut Notes,
    ) -> Result<Self, FileError> {
        let words = Words { name, attribute: &attribute };
        let unsigned = match words.get("_Unsigned") {
            Some(Attribute::Text(text)) => Some(text.trim().eq_ignore_ascii_case("true")),
            Some(Attribute::Numbers(numbers, _)) => numbers.first().map(|number| *number != 0.0),
            None => None,
        };
        let stored = match unsigned {
            Some(true) => declared.unsigned(),
            Some(false) => declared.signed(),
            None => declared,
        };
        let (scale, offset) = (words.number("scale_factor")?, words.number("add_offset")?);
        let of_single = [scale, offset].into_iter().flatten().all(|(_, kind)| kind == NumberType::F32);
        let mut packing = Self {
            scale: scale.map_or(1.0, |(scale, _)| scale),
            offset: offset.map_or(0.0, |(offset, _)| offset),
            single: of_single && (stored == NumberType::F32 || stored.rank() <= NumberType::I16.rank()),
            retyped: stored != declared,
            default_fill: words.get("_FillValue").is_none() && stored == declared,
            ..Self::plain(stored)
        };
        packing.check(name, "scale_factor", "add_offset")?;
        for key in ["_FillValue", "missing_value"] {
            for (value, kind) in words.numbers(key)? {
                packing.add_missing(value, kind, &format!("{key} of {name}"), notes);
            }
        }
        let unpacked = [scale, offset].into_iter().flatten().map(|(_, kind)| kind).max_by_key(|kind| kind.rank());
        packing.valid = valid_range(&words, &packing, unpacked)?;
        if stored != declared || scale.is_some() || offset.is_some() || !packing.is_whole() {
            notes.add("packing", format!("{name}: {}", packing.summary(declared)));
        }
        Ok(packing)
    }

    /// Refuses a scale and an offset that unpack to nothing.
    ///
    /// # Errors
    /// [`FileError::Malformed`] names the one that is wrong.
    pub fn check(&self, name: &str, scale: &str, offset: &str) -> Result<(), FileError> {
        let wrong = |key: &str, expected: &str, got: f64| {
            Err(FileError::malformed(format!("{name}:{key}"), format!("expected {expected}, got {got}")))
        };
        if !(self.scale.is_finite() && self.scale != 0.0) {
            return wrong(scale, "a number other than 0", self.scale);
        }
        if self.offset.is_finite() { Ok(()) } else { wrong(offset, "a number", self.offset) }
    }

    /// A number that means missing, as a file gives it.
    pub fn add_missing(&mut self, value: f64, kind: NumberType, source: &str, notes: &mut Notes) {
        if value.is_nan() {
            // NaN is missing whatever else is.
            return;
        }
        let sentinel = match self.sentinel(value, kind) {
            Some(sentinel) => sentinel,
            None => {
                // Not a stored number: some give it unpacked.
                let stored = ((value - self.offset) / self.scale).round();
                let unpacks = |stored: f64| (stored * self.scale + self.offset - value).abs() <= 1e-6 * value.abs();
                match self.stored.hold(stored).filter(|stored| self.scale != 1.0 && unpacks(*stored)) {
                    Some(stored) => Sentinel::exact(stored),
                    None => {
                        let stored = self.stored.name();
                        notes.add("packing", format!("{source} is {value}, which no {stored} is: it means nothing"));
                        return;
                    }
                }
            }
        };
        if !self.missing.contains(&sentinel) {
            self.missing.push(sentinel);
        }
    }

    /// A number of an attribute as the stored number that it is equal to; `None` if there is none.
    pub fn sentinel(&self, value: f64, kind: NumberType) -> Option<Sentinel> {
        let value = self.stored.hold(self.with_sign(value, kind))?;
        Some(Sentinel { value, single: self.stored == NumberType::F64 && kind == NumberType::F32 })
    }

    /// A number of an attribute with the sign of the stored numbers: where these were given another sign, or where the
    /// attribute has the same bits with another.
    fn with_sign(&self, value: f64, kind: NumberType) -> f64 {
        let same_bits = !kind.is_float() && kind.rank() == self.stored.rank();
        if self.retyped || same_bits { self.stored.with_bits_of(value) } else { value }
    }

    fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.no_echo.is_none() && self.valid == (f64::NEG_INFINITY, f64::INFINITY)
    }

    /// What was understood, for a person.
    pub fn summary(&self, declared: NumberType) -> String {
        let mut text = declared.name().to_owned();
        if self.stored != declared {
            text += &format!(" read as {}", self.stored.name());
        }
        if (self.scale, self.offset) != (1.0, 0.0) {
            text += &format!(", value = stored x {} + {}", self.scale, self.offset);
        }
        let (low, high) = self.valid;
        match (low.is_finite(), high.is_finite()) {
            (true, true) => text += &format!(", valid from {low} to {high} as stored"),
            (true, false) => text += &format!(", valid from {low} as stored"),
            (false, true) => text += &format!(", valid to {high} as stored"),
            (false, false) => {}
        }
        if let Some((sentinel, value)) = self.no_echo {
            text += &format!(", {} is no echo ({value})", sentinel.value);
        }
        let missing: Vec<String> = self.missing.iter().map(|sentinel| sentinel.value.to_string()).collect();
        if !missing.is_empty() {
            text += &format!(", missing: {}", missing.join(", "));
        }
        text
    }
}

/// The attributes of one variable.
struct Words<'n, 'f, 'a> {
    name: &'n str,
    attribute: &'f dyn Fn(&str) -> Option<&'a Attribute>,
}

impl<'a> Words<'_, '_, 'a> {
    fn get(&self, key: &str) -> Option<&'a Attribute> {
        (self.attribute)(key)
    }

    /// The numbers of an attribute, from text too: some programs write every attribute as text.
    fn numbers(&self, key: &str) -> Result<Vec<(f64, NumberType)>, FileError> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Attribute::Numbers(numbers, kind)) => Ok(numbers.iter().map(|number| (*number, *kind)).collect()),
            Some(Attribute::Text(text)) => {
                let words = text.split([',', ' ', '\0']).filter(|word| !word.is_empty());
                let numbers = words.map(|word| word.parse().map(|number| (number, NumberType::F64)));
                numbers.collect::<Result<_, _>>().map_err(|_| {
                    FileError::malformed(
                        format!("{}:{key}", self.name),
                        format!("expected numbers, got the text `{text}`"),
                    )
                })
            }
        }
    }

    fn number(&self, key: &str) -> Result<Option<(f64, NumberType)>, FileError> {
        match (self.get(key), self.numbers(key)?.as_slice()) {
            (None, _) => Ok(None),
            (Some(_), [number]) => Ok(Some(*number)),
            (Some(_), numbers) => {
                let reason = format!("expected one number, got {}", numbers.len());
                Err(FileError::malformed(format!("{}:{key}", self.name), reason))
            }
        }
    }
}

/// Least and greatest valid number, as stored.
fn valid_range(
    words: &Words<'_, '_, '_>,
    packing: &Packing,
    unpacked: Option<NumberType>,
) -> Result<(f64, f64), FileError> {
    let (low, high) = match (words.get("valid_range"), words.numbers("valid_range")?.as_slice()) {
        (None, _) => (words.number("valid_min")?, words.number("valid_max")?),
        (Some(_), [low, high]) => (Some(*low), Some(*high)),
        (Some(_), numbers) => {
            let reason = format!("expected two numbers, got {}", numbers.len());
            return Err(FileError::malformed(format!("{}:valid_range", words.name), reason));
        }
    };
    let widest = [low, high].into_iter().flatten().map(|(_, kind)| kind.rank()).max();
    let is_unpacked = unpacked.is_some_and(|kind| widest == Some(kind.rank()) && kind.rank() > packing.stored.rank());
    let stored = |(value, kind): (f64, NumberType)| {
        if is_unpacked {
            (value - packing.offset) / packing.scale
        } else {
            let value = packing.with_sign(value, kind);
            packing.stored.hold(value).unwrap_or(value)
        }
    };
    let (mut low, mut high) = (low.map(stored), high.map(stored));
    if is_unpacked {
        if packing.scale < 0.0 {
            std::mem::swap(&mut low, &mut high);
        }
        // The division is not exact: what is at the bound is valid.
        let slack = |bound: f64| 1e-6 * bound.abs().max(1.0);
        (low, high) = (low.map(|v| v - slack(v)), high.map(|v| v + slack(v)));
        if !packing.stored.is_float() {
            // Not -0, which a person would wonder about.
            (low, high) = (low.map(|v| v.ceil() + 0.0), high.map(|v| v.floor() + 0.0));
        }
    }
    let not_nan = |bound: Option<f64>| bound.filter(|bound| !bound.is_nan());
    let (low, high) = (not_nan(low).unwrap_or(f64::NEG_INFINITY), not_nan(high).unwrap_or(f64::INFINITY));
    if low > high {
        let reason = format!("nothing lies in the valid range from {low} to {high}");
        return Err(FileError::malformed(words.name, reason));
    }
    Ok((low, high))
}
