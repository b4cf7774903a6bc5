//! Fourier transforms of real fields, with plans that all members share.

use std::sync::Arc;

use realfft::{ComplexToReal, FftNum, RealFftPlanner, RealToComplex};
use rustfft::{Fft, FftPlanner, num_complex::Complex};

/// Side of the squares in which transposition moves, so that both sides stay in cache.
const BLOCK: usize = 16;

/// The transform of a field `[y, x]` to the half spectrum `[wavenumber x, wavenumber y]` and back.
///
/// Spectra are kept **transposed**: each wavenumber in x has its wavenumbers in y side by side. So one transposition
/// a transform is enough. Neither direction is normalised; back and forth multiplies by the number of cells.
pub(super) struct Fft2<T: FftNum> {
    shape: (usize, usize),
    row_forward: Arc<dyn RealToComplex<T>>,
    row_inverse: Arc<dyn ComplexToReal<T>>,
    column_forward: Arc<dyn Fft<T>>,
    column_inverse: Arc<dyn Fft<T>>,
}

/// Memory that transforms work in.
pub(super) struct Scratch<T> {
    line: Vec<T>,
    lines: Vec<Complex<T>>,
    row: Vec<Complex<T>>,
    column: Vec<Complex<T>>,
}

impl<T: FftNum> Fft2<T> {
    /// For fields of `(rows, columns)`, neither of them 0.
    pub(super) fn new(shape: (usize, usize)) -> Self {
        let (mut real, mut complex) = (RealFftPlanner::new(), FftPlanner::new());
        Self {
            shape,
            row_forward: real.plan_fft_forward(shape.1),
            row_inverse: real.plan_fft_inverse(shape.1),
            column_forward: complex.plan_fft_forward(shape.0),
            column_inverse: complex.plan_fft_inverse(shape.0),
        }
    }

    /// Numbers of a spectrum.
    pub(super) fn len(&self) -> usize {
        half(self.shape) * self.shape.0
    }

    /// Memory for transforms, one for each thread.
    pub(super) fn scratch(&self) -> Scratch<T> {
        let zero = Complex::new(T::zero(), T::zero());
        let row = self.row_forward.get_scratch_len().max(self.row_inverse.get_scratch_len());
        let columns = [&self.column_forward, &self.column_inverse];
        let column = columns.iter().map(|plan| plan.get_inplace_scratch_len()).max().unwrap_or(0);
        Scratch {
            line: vec![T::zero(); self.shape.1],
            lines: vec![zero; self.len()],
            row: vec![zero; row],
            column: vec![zero; column],
        }
    }

    /// Spectrum of a field, row by row.
    pub(super) fn forward(&self, field: &[T], spectrum: &mut [Complex<T>], scratch: &mut Scratch<T>) {
        let Scratch { line, lines, row, column } = scratch;
        let half = half(self.shape);
        for (cells, out) in field.chunks_exact(self.shape.1).zip(lines.chunks_exact_mut(half)) {
            line.copy_from_slice(cells);
            self.row_forward.process_with_scratch(line, out, row).expect("buffers of the plan's sizes");
        }
        transpose(lines, spectrum, self.shape.0, half);
        self.column_forward.process_with_scratch(spectrum, column);
    }

    /// Field of a spectrum, which is used up, times the number of cells.
    pub(super) fn inverse(&self, spectrum: &mut [Complex<T>], field: &mut [T], scratch: &mut Scratch<T>) {
        let Scratch { lines, row, column, .. } = scratch;
        let half = half(self.shape);
        self.column_inverse.process_with_scratch(spectrum, column);
        transpose(spectrum, lines, half, self.shape.0);
        for (line, out) in lines.chunks_exact_mut(half).zip(field.chunks_exact_mut(self.shape.1)) {
            // What rounding leaves of imaginary parts that must be 0 is refused otherwise.
            line[0].im = T::zero();
            if self.shape.1.is_multiple_of(2) {
                line[half - 1].im = T::zero();
            }
            self.row_inverse.process_with_scratch(line, out, row).expect("buffers of the plan's sizes");
        }
    }
}

/// Wavenumbers in x of a half spectrum.
pub(super) const fn half(shape: (usize, usize)) -> usize {
    shape.1 / 2 + 1
}

/// How often a wavenumber in x of the half spectrum stands in the whole one.
pub(super) const fn multiplicity(shape: (usize, usize), kx: usize) -> f64 {
    if kx == 0 || 2 * kx == shape.1 { 1.0 } else { 2.0 }
}

/// Writes `rows` x `columns` numbers as `columns` x `rows`.
fn transpose<T: Copy>(from: &[T], to: &mut [T], rows: usize, columns: usize) {
    for y0 in (0..rows).step_by(BLOCK) {
        for x0 in (0..columns).step_by(BLOCK) {
            for x in x0..(x0 + BLOCK).min(columns) {
                for y in y0..(y0 + BLOCK).min(rows) {
                    to[x * rows + y] = from[y * columns + x];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_comes_back_whatever_the_parity_of_its_sides() {
        for shape in [(16, 18), (17, 18), (16, 19), (21, 35)] {
            let n = shape.0 * shape.1;
            let field: Vec<f64> = (0..n).map(|i| ((i * i) as f64 * 0.37).sin()).collect();
            let fft = Fft2::new(shape);
            let (mut spectrum, mut back) = (vec![Complex::default(); fft.len()], vec![0.0; n]);
            let mut scratch = fft.scratch();
            fft.forward(&field, &mut spectrum, &mut scratch);
            let power: f64 = spectrum
                .iter()
                .enumerate()
                .map(|(i, z)| multiplicity(shape, i / shape.0) * z.norm_sqr() / n as f64)
                .sum();
            assert!((power - field.iter().map(|v| v * v).sum::<f64>()).abs() < 1e-9);
            fft.inverse(&mut spectrum, &mut back, &mut scratch);
            assert!(back.iter().zip(&field).all(|(b, f)| (b / n as f64 - f).abs() < 1e-12));
        }
    }
}
