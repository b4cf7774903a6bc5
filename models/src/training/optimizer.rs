//! AdamW (Loshchilov and Hutter 2019) with clipping by the global norm; its state can be saved.

use std::collections::BTreeMap;

use tch::Tensor;

use super::config::OptimizerConfig;

/// Running means of the gradient and of its square, by name of the parameter.
#[derive(Debug)]
pub struct AdamW {
    config: OptimizerConfig,
    pub(super) mean: BTreeMap<String, Tensor>,
    pub(super) square: BTreeMap<String, Tensor>,
}

impl AdamW {
    /// For these parameters.
    pub fn new(config: OptimizerConfig, parameters: &BTreeMap<String, Tensor>) -> Self {
        let zeros = || parameters.iter().map(|(name, p)| (name.clone(), p.zeros_like())).collect();
        Self { config, mean: zeros(), square: zeros() }
    }

    /// One step (from 0) down the gradients; gives their norm before clipping.
    ///
    /// Decay applies to all parameters, as in the usual implementation.
    pub fn step(
        &mut self,
        parameters: &mut BTreeMap<String, Tensor>,
        gradients: &BTreeMap<String, Tensor>,
        step: u64,
        learning_rate: f64,
    ) -> f64 {
        tch::no_grad(|| {
            let norms: Vec<Tensor> = gradients.values().map(|g| g.norm()).collect();
            let norm = if norms.is_empty() { 0.0 } else { Tensor::stack(&norms, 0).norm().double_value(&[]) };
            let clip = if norm > self.config.clip_norm { self.config.clip_norm / (norm + 1e-6) } else { 1.0 };
            let (b1, b2, count) = (self.config.beta1, self.config.beta2, step as i32 + 1);
            let (c1, c2) = (1.0 - b1.powi(count), (1.0 - b2.powi(count)).sqrt());
            for (name, parameter) in parameters.iter_mut() {
                let state = (gradients.get(name), self.mean.get_mut(name), self.square.get_mut(name));
                let (Some(gradient), Some(mean), Some(square)) = state else { continue };
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
        for step in 0..5 {
            let target = Tensor::from_slice(&[0.5f32, -2.0, 3.0]);
            library.backward_step(&(&theirs - &target).square().sum(Kind::Float));
            let gradient = BTreeMap::from([("w".to_owned(), (&ours["w"] - &target) * 2.0)]);
            adam.step(&mut ours, &gradient, step, 0.01);
        }
        assert!((&ours["w"] - theirs).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn large_gradients_are_clipped() {
        let zero = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        let mut parameters = BTreeMap::from([("w".to_owned(), zero)]);
        let mut adam = AdamW::new(OptimizerConfig::default(), &parameters);
        let huge = BTreeMap::from([("w".to_owned(), Tensor::from_slice(&[1e6f32]))]);
        assert_eq!(adam.step(&mut parameters, &huge, 0, 1e-4), 1e6);
        assert!((adam.mean["w"].double_value(&[0]) - 0.1).abs() < 1e-4);
    }
}
