//! The one list of the scores that a board can keep.

use super::csi::Csi;
use super::score::AnyScore;
use super::{Crps, Error, FairCrps, PrecisionRank, Spread, TailCrps};

/// A score by name.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Name on a command line or in a configuration.
    pub name: &'static str,
    /// What it tells, in a few words.
    pub about: &'static str,
    /// Empty sums: one, or one for each threshold.
    start: fn(&[f32]) -> Vec<Box<dyn AnyScore>>,
}

/// Every score, a line each.
pub const ALL: &[Kind] = &[
    Kind { name: "crps", about: "CRPS of the members", start: |_| one(Crps::default()) },
    Kind { name: "fair-crps", about: "CRPS as of infinitely many members", start: |_| one(FairCrps::default()) },
    Kind { name: "tail-crps", about: "CRPS above a threshold", start: |at| each(at, TailCrps::above) },
    Kind { name: "csi", about: "CSI of the mean", start: |at| each(at, Csi::of_mean) },
    Kind { name: "csi-control", about: "CSI of the first member", start: |at| each(at, Csi::of_control) },
    Kind { name: "mae", about: "absolute error of the mean", start: |_| one(Error::default()) },
    Kind { name: "spread-skill", about: "spread over error, 1 is reliable", start: |_| one(Spread::default()) },
    Kind { name: "precision", about: "where it is unsure it errs", start: |_| one(PrecisionRank::everywhere()) },
    Kind { name: "precision-wet", about: "the same where it rains", start: |_| one(PrecisionRank::where_wet()) },
];

/// There is no score of a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no score is named {name:?}; there are {}", names().collect::<Vec<_>>().join(", "))]
pub struct UnknownScore {
    /// What was asked for.
    pub name: String,
}

/// The names of all scores.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|kind| kind.name)
}

/// Empty sums of the scores of these names, those of events once for each threshold.
///
/// ```
/// use squall_models::scores::list::start;
/// assert_eq!(start(&["crps", "csi"], &[0.1, 1.0]).unwrap().len(), 3);
/// assert!(start(&["luck"], &[]).unwrap_err().to_string().contains("there are crps, "));
/// ```
///
/// # Errors
/// [`UnknownScore`] for the first name that is none.
pub fn start(names: &[impl AsRef<str>], thresholds: &[f32]) -> Result<Vec<Box<dyn AnyScore>>, UnknownScore> {
    let mut scores = Vec::new();
    for name in names.iter().map(AsRef::as_ref) {
        let kind = ALL.iter().find(|kind| kind.name == name);
        let kind = kind.ok_or_else(|| UnknownScore { name: name.to_owned() })?;
        scores.extend((kind.start)(thresholds));
    }
    Ok(scores)
}

fn one(score: impl AnyScore + 'static) -> Vec<Box<dyn AnyScore>> {
    vec![Box::new(score)]
}

fn each<S: AnyScore + 'static>(thresholds: &[f32], of: fn(f32) -> S) -> Vec<Box<dyn AnyScore>> {
    thresholds.iter().map(|threshold| Box::new(of(*threshold)) as Box<dyn AnyScore>).collect()
}
