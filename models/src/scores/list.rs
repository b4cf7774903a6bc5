//! The one list of the scores that a board can keep.

use super::csi::Csi;
use super::score::AnyScore;
use super::{
    Crps, DirectionError, EnergyScore, Error, FairCrps, FssOptions, FssScore, LogSpectrumRatio, Maximum,
    NeighbourhoodCsi, Pool, PooledCrps, PrecisionRank, Probability, RankHistogram, SpectrumRatio, SpeedCrps, Spread,
    TailCrps, VectorError, WetArea,
};

/// What the scores of events and of neighbourhoods are of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// In the unit of the variable.
    pub thresholds: Vec<f32>,
    /// Sides of windows in cells.
    pub scales: Vec<usize>,
    /// Which events and windows of the fractions skill score count.
    pub fss: FssOptions,
}

/// Thresholds alone.
impl From<Vec<f32>> for Settings {
    fn from(thresholds: Vec<f32>) -> Self {
        Self { thresholds, ..Self::default() }
    }
}

impl Settings {
    fn each<S: AnyScore + 'static>(&self, of: fn(f32) -> S) -> Scores {
        self.thresholds.iter().map(|threshold| boxed(of(*threshold))).collect()
    }

    fn each_window<S: AnyScore + 'static>(&self, of: impl Fn(f32, usize) -> S) -> Scores {
        let mut scores = Scores::new();
        for threshold in &self.thresholds {
            scores.extend(self.scales.iter().map(|scale| boxed(of(*threshold, *scale))));
        }
        scores
    }

    fn each_fss(&self) -> Scores {
        self.each_window(|threshold, scale| FssScore::new(threshold, scale, self.fss))
    }

    fn each_pool(&self, pool: Pool) -> Scores {
        self.scales.iter().map(|scale| boxed(PooledCrps::new(*scale, pool))).collect()
    }
}

type Scores = Vec<Box<dyn AnyScore>>;

/// A score by name.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Name on a command line or in a configuration.
    pub name: &'static str,
    /// What it tells, in a few words.
    pub about: &'static str,
    /// Empty sums: one, or one for each threshold or window.
    start: fn(&Settings) -> Scores,
}

/// Every score, a line each.
pub const ALL: &[Kind] = &[
    Kind { name: "crps", about: "CRPS of the members", start: |_| one(Crps::default()) },
    Kind { name: "fair-crps", about: "CRPS as of infinitely many members", start: |_| one(FairCrps::default()) },
    Kind { name: "tail-crps", about: "CRPS above a threshold", start: |at| at.each(TailCrps::above) },
    Kind { name: "pooled-crps", about: "CRPS of means of windows", start: |at| at.each_pool(Pool::Mean) },
    Kind { name: "pooled-max-crps", about: "CRPS of maxima of windows", start: |at| at.each_pool(Pool::Max) },
    Kind { name: "mae", about: "errors of the mean", start: |_| one(Error::default()) },
    Kind { name: "spread-skill", about: "spread over error, 1 is reliable", start: |_| one(Spread::default()) },
    Kind { name: "rank", about: "where the observation lies among members", start: |_| one(RankHistogram::default()) },
    Kind { name: "csi", about: "yes or no, of the mean", start: |at| at.each(Csi::of_mean) },
    Kind { name: "csi-control", about: "yes or no, of the first member", start: |at| at.each(Csi::of_control) },
    Kind { name: "csi-nearby", about: "CSI in windows", start: |at| at.each_window(NeighbourhoodCsi::new) },
    Kind { name: "fss", about: "fractions skill score", start: Settings::each_fss },
    Kind { name: "probability", about: "Brier, ROC, economic value", start: |at| at.each(Probability::at_least) },
    Kind { name: "spectrum", about: "power of the members by wavelength", start: |_| one(SpectrumRatio::default()) },
    Kind { name: "energy", about: "CRPS of the wind as a vector", start: |_| one(EnergyScore::default()) },
    Kind { name: "vector", about: "error of the mean wind", start: |_| one(VectorError::default()) },
    Kind { name: "direction", about: "error of its direction", start: |_| one(DirectionError::default()) },
    Kind { name: "speed-crps", about: "CRPS of the speed", start: |_| one(SpeedCrps::default()) },
    Kind { name: "wet-area", about: "cells that members cover", start: |at| at.each(WetArea::at_least) },
    Kind { name: "maximum", about: "largest values of members", start: |_| one(Maximum::default()) },
    Kind { name: "spectrum-log", about: "power of logarithms", start: |_| one(LogSpectrumRatio::default()) },
    Kind { name: "precision", about: "where it is unsure it errs", start: |_| one(PrecisionRank::everywhere()) },
    Kind { name: "precision-wet", about: "the same where it rains", start: |_| one(PrecisionRank::where_wet()) },
];

/// The names of scores whose sums are numbers that can be kept, taken back and pooled ([`super::Statistics`]); what
/// follows from the sums of another is left out, and what tells of the looks of rain alone.
pub fn measures() -> impl Iterator<Item = &'static str> {
    let left_out = ["fair-crps", "wet-area", "maximum", "spectrum-log", "precision", "precision-wet"];
    names().filter(move |name| !left_out.contains(name))
}

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

/// Empty sums of the scores of these names, those of events and windows once for each.
///
/// ```
/// use squall_models::scores::list::{Settings, start};
/// let settings = Settings { thresholds: vec![0.1, 1.0], scales: vec![1, 9], ..Settings::default() };
/// assert_eq!(start(&["crps", "csi", "fss"], &settings).unwrap().len(), 1 + 2 + 4);
/// assert!(start(&["luck"], &settings).unwrap_err().to_string().contains("there are crps, "));
/// ```
///
/// # Errors
/// [`UnknownScore`] for the first name that is none.
pub fn start(names: &[impl AsRef<str>], settings: &Settings) -> Result<Scores, UnknownScore> {
    let mut scores = Vec::new();
    for name in names.iter().map(AsRef::as_ref) {
        let kind = ALL.iter().find(|kind| kind.name == name);
        let kind = kind.ok_or_else(|| UnknownScore { name: name.to_owned() })?;
        scores.extend((kind.start)(settings));
    }
    Ok(scores)
}

fn boxed(score: impl AnyScore + 'static) -> Box<dyn AnyScore> {
    Box::new(score)
}

fn one(score: impl AnyScore + 'static) -> Scores {
    vec![boxed(score)]
}
