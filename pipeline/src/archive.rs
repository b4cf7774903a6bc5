//! How files and records of a source are read.

use squall_connectors::options::ReadOptions;

use crate::config::SourceConfig;

pub use squall_connectors::archive::Archive;

/// How files and records of a source are read.
pub fn read_options(source: &SourceConfig) -> ReadOptions {
    let mut options = ReadOptions::of(&source.variables);
    options.z_relation = source.z_relation;
    options.amount_interval_seconds = Some(source.cadence.step_seconds() as f64);
    options.limits.max_bytes = options.limits.max_bytes.max(source.max_record_bytes as usize);
    options
}
