//! Frames made fit for tracking: on a dB scale, without lone echoes, scaled to 0..=255.

use ndarray::{Array1, Array2, ArrayView2, azip, s};
use rayon::prelude::*;

use super::{MotionParams, TimedField};

/// Darkest value, given to dry cells, in dB below that of the threshold.
const DRY_STEP_DB: f32 = 5.0;

/// Intensity `[y, x]`, 0 (dry or missing) to 255 (the strongest echo of the whole window).
pub(super) struct Image {
    pub(super) values: Array2<f32>,
    /// `true` where the frame is missing.
    pub(super) missing: Array2<bool>,
}

/// Scales all frames alike, so that an echo keeps its brightness from frame to frame (which is what
/// Lucas–Kanade assumes). `None` for fewer than two frames, for frames of different shapes, or without rain.
pub(super) fn prepare(frames: &[TimedField<'_>], params: &MotionParams) -> Option<Vec<Image>> {
    let shape = frames.first()?.1.dim();
    if frames.len() < 2 || frames.iter().any(|(_, field)| field.dim() != shape) {
        return None;
    }
    let mut images: Vec<Image> = frames.par_iter().map(|(_, field)| decibel(field, params.threshold_mm_h)).collect();
    images.par_iter_mut().for_each(|image| remove_lone_echoes(&mut image.values));
    let strongest = images.iter().flat_map(|image| image.values.iter()).fold(0f32, |a, b| a.max(*b));
    if strongest <= 0.0 {
        return None;
    }
    images.par_iter_mut().for_each(|image| image.values.mapv_inplace(|v| v * (255.0 / strongest)));
    Some(images)
}

/// dB above the dry value, which lies [`DRY_STEP_DB`] below the threshold; 0 where dry or missing.
fn decibel(field: &ArrayView2<'_, f32>, threshold: f32) -> Image {
    let above = |rate: f32| 10.0 * (rate / threshold).log10() + DRY_STEP_DB;
    let values = field.mapv(|rate| if rate >= threshold && rate.is_finite() { above(rate) } else { 0.0 });
    Image { values, missing: field.mapv(|rate| !rate.is_finite()) }
}

/// Morphological opening of the wet area by a cross of five cells: what no cross fits into becomes dry.
fn remove_lone_echoes(values: &mut Array2<f32>) {
    let wet = values.mapv(|v| v > 0.0);
    // Beyond the edge counts as wet for the erosion and as dry for the dilation, so that the edge itself removes nothing.
    let eroded = crosses(&wet, true, |a, b| a & b);
    let opened = crosses(&eroded, false, |a, b| a | b);
    values.zip_mut_with(&opened, |v, keep| *v = if *keep { *v } else { 0.0 });
}

/// Combines each cell with its four neighbours; `outside` stands for those beyond the edge.
fn crosses(mask: &Array2<bool>, outside: bool, combine: impl Fn(bool, bool) -> bool) -> Array2<bool> {
    let (rows, columns) = mask.dim();
    let edge = Array1::from_elem(columns, outside);
    let row = |y: usize| if y < rows { mask.row(y) } else { edge.view() };
    let mut out = mask.clone();
    for (y, mut here) in out.rows_mut().into_iter().enumerate() {
        azip!((h in &mut here, n in row(y.wrapping_sub(1)), s in row(y + 1)) *h = combine(*h, combine(*n, *s)));
        if columns > 0 {
            here[0] = combine(here[0], outside);
            here[columns - 1] = combine(here[columns - 1], outside);
            let centre = mask.row(y);
            azip!((h in here.slice_mut(s![1..]), w in centre.slice(s![..-1])) *h = combine(*h, *w));
            azip!((h in here.slice_mut(s![..-1]), e in centre.slice(s![1..])) *h = combine(*h, *e));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn opening_keeps_a_cross_and_drops_lone_cells() {
        let mut field = array![
            [0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            [1.0, 2.0, 1.0, 0.0, 0.0, 0.0],
            [0.0, 1.0, 0.0, 0.0, 3.0, 3.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0f32],
        ];
        remove_lone_echoes(&mut field);
        let expected = array![
            [0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
            [1.0, 2.0, 1.0, 0.0, 0.0, 0.0],
            [0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0f32],
        ];
        assert_eq!(field, expected);
    }

    #[test]
    fn scale_is_common_and_missing_is_dark() {
        let mut a = Array2::<f32>::from_elem((6, 6), 1.0);
        a[[0, 0]] = f32::NAN;
        let b = Array2::<f32>::from_elem((6, 6), 10.0);
        let images = prepare(&[(0.0, a.view()), (1.0, b.view())], &MotionParams::default()).unwrap();
        assert_eq!((images[0].values[[0, 0]], images[0].missing[[0, 0]]), (0.0, true));
        assert_eq!(images[1].values[[3, 3]], 255.0);
        assert!((images[0].values[[3, 3]] - 255.0 * 15.0 / 25.0).abs() < 1e-3);
    }
}
