//! Networks as solvers see them: noisy frames and a condition in, noise out.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::first_guess::MissingGuess;
use super::process::{Process, step_tensor};
use super::schedule::Instant;
use crate::device;
use crate::network::VideoUNet;

/// How the network sees the frames of the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// As frames of the clip, which pass through the network beside those of the future and cost as much.
    #[default]
    Frames,
    /// As further channels of each future frame, the last of the condition: every frame of the past, then a mask for each.
    Channels,
}

impl History {
    /// Of so many frames of context, those that pass through the network.
    pub const fn frames(self, context: usize) -> usize {
        match self {
            Self::Frames => context,
            Self::Channels => 0,
        }
    }
}

/// What a model is conditioned on: `[sample, frame, channel, y, x]` beside the noisy frames.
///
/// Channels of a frame: the clean history (C; future frames hold zeros or a first guess), a mask that is 1 where a
/// clean value of the past is known (missing pixels have value and mask 0), a mask that is 1 in the first future
/// frame, for [`MissingGuess::Masked`] one that is 1 where the first guess is known, then any extra channels, then what
/// [`History::Channels`] adds, then what a predictive stream says ([`super::foresight`]).
#[derive(Debug)]
pub struct Condition {
    /// `[sample, frame, C + 2 + mask + extra + history + foresight, y, x]`.
    pub channels: Tensor,
}

impl Clone for Condition {
    fn clone(&self) -> Self {
        Self { channels: self.channels.shallow_clone() }
    }
}

/// The parts of a [`Condition`].
#[derive(Debug)]
pub struct ConditionParts<'a> {
    /// `[sample, past frame, C, y, x]`, transformed; NaN where missing.
    pub history: &'a Tensor,
    /// Frames of the whole clip.
    pub frames: i64,
    /// What the *clean history* of future frames holds instead of 0.
    pub first_guess: Option<Guess<'a>>,
    /// `[sample, frame, extra, y, x]` of the whole clip: any more channels, such as position or time of day.
    pub extra: Option<&'a Tensor>,
    /// How the frames of the past are seen.
    pub seen: History,
}

/// A first guess as part of a condition.
#[derive(Clone, Copy, Debug)]
pub struct Guess<'a> {
    /// `[sample, future frame, C, y, x]`, transformed; NaN where missing.
    pub fields: &'a Tensor,
    /// What stands in where it is missing.
    pub missing: MissingGuess,
    /// The transformed value of 0 in each channel, for [`MissingGuess::Dry`] and [`MissingGuess::Masked`].
    pub dry: &'a [f32],
}

impl Guess<'_> {
    fn filled(&self) -> Tensor {
        if self.missing == MissingGuess::Zero {
            return self.fields.nan_to_num(0.0, None, None);
        }
        let dry = device::sent(&Tensor::from_slice(self.dry), self.fields.device()).reshape([1, 1, -1, 1, 1]);
        self.fields.where_self(&self.fields.isnan().logical_not(), &dry)
    }

    /// `[sample, frame, 1, y, x]` of a clip with so many frames of the past.
    fn mask(&self, past: i64) -> Tensor {
        let known = self.fields.isnan().logical_not().all_dim(2, true).to_kind(Kind::Float);
        known.pad([0, 0, 0, 0, 0, 0, past, 0], "constant", 0.0)
    }
}

impl ConditionParts<'_> {
    /// Lays the channels side by side.
    pub fn assemble(&self) -> Condition {
        let (samples, past, channels, height, width) =
            self.history.size5().expect("of shape [sample, frame, channel, y, x]");
        let future = self.frames - past;
        let options = (Kind::Float, self.history.device());
        let known = self.history.isnan().logical_not().all_dim(2, true).to_kind(Kind::Float);
        let history = self.history.nan_to_num(0.0, None, None) * &known;
        let later = match self.first_guess {
            Some(guess) => guess.filled(),
            None => Tensor::zeros([samples, future, channels, height, width], options),
        };
        let unknown = Tensor::zeros([samples, future, 1, height, width], options);
        let first_future = Tensor::zeros([samples, self.frames, 1, height, width], options);
        if future > 0 {
            let _ = first_future.narrow(1, past, 1).fill_(1.0);
        }
        let clean = Tensor::cat(&[&history, &later], 1);
        let mask = Tensor::cat(&[&known, &unknown], 1);
        let mut parts = vec![clean, mask, first_future];
        parts.extend(self.first_guess.filter(|g| g.missing == MissingGuess::Masked).map(|guess| guess.mask(past)));
        parts.extend(self.extra.map(Tensor::shallow_clone));
        if self.seen == History::Channels {
            parts.iter_mut().for_each(|part| *part = part.narrow(1, past, future));
            // The same in each frame.
            let beside = |frames: &Tensor| {
                let flat = frames.reshape([samples, 1, -1, height, width]);
                let count = flat.size()[2];
                flat.expand([samples, future, count, height, width], false)
            };
            parts.extend([beside(&history), beside(&known)]);
        }
        Condition { channels: Tensor::cat(&parts, 2) }
    }
}

impl Condition {
    /// The null condition of the same shape: all zero, masks too.
    pub fn null(&self) -> Self {
        Self { channels: self.channels.zeros_like() }
    }

    /// Each sample's condition or, where `keep` (one number a sample) is 0, the null condition.
    pub fn dropped(&self, keep: &Tensor) -> Self {
        let keep = device::sent(&keep.to_kind(Kind::Float), self.channels.device()).reshape([-1, 1, 1, 1, 1]);
        Self { channels: &self.channels * keep }
    }

