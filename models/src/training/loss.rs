//! The loss: weighted mean square between what the network says and what it should say, in x-space.

use tch::{Kind, Tensor};

use super::batch::Batch;
use super::config::Task;
use super::ensemble::pooled;
use crate::diffusion::process::Process;
use crate::diffusion::{Instant, solver};

/// `sum(weight * (output - target)^2) / sum(weight)`, all broadcast to `[sample, frame, channel, y, x]`.
///
/// Missing pixels have weight 0 and so neither count nor dilute.
pub fn weighted_square(output: &Tensor, target: &Tensor, weight: &Tensor) -> Tensor {
    let square = (output - target).square() * weight;
    let total = weight.expand_as(&square).sum(Kind::Float).clamp_min(1e-6);
    square.sum(Kind::Float) / total
}

/// The loss of what a denoiser says of a batch: of its cells and of means over squares, and of the spectrum of what it
/// means.
pub(super) fn of_denoiser(task: &Task, process: &Process, output: &Tensor, batch: &Batch) -> Tensor {
    let config = &task.training.loss;
    let loss = at_scales(output, &batch.target, &batch.weight, &config.scales);
    match &batch.wanted {
        Some(wanted) => loss + wanted.term(task, process, output, batch) * config.spectrum,
        None => loss,
    }
}

/// The mean of [`weighted_square`] over means over squares of so many cells a side, 1 for the cells. Whatever the
/// network predicts, its error is that of the clean field times one number, so these are means of the clean field.
fn at_scales(output: &Tensor, target: &Tensor, weight: &Tensor, scales: &[usize]) -> Tensor {
    let at = |side: &usize| match *side {
        1 => weighted_square(output, target, weight),
        side => {
            let known = weight.gt(0.0).to_kind(Kind::Float);
            let [output, target, weight] =
                [output * &known, target * &known, weight.shallow_clone()].map(|values| pooled(&values, side as i64));
            weighted_square(&output, &target, &weight)
        }
    };
    match scales {
        [side] => at(side),
        scales => Tensor::stack(&scales.iter().map(at).collect::<Vec<_>>(), 0).mean(Kind::Float),
    }
}

/// The clean frames in y-space that a network's output means, of noisy frames `x` at an instant.
pub(super) fn clean_of(process: &Process, output: Tensor, x: &Tensor, at: &Instant) -> Tensor {
    let noise = process.from_network(&process.noise_of(output, x, at), at);
    solver::clean(&process.from_network(x, at), &noise, at)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::diffusion::{ProcessConfig, Target};

    #[test]
    fn missing_pixels_do_not_count() {
        let target = Tensor::zeros([1, 1, 1, 2, 2], (Kind::Float, Device::Cpu));
        let output = Tensor::from_slice(&[1f32, 1.0, 50.0, 1.0]).reshape([1, 1, 1, 2, 2]);
        let weight = Tensor::from_slice(&[1f32, 1.0, 0.0, 1.0]).reshape([1, 1, 1, 2, 2]);
        assert!((weighted_square(&output, &target, &weight).double_value(&[]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn squares_are_judged_by_their_means_and_cells_alone_as_ever() {
        let values = |values: &[f32]| Tensor::from_slice(values).reshape([1, 1, 1, 2, 4]);
        let target = values(&[0.0; 8]);
        // The mean error of the first square is 0, that of the second, of which a cell is missing, (1 + 2 + 3) / 4.
        let output = values(&[1.0, -1.0, 1.0, 2.0, 2.0, -2.0, 3.0, 50.0]);
        let weight = values(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        let of = |scales: &[usize]| at_scales(&output, &target, &weight, scales);
        assert_eq!(of(&[1]), weighted_square(&output, &target, &weight));
        let (cells, squares) = (24.0 / 7.0, 0.75 * 1.5f64.powi(2) / 1.75);
        for (scales, expected) in [(&[2usize][..], squares), (&[1, 2], (cells + squares) / 2.0)] {
            let found = of(scales).double_value(&[]);
            assert!((found - expected).abs() < 1e-5, "{scales:?}: {found} {expected}");
        }
    }

    #[test]
    fn what_an_output_means_is_the_clean_frames_that_were_noised() {
        let x0 = Tensor::arange(12, (Kind::Float, Device::Cpu)).cos().reshape([1, 3, 1, 2, 2]);
        let noise = Tensor::arange(12, (Kind::Float, Device::Cpu)).sin().reshape([1, 3, 1, 2, 2]);
        for config in [ProcessConfig::Plain {}, ProcessConfig::Dynamical { ratio: 0.5 }, ProcessConfig::Flow {}] {
            for target in [Target::Noise, Target::Velocity] {
                let process = Process::new(config).with_target(target);
                let noised = process.noised(&x0, &noise, &[600]);
                let found = clean_of(&process, noised.target, &noised.x, &process.schedule.at(600));
                let off = (found - &x0).abs().max().double_value(&[]);
                assert!(off < 1e-4, "{config:?} {target:?}: {off}");
            }
        }
    }
}
