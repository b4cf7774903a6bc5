//! The deterministic stages against pysteps 1.21.5, as `models/tests/data/steps/make.py` wrote them down.
//!
//! What is written down is a small field; `fresh` compares the same stages with what pysteps makes of larger ones now.

use rustfft::num_complex::Complex;
use serde::Deserialize;

use super::ar::Process;
use super::cascade::Bands;
use super::fft::{Fft2, half};
use super::mask::Rim;
use super::matching::Target;
use super::{MotionField, noise};
use crate::baselines::advection::extrapolate;

/// Largest difference, as a share of the largest value.
const TOLERANCE: f64 = 1e-5;

/// What pysteps made of three fields of rain; fields row by row in dB, oldest first.
#[derive(Deserialize)]
pub(super) struct Reference {
    pub(super) shape: (usize, usize),
    pub(super) fields: [Vec<f64>; 3],
    weights: Vec<Vec<f64>>,
    levels: Vec<Vec<f64>>,
    means: Vec<f64>,
    deviations: Vec<Vec<f64>>,
    gamma: Vec<[f64; 2]>,
    adjusted: Vec<[f64; 2]>,
    phi: Vec<[f64; 3]>,
    noise_filter: Vec<f64>,
    moved: Vec<Vec<Option<f64>>>,
    drier: Vec<f64>,
    wetter: Vec<f64>,
    drier_matched: Vec<f64>,
    wetter_matched: Vec<f64>,
    mask: Vec<f64>,
}

pub(super) fn reference() -> Reference {
    serde_json::from_str(include_str!("../../../tests/data/steps/reference.json")).expect("as the script writes it")
}

/// Each stage, compared.
pub(super) const STAGES: [fn(&Reference); 7] =
    [filters, decomposition, coefficients, noise_filter, advection, probability_matching, incremental_mask];

#[track_caller]
pub(super) fn assert_close(ours: impl IntoIterator<Item = f64>, theirs: &[f64]) {
    let ours: Vec<f64> = ours.into_iter().collect();
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().all(|v| v.is_finite()), "a number is missing");
    let scale = theirs.iter().fold(0f64, |a, b| a.max(b.abs()));
    let worst = ours.iter().zip(theirs).fold(0f64, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(worst <= TOLERANCE * scale, "{worst} of {scale}");
}

/// Numbers of a half spectrum in the reference's order.
fn rows_first(values: &[f32], shape: (usize, usize)) -> impl Iterator<Item = f64> + '_ {
    (0..shape.0).flat_map(move |y| (0..half(shape)).map(move |kx| f64::from(values[kx * shape.0 + y])))
}

fn spectra(reference: &Reference) -> [Vec<Complex<f64>>; 3] {
    let fft = Fft2::<f64>::new(reference.shape);
    reference.fields.each_ref().map(|field| {
        let mut spectrum = vec![Complex::default(); fft.len()];
        fft.forward(field, &mut spectrum, &mut fft.scratch());
        spectrum
    })
}

#[test]
fn the_filters_are_those_of_pysteps() {
    filters(&reference());
}

fn filters(reference: &Reference) {
    let bands = Bands::new(reference.shape, 6);
    for (band, theirs) in bands.levels.iter().zip(&reference.weights) {
        assert_close(rows_first(&band.weights, reference.shape), theirs);
    }
}

#[test]
fn the_decomposition_is_that_of_pysteps() {
    decomposition(&reference());
}

fn decomposition(reference: &Reference) {
    let (bands, fft, spectra) = (Bands::new(reference.shape, 6), Fft2::<f64>::new(reference.shape), spectra(reference));
    for (spectrum, theirs) in spectra.iter().zip(&reference.deviations) {
        assert_close(bands.deviations(spectrum), theirs);
    }
    let cells = reference.fields[2].len() as f64;
    for (k, band) in bands.levels.iter().enumerate() {
        let mut level: Vec<_> = spectra[2].iter().zip(&band.weights).map(|(z, w)| z * f64::from(*w)).collect();
        let mean = level[0].re / cells;
        assert!((mean - reference.means[k]).abs() < TOLERANCE * 20.0, "{mean}");
        level[0] = Complex::default();
        let mut field = vec![0.0; reference.fields[2].len()];
        fft.inverse(&mut level, &mut field, &mut fft.scratch());
        assert_close(field.iter().map(|v| v / cells / reference.deviations[2][k]), &reference.levels[k]);
    }
}

