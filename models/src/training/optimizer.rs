//! AdamW (Loshchilov and Hutter 2019) with clipping by the global norm; its state can be saved.
//!
//! Parameters, gradients and both means lie in flat buffers, so that a step is a few kernels over all of them and not a few for
//! each parameter.

use std::collections::BTreeMap;
use std::ops::Range;

use tch::Tensor;

use super::config::OptimizerConfig;
use super::flat::{Flat, Gradients};

/// Values that a CPU takes at a time: what a step reads and writes of them stays in its cache.
const PIECE: i64 = 1 << 17;

/// Running means of the gradient and of its square.
#[derive(Debug)]
pub struct AdamW {
    config: OptimizerConfig,
    /// Steps in which each had a gradient, in the order of the buffers: not all have one in every step.
    count: Vec<u64>,
    pub(super) mean: Flat,
    pub(super) square: Flat,
}

impl AdamW {
    /// For these parameters.
    pub fn new(config: OptimizerConfig, parameters: &Flat) -> Self {
        let zeros = || parameters.zeros_like();
        Self { config, count: vec![0; parameters.len()], mean: zeros(), square: zeros() }
    }

    /// In how many steps each had a gradient, for a checkpoint.
    pub(super) fn counts(&self) -> BTreeMap<String, Tensor> {
        let count = |number: &usize| Tensor::from(self.count[*number] as f32).reshape([1]);
        self.mean.numbers().iter().map(|(name, number)| (name.clone(), count(number))).collect()
    }

    /// The same from a checkpoint; in one of before they were kept, all had one in every step.
    pub(super) fn restore_counts(&mut self, counts: &BTreeMap<String, Tensor>, steps: u64) {
        for (name, number) in self.mean.numbers() {
            self.count[*number] = counts.get(name).map_or(steps, |kept| kept.double_value(&[0]) as u64);
        }
    }

    /// One step down the gradients, whose [`norm`](Gradients::norm) before clipping somebody has read: nothing here waits for the
    /// device.
    ///
    /// Decay applies to all parameters, as in the usual implementation. A parameter without a gradient is left as it is.
    pub fn step(&mut self, parameters: &mut Flat, gradients: &Gradients, norm: f64, learning_rate: f64) {
        let clip = if norm > self.config.clip_norm { self.config.clip_norm / (norm + 1e-6) } else { 1.0 };
        for (count, _) in self.count.iter_mut().zip(gradients.present()).filter(|(_, present)| **present) {
            *count += 1;
        }
        let piece = if parameters.values().device().is_cuda() { i64::MAX } else { PIECE };
        tch::no_grad(|| {
            let buffers = [parameters.values(), gradients.values()];
            for run in runs(&self.count, gradients.present()) {
                let (count, mut left) = (self.count[run.start], parameters.range(run));
                while !left.is_empty() {
                    let until = left.start.saturating_add(piece).min(left.end);
                    self.step_of(left.start..until, count, buffers, clip, learning_rate);
                    left.start = until;
                }
            }
        });
    }

    /// The step of values whose parameters have had so many gradients, with this one.
    fn step_of(&self, of: Range<i64>, count: u64, buffers: [&Tensor; 2], clip: f64, learning_rate: f64) {
        let part = |all: &Tensor| all.narrow(0, of.start, of.end - of.start);
        let [mut parameter, gradient] = buffers.map(part);
        let (mut mean, mut square) = (part(self.mean.values()), part(self.square.values()));
        let (b1, b2) = (self.config.beta1, self.config.beta2);
        let steps = i32::try_from(count).unwrap_or(i32::MAX);
        let (c1, c2) = (1.0 - b1.powi(steps), (1.0 - b2.powi(steps)).sqrt());
        let gradient = if clip == 1.0 { gradient } else { gradient * clip };
        let _ = mean.lerp_(&gradient, 1.0 - b1);
        let _ = square.g_mul_scalar_(b2).addcmul_(&gradient, &(&gradient * (1.0 - b2)));
        let mut change = square.sqrt();
        let _ = change.g_div_scalar_(c2).g_add_scalar_(1e-8);
        let _ = parameter.g_mul_scalar_(1.0 - learning_rate * self.config.weight_decay);
        let _ = parameter.g_sub_(&((mean / change) * (learning_rate / c1)));
    }
}

