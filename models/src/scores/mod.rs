//! How good a forecast was: scores as mergeable sums.
//!
//! A score of many cases is not the mean of the scores of each. So every score here is a *monoid*: an
//! accumulator of `f64` sums that starts empty ([`Default`]), takes cases (`add`), merges with another
//! (`merge`, in any grouping: by lead, region, worker or day) and is computed at the very end. What
//! cannot be computed, such as a ratio whose denominator is empty, is `None`: never 0, never 1.
//!
//! A pair with a missing value (NaN in the forecast or the observation) does not count. An event is a
//! value **at or above** a threshold ([`Event::AtLeast`]) unless said otherwise; the choice matters at
//! the grain of the data.

pub mod brier;
pub mod contingency;
pub mod continuous;
pub mod correlation;
pub mod crps;
pub mod fss;
pub mod wind;

pub use brier::Brier;
pub use contingency::{Contingency, Event};
pub use continuous::{Error, Spread};
pub use correlation::{pearson, spearman};
pub use crps::{Crps, crps};
pub use fss::Fss;
pub use wind::{EnergyScore, VectorError, energy_score};

/// `a / b`, unless `b` is 0.
fn ratio(a: f64, b: f64) -> Option<f64> {
    (b != 0.0).then(|| a / b)
}

#[cfg(test)]
fn close(a: Option<f64>, b: f64, tolerance: f64) -> bool {
    a.is_some_and(|a| (a - b).abs() <= tolerance)
}
