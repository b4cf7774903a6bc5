//! What a reading is of, and how it gets into the unit that Squall computes in.

use serde::{Deserialize, Serialize};

use crate::units::{Conversion, ConversionContext, ScaledUnit, UnitError, named};
use crate::{Unit, Variable};

named! {
    /// What stations measure: the variables of fields that they can be compared with, and the direction of the wind.
    Quantity by name: "Name as in a configuration or a message, that of the [`Variable`] where there is one." {
        /// Rain rate in mm/h; over a period, its mean.
        RainRate = "rain_rate",
        /// Wind speed in m/s.
        WindSpeed = "wind_speed",
        /// Where the wind comes from, in degrees clockwise from north.
        WindFromDirection = "wind_from_direction",
        /// Eastward wind in m/s.
        EastwardWind = "eastward_wind",
        /// Northward wind in m/s.
        NorthwardWind = "northward_wind",
    }
}

impl Quantity {
    /// The variable of fields that is the same; there is none for a direction.
    pub const fn variable(self) -> Option<Variable> {
        match self {
            Self::RainRate => Some(Variable::RainRate),
            Self::WindSpeed => Some(Variable::WindSpeed),
            Self::WindFromDirection => None,
            Self::EastwardWind => Some(Variable::EastwardWind),
            Self::NorthwardWind => Some(Variable::NorthwardWind),
        }
    }

    /// The quantity that is the same as a variable of fields, if stations measure it.
    pub fn of(variable: Variable) -> Option<Self> {
        Self::ALL.iter().copied().find(|quantity| quantity.variable() == Some(variable))
    }

    /// The CF standard name.
    pub const fn standard_name(self) -> &'static str {
        match self.variable() {
            Some(variable) => variable.standard_name(),
            None => self.name(),
        }
    }

    /// The unit of its values, as CF writes it.
    pub const fn unit(self) -> &'static str {
        match self.variable() {
            Some(variable) => variable.unit().symbol(),
            None => "degree",
        }
    }

    /// The quantity that a CF standard name stands for: a rate or an amount of rain, or a wind.
    ///
    /// ```
    /// use squall_fields::Quantity;
    /// assert_eq!(Quantity::of_standard_name("precipitation_amount"), Some(Quantity::RainRate));
    /// assert_eq!(Quantity::of_standard_name("air_temperature"), None);
    /// ```
    pub fn of_standard_name(name: &str) -> Option<Self> {
        match name {
            "lwe_precipitation_rate"
            | "rainfall_rate"
            | "rainfall_flux"
            | "precipitation_flux"
            | "lwe_rainfall_rate"
            | "precipitation_amount"
            | "rainfall_amount"
            | "lwe_thickness_of_precipitation_amount"
            | "thickness_of_rainfall_amount" => Some(Self::RainRate),
            other => Self::ALL.iter().copied().find(|quantity| quantity.standard_name() == other),
        }
    }

    /// From a unit as a file or a message spells it to the unit of this quantity. An amount of rain over a period becomes
    /// its mean rate.
    ///
    /// ```
    /// use squall_fields::Quantity;
    /// let hourly = Quantity::RainRate.conversion("kg m-2", Some(600))?;
    /// assert_eq!(hourly.apply(0.5), 3.0);
    /// # Ok::<(), squall_fields::units::UnitError>(())
    /// ```
    ///
    /// # Errors
    /// [`UnitError`]: it is no unit, none of this quantity, or an amount of which the period is not known.
    pub fn conversion(self, unit: &str, period_seconds: Option<u32>) -> Result<Conversion, UnitError> {
        let Some(variable) = self.variable() else { return angle(unit) };
        let from = ScaledUnit::parse(unit)?;
        if from.unit == Unit::DecibelZ {
            return Err(UnitError::Mismatch { from: from.unit, to: variable, expected: "a rate or an amount" });
        }
        let interval_seconds = period_seconds.map(f64::from);
        Conversion::new(from, variable, &ConversionContext { interval_seconds, ..ConversionContext::default() })
    }

    /// How far two values are apart, at least 0; directions by the shorter way round.
    ///
    /// ```
    /// use squall_fields::Quantity;
    /// assert_eq!(Quantity::WindFromDirection.distance(350.0, 20.0), 30.0);
    /// assert_eq!(Quantity::WindSpeed.distance(3.0, 20.0), 17.0);
    /// ```
    pub fn distance(self, a: f32, b: f32) -> f32 {
        let apart = (a - b).abs();
        match self {
            Self::WindFromDirection => {
                let around = apart % 360.0;
                around.min(360.0 - around)
            }
            _ => apart,
        }
    }
}

fn angle(unit: &str) -> Result<Conversion, UnitError> {
    match unit.trim().to_lowercase().as_str() {
        "degree" | "degrees" | "deg" | "degree_true" | "degrees_true" | "degree_t" | "\u{b0}" => {
            Ok(Conversion::Scale(1.0))
        }
        "rad" | "radian" | "radians" => Ok(Conversion::Scale(180.0 / std::f64::consts::PI)),
        _ => Err(UnitError::NoAngle { text: unit.trim().chars().take(80).collect() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_variables_and_are_found_again() {
        for quantity in Quantity::ALL {
            if let Some(variable) = quantity.variable() {
                assert_eq!(quantity.name(), variable.name());
                assert_eq!(Quantity::of(variable), Some(*quantity));
            }
            assert_eq!(Quantity::of_standard_name(quantity.standard_name()), Some(*quantity));
            assert!(quantity.conversion(quantity.unit(), None).is_ok(), "{}", quantity.unit());
        }
        assert_eq!(Quantity::of(Variable::XWind), None);
    }

    #[test]
    fn a_unit_that_does_not_fit_is_refused() {
        let error = |quantity: Quantity, unit, period| quantity.conversion(unit, period).unwrap_err().to_string();
        assert!(error(Quantity::RainRate, "kg m-2", None).contains("interval"));
        assert!(error(Quantity::RainRate, "dBZ", None).contains("a rate or an amount"));
        assert!(error(Quantity::WindSpeed, "mm", Some(60)).contains("a speed"));
        assert!(error(Quantity::WindSpeed, "furlong", None).contains("furlong"));
        assert!(error(Quantity::WindFromDirection, "m s-1", None).contains("degree"));
        assert!(error(Quantity::WindFromDirection, &"x".repeat(1000), None).len() < 200);
    }
}
