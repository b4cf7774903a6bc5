//! Does a forecast err where its precision map says?

use ndarray::s;

use super::score::{Pair, Score, Value};
use super::spearman;
use super::statistics::Sums;

/// Name of [`PrecisionRank::everywhere`].
pub const PRECISION: &str = "precision";
/// Name of [`PrecisionRank::where_wet`].
pub const PRECISION_WET: &str = "precision where wet";

/// Rank correlation of the precision map with the absolute error of the ensemble mean.
///
/// Ranks are of all cells together, so the sums are the pairs themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct PrecisionRank {
    /// Only where rain is forecast or came: in dry weather both sides are small, which is no merit.
    wet: bool,
    /// Precision and error of a cell.
    cells: Vec<(f32, f32)>,
}

impl PrecisionRank {
    /// Over all cells.
    pub fn everywhere() -> Self {
        Self { wet: false, cells: Vec::new() }
    }

    /// Over the cells where the mean or the observation is 0.1 or more.
    pub fn where_wet() -> Self {
        Self { wet: true, cells: Vec::new() }
    }
}

/// None: ranks need the pairs themselves.
impl Sums for PrecisionRank {
    fn sums(&self) -> Vec<(u64, f64)> {
        Vec::new()
    }

    fn set_sums(&mut self, _sums: &[(u64, f64)]) {}
}

impl Score for PrecisionRank {
    fn name(&self) -> &'static str {
        if self.wet { PRECISION_WET } else { PRECISION }
    }

    fn is_by_lead(&self) -> bool {
        false
    }

    fn add(&mut self, pair: &Pair<'_>) {
        /// Every so many cells along each axis take part: neighbours say the same.
        const SPARSE: usize = 3;
        let Some(map) = pair.precision else { return };
        let sparse = s![..;SPARSE, ..;SPARSE];
        let cells = map.slice(sparse).into_iter().zip(pair.mean().slice(sparse)).zip(pair.observed.slice(sparse));
        let counts = |mean: f32, observed: f32| !observed.is_nan() && (!self.wet || mean.max(observed) >= 0.1);
        let cells = cells.filter(|((_, mean), observed)| counts(**mean, **observed));
        let cells: Vec<_> = cells.map(|((precision, mean), observed)| (*precision, (mean - observed).abs())).collect();
        self.cells.extend(cells);
    }

    fn merge(&mut self, other: &Self) {
        self.cells.extend_from_slice(&other.cells);
    }

    fn count(&self) -> f64 {
        self.cells.len() as f64
    }

    fn finish(&self) -> Option<f64> {
        spearman(self.cells.iter().copied())
    }

    fn values(&self) -> Vec<Value> {
        vec![Value::new(if self.wet { "precision_rank_wet" } else { "precision_rank" }, self.finish())]
    }
}
