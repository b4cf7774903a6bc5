//! From physical values to the numbers that are diffused, and back.

use serde::{Deserialize, Serialize};
use squall_fields::Variable;
use tch::Tensor;

/// How one variable is brought to about [-1, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Transform {
    /// A rain rate x in mm/h within [0, 128]: `2 log10(1 + x) / log10(129) - 1`.
    Rain {
        /// Rates below this, in mm/h, are given out as 0.
        dry_below_mm_h: f32,
    },
    /// Division by a number, with its sign: winds.
    Scale {
        /// The number, in the unit of the variable.
        by: f32,
    },
}

const MOST_MM_H: f32 = 128.0;

impl Transform {
    /// The usual one of a variable: rain rates logarithmic, winds divided by 30 m/s.
    pub const fn of(variable: Variable) -> Self {
        match variable {
            Variable::RainRate | Variable::PrecipitationAmount => Self::Rain { dry_below_mm_h: 0.05 },
            Variable::Reflectivity => Self::Scale { by: 60.0 },
            _ => Self::Scale { by: 30.0 },
        }
    }

    /// To what is diffused. NaN, which is missing, stays NaN.
    ///
    /// ```
    /// use squall_models::diffusion::Transform;
    /// let rain = Transform::Rain { dry_below_mm_h: 0.0 };
    /// assert_eq!(rain.forward(0.0), -1.0);
    /// assert!((rain.forward(1.0) + 0.714743).abs() < 1e-6);
    /// assert!((rain.forward(500.0) - 1.0).abs() < 1e-6);
    /// assert!((rain.inverse(rain.forward(7.5)) - 7.5).abs() < 1e-4);
    /// ```
    pub fn forward(self, value: f32) -> f32 {
        match self {
            Self::Rain { .. } => 2.0 * value.clamp(0.0, MOST_MM_H).ln_1p() / MOST_MM_H.ln_1p() - 1.0,
            Self::Scale { by } => value / by,
        }
    }

    /// Back to the variable's unit.
    pub fn inverse(self, value: f32) -> f32 {
        match self {
            Self::Rain { dry_below_mm_h } => {
                let rate = (0.5 * (value.clamp(-1.0, 1.0) + 1.0) * MOST_MM_H.ln_1p()).exp_m1();
                if rate < dry_below_mm_h { 0.0 } else { rate }
            }
            Self::Scale { by } => value * by,
        }
    }

    /// [`Transform::inverse`] of a tensor, through which gradients pass: nothing is cut off, neither what is nearly dry.
    pub fn inverse_of(self, values: &Tensor) -> Tensor {
        match self {
            Self::Rain { .. } => ((values + 1.0) * (0.5 * f64::from(MOST_MM_H).ln_1p())).expm1(),
            Self::Scale { by } => values * f64::from(by),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_stays_missing() {
        for variable in [Variable::RainRate, Variable::EastwardWind] {
            assert!(Transform::of(variable).forward(f32::NAN).is_nan());
        }
    }

    #[test]
    fn drizzle_below_the_threshold_is_dry() {
        let rain = Transform::of(Variable::RainRate);
        assert_eq!(rain.inverse(rain.forward(0.04)), 0.0);
        assert!(rain.inverse(rain.forward(0.06)) > 0.059);
    }
}
