//! Guidance: how the noise found with and without the condition make one.
//!
//! CogDPM (Chen et al. 2024) reads one network as a generative model, without the condition, and as a perceptual one,
//! with it. Their difference, the prediction error, corrects the state, weighted for each pixel and frame by a
//! *precision weight* that is estimated from the variance of the latest predictions of the clean frames: where they
//! still change, the condition gets more weight. The same map tells how predictable each place is.
//!
//! What must vary is the forecast itself: predictions are read as transformed fields, not as residuals in units of
//! their usual size, and only in future frames, since frames of the past are known and hardly vary ([`Fields`]).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::residual::Residual;

/// How strongly the condition acts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guidance {
    /// The condition alone.
    #[default]
    None,
    /// Weighted by precision.
    Precision(PrecisionConfig),
}

/// Settings of precision-weighted guidance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrecisionConfig {
    /// Strength w; 1 with weights of 1 is the condition alone.
    pub strength: f64,
    /// Predictions n that the variance is taken over.
    pub queue: usize,
    /// Exponent p of the relative variance.
    pub exponent: f64,
    /// Side s in pixels, odd, of the square over which variance is averaged.
    pub pool: i64,
    /// Least weight.
    pub u_min: f64,
    /// Greatest weight.
    pub u_max: f64,
    /// Added to the mean variance, so that a frozen field has a weight.
    pub tau: f64,
    /// First step of sampling (from 0) with guidance; before it the condition alone acts.
    pub first_step: usize,
    /// Last step of sampling with guidance.
    pub last_step: usize,
}

impl Default for PrecisionConfig {
    fn default() -> Self {
        Self {
            strength: 1.0,
            queue: 3,
            exponent: 0.5,
            pool: 3,
            u_min: 0.5,
            u_max: 2.0,
            tau: 1e-12,
            first_step: 0,
            last_step: usize::MAX,
        }
    }
}

impl PrecisionConfig {
    /// Whether the network must be evaluated without the condition too at a step of sampling.
    pub fn needs_pair(&self, step: usize) -> bool {
        let trivial = self.strength == 1.0 && self.u_min == 1.0 && self.u_max == 1.0;
        !trivial && (self.first_step..=self.last_step).contains(&step)
    }

    /// `noise_0 + w U (noise_c - noise_0)`; `weight` is U or, before there is one, `None` for 1.
    pub fn combine(&self, conditional: &Tensor, unconditional: &Tensor, weight: Option<&Tensor>) -> Tensor {
        let error = conditional - unconditional;
        let error = match weight {
            Some(weight) => error * weight,
            None => error,
        };
        unconditional + error * self.strength
    }
}

/// How diffused clips are read as forecasts. The default reads every frame as it is.
#[derive(Debug, Default)]
pub struct Fields {
    /// Frames of the past at the start of a clip, which are no forecast.
    pub past: i64,
    /// Of a model that diffuses a residual.
    pub undo: Option<Undo>,
    /// 1 where there is something to forecast and 0 elsewhere, as around a domain that fills no tile: broadcast to
    /// `[sample, lead, channel, y, x]`. `None` is 1 everywhere.
    pub known: Option<Tensor>,
}

/// What turns residuals into transformed fields; tensors are `[sample, lead, channel, y, x]` or broadcast to it.
#[derive(Debug)]
pub struct Undo {
    scale: Tensor,
    guess: Tensor,
    limit: f64,
}

impl Undo {
    /// Of a residual and a transformed first guess; where that is missing it counts as 0.
    pub fn new(residual: &Residual, guess: &Tensor) -> Self {
        Self { scale: residual.scale(guess), guess: guess.nan_to_num(0.0, None, None), limit: residual.limit }
    }
}

impl Fields {
    /// The transformed future fields of a clip.
    fn of(&self, clip: &Tensor) -> Tensor {
        let future = clip.narrow(1, self.past, clip.size()[1] - self.past);
        match &self.undo {
            Some(Undo { scale, guess, limit }) => future.clamp(-limit, *limit) * scale + guess,
            None => future,
        }
    }

    /// The weight of future frames as that of a clip, in which frames of the past have 1.
    fn weight_of_clip(&self, weight: Tensor) -> Tensor {
        if self.past == 0 {
            return weight;
        }
        let mut size = weight.size();
        size[1] = self.past;
        Tensor::cat(&[Tensor::ones(&size, (weight.kind(), weight.device())), weight], 1)
    }
}

/// The precision weight, estimated from the latest predictions of clean frames.
#[derive(Debug)]
pub struct Precision<'a> {
    config: &'a PrecisionConfig,
    fields: &'a Fields,
    queue: VecDeque<Tensor>,
    total: Option<Tensor>,
    count: i64,
}

