//! A loss that sees the spectrum: predicted fields shall have the power of what came, at each wavelength.
//!
//! A mean of squares or of absolute errors is judged cell by cell, and whoever is unsure of a place does best with less
//! detail there. The power at a wavelength does not say where things are: a field that is moved loses nothing, one that
//! is smoothed loses at the short wavelengths, one with noise in it, too. So this stands beside another loss and never
//! alone.

use tch::{Device, Kind, Tensor};

use super::batch::{self, Batch, Crops};
use super::config::Task;
use super::ensemble::in_bounds;
use super::loss;
use crate::diffusion::Instant;
use crate::diffusion::process::Process;

/// Power that is as good as none: that of white noise of 0.01 in transformed units. Without it a dry crop would have to
/// be dry to the last digit.
const FLOOR: f64 = 1e-4;

/// What the fields that a batch of a denoiser means are compared with.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Transformed future frames `[sample, lead, channel, y, x]`; NaN where missing.
    future: Tensor,
    /// The first guess of the same shape whose error is diffused.
    guess: Option<Tensor>,
    /// Of each sample.
    weight: Tensor,
}

impl Wanted {
    /// None where the loss does not see the spectrum.
    pub(super) fn of(task: &Task, crops: &Crops) -> Option<Self> {
        (task.training.loss.spectrum > 0.0).then(|| Self {
            future: crops.future.shallow_clone(),
            guess: crops.guess(0).map(Tensor::shallow_clone),
            weight: weight_of_samples(task, crops),
        })
    }

    /// The term of a denoiser's output, by the clean fields that it means.
    ///
    /// Each sample counts by its share of signal, `alpha^2 / (alpha^2 + sigma^2)`. What a denoiser should say of a very
    /// noisy state is the mean of all that may come, which is rightly smooth: asked for its power it would have to
    /// invent detail, and the samples that a solver draws by it would not be those of the data. Where there is little
    /// noise hardly anything is averaged over, and a smooth answer is a poor one.
    pub(super) fn term(&self, task: &Task, process: &Process, output: &Tensor, batch: &Batch) -> Tensor {
        let x = batch.input.narrow(2, 0, output.size()[2]);
        let clean = batch.steps.iter().enumerate().map(|(sample, step)| {
            let of = |all: &Tensor| all.narrow(0, sample as i64, 1);
            loss::clean_of(process, of(output), &of(&x), &process.schedule.at(*step))
        });
        let clean = Tensor::cat(&clean.collect::<Vec<_>>(), 0);
        let future = clean.narrow(1, task.model.past() as i64, task.model.leads as i64);
        let fields = match (&task.model.residual, &self.guess) {
            (Some(residual), Some(guess)) => residual.inverse(&future, guess),
            _ => future,
        };
        let shares: Vec<f32> =
            batch.steps.iter().map(|step| share_of_signal(&process.schedule.at(*step)) as f32).collect();
        let shares = crate::device::sent(&Tensor::from_slice(&shares), output.device());
        mean(task, &fields, &self.future, &shares, &self.weight)
    }
}

/// The term of members `[member * sample, lead, channel, y, x]`, NaN where missing, each by itself: a mean of members
/// is smooth.
pub(super) fn of_members(task: &Task, crops: &Crops, fields: &Tensor) -> Tensor {
    let members = fields.size()[0] / crops.future.size()[0].max(1);
    let weight = weight_of_samples(task, crops).repeat([members]);
    mean(task, fields, &crops.future.repeat([members, 1, 1, 1, 1]), &weight.ones_like(), &weight)
}

/// `sum(weight * share * distance) / sum(weight)`: a batch of noisy samples alone counts little, too.
fn mean(task: &Task, fields: &Tensor, observed: &Tensor, share: &Tensor, weight: &Tensor) -> Tensor {
    let dry = crate::device::sent(&Tensor::from_slice(&task.model.dry()), fields.device()).reshape([1, 1, -1, 1, 1]);
    let (fields, observed) = filled(&in_bounds(fields, &task.model.transforms), observed, &dry);
    (distance(&fields, &observed) * share * weight).sum(Kind::Float) / weight.sum(Kind::Float).clamp_min(1e-6)
}

/// What each sample counts.
fn weight_of_samples(task: &Task, crops: &Crops) -> Tensor {
    let weight = |density: &f64| if task.training.loss.unbiased { 1.0 / density.max(1e-6) } else { 1.0 };
    batch::per_sample(crops.density.iter().map(weight), crops.future.device()).reshape([-1])
}

fn share_of_signal(at: &Instant) -> f64 {
    at.alpha.powi(2) / (at.alpha.powi(2) + at.sigma.powi(2))
}