/// Neighbours that have a gradient and have had as many: in most trainings all of them.
fn runs(count: &[u64], present: &[bool]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for number in (0..count.len()).filter(|number| present[*number]) {
        match runs.last_mut() {
            Some(run) if run.end == number && count[run.start] == count[number] => run.end += 1,
            _ => runs.push(number..number + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use tch::nn::OptimizerConfig as _;
    use tch::{Device, Kind};

    use super::*;

    fn flat(named: &[(&str, Tensor)]) -> Flat {
        Flat::of(&named.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())).collect())
    }

    fn gradients(of: &Flat, named: &[(&str, Tensor)]) -> Gradients {
        let mut gradients = Gradients::none(of);
        gradients.add(named.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())));
        gradients
    }

    #[test]
    fn agrees_with_the_library() {
        let store = tch::nn::VarStore::new(Device::Cpu);
        let theirs = store.root().ones("w", &[3]);
        let config = OptimizerConfig { clip_norm: 1e9, ..Default::default() };
        let mut ours = flat(&[("w", Tensor::ones([3], (Kind::Float, Device::Cpu)))]);
        let mut adam = AdamW::new(config.clone(), &ours);
        let mut library = tch::nn::adamw(config.beta1, config.beta2, config.weight_decay).build(&store, 0.01).unwrap();
        for _ in 0..5 {
            let target = Tensor::from_slice(&[0.5f32, -2.0, 3.0]);
            library.backward_step(&(&theirs - &target).square().sum(Kind::Float));
            let gradient = gradients(&ours, &[("w", (&ours.named()["w"] - &target) * 2.0)]);
            adam.step(&mut ours, &gradient, gradient.norm().double_value(&[]), 0.01);
        }
        assert!((&ours.named()["w"] - theirs).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn large_gradients_are_clipped() {
        let mut parameters = flat(&[("w", Tensor::zeros([1], (Kind::Float, Device::Cpu)))]);
        let mut adam = AdamW::new(OptimizerConfig::default(), &parameters);
        let huge = gradients(&parameters, &[("w", Tensor::from_slice(&[1e6f32]))]);
        let norm = huge.norm().double_value(&[]);
        adam.step(&mut parameters, &huge, norm, 1e-4);
        assert_eq!(norm, 1e6);
        assert!((adam.mean.named()["w"].double_value(&[0]) - 0.1).abs() < 1e-4);
    }

    /// One parameter with its state, value by value in f64, as it is written in the publication.
    #[derive(Clone)]
    struct Plain {
        values: Vec<f64>,
        mean: Vec<f64>,
        square: Vec<f64>,
        count: i32,
    }

    impl Plain {
        fn step(&mut self, config: &OptimizerConfig, gradient: &[f64], clip: f64, rate: f64) {
            self.count += 1;
            for (i, gradient) in gradient.iter().enumerate() {
                let gradient = gradient * clip;
                self.mean[i] = config.beta1 * self.mean[i] + (1.0 - config.beta1) * gradient;
                self.square[i] = config.beta2 * self.square[i] + (1.0 - config.beta2) * gradient * gradient;
                let mean = self.mean[i] / (1.0 - config.beta1.powi(self.count));
                let square = self.square[i] / (1.0 - config.beta2.powi(self.count));
                self.values[i] -= rate * (config.weight_decay * self.values[i] + mean / (square.sqrt() + 1e-8));
            }
        }
    }

    #[test]
    fn parameters_without_a_gradient_stay_and_the_others_step_as_if_they_were_alone() {
        const SIZES: [(&str, i64); 5] = [("a", 3), ("b", 64), ("c", 200), ("d", 1), ("e", 140_000)];
        let config = OptimizerConfig { clip_norm: 0.5, weight_decay: 0.1, ..Default::default() };
        let values = |name: &str, count: i64, step: f64| {
            let first = f64::from(name.as_bytes()[0]);
            (Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.7 + first + 3.1 * step).sin().to_kind(Kind::Float)
        };
        let in_f64 = |tensor: &Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double).reshape([-1])).unwrap();
        let named: Vec<(&str, Tensor)> = SIZES.iter().map(|(name, count)| (*name, values(name, *count, 0.0))).collect();
        let mut ours = flat(&named);
        let mut adam = AdamW::new(config.clone(), &ours);
        let plain = |tensor: &Tensor| {
            let (values, zeros) = (in_f64(tensor), vec![0.0; tensor.numel()]);
            Plain { values, mean: zeros.clone(), square: zeros, count: 0 }
        };
        let mut alone: BTreeMap<&str, Plain> = named.iter().map(|(name, tensor)| (*name, plain(tensor))).collect();
        for (step, names) in ["abcde", "bd", "abe", "c", "abcde", "ade"].iter().enumerate() {
            let before = ours.copied();
            let of = |(name, count): &(&'static str, i64)| (*name, values(name, *count, step as f64 + 1.0) * 0.01);
            let named: Vec<(&str, Tensor)> = SIZES.iter().filter(|(name, _)| names.contains(name)).map(of).collect();
            let found = gradients(&ours, &named);
            let norm = found.norm().double_value(&[]);
            let squares = named.iter().flat_map(|(_, gradient)| in_f64(gradient)).map(|value| value * value);
            let expected = squares.sum::<f64>().sqrt();
            assert!((norm - expected).abs() < 1e-5 * expected, "{norm} {expected}");
            adam.step(&mut ours, &found, norm, 0.02);
            let clip = (config.clip_norm / (expected + 1e-6)).min(1.0);
            for (name, gradient) in &named {
                alone.get_mut(name).unwrap().step(&config, &in_f64(gradient), clip, 0.02);
            }
            for (name, _) in SIZES {
                let (now, expected) = (&ours.named()[name], &alone[name].values);
                let apart = in_f64(now).iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(apart < 1e-6, "{name} after step {step}: {apart}");
                assert_eq!(*now == before.named()[name], !names.contains(name), "{name} in step {step}");
            }
        }
        let counts = adam.counts();
        assert_eq!(SIZES.map(|(name, _)| counts[name].double_value(&[0])), [4.0, 4.0, 3.0, 4.0, 4.0]);
        let mut resumed = AdamW::new(config, &ours);
        resumed.restore_counts(&counts, 6);
        assert_eq!(resumed.count, adam.count);
        resumed.restore_counts(&BTreeMap::new(), 6);
        assert_eq!(resumed.count, [6; 5]);
    }

    #[test]
    fn neighbours_that_have_had_as_many_gradients_step_together() {
        let all = [true; 4];
        assert_eq!(runs(&[3, 3, 3, 3], &all).as_slice(), std::slice::from_ref(&(0..4)));
        assert_eq!(runs(&[3, 3, 2, 2], &all), [0..2, 2..4]);
        assert_eq!(runs(&[3, 3, 3, 3], &[true, false, true, true]), [0..1, 2..4]);
        assert!(runs(&[3], &[false]).is_empty());
    }
}
