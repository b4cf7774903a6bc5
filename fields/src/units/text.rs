//! Units as text, in the spellings that UDUNITS accepts and files contain.

use super::product::Product;
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
        let lower = trimmed.to_lowercase();
        match lower.as_str() {
            "dbz" | "dbze" | "dbzh" | "decibel_z" => return Ok(Self { unit: Unit::DecibelZ, factor: 1.0 }),
            "kt" | "kts" | "knot" | "knots" | "knot_international" => {
                return Ok(Self { unit: Unit::Knots, factor: 1.0 });
            }
            _ => {}
        }
        // Names are known in any case; symbols are tried as they are first, where case tells them apart.
        let product = Product::parse(trimmed).or_else(|| Product::parse(&lower)).ok_or_else(unknown)?;
        let (unit, size) = match (product.kilogram, product.metre, product.second) {
            // A depth of water per time: kept in mm/h where it is a rate by its spelling.
            (0, 1, -1) if product.depth => (Unit::MillimetresPerHour, 0.001 / 3600.0),
            (0, 1, -1) => (Unit::MetresPerSecond, 1.0),
            (1, -2, -1) => (Unit::KilogramsPerSquareMetreSecond, 1.0),
            (1, -2, 0) => (Unit::KilogramsPerSquareMetre, 1.0),
            // A depth of water: 1 m of it is 1000 kg m-2.
            (0, 1, 0) => (Unit::KilogramsPerSquareMetre, 0.001),
            _ => return Err(unknown()),
        };
        let factor = product.factor / size;
        if !(factor.is_finite() && factor > 0.0) {
            return Err(unknown());
        }
        // Powers of ten multiplied in binary: 1 to within rounding is 1.
        Ok(Self { unit, factor: if (factor - 1.0).abs() < 1e-9 { 1.0 } else { factor } })
    }
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
            ("mm/5min", MillimetresPerHour, 12.0),
            ("mm/15min", MillimetresPerHour, 4.0),
            ("mm/5 min", MillimetresPerHour, 12.0),
            ("mm / 10 minutes", MillimetresPerHour, 6.0),
            ("mm per 5 minutes", MillimetresPerHour, 12.0),
            ("mm (5 min)-1", MillimetresPerHour, 12.0),
            ("mm/(15 min)", MillimetresPerHour, 4.0),
            ("mm 5min-1", MillimetresPerHour, 12.0),
            ("mm/24h", MillimetresPerHour, 1.0 / 24.0),
            ("mm/3 hours", MillimetresPerHour, 1.0 / 3.0),
            ("kg m-2 (5 min)-1", KilogramsPerSquareMetreSecond, 1.0 / 300.0),
            ("0.1 mm h-1", MillimetresPerHour, 0.1),
            ("0.1mm/h", MillimetresPerHour, 0.1),
            ("1e-2 mm/hr", MillimetresPerHour, 0.01),
            ("10^-2 mm", KilogramsPerSquareMetre, 0.01),
            ("0.01 mm", KilogramsPerSquareMetre, 0.01),
            ("1/100 mm", KilogramsPerSquareMetre, 0.01),
            ("mm*h-1", MillimetresPerHour, 1.0),
            ("mm\u{b7}h\u{207b}\u{b9}", MillimetresPerHour, 1.0),
            ("kg m\u{207b}\u{b2} s\u{207b}\u{b9}", KilogramsPerSquareMetreSecond, 1.0),
            ("kg/(m^2 s)", KilogramsPerSquareMetreSecond, 1.0),
            ("KG M-2 S-1", KilogramsPerSquareMetreSecond, 1.0),
            ("MM/HR", MillimetresPerHour, 1.0),
            ("Millimeters per Hour", MillimetresPerHour, 1.0),
            ("l m-2 h-1", MillimetresPerHour, 1.0),
            ("L/m2", KilogramsPerSquareMetre, 1.0),
            ("g cm-2 s-1", KilogramsPerSquareMetreSecond, 10.0),
        ] {
            let parsed = ScaledUnit::parse(text).unwrap();
            assert_eq!(parsed.unit, unit, "{text}");
            assert!((parsed.factor / factor - 1.0).abs() < 1e-9, "{text}: {}", parsed.factor);
        }
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        for text in
            ["", "K", "1", "%", "m s-2", "kg", "mm/", "mm h-9", "furlong", "m--1", "mm//h", "(mm", "mm)", "0 mm/h", "5"]
        {
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
