//! Forecasts without learning: what a model has to beat, and what runs when none can.
//!
//! | name | what | variables |
//! |---|---|---|
//! | `persistence` | the newest frame, unchanged | any |
//! | `extrapolation` | the newest frame, moved by optical flow; members by errors of the motion | rain |
//! | `lagrangian-probability` | the same, with members from a neighbourhood that grows with the lead | rain |

pub mod advection;
pub mod extrapolation;
pub mod lagrangian_probability;
pub mod motion;
pub mod persistence;
pub mod perturbation;
mod source;
#[cfg(test)]
pub(crate) mod testing;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use extrapolation::{Extrapolation, ExtrapolationParams, FirstGuess, first_guess};
pub use lagrangian_probability::{LagrangianParams, LagrangianProbability};
pub use persistence::Persistence;

use crate::Forecaster;

/// Names that [`build`] knows.
pub const NAMES: [&str; 3] = ["persistence", "extrapolation", "lagrangian-probability"];

/// A baseline with its parameters, as in a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", content = "params", rename_all = "kebab-case")]
pub enum Baseline {
    /// See [`Persistence`].
    Persistence,
    /// See [`Extrapolation`].
    Extrapolation(ExtrapolationParams),
    /// See [`LagrangianProbability`].
    LagrangianProbability(LagrangianParams),
}

/// Why a baseline cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// There is none of that name.
    #[error("no baseline is named {name:?}; there are {}", NAMES.join(", "))]
    UnknownName {
        /// What was asked for.
        name: String,
    },
    /// A parameter is unknown, of the wrong type or out of range.
    #[error("parameters of {name}: {reason}")]
    Params {
        /// Of the baseline.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl Baseline {
    /// Reads parameters, all of them optional; `null` or `{}` means the defaults.
    ///
    /// # Errors
    /// [`BaselineError`] for an unknown name or a parameter that is unknown or out of range.
    pub fn new(name: &str, params: &serde_json::Value) -> Result<Self, BaselineError> {
        let fault = |reason: String| BaselineError::Params { name: name.to_owned(), reason };
        let params = if params.is_null() { serde_json::json!({}) } else { params.clone() };
        let read_fault = |e: serde_json::Error| fault(e.to_string());
        let (baseline, motion) = match name {
            "persistence" => {
                if params.as_object().is_none_or(|map| !map.is_empty()) {
                    return Err(fault(format!("it takes none, {params} came")));
                }
                return Ok(Self::Persistence);
            }
            "extrapolation" => {
                let params: ExtrapolationParams = serde_json::from_value(params).map_err(read_fault)?;
                let motion = params.motion.clone();
                (Self::Extrapolation(params), motion)
            }
            "lagrangian-probability" => {
                let params: LagrangianParams = serde_json::from_value(params).map_err(read_fault)?;
                let motion = params.motion.clone();
                (Self::LagrangianProbability(params), motion)
            }
            _ => return Err(BaselineError::UnknownName { name: name.to_owned() }),
        };
        motion.check().map_err(|reason| fault(format!("motion: {reason}")))?;
        Ok(baseline)
    }

    /// The forecaster.
    pub fn build(self) -> Box<dyn Forecaster> {
        match self {
            Self::Persistence => Box::new(Persistence::default()),
            Self::Extrapolation(params) => Box::new(Extrapolation::new(params)),
            Self::LagrangianProbability(params) => Box::new(LagrangianProbability::new(params)),
        }
    }
}

/// A baseline by name, with parameters as in [`Baseline::new`].
///
/// ```
/// use squall_models::baselines::build;
/// let model = build("extrapolation", &serde_json::json!({"motion": {"corners": 500}})).unwrap();
/// assert_eq!(model.name(), "extrapolation");
/// assert!(build("extrapolation", &serde_json::json!({"corners": 500})).is_err());
/// ```
///
/// # Errors
/// As [`Baseline::new`].
pub fn build(name: &str, params: &serde_json::Value) -> Result<Box<dyn Forecaster>, BaselineError> {
    Ok(Baseline::new(name, params)?.build())
}

/// SHA-256 in hex over name, version of the algorithm and parameters.
fn digest(name: &str, version: u32, params: &impl Serialize) -> String {
    // Parameters are numbers and structs of numbers, which always have a JSON form.
    let params = serde_json::to_string(params).unwrap_or_default();
    hex::encode(Sha256::digest(format!("{name}\n{version}\n{params}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_name_builds_and_digests_tell_parameters_apart() {
        let digests: Vec<String> =
            NAMES.iter().map(|name| build(name, &Value::Null).unwrap().digest().to_owned()).collect();
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
        assert!(digests.iter().all(|d| d.len() == 64));
        let other = build("extrapolation", &json!({"motion": {"window": 40}})).unwrap();
        assert_ne!(other.digest(), digests[1]);
        assert_eq!(build("extrapolation", &json!({})).unwrap().digest(), digests[1]);
    }

    #[test]
    fn faults_are_named() {
        let message = |name, params| build(name, &params).err().unwrap().to_string();
        assert!(message("optical-flow", Value::Null).contains("extrapolation"));
        assert!(message("persistence", json!({"a": 1})).contains("takes none"));
        assert!(message("extrapolation", json!({"motion": {"window": 0}})).contains("window"));
        assert!(message("extrapolation", json!({"motion": {"size": 9}})).contains("size"));
    }
}
