//! Forecast models: arrays in, ensembles out.

pub mod forecaster;

pub use forecaster::{Context, Coordinates, Forecaster, ModelError, Prediction, Request};
