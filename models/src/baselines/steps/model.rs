//! What all members of a forecast share: the cascade of the observed fields, how it goes on, and the noise.

use rustfft::num_complex::Complex;
use squall_fields::random::Philox;

use super::ar::Process;
use super::cascade::{Band, Bands};
use super::fft::{Fft2, Scratch, multiplicity};
use super::mask::Rim;
use super::matching::Target;
use super::noise;

/// Decibels from the threshold down to what dry cells are given.
pub(super) const DRY_STEP_DB: f64 = 5.0;

/// A forecast's model in the coordinates that move with the rain, fields in dB of the rain rate.
pub(super) struct Model {
    shape: (usize, usize),
    fft: Fft2<f32>,
    bands: Bands,
    levels: Vec<Level>,
    /// Amplitude of the noise, `[wavenumber x, wavenumber y]`.
    filter: Vec<f32>,
    /// Spectra of the newest field and of the one before.
    spectra: [Vec<Complex<f32>>; 2],
    /// The newest field, row by row.
    pub(super) newest: Vec<f32>,
    target: Target,
    rim: Rim,
    wet_db: f32,
}

/// One level of the cascade.
struct Level {
    process: Process,
    deviation: f64,
    /// What the level's part of the spectrum before is multiplied by, to have the newest one's variance.
    rescaling: f64,
}

/// A member's state, and the memory that its steps work in.
pub(super) struct State {
    /// Each level's newest spectrum and the one before.
    levels: Vec<[Vec<Complex<f32>>; 2]>,
    noise: Vec<Complex<f32>>,
    total: Vec<Complex<f32>>,
    scratch: Scratch<f32>,
    mask: Vec<f32>,
    distances: Vec<u16>,
    ranks: Vec<u64>,
    /// The field of the newest step, row by row in dB, without missing values.
    pub(super) field: Vec<f32>,
    step: usize,
}

impl Model {
    /// From three fields of `shape`, oldest first, moved to where the newest is, without missing values.
    pub(super) fn new(fields: &[Vec<f64>; 3], shape: (usize, usize), levels: usize, rim: Rim, wet_db: f32) -> Self {
        let exact = Fft2::<f64>::new(shape);
        let mut scratch = exact.scratch();
        let bands = Bands::new(shape, levels);
        let [lag_2, lag_1, newest] = fields.each_ref().map(|field| {
            let mut spectrum = vec![Complex::default(); exact.len()];
            exact.forward(field, &mut spectrum, &mut scratch);
            spectrum
        });
        let deviations = [&newest, &lag_1, &lag_2].map(|spectrum| bands.deviations(spectrum));
        let products = [&lag_1, &lag_2].map(|spectrum| bands.covariances(&newest, spectrum));
        let level = |k: usize| {
            let gamma = |lag: usize| products[lag - 1][k] / (deviations[0][k] * deviations[lag][k]);
            let rescaling = deviations[0][k] / deviations[1][k];
            Level {
                process: Process::new(gamma(1), gamma(2)),
                deviation: deviations[0][k],
                rescaling: if rescaling.is_finite() { rescaling } else { 0.0 },
            }
        };
        let levels = (0..levels).map(level).collect();
        let filter = noise::filter(fields, shape, &exact, &mut scratch);
        let single = |spectrum: &[Complex<f64>]| -> Vec<Complex<f32>> {
            spectrum.iter().map(|z| Complex::new(z.re as f32, z.im as f32)).collect()
        };
        let spectra = [single(&newest), single(&lag_1)];
        let newest: Vec<f32> = fields[2].iter().map(|v| *v as f32).collect();
        let target = Target::new(&newest);
        Self { shape, fft: Fft2::new(shape), bands, levels, filter, spectra, newest, target, rim, wet_db }
    }

