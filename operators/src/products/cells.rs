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
/// without any is missing; members that agree on a cell count as one.
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

/// The cells of a row: those that all members agree on, which is most of the world where it does not rain, and the members of the
/// others that are there.
struct Cells {
    /// Of each cell: whether every member has the same value, to the last bit.
    is_same: Vec<bool>,
    /// What the first member has there.
    first: Vec<f32>,
    /// The cells of the others.
    columns: Vec<u32>,
    /// `[other, member]`, of each as many as it has.
    members: Vec<f32>,
    counts: Vec<usize>,
    most: usize,
}

impl Cells {
    fn gather(members: ArrayView2<'_, f32>) -> Self {
        let (most, width) = members.dim();
        let first: Vec<f32> =
            members.rows().into_iter().next().map_or_else(|| vec![f32::NAN; width], |row| row.to_vec());
        let mut is_same = vec![true; width];
        for row in members.rows().into_iter().skip(1) {
            let places = is_same.iter_mut().zip(&first).zip(row);
            places.for_each(|((same, first), value)| *same &= value.to_bits() == first.to_bits());
        }
        let columns: Vec<u32> = (0..).zip(&is_same).filter(|(_, same)| !**same).map(|(column, _)| column).collect();
        let (values, counts) = (vec![0.0; most * columns.len()], vec![0; columns.len()]);
        let mut cells = Self { is_same, first, columns, members: values, counts, most };
        if cells.columns.is_empty() {
            return cells;
        }
        for row in members.rows() {
            let places = cells.members.chunks_exact_mut(most).zip(&mut cells.counts);
            for ((cell, count), column) in places.zip(&cells.columns) {
                // Written in any case, and written over if it is missing: without a branch.
                let value = row[*column as usize];
                cell[*count] = value;
                *count += usize::from(!value.is_nan());
            }
        }
        cells
    }

    fn sort(&mut self) {
        for (cell, count) in self.members.chunks_exact_mut(self.most.max(1)).zip(&self.counts) {
            cell[..*count].sort_unstable_by(f32::total_cmp);
        }
    }

    fn compute(&self, step: &Step<'_>, result: &mut [f32]) {
        let (width, mut levels) = (self.first.len(), vec![f32::NAN; step.levels.len()]);
        let mut put = |column: usize, levels: &[f32]| {
            result[column..].iter_mut().step_by(width).zip(levels).for_each(|(place, level)| *place = *level);
        };
        // Members that agree are one, and so are cells beside each other that hold the same.
        let mut last = None;
        for (column, value) in self.first.iter().enumerate().filter(|(column, _)| self.is_same[*column]) {
            if last != Some(value.to_bits()) {
                last = Some(value.to_bits());
                match value.is_nan() {
                    true => levels.fill(f32::NAN),
                    false => (step.compute)(&[*value], step.levels, &mut levels),
                }
            }
            put(column, &levels);
        }
        for ((cell, count), column) in self.members.chunks_exact(self.most.max(1)).zip(&self.counts).zip(&self.columns)
        {
            match *count {
                0 => levels.fill(f32::NAN),
                count => (step.compute)(&cell[..count], step.levels, &mut levels),
            }
            put(*column as usize, &levels);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{MEAN, PROBABILITIES, QUANTILES};
    use super::*;

    /// What a step says of one cell by itself.
    fn alone(step: &Step<'_>, members: impl Iterator<Item = f32>) -> Vec<u32> {
        let mut known: Vec<f32> = members.filter(|value| !value.is_nan()).collect();
        if step.sorted {
            known.sort_by(f32::total_cmp);
        }
        let mut levels = vec![f32::NAN; step.levels.len()];
        if !known.is_empty() {
            (step.compute)(&known, step.levels, &mut levels);
        }
        levels.iter().map(|level| level.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn each_cell_is_computed_as_if_it_were_alone(
            members in 1..7usize,
            drawn in prop::collection::vec(prop_oneof![3 => Just(0.0f32), 1 => Just(f32::NAN), 2 => 0f32..9.0], 84),
        ) {
            let (rows, columns) = (3, 4);
            let values = Array4::from_shape_fn((members, 1, rows, columns), |(m, _, y, x)| drawn[(m * rows + y) * columns + x]);
            let steps = [(&MEAN, vec![0.0]), (&QUANTILES, vec![0.1, 0.5, 1.0]), (&PROBABILITIES, vec![0.0, 1.0])];
            let steps: Vec<_> = steps.iter().map(|(product, levels)| Step::of(product.source, levels).unwrap()).collect();
            for (step, result) in steps.iter().zip(compute(values.view(), &steps)) {
                for y in 0..rows {
                    for x in 0..columns {
                        let found: Vec<u32> = (0..step.levels.len()).map(|level| result[[level, 0, y, x]].to_bits()).collect();
                        prop_assert_eq!(found, alone(step, (0..members).map(|m| values[[m, 0, y, x]])));
                    }
                }
            }
        }
    }
}
