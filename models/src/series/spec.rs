//! What a model of series is, and what it sees of a series.

use serde::{Deserialize, Serialize};
use squall_fields::Quantity;

use super::{InPainting, MlpConfig};
use crate::diffusion::Target;

/// A model of series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesSpec {
    /// Name for people.
    pub name: String,
    /// What its series are of.
    pub quantity: Quantity,
    /// Seconds from value to value.
    pub cadence_seconds: u32,
    /// Known values that a forecast starts from.
    pub context: usize,
    /// Values that are forecast.
    pub leads: usize,
    /// Least standard deviation that a series is divided by, in the unit of the quantity: the noise of a calm is none of the weather.
    pub least_scale: f32,
    /// Sizes of the network.
    pub network: MlpConfig,
    /// What the network predicts.
    #[serde(default)]
    pub target: Target,
    /// How it is sampled.
    #[serde(default)]
    pub sampler: InPainting,
}

impl SeriesSpec {
    /// Values of a stretch: what is known, and what is forecast.
    pub const fn length(&self) -> usize {
        self.context + self.leads
    }

    /// What is wrong with it, one sentence each; empty if nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.cadence_seconds == 0 {
            faults.push("the cadence is at least a second".to_owned());
        }
        if !(2..=10_000).contains(&self.context) || !(1..=10_000).contains(&self.leads) {
            faults.push(format!(
                "expected 2 to 10000 of context and 1 to 10000 leads, got {} and {}",
                self.context, self.leads
            ));
        }
        if !(self.least_scale > 0.0 && self.least_scale.is_finite()) {
            faults.push(format!("least_scale is a positive number, not {}", self.least_scale));
        }
        if self.quantity == Quantity::WindFromDirection {
            faults.push("a direction goes round: expected eastward_wind or northward_wind".to_owned());
        }
        faults.extend(self.network.fault());
        faults.extend(self.sampler.fault());
        faults
    }
}

/// The least value of a quantity, where it has one.
pub const fn least_value(quantity: Quantity) -> Option<f32> {
    match quantity {
        Quantity::RainRate | Quantity::WindSpeed => Some(0.0),
        Quantity::WindFromDirection | Quantity::EastwardWind | Quantity::NorthwardWind => None,
    }
}

/// How a series is measured, by its known part alone: in units of its standard deviation, from its mean.
///
/// ```
/// use squall_models::series::Scale;
/// let scale = Scale::of(&[1.0, 3.0, f32::NAN], 0.5);
/// assert_eq!((scale.apply(4.0), scale.undo(-1.0)), (2.0, 1.0));
/// assert_eq!(Scale::of(&[2.0, 2.0], 0.5).apply(3.0), 2.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    mean: f32,
    deviation: f32,
}

impl Scale {
    /// Of known values, the missing ones (NaN) left out; the deviation is at least `least`.
    pub fn of(known: &[f32], least: f32) -> Self {
        let values = || known.iter().filter(|value| !value.is_nan()).map(|value| f64::from(*value));
        let count = values().count().max(1) as f64;
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        Self { mean: mean as f32, deviation: (variance.sqrt() as f32).max(least) }
    }

    /// To these units.
    pub fn apply(self, value: f32) -> f32 {
        (value - self.mean) / self.deviation
    }

    /// From these units.
    pub fn undo(self, value: f32) -> f32 {
        value * self.deviation + self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_model_is_named() {
        let sound = SeriesSpec {
            name: "test".to_owned(),
            quantity: Quantity::WindSpeed,
            cadence_seconds: 3600,
            context: 8,
            leads: 4,
            least_scale: 0.5,
            network: MlpConfig { width: 16, layers: 1 },
            target: Target::Noise,
            sampler: InPainting::default(),
        };
        assert_eq!((sound.faults(), sound.length()), (Vec::new(), 12));
        let bad = SeriesSpec {
            quantity: Quantity::WindFromDirection,
            cadence_seconds: 0,
            context: 1,
            least_scale: 0.0,
            network: MlpConfig { width: 3, layers: 0 },
            sampler: InPainting { steps: 0, repeats: 1 },
            ..sound
        };
        assert_eq!(bad.faults().len(), 6, "{:?}", bad.faults());
    }
}
