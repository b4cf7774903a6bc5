//! Units as text, in the spellings that UDUNITS accepts and files contain.

use super::{Unit, UnitError};

/// A unit as a file gives it: one of Squall's units, times a factor.
///
/// `cm h-1` is ten times `mm h-1`, `km/h` is `m s-1` divided by 3.6.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaledUnit {
    /// One of the units that Squall computes in.
    pub unit: Unit,
    /// How many of them one of these is.
    pub factor: f64,
}

impl ScaledUnit {
    /// Reads a unit.
    ///
    /// ```
    /// use squall_fields::{Unit, units::ScaledUnit};
    /// for text in ["mm/h", "mm h-1", "mm hr^-1", "mm.h-1", "mm hour**-1"] {
    ///     assert_eq!(ScaledUnit::parse(text).unwrap(), ScaledUnit { unit: Unit::MillimetresPerHour, factor: 1.0 });
    /// }
    /// assert!(ScaledUnit::parse("furlongs").unwrap_err().to_string().contains("mm h-1"));
    /// ```
    ///
    /// # Errors
    /// [`UnitError::Unknown`] for a text that is no unit, or not one of a rate, an amount, a speed
    /// or a reflectivity.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let trimmed = text.trim();
        let unknown = || UnitError::Unknown { text: trimmed.chars().take(80).collect() };
        let lower = trimmed.to_ascii_lowercase();
        match lower.as_str() {
            "dbz" | "dbze" | "dbzh" | "decibel_z" => return Ok(Self { unit: Unit::DecibelZ, factor: 1.0 }),
            "kt" | "kts" | "knot" | "knots" | "knot_international" => {
                return Ok(Self { unit: Unit::Knots, factor: 1.0 });
            }
            _ => {}
        }
        let product = Product::parse(trimmed).ok_or_else(unknown)?;
        let (unit, size) = match (product.kilogram, product.metre, product.second) {
            // A depth of water per time: kept in mm/h where it is a rate by its spelling.
            (0, 1, -1) if product.hourly_depth => (Unit::MillimetresPerHour, 0.001 / 3600.0),
            (0, 1, -1) => (Unit::MetresPerSecond, 1.0),
            (1, -2, -1) => (Unit::KilogramsPerSquareMetreSecond, 1.0),
            (1, -2, 0) => (Unit::KilogramsPerSquareMetre, 1.0),
            // A depth of water: 1 m of it is 1000 kg m-2.
            (0, 1, 0) => (Unit::KilogramsPerSquareMetre, 0.001),
            _ => return Err(unknown()),
        };
        let factor = product.factor / size;
        // Powers of ten multiplied in binary: 1 to within rounding is 1.
        Ok(Self { unit, factor: if (factor - 1.0).abs() < 1e-9 { 1.0 } else { factor } })
    }
}

/// A product of powers of base units.
struct Product {
    factor: f64,
    kilogram: i32,
    metre: i32,
    second: i32,
    /// Whether a length in millimetres, centimetres or inches was divided by a time.
    hourly_depth: bool,
}

impl Product {
    fn parse(text: &str) -> Option<Self> {
        let mut product = Self { factor: 1.0, kilogram: 0, metre: 0, second: 0, hourly_depth: false };
        let (mut depth, mut sign, mut terms) = (false, 1, 0);
        let spaced = text.replace("**", "^").replace('/', " / ").replace(['*', '.', '·'], " ");
        for word in spaced.split_whitespace() {
            if word == "/" || word == "per" {
                sign = -1;
                continue;
            }
            let (name, power) = split_power(word)?;
            let power = sign * power;
            sign = 1;
            terms += 1;
            let (dimension, size) = base(name)?;
            product.factor *= size.powi(power);
            match dimension {
                'm' => {
                    product.metre += power;
                    depth |= size < 0.1;
                }
                's' => product.second += power,
                'k' => product.kilogram += power,
                _ => {}
            }
        }
        product.hourly_depth = depth;
        (terms > 0 && sign == 1).then_some(product)
    }
}

