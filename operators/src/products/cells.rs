//! One pass over an ensemble computes all that is asked for.

use ndarray::{Array4, ArrayView2, ArrayView4, Axis};
use rayon::prelude::*;

use super::product::{Compute, Source};

/// A computation for each cell, at its levels.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    compute: Compute,
    sorted: bool,
    levels: &'a [f32],
}

impl<'a> Step<'a> {
    /// What is computed from the members of a cell; `None` where a product is not.
    pub(super) fn of(source: Source, levels: &'a [f32]) -> Option<Self> {
        match source {
            Source::Members(compute) => Some(Self { compute, sorted: false, levels }),
            Source::Sorted(compute) => Some(Self { compute, sorted: true, levels }),
            Source::Ensemble(_) | Source::Forecast(_) => None,
        }
    }
}

/// Computes each step for every cell of `[member, lead, y, x]`, on all cores: `[level, lead, y, x]` for each, in order.
///
/// The members of a cell are gathered once and sorted at most once. A member that is missing is left out; a cell
/// without any is missing.
pub(super) fn compute(values: ArrayView4<'_, f32>, steps: &[Step<'_>]) -> Vec<Array4<f32>> {
    let (_, leads, rows, columns) = values.dim();
    // Rows of all levels together in memory, so that each thread writes its own: [lead, y, level, x].
    let mut results: Vec<Vec<f32>> =
        steps.iter().map(|step| vec![0.0; leads * rows * step.levels.len() * columns]).collect();
    let mut rows_of_all: Vec<Vec<&mut [f32]>> = (0..leads * rows).map(|_| Vec::with_capacity(steps.len())).collect();
    for (step, result) in steps.iter().zip(&mut results) {
        let row = (step.levels.len() * columns).max(1);
        rows_of_all.iter_mut().zip(result.chunks_mut(row)).for_each(|(rows, chunk)| rows.push(chunk));
    }
    rows_of_all.into_par_iter().enumerate().with_min_len(8).for_each(|(at, mut results)| {
        let members = values.index_axis(Axis(1), at / rows);
        compute_row(members.index_axis(Axis(1), at % rows), steps, &mut results);
    });
    let shaped = |(step, result): (&Step<'_>, Vec<f32>)| {
        let shape = (leads, rows, step.levels.len(), columns);
        let array = Array4::from_shape_vec(shape, result).expect("allocated in this shape");
        array.permuted_axes([2, 0, 1, 3])
    };
    steps.iter().zip(results).map(shaped).collect()
}

/// One row, `[member, x]`; each step's result is `[level, x]`.
fn compute_row(members: ArrayView2<'_, f32>, steps: &[Step<'_>], results: &mut [&mut [f32]]) {
    let (count, columns) = members.dim();
    let most = steps.iter().map(|step| step.levels.len()).max().unwrap_or(0);
    let sorts = steps.iter().any(|step| step.sorted);
    let (mut cell, mut levels) = (Vec::with_capacity(count), vec![0f32; most]);
    let mut put = |step: &Step<'_>, cell: &[f32], column: usize, result: &mut [f32]| {
        let levels = &mut levels[..step.levels.len()];
        if cell.is_empty() {
            levels.fill(f32::NAN);
        } else {
            (step.compute)(cell, step.levels, levels);
        }
        levels.iter().enumerate().for_each(|(level, value)| result[level * columns + column] = *value);
    };
    for column in 0..columns {
        cell.clear();
        cell.extend(members.column(column).iter().filter(|v| !v.is_nan()));
        let mut each = |sorted: bool, cell: &[f32]| {
            for (step, result) in steps.iter().zip(results.iter_mut()).filter(|(step, _)| step.sorted == sorted) {
                put(step, cell, column, result);
            }
        };
        each(false, &cell);
        // Most cells of a rain field are dry in every member.
        if sorts && cell.iter().any(|v| *v != cell[0]) {
            cell.sort_unstable_by(f32::total_cmp);
        }
        each(true, &cell);
    }
}
