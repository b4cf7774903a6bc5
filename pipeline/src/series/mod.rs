//! Series at a place as files: configurations, stretches of stations' readings, and how good forecasts of them are.
//!
//! The mechanisms are in `squall_models::series`; `squall series` uses both.

pub mod config;
pub mod data;
pub mod judge;
pub(crate) mod read;
#[cfg(test)]
mod tests;

pub use config::{SeriesFile, SeriesRun};
pub use data::{Case, Readings};