/// Both without gaps: where one is missing it is what the other is, so that the cell says nothing, and dry where both
/// are. Such cells take no gradients.
fn filled(fields: &Tensor, observed: &Tensor, dry: &Tensor) -> (Tensor, Tensor) {
    let is_there = |values: &Tensor| values.isnan().logical_not();
    let (seen, own) = (is_there(observed), fields.detach());
    let came = observed.where_self(&seen, &own);
    let fields = fields.where_self(&seen, &own);
    let fields = fields.where_self(&is_there(&fields), observed);
    let known = is_there(&came);
    (fields.where_self(&known, dry), came.where_self(&known, dry))
}

/// Mean square of the differences of log10(power + floor) of each sample, over wavenumbers from 1 on, leads and
/// channels, of fields without gaps `[sample, lead, channel, y, x]`. The mean of a field, its wavenumber 0, is for
/// other losses to judge.
fn distance(fields: &Tensor, observed: &Tensor) -> Tensor {
    let logarithms = |fields: &Tensor| {
        let spectra = power_spectra(fields);
        let waves = spectra.size()[3] - 1;
        (spectra.narrow(3, 1, waves) + FLOOR).log10()
    };
    (logarithms(fields) - logarithms(observed)).square().mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float)
}

/// Radially averaged power spectra of fields `[sample, lead, channel, y, x]`, by wavenumber from 0 on, as
/// `[sample, lead, channel, wavenumber]`: as [`crate::scores::spectrum::power_spectrum`] has it, with gradients.
fn power_spectra(fields: &Tensor) -> Tensor {
    let (samples, leads, channels, rows, columns) = fields.size5().expect("of five dimensions");
    let waves = fields.fft_rfft2(None::<i64>, [-2i64, -1].as_slice(), "ortho").view_as_real();
    let power = waves.square().sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
    // As a product with one matrix the sums have the same order on every device and in every run.
    let rings = rings(rows as usize, columns as usize, fields.device());
    power.reshape([samples * leads * channels, -1]).matmul(&rings).reshape([samples, leads, channels, -1])
}

