//! Noise that looks like rain: white noise, filtered by the spectrum of what was observed.
//!
//! White noise is drawn as its spectrum, where its numbers are independent as well; that saves a transform a step.
//! Numbers are addressed by member, step and wavenumber, never drawn in sequence.

use std::f64::consts::PI;

use rustfft::num_complex::Complex;
use squall_fields::random::Philox;

use super::fft::{Fft2, Scratch, half};

/// Share of the half side over which fields fall to 0 at the edge.
const TAPER: f64 = 0.2;

/// Amplitude of the noise `[wavenumber x, wavenumber y]`: the modulus of the mean spectrum of fields in dB, row by row,
/// without missing values. The step from dry to wet is taken out and the edge tapered first (Seed 2003).
pub(super) fn filter(fields: &[Vec<f64>], shape: (usize, usize), fft: &Fft2<f64>, work: &mut Scratch<f64>) -> Vec<f32> {
    let all = || fields.iter().flatten().copied();
    let dry = all().fold(f64::INFINITY, f64::min);
    let least_wet = all().filter(|v| *v > dry).fold(f64::INFINITY, f64::min);
    let mut sum = vec![Complex::<f64>::default(); fft.len()];
    let mut spectrum = sum.clone();
    for field in fields {
        let level = |v: f64| if v > dry { v - (least_wet - dry) } else { v };
        let least = field.iter().map(|v| level(*v)).fold(f64::INFINITY, f64::min);
        let tapered: Vec<f64> = field
            .iter()
            .enumerate()
            .map(|(i, v)| (level(*v) - least) * taper(shape, i / shape.1, i % shape.1))
            .collect();
        fft.forward(&tapered, &mut spectrum, work);
        sum.iter_mut().zip(&spectrum).for_each(|(sum, z)| *sum += z);
    }
    sum.iter().map(|z| (z.norm() / fields.len().max(1) as f64) as f32).collect()
}

/// Tukey's window of the distance from the middle.
pub(super) fn taper((rows, columns): (usize, usize), y: usize, x: usize) -> f64 {
    let radius = (x as f64 / columns as f64 - 0.5).hypot(y as f64 / rows as f64 - 0.5);
    if radius >= 0.5 {
        0.0
    } else if radius > 0.5 * (1.0 - TAPER) {
        0.5 * (1.0 + (PI * (radius / (0.5 * TAPER) - 1.0 / TAPER + 1.0)).cos())
    } else {
        1.0
    }
}

/// Writes the spectrum of white noise of unit variance, over the root of the number of cells: that of step `step`.
pub(super) fn white(random: &Philox, step: usize, shape: (usize, usize), out: &mut [Complex<f32>]) {
    let rows = shape.0;
    for (kx, column) in out.chunks_exact_mut(rows).enumerate().take(half(shape)) {
        let first = (step as u64) << 40 | (kx as u64) << 20;
        for (pair, numbers) in column.chunks_mut(2).enumerate() {
            let [a, b, c, d] = random.normal(first + pair as u64);
            let draws = [Complex::new(a, b), Complex::new(c, d)];
            numbers.iter_mut().zip(draws).for_each(|(number, draw)| *number = draw * std::f32::consts::FRAC_1_SQRT_2);
        }
        if kx == 0 || 2 * kx == shape.1 {
            hermitian(column);
        }
    }
}

/// Makes a column one of a real field's spectrum, in which opposite wavenumbers are conjugate.
fn hermitian(column: &mut [Complex<f32>]) {
    let rows = column.len();
    for y in 0..=rows / 2 {
        let opposite = (rows - y) % rows;
        if opposite == y {
            column[y] = Complex::new(column[y].re * std::f32::consts::SQRT_2, 0.0);
        } else {
            column[opposite] = column[y].conj();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_noise_is_white_and_of_unit_variance() {
        for shape in [(60, 80), (61, 81)] {
            let (fft, n) = (Fft2::<f32>::new(shape), shape.0 * shape.1);
            let (mut spectrum, mut field) = (vec![Complex::default(); fft.len()], vec![0f32; n]);
            let mut scratch = fft.scratch();
            let (mut sums, mut neighbours) = ([0f64; 2], 0f64);
            for step in 0..20 {
                white(&Philox::new(3, 4), step, shape, &mut spectrum);
                fft.inverse(&mut spectrum, &mut field, &mut scratch);
                let scaled: Vec<f64> = field.iter().map(|v| f64::from(*v) / (n as f64).sqrt()).collect();
                sums = scaled.iter().fold(sums, |[a, b], v| [a + v, b + v * v]);
                neighbours += scaled.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>();
            }
            let count = 20.0 * n as f64;
            let [mean, variance] = sums.map(|sum| sum / count);
            assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
            assert!((neighbours / count).abs() < 0.02, "{neighbours}");
        }
    }
}
