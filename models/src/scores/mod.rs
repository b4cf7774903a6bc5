//! How good a forecast was: scores as mergeable sums.
//!
//! A score of many cases is not the mean of the scores of each. So every score here is a *monoid*: an
//! accumulator of `f64` sums that starts empty ([`Default`]), takes cases (`add`), merges with another
//! (`merge`, in any grouping: by lead, region, worker or day) and is computed at the very end. What
//! cannot be computed, such as a ratio whose denominator is empty, is `None`: never 0, never 1.
//!
//! What a board of scores keeps for each model and lead is a [`Score`]; [`list`] names all of them. [`Statistics`] are the
//! sums of several as exact integers, which can be taken back.
//!
//! A pair with a missing value (NaN in the forecast or the observation) does not count. An event is a
//! value **at or above** a threshold ([`Event::AtLeast`]) unless said otherwise; the choice matters at
//! the grain of the data.

pub mod board;
pub mod brier;
pub mod contingency;
pub mod continuous;
pub mod correlation;
pub mod crps;
pub mod csi;
pub mod direction;
pub mod extent;
pub mod fields;
pub mod fss;
pub mod list;
pub mod neighbourhood;
pub mod pooled;
pub mod precision;
pub mod probability;
pub mod rank;
pub mod reliability;
pub mod score;
mod sorted;
pub mod spectrum;
pub mod statistics;
mod table;
pub mod tail;
pub mod vector;
pub mod wind;

pub use board::{Scoreboard, common};
pub use brier::Brier;
pub use contingency::{Contingency, Event};
pub use continuous::{Error, Spread};
pub use correlation::{pearson, spearman};
pub use crps::{Crps, FairCrps, crps};
pub use csi::Csi;
pub use direction::DirectionError;
pub use extent::{Maximum, WetArea};
pub use fields::{Field, Number, numbers, of_fields, of_places};
pub use fss::{Border, Fss, FssOptions, Operator};
pub use list::UnknownScore;
pub use neighbourhood::{FssScore, NeighbourhoodCsi, PooledCrps};
pub use pooled::{Pool, neighbourhood_table, pooled_crps};
pub use precision::PrecisionRank;
pub use probability::Probability;
pub use rank::RankHistogram;
pub use reliability::ProbabilityTable;
pub use score::{AnyScore, Pair, Score, Value};
pub use spectrum::{LogSpectrumRatio, SpectrumRatio};
pub use statistics::{Statistics, Sums};
pub use tail::TailCrps;
pub use vector::SpeedCrps;
pub use wind::{EnergyScore, VectorError, energy_score};

use ndarray::{ArrayView1, ArrayView2, ArrayView3, s};
use rayon::prelude::*;

/// `a / b`, unless `b` is 0.
fn ratio(a: f64, b: f64) -> Option<f64> {
    (b != 0.0).then(|| a / b)
}

/// Calls `visit` with a row's values one after another in memory, where loops over them are fast.
fn with_slice<V: Clone, T>(row: ArrayView1<'_, V>, visit: impl FnOnce(&[V]) -> T) -> T {
    match row.as_slice() {
        Some(values) => visit(values),
        None => visit(&row.to_vec()),
    }
}

/// What is made of each row of members `[member, y, x]` and an observation `[y, x]`: in parallel, and in their order.
fn over_rows<A: Send>(
    members: ArrayView3<'_, f32>,
    observed: ArrayView2<'_, f32>,
    of_row: impl Fn(usize) -> A + Sync + Send,
) -> Vec<A> {
    let (_, rows, columns) = members.dim();
    debug_assert_eq!((rows, columns), observed.dim(), "members and observation of one shape");
    (0..rows).into_par_iter().map(of_row).collect()
}

/// Sums over the cells of members `[member, y, x]` and an observation `[y, x]`: rows in parallel, merged in
/// order, so that the sum does not depend on the threads. `add` is given a cell's members and observation.
fn over_cells<A: Default + Send>(
    members: ArrayView3<'_, f32>,
    observed: ArrayView2<'_, f32>,
    add: impl Fn(&mut A, &mut [f32], f32) + Sync,
    merge: impl Fn(&A, &A) -> A,
) -> A {
    let (count, _, columns) = members.dim();
    let row_sum = |y: usize| {
        // Members side by side for each cell, read along the rows.
        let mut cases = vec![0f32; count * columns];
        for m in 0..count {
            let row = members.slice(s![m, y, ..]);
            row.iter().enumerate().for_each(|(x, v)| cases[x * count + m] = *v);
        }
        let mut sum = A::default();
        for (x, observed) in observed.row(y).iter().enumerate() {
            add(&mut sum, &mut cases[x * count..(x + 1) * count], *observed);
        }
        sum
    };
    over_rows(members, observed, row_sum).iter().fold(A::default(), |all, row| merge(&all, row))
}

#[cfg(test)]
fn close(a: Option<f64>, b: f64, tolerance: f64) -> bool {
    a.is_some_and(|a| (a - b).abs() <= tolerance)
}
