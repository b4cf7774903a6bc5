//! Forecasts against what came: files in, scores out.
//!
//! Whatever the forecasts are of, they become sums of scores by model and lead, and those become the rows of a table:
//! [`Tally`] is fed by `squall verify` from files or topics, and by `squall backtest` from the models themselves.

pub mod curves;
pub mod files;
pub mod places;
pub mod points;
pub mod series;
pub mod tally;
pub mod text;
pub mod topic;

pub use tally::{Row, Tally};

/// A file's name without its ending: what an event or a model is called that has no other name.
pub fn stem(path: &std::path::Path) -> String {
    path.file_stem().map_or_else(|| "unnamed".to_owned(), |stem| stem.to_string_lossy().into_owned())
}