    /// Memory for a member; [`Model::begin`] has to follow.
    pub(super) fn state(&self) -> State {
        let (spectrum, cells) = (vec![Complex::default(); self.fft.len()], self.newest.len());
        State {
            // Not cloned: memory that a level never touches is never taken.
            levels: self.levels.iter().map(|_| [(); 2].map(|()| vec![Complex::default(); self.fft.len()])).collect(),
            noise: spectrum.clone(),
            total: spectrum,
            scratch: self.fft.scratch(),
            mask: vec![0.0; cells],
            distances: vec![0; cells],
            ranks: Vec::new(),
            field: self.newest.clone(),
            step: 0,
        }
    }

    /// Sets a state to the newest observation.
    pub(super) fn begin(&self, state: &mut State) {
        let rows = self.shape.0;
        for ((level, band), states) in self.levels.iter().zip(&self.bands.levels).zip(&mut state.levels) {
            for (out, (spectrum, factor)) in
                states.iter_mut().zip(self.spectra.iter().zip([1.0, level.rescaling as f32]))
            {
                for i in (0..band.wide).flat_map(|kx| band.spans(rows, kx)).flatten() {
                    out[i] = spectrum[i] * (band.weights[i] * factor);
                }
                // The mean is kept apart from the process.
                out[0] = Complex::default();
            }
        }
        state.field.copy_from_slice(&self.newest);
        state.step = 0;
        self.spread_mask(state);
    }

    /// Takes a member one step further.
    pub(super) fn advance(&self, random: &Philox, state: &mut State) {
        self.evolve(random, state);
        self.fft.inverse(&mut state.total, &mut state.field, &mut state.scratch);
        // Masking, and matching, depend on how far the field lies above its least value only.
        let least = state.field.iter().copied().fold(f32::INFINITY, f32::min);
        let scale = 1.0 / self.newest.len() as f32;
        state.field.iter_mut().zip(&state.mask).for_each(|(v, weight)| *v = (*v - least) * scale * weight);
        self.target.impose(&mut state.field, &mut state.ranks);
        self.spread_mask(state);
    }

    fn spread_mask(&self, state: &mut State) {
        let State { field, distances, mask, .. } = state;
        self.rim.spread(self.shape.1, |i| field[i] >= self.wet_db, distances, mask);
    }

    /// The autoregressive step of each level, and the spectrum of their sum.
    fn evolve(&self, random: &Philox, state: &mut State) {
        let rows = self.shape.0;
        noise::white(random, state.step, self.shape, &mut state.noise);
        state.noise.iter_mut().zip(&self.filter).for_each(|(z, amplitude)| *z *= amplitude);
        let spread = self.noise_deviations(&state.noise);
        let coefficients: Vec<[f32; 3]> = (self.levels.iter().zip(&spread))
            .map(|(level, spread)| {
                let noise = level.deviation * level.process.phi_0 / spread;
                [level.process.phi_1, level.process.phi_2, if noise.is_finite() { noise } else { 0.0 }]
                    .map(|c| c as f32)
            })
            .collect();
        state.total.fill(Complex::default());
        for kx in 0..rows_of(&state.total, rows) {
            for ((band, states), coefficients) in self.bands.levels.iter().zip(&mut state.levels).zip(&coefficients) {
                if kx >= band.wide {
                    continue;
                }
                let [now, before] = states;
                for span in band.spans(rows, kx) {
                    let numbers = (&mut now[span.clone()], &mut before[span.clone()], &mut state.total[span.clone()]);
                    step(numbers, &state.noise[span.clone()], &band.weights[span], coefficients);
                }
            }
        }
        state.levels.iter_mut().for_each(|level| level[0][0] = Complex::default());
        state.total[0] = self.spectra[0][0];
        state.step += 1;
    }

