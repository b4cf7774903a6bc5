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
    let mut cells = Cells::gather(members);
    let mut each = |sorted: bool, cells: &Cells| {
        for (step, result) in steps.iter().zip(results.iter_mut()).filter(|(step, _)| step.sorted == sorted) {
            cells.compute(step, result);
        }
    };
    each(false, &cells);
    if steps.iter().any(|step| step.sorted) {
        cells.sort();
        each(true, &cells);
    }
}

/// The members of each cell of a row that are there.
struct Cells {
    /// `[x, member]`, of each cell as many as it has.
    members: Vec<f32>,
    counts: Vec<usize>,
    most: usize,
}

impl Cells {
    fn gather(members: ArrayView2<'_, f32>) -> Self {
        let (most, columns) = members.dim();
        let mut cells = Self { members: vec![0.0; most * columns], counts: vec![0; columns], most };
        for row in members.rows() {
            let places = cells.members.chunks_exact_mut(most).zip(&mut cells.counts);
            for ((cell, count), value) in places.zip(row) {
                // Written in any case, and written over if it is missing: without a branch.
                cell[*count] = *value;
                *count += usize::from(!value.is_nan());
            }
        }
        cells
    }

    fn sort(&mut self) {
        for (cell, count) in self.members.chunks_exact_mut(self.most).zip(&self.counts) {
            let cell = &mut cell[..*count];
            // Most cells of a rain field are dry in every member.
            if cell.iter().any(|v| *v != cell[0]) {
                cell.sort_unstable_by(f32::total_cmp);
            }
        }
    }

    fn compute(&self, step: &Step<'_>, result: &mut [f32]) {
        let (columns, mut levels) = (self.counts.len(), vec![0f32; step.levels.len()]);
        for (column, (cell, count)) in self.members.chunks_exact(self.most).zip(&self.counts).enumerate() {
            match *count {
                0 => levels.fill(f32::NAN),
                count => (step.compute)(&cell[..count], step.levels, &mut levels),
            }
            result[column..].iter_mut().step_by(columns).zip(&levels).for_each(|(place, level)| *place = *level);
        }
    }
}
