//! Forecasts without learning: what a model has to beat, and what runs when none can.
//!
//! | name | what | variables |
//! |---|---|---|
//! | `persistence` | the newest frame, unchanged | any |
//! | `extrapolation` | the newest frame, moved by optical flow; members by errors of the motion | rain |
//! | `lagrangian-probability` | the same, with members from a neighbourhood that grows with the lead | rain |
//! | `damped-persistence` | the newest frame, fading and smoothed as it ages, with noise of the size of its errors | wind |
//! | `steps` | a cascade of scales that move, go on as they did, and are stirred by noise | rain |

pub mod advection;
pub mod damped;
pub mod extrapolation;
pub mod lagrangian_probability;
pub mod motion;
pub mod persistence;
pub mod perturbation;
mod source;
mod steering;
pub mod steps;
#[cfg(test)]
pub(crate) mod testing;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

pub use damped::{DampedParams, DampedPersistence};
pub use extrapolation::{Extrapolation, ExtrapolationParams, FirstGuess, first_guess};
pub use lagrangian_probability::{LagrangianParams, LagrangianProbability};
pub use persistence::Persistence;
pub use source::RAIN;
pub use steps::{Steps, StepsParams};

use crate::Forecaster;

/// Which baseline: the one list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// See [`Persistence`].
    Persistence,
    /// See [`DampedPersistence`].
    DampedPersistence,
    /// See [`Extrapolation`].
    Extrapolation,
    /// See [`LagrangianProbability`].
    LagrangianProbability,
    /// See [`Steps`].
    Steps,
}

impl Kind {
    /// Every baseline.
    pub const ALL: [Self; 5] =
        [Self::Persistence, Self::DampedPersistence, Self::Extrapolation, Self::LagrangianProbability, Self::Steps];

    /// Name as in a configuration.
    ///
    /// ```
    /// use squall_models::baselines::Kind;
    /// assert!(Kind::ALL.iter().all(|kind| Kind::named(kind.name()) == Some(*kind)));
    /// assert_eq!(Kind::named("optical-flow"), None);
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Self::Persistence => "persistence",
            Self::DampedPersistence => "damped-persistence",
            Self::Extrapolation => "extrapolation",
            Self::LagrangianProbability => "lagrangian-probability",
            Self::Steps => "steps",
        }
    }

    /// The baseline of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The names of [`Kind::ALL`], in its order.
pub const NAMES: [&str; Kind::ALL.len()] = {
    let mut names = [""; Kind::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = Kind::ALL[i].name();
        i += 1;
    }
    names
};

