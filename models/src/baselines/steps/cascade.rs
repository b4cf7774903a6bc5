//! The cascade: a field as a sum of levels, each of which holds one band of scales.
//!
//! After Pulkkinen, Chandrasekar and Harri (2018): Gaussian bands on a logarithmic axis of wavenumbers, which sum to 1
//! at every wavenumber. Large scales live long and small ones die fast, so each level gets a process of its own.

use std::ops::Range;

use rustfft::num_complex::Complex;

use super::fft::{half, multiplicity};

/// Standard deviation of a band, in bands.
const WIDTH: f64 = 0.5;
/// Weights below this are 0: they stand far below the precision of what they weigh.
const LEAST_WEIGHT: f32 = 1e-7;

/// The bands of a grid.
pub(super) struct Bands {
    shape: (usize, usize),
    /// One for each level, from large scales to small.
    pub(super) levels: Vec<Band>,
}

/// The weights of one level.
pub(super) struct Band {
    /// `[wavenumber x, wavenumber y]`, as spectra are kept.
    pub(super) weights: Vec<f32>,
    /// Wavenumbers in x with any weight.
    pub(super) wide: usize,
    /// Wavenumbers in y with any weight: from 0 on, and up to the last one.
    pub(super) tall: [Range<usize>; 2],
}

impl Bands {
    /// Weights `exp(-(log_q r - log_q r_k)^2 / (2 * 0.5^2))`, normalised, with `q = (L / 2)^(1 / n)` and centres
    /// `r_k = (q^(k - 1) + q^k) / 2` for a longer side `L` and `n` levels. The mean belongs to level 0 alone.
    pub(super) fn new(shape: (usize, usize), levels: usize) -> Self {
        let (rows, half) = (shape.0, half(shape));
        let q = (0.5 * shape.0.max(shape.1) as f64).powf(1.0 / levels as f64);
        let centres: Vec<f64> = (0..levels as i32).map(|k| (0.5 * (q.powi(k) + q.powi(k + 1))).ln() / q.ln()).collect();
        let mut weights = vec![vec![0f32; half * rows]; levels];
        let mut here = vec![0f64; levels];
        for kx in 0..half {
            for y in 0..rows {
                let radius = (kx as f64).hypot(y.min(rows - y) as f64);
                let place = if radius > 0.0 { radius.ln() / q.ln() } else { 0.0 };
                for (weight, centre) in here.iter_mut().zip(&centres) {
                    *weight = (-(place - centre).powi(2) / (2.0 * WIDTH * WIDTH)).exp();
                }
                let sum: f64 = here.iter().sum();
                for (k, weight) in here.iter().enumerate() {
                    let share = if radius > 0.0 { weight / sum } else { f64::from(u8::from(k == 0)) };
                    weights[k][kx * rows + y] = share as f32;
                }
            }
        }
        Self { shape, levels: weights.into_iter().map(|weights| Band::new(weights, rows)).collect() }
    }

    /// Standard deviation of each level of a spectrum.
    pub(super) fn deviations<T: Copy + Into<f64>>(&self, spectrum: &[Complex<T>]) -> Vec<f64> {
        self.covariances(spectrum, spectrum).into_iter().map(f64::sqrt).collect()
    }

    /// Covariance, level by level, of two spectra.
    pub(super) fn covariances<T: Copy + Into<f64>>(&self, a: &[Complex<T>], b: &[Complex<T>]) -> Vec<f64> {
        let cells = (self.shape.0 * self.shape.1) as f64;
        let product = |i: usize| {
            let [ar, ai, br, bi]: [f64; 4] = [a[i].re.into(), a[i].im.into(), b[i].re.into(), b[i].im.into()];
            ar * br + ai * bi
        };
        let level = |band: &Band| {
            let columns = (0..band.wide).map(|kx| {
                let spans = band.spans(self.shape.0, kx).into_iter().flatten();
                // The mean of a field is no part of its variance.
                let sum: f64 = spans.filter(|i| *i > 0).map(|i| f64::from(band.weights[i]).powi(2) * product(i)).sum();
                multiplicity(self.shape, kx) * sum
            });
            columns.sum::<f64>() / (cells * cells)
        };
        self.levels.iter().map(level).collect()
    }
}

impl Band {
    fn new(mut weights: Vec<f32>, rows: usize) -> Self {
        let (mut wide, mut reach) = (0, 0);
        for (i, weight) in weights.iter_mut().enumerate() {
            if *weight < LEAST_WEIGHT {
                *weight = 0.0;
            } else {
                wide = wide.max(i / rows + 1);
                reach = reach.max((i % rows).min(rows - i % rows));
            }
        }
        let first = (reach + 1).min(rows);
        Self { weights, wide, tall: [0..first, rows.saturating_sub(reach).max(first)..rows] }
    }

    /// Where, in a spectrum, the numbers of a wavenumber in x lie that have any weight.
    pub(super) fn spans(&self, rows: usize, kx: usize) -> [Range<usize>; 2] {
        self.tall.clone().map(|span| kx * rows + span.start..kx * rows + span.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bands_sum_to_one_and_what_they_leave_out_has_no_weight() {
        for shape in [(40, 51), (51, 40), (64, 64)] {
            let bands = Bands::new(shape, 6);
            for i in 0..bands.levels[0].weights.len() {
                let sum: f32 = bands.levels.iter().map(|band| band.weights[i]).sum();
                assert!((sum - 1.0).abs() < 2e-6, "{sum}");
            }
            for band in &bands.levels {
                let mut inside = vec![false; band.weights.len()];
                (0..band.wide).flat_map(|kx| band.spans(shape.0, kx)).flatten().for_each(|i| inside[i] = true);
                assert!(inside.iter().zip(&band.weights).all(|(inside, weight)| *inside || *weight == 0.0));
            }
            assert_eq!(bands.levels[0].weights[0], 1.0);
        }
    }
}
