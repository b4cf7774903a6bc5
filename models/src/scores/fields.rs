//! The statistics of a whole forecast at one lead, and the numbers that follow from statistics.

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Zip};
use rayon::prelude::*;
use serde::Serialize;
use squall_fields::{Unit, Variable};

use super::score::{AnyScore, Pair};
use super::statistics::Statistics;

/// A variable of a forecast at one lead, and what came.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// What it is.
    pub variable: Variable,
    /// `[member, y, x]`.
    pub members: ArrayView3<'a, f32>,
    /// `[y, x]`; NaN where nothing was observed.
    pub observed: ArrayView2<'a, f32>,
}

/// What the vector of two components of wind is called.
pub const WIND: &str = "wind";

/// The statistics of each variable, by its name, of scores that start as `empty`. Two components of wind are judged by
/// their speed and as a vector, too.
pub fn of_fields(empty: &[Box<dyn AnyScore>], fields: &[Field<'_>]) -> Vec<(&'static str, Statistics)> {
    of_some(empty, fields, |_| true)
}

/// The same of cells that are places of their own, without neighbours: scores of windows and of wavelengths count nothing.
pub fn of_places(empty: &[Box<dyn AnyScore>], fields: &[Field<'_>]) -> Vec<(&'static str, Statistics)> {
    of_some(empty, fields, |score| score.scale().is_none() && !score.is_of_neighbours())
}

fn of_some(
    empty: &[Box<dyn AnyScore>],
    fields: &[Field<'_>],
    wanted: impl Fn(&dyn AnyScore) -> bool + Sync,
) -> Vec<(&'static str, Statistics)> {
    let scalars = |pair: &Pair<'_>| of_pair(empty, pair, |score| !score.is_of_vectors() && wanted(score));
    let mut all: Vec<_> = fields
        .iter()
        .map(|Field { variable, members, observed }| (variable.name(), scalars(&Pair::new(*members, *observed))))
        .collect();
    if let [u, v] = fields
        && [u, v].iter().all(|field| field.variable.unit() == Unit::MetresPerSecond)
    {
        let speed = |a: &f32, b: &f32| a.hypot(*b);
        let members: Array3<f32> = Zip::from(u.members).and(v.members).map_collect(speed);
        let came: Array2<f32> = Zip::from(u.observed).and(v.observed).map_collect(speed);
        all.push((Variable::WindSpeed.name(), scalars(&Pair::new(members.view(), came.view()))));
        let vector = Pair::new(u.members, u.observed).with_second(v.members, v.observed);
        all.push((WIND, of_pair(empty, &vector, |score| score.is_of_vectors() && wanted(score))));
    }
    all
}

/// The statistics of one pair, of the scores that are wanted.
pub fn of_pair(
    empty: &[Box<dyn AnyScore>],
    pair: &Pair<'_>,
    wanted: impl Fn(&dyn AnyScore) -> bool + Sync,
) -> Statistics {
    let mut scores = empty.to_vec();
    scores.par_iter_mut().filter(|score| wanted(&***score)).for_each(|score| score.add(pair));
    Statistics::of(&scores)
}

/// A number that follows from statistics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Number {
    /// Name of the score.
    pub score: &'static str,
    /// Threshold of its event, in the unit of the quantity.
    pub threshold: Option<f32>,
    /// Side of its windows, or a wavelength, in cells.
    pub scale: Option<f64>,
    /// The score; none where it cannot be computed.
    pub value: Option<f64>,
    /// Cases that counted.
    pub count: f64,
}

/// Each number of each score that counted anything.
pub fn numbers(empty: &[Box<dyn AnyScore>], statistics: &Statistics) -> Vec<Number> {
    let mut numbers = Vec::new();
    for score in statistics.scores(empty).iter().filter(|score| score.count() > 0.0) {
        numbers.extend(score.values().into_iter().map(|value| Number {
            score: value.score,
            threshold: score.threshold(),
            scale: value.scale.or(score.scale().map(|cells| cells as f64)),
            value: value.value.filter(|value| value.is_finite()),
            count: score.count(),
        }));
    }
    numbers
}