    /// One condition for `count` samples.
    pub fn repeated(&self, count: i64) -> Self {
        let mut size = self.channels.size();
        size[0] = count;
        Self { channels: self.channels.expand(&size, false) }
    }

    /// The same with further channels `[sample, frame, channel, y, x]`.
    #[must_use]
    pub fn with(&self, further: &Tensor) -> Self {
        Self { channels: Tensor::cat(&[&self.channels, further], 2) }
    }

    /// The network's input: noisy frames `[sample, frame, C, y, x]`, then these channels.
    pub fn join(&self, x: &Tensor) -> Tensor {
        Tensor::cat(&[x, &self.channels], 2)
    }
}

/// Predicts the noise E in noisy frames, both `[sample, frame, C, y, x]` in x-space.
pub trait Denoiser {
    /// The noise under a condition.
    fn noise(&self, x: &Tensor, at: &Instant, condition: &Condition) -> Tensor;

    /// The noise under a condition and under none, as one batch of twice the size.
    fn noise_pair(&self, x: &Tensor, at: &Instant, condition: &Condition) -> (Tensor, Tensor) {
        let both = Condition { channels: Tensor::cat(&[&condition.channels, &condition.null().channels], 0) };
        let noise = self.noise(&Tensor::cat(&[x, x], 0), at, &both);
        let samples = x.size()[0];
        (noise.narrow(0, 0, samples), noise.narrow(0, samples, samples))
    }
}

impl<D: Denoiser + ?Sized> Denoiser for &D {
    fn noise(&self, x: &Tensor, at: &Instant, condition: &Condition) -> Tensor {
        (**self).noise(x, at, condition)
    }

    fn noise_pair(&self, x: &Tensor, at: &Instant, condition: &Condition) -> (Tensor, Tensor) {
        (**self).noise_pair(x, at, condition)
    }
}

/// A [`VideoUNet`] whose output means what a [`Process`] says.
#[derive(Debug)]
pub struct NetworkDenoiser<'a> {
    /// The network.
    pub network: &'a VideoUNet,
    /// Gives its output a meaning.
    pub process: &'a Process,
}

impl Denoiser for NetworkDenoiser<'_> {
    fn noise(&self, x: &Tensor, at: &Instant, condition: &Condition) -> Tensor {
        let steps = vec![at.step.unwrap_or(0); x.size()[0].max(0) as usize];
        let output = self.network.forward(&condition.join(x), &step_tensor(&steps, x.device()));
        self.process.noise_of(output, x, at)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn a_missing_guess_is_dry_and_may_be_told_apart_from_a_dry_one() {
        let nan = f32::NAN;
        let history = Tensor::zeros([1, 2, 1, 1, 3], (Kind::Float, Device::Cpu));
        // One lead: dry, missing, wet.
        let fields = Tensor::from_slice(&[-1f32, nan, 0.5]).reshape([1, 1, 1, 1, 3]);
        let channels = |missing| {
            let first_guess = Some(Guess { fields: &fields, missing, dry: &[-1.0] });
            let seen = History::Frames;
            ConditionParts { history: &history, frames: 3, first_guess, extra: None, seen }.assemble().channels
        };
        let row = |channels: &Tensor, frame: i64, channel: i64| -> Vec<f32> {
            Vec::try_from(channels.get(0).get(frame).get(channel).reshape([3]).contiguous()).unwrap()
        };
        let zero = channels(MissingGuess::Zero);
        assert_eq!((zero.size(), row(&zero, 2, 0)), (vec![1, 3, 3, 1, 3], vec![-1.0, 0.0, 0.5]));
        let dry = channels(MissingGuess::Dry);
        assert_eq!((dry.size(), row(&dry, 2, 0)), (vec![1, 3, 3, 1, 3], vec![-1.0, -1.0, 0.5]));
        let masked = channels(MissingGuess::Masked);
        assert_eq!((masked.size(), row(&masked, 2, 0)), (vec![1, 3, 4, 1, 3], vec![-1.0, -1.0, 0.5]));
        assert_eq!((row(&masked, 1, 3), row(&masked, 2, 3)), (vec![0.0; 3], vec![1.0, 0.0, 1.0]));
    }

    #[test]
    fn frames_of_the_past_may_be_channels_of_those_of_the_future() {
        let nan = f32::NAN;
        // Two frames of two cells, one of them missing once; two leads.
        let history = Tensor::from_slice(&[0.1f32, nan, 0.3, 0.4]).reshape([1, 2, 1, 1, 2]);
        let fields = Tensor::from_slice(&[0.5f32, 0.6, 0.7, 0.8]).reshape([1, 2, 1, 1, 2]);
        let extra = Tensor::arange(8, (Kind::Float, Device::Cpu)).reshape([1, 4, 1, 1, 2]);
        let guess = Guess { fields: &fields, missing: MissingGuess::Dry, dry: &[-1.0] };
        let parts =
            |seen| ConditionParts { history: &history, frames: 4, first_guess: Some(guess), extra: Some(&extra), seen };
        let (frames, channels) =
            (parts(History::Frames).assemble().channels, parts(History::Channels).assemble().channels);
        assert_eq!((frames.size(), channels.size()), (vec![1, 4, 4, 1, 2], vec![1, 2, 8, 1, 2]));
        assert_eq!(channels.narrow(2, 0, 4), frames.narrow(1, 2, 2));
        for lead in 0..2 {
            let of = channels.get(0).get(lead).narrow(0, 4, 4).reshape([8]);
            assert_eq!(Vec::<f32>::try_from(of).unwrap(), [0.1, 0.0, 0.3, 0.4, 1.0, 0.0, 1.0, 1.0]);
        }
    }
}
