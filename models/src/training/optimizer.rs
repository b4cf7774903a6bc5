//! AdamW (Loshchilov and Hutter 2019) with clipping by the global norm; its state can be saved.

use std::collections::BTreeMap;

use tch::Tensor;

use super::config::OptimizerConfig;

/// Running means of the gradient and of its square, by name of the parameter.
#[derive(Debug)]
pub struct AdamW {
    config: OptimizerConfig,
    /// Steps in which each had a gradient: not all have one in every step.
    count: BTreeMap<String, u64>,
    pub(super) mean: BTreeMap<String, Tensor>,
    pub(super) square: BTreeMap<String, Tensor>,
}

impl AdamW {
    /// For these parameters.
    pub fn new(config: OptimizerConfig, parameters: &BTreeMap<String, Tensor>) -> Self {
        let zeros = || parameters.iter().map(|(name, p)| (name.clone(), p.zeros_like())).collect();
        let count = parameters.keys().map(|name| (name.clone(), 0)).collect();
        Self { config, count, mean: zeros(), square: zeros() }
    }

    /// In how many steps each had a gradient, for a checkpoint.
    pub(super) fn counts(&self) -> BTreeMap<String, Tensor> {
        self.count.iter().map(|(name, count)| (name.clone(), Tensor::from(*count as f32).reshape([1]))).collect()
    }

    /// The same from a checkpoint; in one of before they were kept, all had one in every step.
    pub(super) fn restore_counts(&mut self, counts: &BTreeMap<String, Tensor>, steps: u64) {
        for (name, count) in &mut self.count {
            *count = counts.get(name).map_or(steps, |kept| kept.double_value(&[0]) as u64);
        }
    }

    /// One step down the gradients; gives their norm before clipping.
    ///
    /// Decay applies to all parameters, as in the usual implementation.
    pub fn step(
        &mut self,
        parameters: &mut BTreeMap<String, Tensor>,
        gradients: &BTreeMap<String, Tensor>,
        learning_rate: f64,
    ) -> f64 {
        tch::no_grad(|| {
            let norms: Vec<Tensor> = gradients.values().map(|g| g.norm()).collect();
            let norm = if norms.is_empty() { 0.0 } else { Tensor::stack(&norms, 0).norm().double_value(&[]) };
            let clip = if norm > self.config.clip_norm { self.config.clip_norm / (norm + 1e-6) } else { 1.0 };
            let (b1, b2) = (self.config.beta1, self.config.beta2);
            for (name, parameter) in parameters.iter_mut() {
                let state = (gradients.get(name), self.mean.get_mut(name), self.square.get_mut(name));
                let (Some(gradient), Some(mean), Some(square)) = state else { continue };
                let count = self.count.entry(name.clone()).or_default();
                *count += 1;
                let steps = i32::try_from(*count).unwrap_or(i32::MAX);
                let (c1, c2) = (1.0 - b1.powi(steps), (1.0 - b2.powi(steps)).sqrt());
                let gradient = gradient * clip;
                let _ = mean.lerp_(&gradient, 1.0 - b1);
                let _ = square.g_mul_scalar_(b2).addcmul_(&gradient, &(&gradient * (1.0 - b2)));
                let denominator = square.sqrt() / c2 + 1e-8;
                let _ = parameter.g_mul_scalar_(1.0 - learning_rate * self.config.weight_decay);
                let change = &*mean / denominator * (learning_rate / c1);
                let _ = parameter.g_sub_(&change);
            }
            norm
        })
    }
}

#[cfg(test)]
mod tests {
    use tch::nn::OptimizerConfig as _;
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn agrees_with_the_library() {
        let store = tch::nn::VarStore::new(Device::Cpu);
        let theirs = store.root().ones("w", &[3]);
        let config = OptimizerConfig { clip_norm: 1e9, ..Default::default() };
        let mut ours = BTreeMap::from([("w".to_owned(), Tensor::ones([3], (Kind::Float, Device::Cpu)))]);
        let mut adam = AdamW::new(config.clone(), &ours);
        let mut library = tch::nn::adamw(config.beta1, config.beta2, config.weight_decay).build(&store, 0.01).unwrap();
        for _ in 0..5 {
            let target = Tensor::from_slice(&[0.5f32, -2.0, 3.0]);
            library.backward_step(&(&theirs - &target).square().sum(Kind::Float));
            let gradient = BTreeMap::from([("w".to_owned(), (&ours["w"] - &target) * 2.0)]);
            adam.step(&mut ours, &gradient, 0.01);
        }
        assert!((&ours["w"] - theirs).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn large_gradients_are_clipped() {
        let zero = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        let mut parameters = BTreeMap::from([("w".to_owned(), zero)]);
        let mut adam = AdamW::new(OptimizerConfig::default(), &parameters);
        let huge = BTreeMap::from([("w".to_owned(), Tensor::from_slice(&[1e6f32]))]);
        assert_eq!(adam.step(&mut parameters, &huge, 1e-4), 1e6);
        assert!((adam.mean["w"].double_value(&[0]) - 0.1).abs() < 1e-4);
    }
}