impl<'a> Precision<'a> {
    /// With an empty queue, of clips that are read in a way.
    pub fn new(config: &'a PrecisionConfig, fields: &'a Fields) -> Self {
        Self { config, fields, queue: VecDeque::new(), total: None, count: 0 }
    }

    /// Takes a prediction of clean frames `[sample, frame, channel, y, x]` and gives the weight
    /// `[sample, frame, 1, y, x]`, once the queue is full.
    pub fn push(&mut self, prediction: &Tensor) -> Option<Tensor> {
        self.queue.push_back(self.fields.of(prediction));
        if self.queue.len() > self.config.queue.max(2) {
            self.queue.pop_front();
        }
        if self.queue.len() < self.config.queue.max(2) {
            return None;
        }
        let relative = self.relative_variance().pow_tensor_scalar(self.config.exponent);
        self.total = Some(match self.total.take() {
            Some(total) => total + &relative,
            None => relative.shallow_clone(),
        });
        self.count += 1;
        Some(self.fields.weight_of_clip(relative.clamp(self.config.u_min, self.config.u_max)))
    }

    /// Mean over the steps so far of the weight before it is bounded, `[sample, lead, y, x]`.
    pub fn map(&self) -> Option<Tensor> {
        let total = self.total.as_ref()?;
        Some(total.squeeze_dim(2) / self.count as f64)
    }