/// `m-2`, `m^-2`, `m2` as name and power.
fn split_power(word: &str) -> Option<(&str, i32)> {
    let at = word.find(|c: char| c.is_ascii_digit() || matches!(c, '^' | '-' | '+')).unwrap_or(word.len());
    if at == 0 {
        // A bare number, such as the 1 of "1/h".
        return (word == "1").then_some(("", 1));
    }
    let power = word[at..].trim_start_matches('^');
    Some((&word[..at], if power.is_empty() { 1 } else { power.parse().ok().filter(|p: &i32| p.abs() <= 4)? }))
}

/// Dimension and size of a base unit: metres, seconds or kilograms.
fn base(name: &str) -> Option<(char, f64)> {
    Some(match name {
        "" => ('1', 1.0),
        "mm" | "millimeter" | "millimeters" | "millimetre" | "millimetres" => ('m', 0.001),
        "cm" | "centimeter" | "centimeters" | "centimetre" | "centimetres" => ('m', 0.01),
        "m" | "meter" | "meters" | "metre" | "metres" => ('m', 1.0),
        "km" | "kilometer" | "kilometers" | "kilometre" | "kilometres" => ('m', 1000.0),
        "in" | "inch" | "inches" => ('m', 0.0254),
        "mi" | "mile" | "miles" => ('m', 1609.344),
        "s" | "sec" | "second" | "seconds" => ('s', 1.0),
        "min" | "minute" | "minutes" => ('s', 60.0),
        "h" | "hr" | "hour" | "hours" => ('s', 3600.0),
        "d" | "day" | "days" => ('s', 86_400.0),
        "kg" | "kilogram" | "kilograms" => ('k', 1.0),
        "g" | "gram" | "grams" => ('k', 0.001),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        use Unit::*;
        for (text, unit, factor) in [
            ("mm h-1", MillimetresPerHour, 1.0),
            ("mm/hr", MillimetresPerHour, 1.0),
            ("mm/day", MillimetresPerHour, 1.0 / 24.0),
            ("cm h-1", MillimetresPerHour, 10.0),
            ("in/hr", MillimetresPerHour, 25.4),
            ("mm s-1", MillimetresPerHour, 3600.0),
            ("m s-1", MetresPerSecond, 1.0),
            ("m/s", MetresPerSecond, 1.0),
            ("m s^-1", MetresPerSecond, 1.0),
            ("m s**-1", MetresPerSecond, 1.0),
            ("km/h", MetresPerSecond, 1.0 / 3.6),
            ("meters per second", MetresPerSecond, 1.0),
            ("kg m-2 s-1", KilogramsPerSquareMetreSecond, 1.0),
            ("kg/m2/s", KilogramsPerSquareMetreSecond, 1.0),
            ("kg m**-2 s**-1", KilogramsPerSquareMetreSecond, 1.0),
            ("kg.m-2", KilogramsPerSquareMetre, 1.0),
            ("mm", KilogramsPerSquareMetre, 1.0),
            ("m", KilogramsPerSquareMetre, 1000.0),
            ("kt", Knots, 1.0),
            ("knots", Knots, 1.0),
            ("dBZ", DecibelZ, 1.0),
        ] {
            let parsed = ScaledUnit::parse(text).unwrap();
            assert_eq!(parsed.unit, unit, "{text}");
            assert!((parsed.factor / factor - 1.0).abs() < 1e-9, "{text}: {}", parsed.factor);
        }
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        for text in ["", "K", "1", "%", "m s-2", "kg", "mm/", "mm h-9", "furlong", "m--1"] {
            assert!(ScaledUnit::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn symbols_are_read_back() {
        for unit in [
            Unit::MillimetresPerHour,
            Unit::KilogramsPerSquareMetreSecond,
            Unit::KilogramsPerSquareMetre,
            Unit::MetresPerSecond,
            Unit::Knots,
            Unit::DecibelZ,
        ] {
            assert_eq!(ScaledUnit::parse(unit.symbol()).unwrap(), ScaledUnit { unit, factor: 1.0 });
        }
    }
}
