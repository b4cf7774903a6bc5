//! The configuration: TOML in layers, every fault reported at once.
//!
//! What was written and what it means are two things. [`Layers`] is the first: built-in defaults, a
//! file, the environment and flags, each laid over the one before. [`Config`] is the second: names
//! resolved, quantities parsed, nothing left to check. Between them stands [`Faults`], which holds
//! everything that is wrong, with the line of the file (or the variable, or the flag) that says it;
//! nothing starts while there is one.
//!
//! ```
//! use squall_pipeline::config::Layers;
//!
//! let text = r#"
//!     [[sources]]
//!     name = "radar"
//!     variables = ["rain_rate"]
//!     cadence = "5 min"
//!
//!     [[streams]]
//!     name = "rain"
//!     source = "rader"
//!     model = { name = "extrapolation" }
//!     thresholds = [0.1, 1.0]
//! "#;
//! let faults = Layers::from_text("rain.toml", text).load().unwrap_err();
//! assert_eq!(
//!     faults.to_string(),
//!     "rain.toml:9: streams.rain.source: no source is named \"rader\"; did you mean \"radar\"?"
//! );
//! ```

mod check;
mod context;
#[cfg(test)]
mod documents;
mod fault;
mod file;
pub(crate) mod layers;
mod model;
mod products;
pub(crate) mod quantity;
mod resolve;
mod resolved;
pub(crate) mod section;
#[cfg(test)]
mod tests;
mod typed;
mod verification;

pub(crate) use check::is_device;
pub(crate) use resolve::calibrated;

pub use fault::{Fault, Faults};
pub use layers::Layers;
pub use model::ModelConfig;
pub use products::{StreamProducts, StreamTopics};
pub use quantity::{format_bytes, format_duration, parse_bytes, parse_duration};
pub use resolved::{
    Clock, Config, LogConfig, LogKind, MetricsConfig, QualityConfig, RuntimeConfig, SourceConfig, StoreConfig,
    StreamConfig, TopicsConfig,
};
pub use verification::{
    Companion, RolesConfig, StationsConfig, SteeringConfig, VerificationConfig, VerificationTopics,
};
pub(crate) use verification::{are_bounds, is_region, region};

impl Config {
    /// The configuration as TOML, secrets as `***`; apart from those, loading it gives the same configuration.
    pub fn to_toml(&self) -> String {
        to_toml(self)
    }
}

pub(crate) fn to_toml(config: &impl serde::Serialize) -> String {
    toml::to_string_pretty(config).unwrap_or_else(|error| format!("# cannot be written as TOML: {error}\n"))
}