/// What each wave of the half plane of a real transform, row by row, counts in the mean over each ring: `[wave, ring]`.
///
/// The other half holds the same waves, but for those of the first column and, of an even number, the last.
fn rings(rows: usize, columns: usize, device: Device) -> Tensor {
    let (half, count) = (columns / 2 + 1, rows.max(columns).div_ceil(2));
    let centred = |i: usize, n: usize| if i < n.div_ceil(2) { i as f64 } else { i as f64 - n as f64 };
    let mut members = vec![0f64; count];
    let mut waves = Vec::with_capacity(rows * half);
    for (y, x) in (0..rows).flat_map(|y| (0..half).map(move |x| (y, x))) {
        let ring = centred(y, rows).hypot(x as f64).round() as usize;
        let times = if x == 0 || 2 * x == columns { 1.0 } else { 2.0 };
        if let Some(members) = members.get_mut(ring) {
            *members += times;
        }
        waves.push((ring, times));
    }
    let mut shares = vec![0f32; rows * half * count];
    for (wave, (ring, times)) in waves.into_iter().enumerate().filter(|(_, (ring, _))| *ring < count) {
        shares[wave * count + ring] = (times / members[ring]) as f32;
    }
    crate::device::sent(&Tensor::from_slice(&shares), device).reshape([(rows * half) as i64, count as i64])
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::scores::spectrum::power_spectrum;

    /// Some rough fields of so many rows and columns.
    fn rough(samples: i64, rows: i64, columns: i64) -> Tensor {
        let cells = Tensor::arange(samples * rows * columns, (Kind::Float, Device::Cpu));
        ((&cells * 12.9898).sin() * 43_758.547).frac().reshape([samples, 1, 1, rows, columns])
    }

    #[test]
    fn rings_are_those_of_the_scores() {
        for (rows, columns) in [(8, 8), (6, 9), (9, 6), (7, 7), (16, 5)] {
            let fields = rough(2, rows, columns);
            let spectra = power_spectra(&fields);
            for sample in 0..2 {
                let values: Vec<f32> = Vec::try_from(fields.get(sample).reshape([-1])).unwrap();
                let field = Array2::from_shape_vec((rows as usize, columns as usize), values).unwrap();
                let expected = power_spectrum(field.view()).unwrap();
                let found: Vec<f32> = Vec::try_from(spectra.get(sample).reshape([-1])).unwrap();
                assert_eq!(found.len(), expected.len());
                for (ring, (found, expected)) in found.iter().zip(expected).enumerate() {
                    let difference = (f64::from(*found) - expected).abs();
                    assert!(difference < 1e-4 * expected.max(0.1), "{rows} {columns} {ring}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn what_is_moved_loses_nothing_and_what_is_smoothed_or_noisy_does() {
        let field = rough(1, 32, 32);
        let of = |other: &Tensor| distance(other, &field).double_value(&[0]);
        assert_eq!(of(&field), 0.0);
        let moved = of(&field.roll([5i64, -3].as_slice(), [3i64, 4].as_slice()));
        // Means of three by three cells, on a circle.
        let smoothed = |values: &Tensor| {
            let along =
                |values: &Tensor, axis: i64| (values.roll(1i64, axis) + values + values.roll(-1i64, axis)) / 3.0;
            along(&along(values, 3), 4)
        };
        let (once, twice) = (of(&smoothed(&field)), of(&smoothed(&smoothed(&field))));
        assert!(moved < 1e-8 && once > 0.1 && twice > 1.5 * once, "{moved} {once} {twice}");
        // What came is smooth, and the field has noise in it.
        let smooth = smoothed(&smoothed(&field));
        let noise = rough(2, 32, 32).narrow(0, 1, 1);
        let [little, much] = [0.1, 0.3].map(|size| distance(&(&smooth + &noise * size), &smooth).double_value(&[0]));
        assert!(little > 0.02 && much > little, "{little} {much}");
    }

    #[test]
    fn twice_the_field_is_as_far_at_every_wavelength() {
        let field = rough(1, 16, 16) * 100.0;
        let found = distance(&(&field * 2.0), &field).double_value(&[0]);
        assert!((found - 4f64.log10().powi(2)).abs() < 1e-3, "{found}");
    }

    #[test]
    fn cells_that_are_missing_say_nothing() {
        let (field, other) = (rough(1, 16, 16), rough(2, 16, 16).narrow(0, 1, 1));
        let dry = Tensor::from_slice(&[-1f32]).reshape([1, 1, 1, 1, 1]);
        let gap = |values: &Tensor, from: i64, count: i64| {
            let with = values.copy();
            let _ = with.narrow(3, from, count).fill_(f64::NAN);
            with
        };
        // Where what came is missing it is the field, where the field is missing it is what came.
        let (fields, came) = filled(&gap(&field, 2, 3), &gap(&other, 4, 4), &dry);
        let rows = |values: &Tensor, from: i64, count: i64| values.narrow(3, from, count);
        assert_eq!(rows(&fields, 2, 2), rows(&other, 2, 2));
        assert_eq!(rows(&came, 5, 3), rows(&field, 5, 3));
        assert_eq!((rows(&fields, 4, 1).max(), rows(&came, 4, 1).min()), (Tensor::from(-1f32), Tensor::from(-1f32)));
        assert_eq!((rows(&fields, 8, 8), rows(&came, 8, 8)), (rows(&field, 8, 8), rows(&other, 8, 8)));
        let (fields, came) = filled(&field, &gap(&field, 0, 7), &dry);
        assert_eq!(distance(&fields, &came).double_value(&[0]), 0.0);
    }

    #[test]
    fn a_step_along_the_gradient_brings_detail_back_and_gaps_have_none() {
        let observed = rough(1, 16, 16);
        let fields = (&observed * 0.3).set_requires_grad(true);
        let gaps = observed.copy();
        let _ = gaps.narrow(4, 0, 4).fill_(f64::NAN);
        let dry = Tensor::from_slice(&[-1f32]).reshape([1, 1, 1, 1, 1]);
        let of = |fields: &Tensor| {
            let (fields, came) = filled(fields, &gaps, &dry);
            distance(&fields, &came).mean(Kind::Float)
        };
        let before = of(&fields);
        before.backward();
        let gradient = fields.grad();
        assert!(gradient.isfinite().all().int64_value(&[]) == 1);
        assert!(gradient.abs().max().double_value(&[]) > 0.0);
        assert_eq!(gradient.narrow(4, 0, 4).abs().max().double_value(&[]), 0.0);
        let step = tch::no_grad(|| &fields - gradient * 0.1);
        let (before, after) = (before.double_value(&[]), of(&step).double_value(&[]));
        assert!(after < before, "{before} {after}");
        // A first guess that is missing leaves no trace in the gradient.
        let guess = Tensor::full([1, 1, 1, 16, 16], 0.5, (Kind::Float, Device::Cpu));
        let _ = guess.narrow(3, 0, 2).fill_(f64::NAN);
        let x = observed.zeros_like().set_requires_grad(true);
        let (fields, came) = filled(&(&x + guess), &gaps, &dry);
        distance(&fields, &came).mean(Kind::Float).backward();
        let gradient = x.grad();
        assert!(gradient.isfinite().all().int64_value(&[]) == 1);
        assert_eq!(gradient.narrow(3, 0, 2).abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn a_noisy_sample_counts_by_its_share_of_signal() {
        let at = |alpha: f64, sigma: f64| share_of_signal(&Instant { step: None, alpha, sigma, g: 1.0 });
        assert!((at(0.6, 0.8) - 0.36).abs() < 1e-12 && (at(0.2, 0.8) - 0.04 / 0.68).abs() < 1e-12);
    }
}