    /// Variance over the queue, averaged over channels and neighbours, relative to its mean over what is forecast of
    /// each sample.
    fn relative_variance(&self) -> Tensor {
        let queue: Vec<&Tensor> = self.queue.iter().collect();
        let variance = Tensor::stack(&queue, 0).var_dim(0, true, false).mean_dim(2, true, Kind::Float);
        let (samples, frames, _, height, width) = variance.size5().expect("of shape [sample, frame, channel, y, x]");
        let s = self.config.pool.max(1) | 1;
        let flat = variance.reshape([samples * frames, 1, height, width]);
        let pooled = flat.avg_pool2d([s, s], [1, 1], [s / 2, s / 2], false, false, None::<i64>);
        let pooled = pooled.reshape([samples, frames, 1, height, width]);
        let all = [1i64, 2, 3, 4];
        let mean = match &self.fields.known {
            None => pooled.mean_dim(all.as_slice(), true, Kind::Float),
            Some(known) => {
                let known = known.expand_as(&pooled);
                let count = known.sum_dim_intlist(all.as_slice(), true, Kind::Float).clamp_min(1.0);
                (&pooled * known).sum_dim_intlist(all.as_slice(), true, Kind::Float) / count
            }
        };
        pooled / (mean + self.config.tau)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// Three predictions; the pixel (4, 4) of the last frame oscillates, all else drifts a little, row 0 is frozen.
    fn predictions(scale: f64) -> Vec<Tensor> {
        (0..3)
            .map(|j| {
                let mut q = Tensor::arange(2 * 3 * 64, OPTIONS).cos().reshape([2, 3, 1, 8, 8]);
                q *= 1.0 + 0.01 * f64::from(j);
                let _ = q.narrow(3, 0, 1).fill_(0.25);
                let _ = q.narrow(1, 2, 1).narrow(3, 4, 1).narrow(4, 4, 1).fill_(if j % 2 == 0 { 2.0 } else { -2.0 });
                q * scale
            })
            .collect()
    }

    fn weight(config: &PrecisionConfig, scale: f64) -> Tensor {
        let fields = Fields::default();
        let mut precision = Precision::new(config, &fields);
        predictions(scale).iter().filter_map(|q| precision.push(q)).last().unwrap()
    }

    #[test]
    fn bounds_of_one_are_classifier_free_guidance_bit_for_bit() {
        let config = PrecisionConfig { strength: 1.7, u_min: 1.0, u_max: 1.0, ..Default::default() };
        let (c, u) = (Tensor::arange(384, OPTIONS).sin().reshape([2, 3, 1, 8, 8]), predictions(1.0)[0].shallow_clone());
        let free = &u + (&c - &u) * 1.7;
        assert_eq!(config.combine(&c, &u, Some(&weight(&config, 1.0))), free);
        assert_eq!(config.combine(&c, &u, None), free);
    }

    #[test]
    fn strength_and_weights_of_one_are_the_condition_alone() {
        let config = PrecisionConfig { u_min: 1.0, u_max: 1.0, ..Default::default() };
        assert!(!config.needs_pair(0));
        let (c, u) = (Tensor::arange(8, OPTIONS).sin(), Tensor::arange(8, OPTIONS).cos());
        assert!((config.combine(&c, &u, None) - c).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn the_weight_does_not_see_the_scale() {
        let config = PrecisionConfig { u_min: 0.01, u_max: 100.0, tau: 0.0, ..Default::default() };
        // A power of two changes no digit.
        assert_eq!(weight(&config, 1.0), weight(&config, 64.0));
        assert!((weight(&config, 1.0) / weight(&config, 3.7) - 1.0).abs().max().double_value(&[]) < 1e-3);
    }

    #[test]
    fn what_oscillates_gets_more_weight_than_what_is_frozen() {
        let config = PrecisionConfig::default();
        let u = weight(&config, 1.0);
        assert_eq!(u.size(), [2, 3, 1, 8, 8]);
        let (oscillating, frozen) = (u.double_value(&[0, 2, 0, 4, 4]), u.double_value(&[0, 2, 0, 0, 0]));
        assert_eq!((oscillating, frozen), (2.0, 0.5));
    }

    #[test]
    fn there_is_no_weight_before_the_queue_is_full() {
        let config = PrecisionConfig { queue: 3, ..Default::default() };
        let fields = Fields::default();
        let mut precision = Precision::new(&config, &fields);
        let known: Vec<bool> = predictions(1.0).iter().map(|q| precision.push(q).is_some()).collect();
        assert_eq!(known, [false, false, true]);
        assert_eq!(precision.map().unwrap().size(), [2, 3, 8, 8]);
    }

    /// Two frames of the past that do not vary, then two of the future that vary alike in units of a scale that is ten
    /// times as large in the right half.
    fn of_residual(past: i64, limit: f64) -> (Fields, Vec<Tensor>) {
        let guess = Tensor::full([1, 2, 1, 8, 8], -1.0, OPTIONS);
        let scale = Tensor::full([1, 2, 1, 8, 8], 0.1, OPTIONS);
        let _ = scale.narrow(4, 4, 4).fill_(1.0);
        let fields = Fields { past, undo: Some(Undo { scale, guess, limit }), known: None };
        let predictions = [0.0, 1.0, -1.0].map(|value| {
            let clip = Tensor::zeros([1, 2 + past, 1, 8, 8], OPTIONS);
            let _ = clip.narrow(1, past, 2).fill_(value);
            clip
        });
        (fields, predictions.into())
    }

    #[test]
    fn the_variance_is_that_of_the_field_and_of_its_future_alone() {
        let config = PrecisionConfig { pool: 1, exponent: 1.0, u_min: 0.0, u_max: 1e3, tau: 0.0, ..Default::default() };
        for past in [0, 2] {
            let (fields, predictions) = of_residual(past, 5.0);
            let mut precision = Precision::new(&config, &fields);
            let weight = predictions.iter().filter_map(|q| precision.push(q)).last().unwrap();
            // Variances of 0.01 and 1 with the mean 0.505, however many frames of the past stand before.
            let at = |frame: i64, x: i64| weight.double_value(&[0, past + frame, 0, 3, x]);
            assert!((at(0, 1) - 0.01 / 0.505).abs() < 1e-5 && (at(1, 6) - 1.0 / 0.505).abs() < 1e-5);
            assert_eq!(weight.narrow(1, 0, past), Tensor::ones([1, past, 1, 8, 8], OPTIONS));
            assert_eq!(precision.map().unwrap().size(), [1, 2, 8, 8]);
        }
        // What is cut off of the forecast does not vary.
        let (fields, mut predictions) = of_residual(0, 1.0);
        predictions.iter_mut().for_each(|q| *q += 3.0);
        let config = PrecisionConfig { tau: 1e-12, ..config };
        let mut precision = Precision::new(&config, &fields);
        let weight = predictions.iter().filter_map(|q| precision.push(q)).last().unwrap();
        assert_eq!(weight.abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn what_lies_outside_the_domain_does_not_count() {
        let config = PrecisionConfig { pool: 1, exponent: 1.0, u_min: 0.0, u_max: 1e3, tau: 0.0, ..Default::default() };
        let (mut fields, predictions) = of_residual(0, 5.0);
        let known = Tensor::zeros([1, 1, 1, 8, 8], OPTIONS);
        let _ = known.narrow(4, 4, 4).fill_(1.0);
        fields.known = Some(known);
        let mut precision = Precision::new(&config, &fields);
        let weight = predictions.iter().filter_map(|q| precision.push(q)).last().unwrap();
        assert!((weight.double_value(&[0, 0, 0, 3, 6]) - 1.0).abs() < 1e-5);
    }
}
