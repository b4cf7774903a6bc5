//! The running average of the weights: what is sampled from, since the last step of a noisy descent is a poor choice.

use std::collections::BTreeMap;

use tch::Tensor;

/// `average <- d * average + (1 - d) * weights`, by name.
///
/// `d` starts low, `(1 + step) / (10 + step)`, so that the first weights are soon forgotten.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    average: BTreeMap<String, Tensor>,
}

impl Ema {
    /// Starts at the weights.
    pub fn new(decay: f64, weights: &BTreeMap<String, Tensor>) -> Self {
        Self { decay, average: weights.iter().map(|(name, w)| (name.clone(), w.detach().copy())).collect() }
    }

    /// Takes in the weights after a step (from 0). Takes no gradients.
    pub fn update(&mut self, weights: &BTreeMap<String, Tensor>, step: u64) {
        let decay = self.decay.min((1 + step) as f64 / (10 + step) as f64);
        tch::no_grad(|| {
            for (name, average) in &mut self.average {
                if let Some(weight) = weights.get(name) {
                    let _ = average.lerp_(weight, 1.0 - decay);
                }
            }
        });
    }

    /// The averages, by name.
    pub fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.average
    }

    /// The averages, to be set from a checkpoint.
    pub(super) fn weights_mut(&mut self) -> &mut BTreeMap<String, Tensor> {
        &mut self.average
    }
}
