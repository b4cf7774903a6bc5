//! Diffusing the error of a first guess instead of the field itself.
//!
//! A good cheap forecast (rain moved on along its motion, wind that stays) leaves little to learn: what is diffused is
//! `x = (field - first guess) / scale`, with a scale so that x has about variance 1 at every lead and place. A network
//! that knows nothing then already samples the first guess with noise of about the right size, and everything that it
//! learns improves on that. Frames of the past have x = 0.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// The scale of a first guess's error, in transformed units.
///
/// At lead l (from 0) it is `factor[l]`, or with [`Local`] `floor + floor_growth * l + factor[l] * sqrt(wetness averaged
/// around)`: far from any rain the first guess errs little, and so must the samples. The floor times `limit` is also the
/// most rain that can come up there: 0.84 mm/h for a floor of 0.05 and a limit of 5, so it should grow with the lead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// One number a lead. Leads beyond the last take the last.
    pub factor: Vec<f64>,
    /// For rain: how the scale follows the first guess.
    #[serde(default)]
    pub local: Option<Local>,
    /// x is cut to within this.
    #[serde(default = "Residual::limit")]
    pub limit: f64,
}

/// A scale that follows the rain of the first guess.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// Scale where no rain is around, at lead 0.
    pub floor: f64,
    /// What it grows by each lead: rain has the more time to come up. 0, as files without this entry mean, leaves it.
    #[serde(default)]
    pub floor_growth: f64,
    /// Radius in pixels of the square around at lead 0.
    pub radius: f64,
    /// Pixels that it grows by each lead.
    pub growth: f64,
}

impl Residual {
    fn limit() -> f64 {
        6.0
    }

    /// The scale `[sample, lead, channel, y, x]` for a transformed first guess of the same shape; NaN counts as dry.
    pub fn scale(&self, guess: &Tensor) -> Tensor {
        let leads = guess.size()[1];
        let parts: Vec<Tensor> = (0..leads)
            .map(|lead| {
                let factor = self.factor.get(lead as usize).or(self.factor.last()).copied().unwrap_or(1.0);
                let plane = guess.select(1, lead);
                match self.local {
                    None => plane.full_like(factor),
                    Some(local) => local.wetness(&plane, lead as usize).sqrt() * factor + local.floor_at(lead as f64),
                }
            })
            .collect();
        Tensor::stack(&parts, 1)
    }

    /// x of transformed future frames; NaN where either is missing.
    pub fn forward(&self, future: &Tensor, guess: &Tensor) -> Tensor {
        ((future - guess) / self.scale(guess)).clamp(-self.limit, self.limit)
    }

    /// Transformed future frames from x; NaN where the first guess is missing.
    pub fn inverse(&self, x: &Tensor, guess: &Tensor) -> Tensor {
        x.clamp(-self.limit, self.limit) * self.scale(guess) + guess
    }

    /// Sets `factor` so that x has variance 1 on pairs of transformed future frames and first guesses.
    ///
    /// Where the scale is local, `factor` is fitted without the floor.
    pub fn fit(&mut self, pairs: &[(Tensor, Tensor)]) {
        let leads = pairs.first().map_or(0, |(future, _)| future.size()[1]);
        let mean =
            |t: &Tensor, known: &Tensor| (t.nan_to_num(0.0, None, None) * known).sum(Kind::Double).double_value(&[]);
        self.factor = (0..leads)
            .map(|lead| {
                let (mut error, mut size) = (0.0, 1e-12);
                for (future, guess) in pairs {
                    let (future, guess) = (future.select(1, lead), guess.select(1, lead));
                    let difference = (&future - &guess).square();
                    let known = difference.isnan().logical_not().to_kind(Kind::Float);
                    error += mean(&difference, &known);
                    size += match self.local {
                        None => known.sum(Kind::Double).double_value(&[]),
                        Some(local) => mean(&local.wetness(&guess, lead as usize), &known),
                    };
                }
                // Short enough to come back from text as it was.
                ((error / size).sqrt() * 1e6).round() / 1e6
            })
            .collect();
    }
}

impl Local {
    fn floor_at(&self, lead: f64) -> f64 {
        self.floor + self.floor_growth * lead
    }

