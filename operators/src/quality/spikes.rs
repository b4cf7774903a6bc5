//! Single cells that stand out of their surroundings: what ground clutter and interference look like.

use ndarray::ArrayView2;
use rayon::prelude::*;

/// Indices of the cells that differ from the median of their neighbours by more than `excess`.
pub(super) fn spikes(plane: ArrayView2<'_, f32>, excess: f32) -> Vec<usize> {
    let (rows, columns) = plane.dim();
    let in_row = |row: usize| {
        let is_spike = move |column: &usize| {
            let value = plane[[row, *column]];
            median_around(plane, row, *column).is_some_and(|median| (value - median).abs() > excess)
        };
        (0..columns).filter(is_spike).map(move |column| row * columns + column).collect::<Vec<_>>()
    };
    (0..rows).into_par_iter().flat_map_iter(in_row).collect()
}

/// Median of the values around a cell; `None` with fewer than three.
fn median_around(plane: ArrayView2<'_, f32>, row: usize, column: usize) -> Option<f32> {
    let (rows, columns) = plane.dim();
    let mut around = [0f32; 8];
    let mut count = 0;
    for r in row.saturating_sub(1)..(row + 2).min(rows) {
        for c in column.saturating_sub(1)..(column + 2).min(columns) {
            if (r, c) != (row, column) && plane[[r, c]].is_finite() {
                around[count] = plane[[r, c]];
                count += 1;
            }
        }
    }
    let around = &mut around[..count];
    around.sort_unstable_by(f32::total_cmp);
    (count >= 3).then(|| (around[(count - 1) / 2] + around[count / 2]) / 2.0)
}