#[test]
fn correlations_and_coefficients_are_those_of_pysteps() {
    coefficients(&reference());
}

fn coefficients(reference: &Reference) {
    let (bands, spectra) = (Bands::new(reference.shape, 6), spectra(reference));
    let deviations = spectra.each_ref().map(|spectrum| bands.deviations(spectrum));
    let products = [1, 0].map(|older: usize| bands.covariances(&spectra[2], &spectra[older]));
    for k in 0..6 {
        let gamma = [0, 1].map(|lag: usize| products[lag][k] / (deviations[2][k] * deviations[1 - lag][k]));
        assert_close(gamma, &reference.gamma[k]);
        assert_close([gamma[0], super::ar::adjusted_lag_2(gamma[0], gamma[1])], &reference.adjusted[k]);
        let Process { phi_1, phi_2, phi_0 } = Process::new(gamma[0], gamma[1]);
        assert_close([phi_1, phi_2, phi_0], &reference.phi[k]);
    }
}

#[test]
fn the_noise_filter_is_that_of_pysteps() {
    noise_filter(&reference());
}

fn noise_filter(reference: &Reference) {
    let fft = Fft2::<f64>::new(reference.shape);
    let filter = noise::filter(&reference.fields, reference.shape, &fft, &mut fft.scratch());
    assert_close(rows_first(&filter, reference.shape), &reference.noise_filter);
}

#[test]
fn advection_is_that_of_pysteps() {
    advection(&reference());
}

fn advection(reference: &Reference) {
    let motion = MotionField::on_nodes(reference.shape, 1, |row, column| [1.0 + 0.02 * row, -0.5 + 0.03 * column]);
    let field = ndarray::Array2::from_shape_vec(reference.shape, reference.fields[2].clone()).unwrap();
    let moved = extrapolate(field.mapv(|v| v as f32).view(), &motion, &[1.0, 2.0, 3.0]);
    for (ours, theirs) in moved.outer_iter().zip(&reference.moved) {
        let inside = || theirs.iter().zip(&ours).filter_map(|(theirs, ours)| Some((f64::from(*ours), (*theirs)?)));
        assert_close(inside().map(|(ours, _)| ours), &inside().map(|(_, theirs)| theirs).collect::<Vec<_>>());
    }
}

#[test]
fn probability_matching_is_that_of_pysteps() {
    probability_matching(&reference());
}

fn probability_matching(reference: &Reference) {
    let observed: Vec<f32> = reference.fields[2].iter().map(|v| *v as f32).collect();
    let cases = [(&reference.drier, &reference.drier_matched), (&reference.wetter, &reference.wetter_matched)];
    for (forecast, theirs) in cases {
        let least = forecast.iter().copied().fold(f64::INFINITY, f64::min);
        let mut excess: Vec<f32> = forecast.iter().map(|v| (v - least) as f32).collect();
        Target::new(&observed).impose(&mut excess, &mut Vec::new());
        assert_close(excess.iter().map(|v| f64::from(*v)), theirs);
    }
}

#[test]
fn the_incremental_mask_is_that_of_pysteps() {
    incremental_mask(&reference());
}

fn incremental_mask(reference: &Reference) {
    let cells = reference.fields[2].len();
    let (mut distances, mut mask) = (vec![0; cells], vec![0f32; cells]);
    Rim::new(5.0, 4).spread(reference.shape.1, |i| reference.fields[2][i] >= 8.0, &mut distances, &mut mask);
    assert_close(mask.iter().map(|v| f64::from(*v)), &reference.mask);
}