/// A baseline with its parameters, as in a configuration; [`Baseline::read`] reads what is written.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Baseline {
    /// See [`Persistence`].
    Persistence,
    /// See [`DampedPersistence`].
    DampedPersistence(DampedParams),
    /// See [`Extrapolation`].
    Extrapolation(ExtrapolationParams),
    /// See [`LagrangianProbability`].
    LagrangianProbability(LagrangianParams),
    /// See [`Steps`].
    Steps(StepsParams),
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
    /// Reads the settings of the baseline of that name, all of them optional.
    ///
    /// # Errors
    /// There is no baseline of that name, or a setting is unknown or of the wrong type. Whether their values make
    /// sense is for [`Baseline::faults`] to say.
    pub fn read<'de, D: Deserializer<'de>>(name: &str, settings: D) -> Result<Self, D::Error> {
        /// Persistence has nothing to set.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        match name {
            "persistence" => Nothing::deserialize(settings).map(|Nothing {}| Self::Persistence),
            "damped-persistence" => DampedParams::deserialize(settings).map(Self::DampedPersistence),
            "extrapolation" => ExtrapolationParams::deserialize(settings).map(Self::Extrapolation),
            "lagrangian-probability" => LagrangianParams::deserialize(settings).map(Self::LagrangianProbability),
            "steps" => StepsParams::deserialize(settings).map(Self::Steps),
            other => Err(D::Error::unknown_variant(other, &NAMES)),
        }
    }

    /// Reads parameters, all of them optional; `null` or `{}` means the defaults.
    ///
    /// # Errors
    /// [`BaselineError`] for an unknown name or a parameter that is unknown or out of range.
    pub fn new(name: &str, params: &serde_json::Value) -> Result<Self, BaselineError> {
        if !NAMES.contains(&name) {
            return Err(BaselineError::UnknownName { name: name.to_owned() });
        }
        let fault = |reason: String| BaselineError::Params { name: name.to_owned(), reason };
        let params = if params.is_null() { serde_json::json!({}) } else { params.clone() };
        let baseline = Self::read(name, params).map_err(|error| fault(error.to_string()))?;
        let faults: Vec<String> =
            baseline.faults().iter().map(|(setting, reason)| format!("{setting} {reason}")).collect();
        if faults.is_empty() { Ok(baseline) } else { Err(fault(faults.join("; "))) }
    }

    /// The settings that make no sense, such as `motion.window`, each with what must hold.
    pub fn faults(&self) -> Vec<(String, &'static str)> {
        let named = |faults: Vec<(&'static str, &'static str)>| {
            faults.into_iter().map(|(name, reason)| (name.to_owned(), reason)).collect::<Vec<_>>()
        };
        let (motion, own) = match self {
            Self::Persistence => return Vec::new(),
            Self::DampedPersistence(params) => return named(params.faults()),
            Self::Extrapolation(params) => (&params.motion, Vec::new()),
            Self::LagrangianProbability(params) => (&params.motion, Vec::new()),
            Self::Steps(params) => (&params.motion, params.faults()),
        };
        let motion = motion.faults().into_iter().map(|(name, reason)| (format!("motion.{name}"), reason));
        motion.chain(named(own)).collect()
    }

    /// Its name, one of [`NAMES`].
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Which one it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Persistence => Kind::Persistence,
            Self::DampedPersistence(_) => Kind::DampedPersistence,
            Self::Extrapolation(_) => Kind::Extrapolation,
            Self::LagrangianProbability(_) => Kind::LagrangianProbability,
            Self::Steps(_) => Kind::Steps,
        }
    }

    /// The forecaster.
    pub fn build(self) -> Box<dyn Forecaster> {
        match self {
            Self::Persistence => Box::new(Persistence::default()),
            Self::DampedPersistence(params) => Box::new(DampedPersistence::new(params)),
            Self::Extrapolation(params) => Box::new(Extrapolation::new(params)),
            Self::LagrangianProbability(params) => Box::new(LagrangianProbability::new(params)),
            Self::Steps(params) => Box::new(Steps::new(params)),
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
fn digest(kind: Kind, version: u32, params: &impl Serialize) -> String {
    let params = serde_json::to_string(params).expect("numbers and structs of numbers have a JSON form");
    hex::encode(Sha256::digest(format!("{}\n{version}\n{params}", kind.name())))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_name_builds_and_digests_tell_parameters_apart() {
        let digests: Vec<String> =
            NAMES.iter().map(|name| build(name, &Value::Null).unwrap().digest().to_owned()).collect();
        assert!((1..digests.len()).all(|i| !digests[..i].contains(&digests[i])));
        assert!(digests.iter().all(|d| d.len() == 64));
        let own = &digests[NAMES.iter().position(|name| *name == "extrapolation").unwrap()];
        let other = build("extrapolation", &json!({"motion": {"window": 40}})).unwrap();
        assert_ne!(other.digest(), own);
        assert_eq!(build("extrapolation", &json!({})).unwrap().digest(), own);
    }

    #[test]
    fn faults_are_named() {
        let message = |name, params| build(name, &params).err().unwrap().to_string();
        assert!(message("optical-flow", Value::Null).contains("extrapolation"));
        assert!(message("persistence", json!({"a": 1})).contains("unknown field `a`"));
        assert!(message("extrapolation", json!({"motion": {"window": 0}})).contains("window"));
        assert!(message("extrapolation", json!({"motion": {"size": 9}})).contains("size"));
    }
}
