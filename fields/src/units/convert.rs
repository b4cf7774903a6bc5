//! From what a file holds to what Squall computes in.

use thiserror::Error;

use super::{ScaledUnit, Unit, Variable, ZRelation};
use crate::ErrorKind;

/// Below this reflectivity there is no echo, unless configured otherwise: 5 dBZ is 0.06 mm/h.
pub const DEFAULT_NO_ECHO_DBZ: f32 = 5.0;

/// Why a unit could not be used.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum UnitError {
    /// The text is no unit that Squall knows.
    #[error("expected a unit such as `mm h-1`, `kg m-2 s-1`, `kg m-2`, `m s-1`, `knot` or `dBZ`, got `{text}`")]
    Unknown {
        /// What came.
        text: String,
    },
    /// The text is no unit of an angle.
    #[error("expected `degree` or `radian`, got `{text}`")]
    NoAngle {
        /// What came.
        text: String,
    },
    /// The unit is not one of the variable.
    #[error("{variable} cannot be had from `{from}`: expected {expected}", variable = .to.name())]
    Mismatch {
        /// The unit that came.
        from: Unit,
        /// The variable that was asked for.
        to: Variable,
        /// Units that would do.
        expected: &'static str,
    },
    /// An amount needs to be known over how long it was gathered.
    #[error("an amount in {from} becomes a rate only if its interval is known: expected time bounds or a cadence")]
    IntervalUnknown {
        /// The unit that came.
        from: Unit,
    },
}

impl UnitError {
    /// Units come with the data.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Data
    }

    /// The same text fails again.
    pub const fn is_retriable(&self) -> bool {
        false
    }
}

/// What a conversion may need to know beside the two units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConversionContext {
    /// Between reflectivity and rain rate.
    pub z_relation: ZRelation,
    /// Reflectivities below it (dBZ) are no echo: rain rate 0.
    pub no_echo_dbz: f32,
    /// How long an amount was gathered that comes, in seconds.
    pub interval_seconds: Option<f64>,
    /// How long an amount is gathered that is wanted, in seconds: one step of the cadence.
    pub step_seconds: Option<f64>,
}

impl Default for ConversionContext {
    fn default() -> Self {
        Self {
            z_relation: ZRelation::default(),
            no_echo_dbz: DEFAULT_NO_ECHO_DBZ,
            interval_seconds: None,
            step_seconds: None,
        }
    }
}

/// A conversion of values, ready to be applied. NaN stays NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Conversion {
    /// Multiplied by a factor, in f64: a tenth of 10 is 1.
    Scale(f64),
    /// dBZ to mm/h by a Z-R relation; below the floor 0.
    ReflectivityToRate {
        /// The relation.
        z_relation: ZRelation,
        /// Reflectivities below it are no echo, in dBZ.
        no_echo_dbz: f32,
    },
    /// mm/h, after a factor, to dBZ; a rate that gives less than the floor becomes the floor.
    RateToReflectivity {
        /// To mm/h.
        factor: f32,
        /// The relation.
        z_relation: ZRelation,
        /// The least reflectivity, in dBZ.
        no_echo_dbz: f32,
    },
}

impl Conversion {
    /// The conversion from a unit to the unit of a variable.
    ///
    /// `m s-1` is a speed for a wind and a depth of water per time for a rain rate: the variable decides.
    ///
    /// ```
    /// use squall_fields::{Variable, units::{Conversion, ConversionContext, ScaledUnit}};
    /// let flux = ScaledUnit::parse("kg m-2 s-1")?;
    /// let to_rate = Conversion::new(flux, Variable::RainRate, &ConversionContext::default())?;
    /// assert!((to_rate.apply(0.001) - 3.6).abs() < 1e-6);
    /// # Ok::<(), squall_fields::units::UnitError>(())
    /// ```
    ///
    /// # Errors
    /// [`UnitError::Mismatch`] or [`UnitError::IntervalUnknown`].
    pub fn new(from: ScaledUnit, to: Variable, context: &ConversionContext) -> Result<Self, UnitError> {
        let (z_relation, no_echo_dbz) = (context.z_relation, context.no_echo_dbz);
        let mismatch = |expected| UnitError::Mismatch { from: from.unit, to, expected };
        let positive = |seconds: Option<f64>| seconds.filter(|seconds| *seconds > 0.0);
        let (interval, step) = (positive(context.interval_seconds), positive(context.step_seconds));
        let needs_interval = UnitError::IntervalUnknown { from: from.unit };
        let scale = |factor: f64| Self::Scale(factor * from.factor);
        match to {
            Variable::RainRate if from.unit == Unit::DecibelZ => {
                Ok(Self::ReflectivityToRate { z_relation, no_echo_dbz })
            }
            Variable::RainRate => {
                let rate = rate_mm_h(from.unit).map(scale);
                let amount = || interval.map(|seconds| scale(3600.0 / seconds)).ok_or(needs_interval);
                match (rate, from.unit) {
                    (Some(rate), _) => Ok(rate),
                    (None, Unit::KilogramsPerSquareMetre) => amount(),
                    _ => Err(mismatch("a rate, an amount or a reflectivity")),
                }
            }
            Variable::Reflectivity if from.unit == Unit::DecibelZ => Ok(Self::Scale(1.0)),
            Variable::Reflectivity => match rate_mm_h(from.unit) {
                Some(factor) => {
                    Ok(Self::RateToReflectivity { factor: (factor * from.factor) as f32, z_relation, no_echo_dbz })
                }
                None => Err(mismatch("a reflectivity or a rate")),
            },
            Variable::PrecipitationAmount => match (from.unit, rate_mm_h(from.unit)) {
                // What was gathered in a quarter of an hour is three times what one step of 5 minutes gathers.
                (Unit::KilogramsPerSquareMetre, _) => {
                    Ok(scale(step.zip(interval).map_or(1.0, |(step, interval)| step / interval)))
                }
                (_, Some(rate)) => {
                    step.or(interval).map(|seconds| scale(rate * seconds / 3600.0)).ok_or(needs_interval)
                }
                _ => Err(mismatch("an amount or a rate")),
            },
            _ => match from.unit {
                Unit::MetresPerSecond => Ok(scale(1.0)),
                Unit::Knots => Ok(scale(1852.0 / 3600.0)),
                _ => Err(mismatch("a speed")),
            },
        }
    }