    /// Mean of `(guess + 1) / 2` in the square around, 0 (dry) to 1; `guess` is `[sample, channel, y, x]`.
    fn wetness(&self, guess: &Tensor, lead: usize) -> Tensor {
        let radius = (self.radius + self.growth * lead as f64).round().max(0.0) as i64;
        let wet = (guess.nan_to_num(-1.0, None, None) + 1.0).clamp(0.0, 2.0) * 0.5;
        let (rows, columns) = (wet.size()[2], wet.size()[3]);
        let pool = |x: &Tensor, sides: [i64; 2]| {
            let kernel = sides.map(|s| 2 * s + 1);
            x.avg_pool2d(kernel, [1, 1], sides, false, false, None)
        };
        let across = pool(&wet, [0, radius.min(columns / 2)]);
        pool(&across, [radius.min(rows / 2), 0])
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn pair(spread: f64) -> (Tensor, Tensor) {
        tch::manual_seed(3);
        let guess = Tensor::full([2, 3, 1, 16, 16], 0.2, (Kind::Float, Device::Cpu));
        let error = Tensor::randn([2, 3, 1, 16, 16], (Kind::Float, Device::Cpu)) * spread;
        (&guess + error, guess)
    }

    #[test]
    fn a_fitted_scale_gives_variance_one() {
        let pairs = [pair(0.3)];
        for local in [None, Some(Local { floor: 0.0, floor_growth: 0.0, radius: 1.0, growth: 1.0 })] {
            let mut residual = Residual { factor: vec![], local, limit: 6.0 };
            residual.fit(&pairs);
            let x = residual.forward(&pairs[0].0, &pairs[0].1);
            assert!((x.var(true).double_value(&[]) - 1.0).abs() < 0.05);
        }
    }

    #[test]
    fn there_and_back() {
        let (future, guess) = pair(0.1);
        let local = Some(Local { floor: 0.05, floor_growth: 0.0, radius: 2.0, growth: 0.5 });
        let residual = Residual { factor: vec![0.5, 0.6], local, limit: 6.0 };
        let back = residual.inverse(&residual.forward(&future, &guess), &guess);
        assert!((back - future).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn far_from_rain_the_scale_is_the_floor() {
        let guess = Tensor::full([1, 2, 1, 32, 32], -1.0, (Kind::Float, Device::Cpu));
        let _ = guess.narrow(4, 0, 4).fill_(0.0);
        let local = Some(Local { floor: 0.05, floor_growth: 0.0, radius: 2.0, growth: 1.0 });
        let residual = Residual { factor: vec![1.0], local, limit: 6.0 };
        let scale = residual.scale(&guess);
        assert!((scale.double_value(&[0, 0, 0, 8, 31]) - 0.05).abs() < 1e-6);
        assert!(scale.double_value(&[0, 1, 0, 8, 6]) > 0.1);
    }

    #[test]
    fn more_rain_can_come_up_at_later_leads() {
        let guess = Tensor::full([1, 12, 1, 8, 8], -1.0, (Kind::Float, Device::Cpu));
        let most_mm_h = |local: &str| {
            let text = format!(r#"{{"factor": [0.3], "local": {local}, "limit": 5.0}}"#);
            let residual: Residual = serde_json::from_str(&text).unwrap();
            let most = residual.inverse(&guess.full_like(100.0), &guess);
            let rain = crate::diffusion::Transform::Rain { dry_below_mm_h: 0.05 };
            [0, 11].map(|lead| rain.inverse(most.double_value(&[0, lead, 0, 4, 4]) as f32))
        };
        // As files of before say it: the floor stays.
        let [first, last] = most_mm_h(r#"{"floor": 0.05, "radius": 2.0, "growth": 1.0}"#);
        assert!((first - 0.836).abs() < 1e-3 && first == last);
        let [first, last] = most_mm_h(r#"{"floor": 0.05, "floor_growth": 0.01, "radius": 2.0, "growth": 1.0}"#);
        assert!((first - 0.836).abs() < 1e-3 && (last - 5.98).abs() < 0.01, "{first} {last}");
    }
}