    /// Standard deviation of each level of the noise, times the number of cells.
    fn noise_deviations(&self, noise: &[Complex<f32>]) -> Vec<f64> {
        let rows = self.shape.0;
        let level = |band: &Band| {
            let columns = (0..band.wide).map(|kx| {
                let span = |span: std::ops::Range<usize>| power(&band.weights[span.clone()], &noise[span]);
                let mut sum: f64 = band.spans(rows, kx).map(span).iter().sum();
                if kx == 0 {
                    sum -= f64::from(band.weights[0] * noise[0].re).powi(2);
                }
                multiplicity(self.shape, kx) * sum
            });
            columns.sum::<f64>().max(0.0).sqrt()
        };
        let cells = self.newest.len() as f64;
        self.bands.levels.iter().map(|band| level(band) / cells).collect()
    }
}

/// Sum of squares of weighted numbers.
fn power(weights: &[f32], numbers: &[Complex<f32>]) -> f64 {
    let mut lanes = [0f32; 8];
    let (weights_8, weights_rest) = weights.as_chunks::<8>();
    let (numbers_8, numbers_rest) = numbers.as_chunks::<8>();
    for (w, z) in weights_8.iter().zip(numbers_8) {
        for k in 0..8 {
            lanes[k] += w[k] * w[k] * z[k].norm_sqr();
        }
    }
    let rest: f32 = weights_rest.iter().zip(numbers_rest).map(|(w, z)| w * w * z.norm_sqr()).sum();
    lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>() + f64::from(rest)
}

/// Part of a spectrum that is worked on.
type Part<'a> = &'a mut [Complex<f32>];

/// One step of a process: `before` becomes the newest state, and the two change places.
fn step(
    (now, before, total): (Part<'_>, Part<'_>, Part<'_>),
    noise: &[Complex<f32>],
    weights: &[f32],
    [phi_1, phi_2, factor]: &[f32; 3],
) {
    let states = now.iter_mut().zip(before).zip(total);
    for (((now, before), total), (noise, weight)) in states.zip(noise.iter().zip(weights)) {
        let next = *now * phi_1 + *before * phi_2 + noise * (weight * factor);
        *before = *now;
        *now = next;
        *total += next;
    }
}

/// Columns of a transposed spectrum.
fn rows_of(spectrum: &[Complex<f32>], rows: usize) -> usize {
    spectrum.len() / rows.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines::steps::parity::reference;

    #[test]
    fn each_level_keeps_its_variance_and_the_noise_has_the_spectrum_of_the_rain() {
        let reference = reference();
        let shape = reference.shape;
        let model = Model::new(&reference.fields, shape, 6, Rim::new(5.0, 10), -10.0);
        let mut state = model.state();
        let (mut variances, mut noise, mut drawn) = ([0f64; 6], vec![0f64; model.filter.len()], 0f64);
        for member in 0..60 {
            model.begin(&mut state);
            for step in 0..24 {
                model.evolve(&Philox::new(11, member), &mut state);
                drawn += 1.0;
                noise.iter_mut().zip(&state.noise).for_each(|(sum, z)| *sum += f64::from(z.norm_sqr()));
                if step % 6 == 5 {
                    for (k, sum) in variances.iter_mut().enumerate() {
                        let level = &state.levels[k][0];
                        let columns = level.iter().enumerate();
                        let power = columns.map(|(i, z)| multiplicity(shape, i / shape.0) * f64::from(z.norm_sqr()));
                        *sum += power.sum::<f64>() / (shape.0 * shape.1).pow(2) as f64 / 240.0;
                    }
                }
            }
        }
        for (level, variance) in model.levels.iter().zip(variances) {
            let ratio = variance.sqrt() / level.deviation;
            assert!((ratio - 1.0).abs() < 0.08, "{ratio}");
        }
        for (sum, amplitude) in noise.iter().zip(&model.filter).filter(|(_, amplitude)| **amplitude > 0.0) {
            let ratio = sum / drawn / f64::from(*amplitude).powi(2);
            assert!((ratio - 1.0).abs() < 0.25, "{ratio}");
        }
    }
}
