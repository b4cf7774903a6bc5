//! Smoothing by passes of the weights 1, 2, 1 along both sides, and noise that has gone through it.

use ndarray::{Array2, ArrayView2, s};
use squall_fields::random::Philox;

/// A field after so many passes; variance of the kernel is half a cell squared a pass, along each side. Missing cells lend
/// nothing and stay missing; beyond the rim lies what lies at it.
pub(super) fn smoothed(field: ArrayView2<'_, f32>, passes: usize) -> Array2<f32> {
    let known = field.mapv(|v| f32::from(u8::from(!v.is_nan())));
    let filled = field.mapv(|v| if v.is_nan() { 0.0 } else { v });
    let (sums, weights) = (passed(filled, passes), passed(known, passes));
    let mut out = sums / weights;
    out.zip_mut_with(&field, |out, v| *out = if v.is_nan() { f32::NAN } else { *out });
    out
}

/// Noise of mean 0 and variance 1 everywhere after so many passes.
pub(super) fn noise(random: Philox, (rows, columns): (usize, usize), passes: usize) -> Array2<f32> {
    // The kernel reaches so far; with a margin of that, the rim has the variance of the middle.
    let (height, width) = (rows + 2 * passes, columns + 2 * passes);
    let mut white = vec![0f32; height * width];
    random.fill_normal(0, &mut white);
    let white = Array2::from_shape_vec((height, width), white).expect("a number a cell");
    let smooth = passed(white, passes);
    smooth.slice(s![passes..passes + rows, passes..passes + columns]).mapv(|v| v / remaining(passes))
}

/// What passes leave of the deviation of white noise: the sum of the squares of the kernel along one side, as there are two.
fn remaining(passes: usize) -> f32 {
    let mut kernel = vec![1f64];
    for _ in 0..passes {
        let mut wider = vec![0.0; kernel.len() + 2];
        for (i, weight) in kernel.iter().enumerate() {
            wider[i] += 0.25 * weight;
            wider[i + 1] += 0.5 * weight;
            wider[i + 2] += 0.25 * weight;
        }
        kernel = wider;
    }
    kernel.iter().map(|w| w * w).sum::<f64>() as f32
}

fn passed(mut field: Array2<f32>, passes: usize) -> Array2<f32> {
    let longest = field.nrows().max(field.ncols());
    let mut line = vec![0f32; longest];
    for _ in 0..passes {
        for mut row in field.rows_mut() {
            pass(row.iter_mut(), &mut line);
        }
        for mut column in field.columns_mut() {
            pass(column.iter_mut(), &mut line);
        }
    }
    field
}

/// One pass along a line; `old` has room for it.
fn pass<'a>(line: impl ExactSizeIterator<Item = &'a mut f32>, old: &mut [f32]) {
    let count = line.len();
    let cells: Vec<&mut f32> = line.collect();
    cells.iter().zip(old.iter_mut()).for_each(|(cell, old)| *old = **cell);
    for (i, cell) in cells.into_iter().enumerate() {
        *cell = 0.25 * old[i.saturating_sub(1)] + 0.5 * old[i] + 0.25 * old[(i + 1).min(count - 1)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_field_stays_and_a_peak_spreads_without_loss() {
        let flat = Array2::from_elem((5, 7), 3.0f32);
        assert!(smoothed(flat.view(), 9).iter().all(|v| (v - 3.0).abs() < 1e-5));
        let mut peak = Array2::zeros((21, 21));
        peak[[10, 10]] = 1.0f32;
        let smooth = smoothed(peak.view(), 2);
        assert!((smooth.sum() - 1.0).abs() < 1e-5);
        assert!((smooth[[10, 10]] - 0.375 * 0.375).abs() < 1e-6, "the middle of 1 4 6 4 1, squared");
    }

    #[test]
    fn missing_cells_lend_nothing() {
        let mut field = Array2::from_elem((6, 6), 2.0f32);
        field[[3, 3]] = f32::NAN;
        let smooth = smoothed(field.view(), 4);
        assert!(smooth[[3, 3]].is_nan());
        assert!(smooth.iter().filter(|v| !v.is_nan()).all(|v| (v - 2.0).abs() < 1e-5));
    }

    #[test]
    fn smooth_noise_has_unit_variance_up_to_the_rim() {
        let mut squares = Array2::<f64>::zeros((8, 8));
        for key in 0..2000 {
            squares += &noise(Philox::new(key, 1), (8, 8), 3).mapv(|v| f64::from(v * v));
        }
        let mean = squares / 2000.0;
        assert!(mean.iter().all(|v| (v - 1.0).abs() < 0.15), "{mean:?}");
    }
}
