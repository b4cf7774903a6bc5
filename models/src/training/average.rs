//! The running average of the weights: what is sampled from, since the last step of a noisy descent is a poor choice.

use std::collections::BTreeMap;

use tch::Tensor;

use super::flat::Flat;

/// What each step counts in the average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `average <- d * average + (1 - d) * weights`. `d` starts low, `(1 + step) / (10 + step)`, so that the first weights are
    /// soon forgotten.
    Exponential {
        /// d.
        decay: f64,
    },
    /// The mean of the weights after 0, 1, ... `steps` steps, each weighed by the density of the Beta distribution (b, b) at
    /// `(t + 1/2) / (steps + 1)`. With b below 1 the ends count most: what was known before, and what was learnt.
    Beta {
        /// b.
        beta: f64,
        /// Steps of the whole training.
        steps: u64,
    },
}

/// An average of weights, by name.
#[derive(Debug)]
pub struct Average {
    rule: Rule,
    average: Flat,
    /// Of [`Rule::Beta`]: the weights of so many steps, and their sum.
    so_far: (u64, f64),
}

impl Average {
    /// Starts at the weights.
    pub fn new(rule: Rule, weights: &Flat) -> Self {
        Self { rule, average: weights.copied(), so_far: (0, 0.0) }
    }

    /// Takes in the weights after a step (from 0), those that it was made for. Takes no gradients.
    pub fn update(&mut self, weights: &Flat, step: u64) {
        let share = self.share(step);
        self.average.approach(weights, share);
    }

    /// What the weights after a step (from 0) count for.
    fn share(&mut self, step: u64) -> f64 {
        match self.rule {
            Rule::Exponential { decay } => 1.0 - decay.min((1 + step) as f64 / (10 + step) as f64),
            Rule::Beta { beta, steps } => {
                let weight = |t: u64| {
                    let at = (t as f64 + 0.5) / (steps.max(step + 1) as f64 + 1.0);
                    (at * (1.0 - at)).powf(beta - 1.0)
                };
                // One more each time, all of them after a resume.
                let (from, sum) = if self.so_far.0 == step + 1 { self.so_far } else { (0, 0.0) };
                let sum = (from..=step + 1).fold(sum, |sum, t| sum + weight(t));
                self.so_far = (step + 2, sum);
                weight(step + 1) / sum
            }
        }
    }

    /// The averages, by name.
    pub fn weights(&self) -> &BTreeMap<String, Tensor> {
        self.average.named()
    }

    /// The averages, to be set from a checkpoint.
    pub(super) fn weights_mut(&mut self) -> &mut BTreeMap<String, Tensor> {
        self.average.named_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(value: f64) -> Flat {
        Flat::of(&BTreeMap::from([("w".to_owned(), Tensor::from(value as f32).reshape([1]))]))
    }

    #[test]
    fn the_beta_average_is_the_weighted_mean_of_all_weights_and_goes_on_after_a_resume() {
        const STEPS: u64 = 8;
        let of = |t: u64| (t * t) as f64;
        // The density of Beta(1/2, 1/2), but for a factor.
        let density = |t: u64| {
            let x = (t as f64 + 0.5) / (STEPS as f64 + 1.0);
            1.0 / (x * (1.0 - x)).sqrt()
        };
        let expected = (0..=STEPS).map(|t| density(t) * of(t)).sum::<f64>() / (0..=STEPS).map(density).sum::<f64>();
        let rule = Rule::Beta { beta: 0.5, steps: STEPS };
        let mut average = Average::new(rule, &weights(of(0)));
        for step in 0..STEPS {
            if step == 5 {
                average = Average::new(rule, &average.average);
            }
            average.update(&weights(of(step + 1)), step);
        }
        let found = average.weights()["w"].double_value(&[0]);
        assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
    }

    #[test]
    fn the_exponential_average_forgets() {
        let mut average = Average::new(Rule::Exponential { decay: 0.5 }, &weights(0.0));
        (100..103).for_each(|step| average.update(&weights(1.0), step));
        assert!((average.weights()["w"].double_value(&[0]) - 0.875).abs() < 1e-6);
    }
}
