//! Training runs as files: which data, which model, where the results go.
//!
//! The mechanisms are in `squall_models::training`; here is what touches files: the configuration, reading archives
//! into events, and plots.

pub mod archive;
pub mod config;
pub mod plot;
pub(crate) mod read;
pub mod resume;
#[cfg(test)]
mod tests;

pub use archive::DataFile;
pub use config::RunConfig;