    /// The conversion of one value.
    pub fn apply(self, value: f32) -> f32 {
        match self {
            Self::Scale(factor) => (f64::from(value) * factor) as f32,
            Self::ReflectivityToRate { z_relation, no_echo_dbz } => {
                if value < no_echo_dbz {
                    0.0
                } else {
                    z_relation.rain_rate_mm_h(value)
                }
            }
            Self::RateToReflectivity { factor, z_relation, no_echo_dbz } => {
                let dbz = z_relation.dbz(value * factor);
                // Not `max`, which would turn a missing value into the floor.
                if dbz < no_echo_dbz { no_echo_dbz } else { dbz }
            }
        }
    }

    /// The conversion of many values in place.
    pub fn apply_slice(self, values: &mut [f32]) {
        match self {
            Self::Scale(1.0) => {}
            other => values.iter_mut().for_each(|v| *v = other.apply(*v)),
        }
    }

    /// The factor, if the conversion is nothing but one.
    pub const fn as_scale(self) -> Option<f64> {
        match self {
            Self::Scale(factor) => Some(factor),
            _ => None,
        }
    }
}

/// How many mm/h one of a unit is, if it is a rate of precipitation.
const fn rate_mm_h(unit: Unit) -> Option<f64> {
    match unit {
        Unit::MillimetresPerHour => Some(1.0),
        Unit::KilogramsPerSquareMetreSecond => Some(3600.0),
        Unit::MetresPerSecond => Some(3.6e6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn convert(text: &str, to: Variable, interval_seconds: Option<f64>, value: f32) -> Result<f32, UnitError> {
        let context = ConversionContext { interval_seconds, ..ConversionContext::default() };
        Conversion::new(ScaledUnit::parse(text)?, to, &context).map(|c| c.apply(value))
    }

    #[test]
    fn known_values() {
        use Variable::*;
        assert_eq!(convert("mm h-1", RainRate, None, 2.5), Ok(2.5));
        assert!((convert("m s-1", RainRate, None, 1e-6).unwrap() - 3.6).abs() < 1e-6);
        assert_eq!(convert("m s-1", EastwardWind, None, 7.0), Ok(7.0));
        assert!((convert("kt", WindSpeed, None, 10.0).unwrap() - 5.144_444).abs() < 1e-5);
        assert_eq!(convert("kg m-2", RainRate, Some(300.0), 0.5), Ok(6.0));
        assert_eq!(convert("mm h-1", PrecipitationAmount, Some(300.0), 6.0), Ok(0.5));
        assert_eq!(convert("mm", PrecipitationAmount, Some(900.0), 3.0), Ok(3.0));
        // Marshall and Palmer: 10 mm/h is 39.0 dBZ.
        assert!((convert("mm h-1", Reflectivity, None, 10.0).unwrap() - 39.01).abs() < 0.01);
        assert!((convert("dBZ", RainRate, None, 39.01).unwrap() - 10.0).abs() < 0.01);
    }

    #[test]
    fn an_amount_of_another_interval_becomes_one_of_a_step() {
        let context =
            ConversionContext { interval_seconds: Some(900.0), step_seconds: Some(300.0), ..Default::default() };
        let of = |text: &str, to| Conversion::new(ScaledUnit::parse(text).unwrap(), to, &context).unwrap().apply(3.0);
        assert_eq!(of("mm", Variable::PrecipitationAmount), 1.0);
        assert_eq!(of("mm", Variable::RainRate), 12.0);
        assert_eq!(of("mm/h", Variable::PrecipitationAmount), 0.25);
    }

    #[test]
    fn no_echo_and_missing_are_kept_apart() {
        assert_eq!(convert("dBZ", Variable::RainRate, None, -32.0), Ok(0.0));
        assert_eq!(convert("mm/h", Variable::Reflectivity, None, 0.0), Ok(DEFAULT_NO_ECHO_DBZ));
        assert!(convert("dBZ", Variable::RainRate, None, f32::NAN).unwrap().is_nan());
        assert!(convert("mm/h", Variable::Reflectivity, None, f32::NAN).unwrap().is_nan());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(convert("dBZ", Variable::EastwardWind, None, 1.0).unwrap_err().to_string().contains("a speed"));
        assert!(convert("kt", Variable::RainRate, None, 1.0).is_err());
        assert!(convert("kg m-2", Variable::RainRate, None, 1.0).unwrap_err().to_string().contains("interval"));
    }

    proptest! {
        #[test]
        fn reflectivity_round_trip(rate in 0.1f32..300.0, a in 100f32..400.0, b in 1.2f32..1.8) {
            let z_relation = ZRelation { a, b };
            let context = ConversionContext { z_relation, no_echo_dbz: -10.0, ..ConversionContext::default() };
            let there = Conversion::new(ScaledUnit::parse("mm/h").unwrap(), Variable::Reflectivity, &context).unwrap();
            let back = Conversion::new(ScaledUnit::parse("dBZ").unwrap(), Variable::RainRate, &context).unwrap();
            prop_assert!((back.apply(there.apply(rate)) / rate - 1.0).abs() < 1e-4);
        }
    }
}
