//! Forecast models: arrays in, ensembles out.

pub mod baselines;
pub mod device;
pub mod diffusion;
pub mod forecaster;
pub mod network;
pub mod scores;
pub mod simulate;
mod spec;
pub mod training;
pub mod weights;

pub use forecaster::{Context, Coordinates, Forecaster, ModelError, Prediction, Request};
pub use spec::ModelSpec;
