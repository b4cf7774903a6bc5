//! ForeDiff (Foresight Diffusion, Zhang et al. 2025): a deterministic network looks ahead before the denoiser does.
//!
//! The *predictive stream* sees the condition alone, no noise, and is trained first, to say the mean of what comes. Then it is
//! left as it is, and what it says, its mean and the features that it makes the mean of, are further channels of the denoiser's
//! condition: the denoiser need not learn to forecast and to denoise at once. The mean alone is a forecast, too, and a
//! baseline of the model that has it (`sampler.mean`).
//!
//! As published the features enter behind the first layer of a transformer. Here both networks are U-Nets on squares of
//! pixels; features of a square are laid out as channels of its pixels, so that the first convolution of a denoiser with squares
//! of the same size sees them as they were.

use tch::{Kind, Tensor};

use super::denoiser::Condition;
use super::process::step_tensor;
use super::tiles::Tiles;
use crate::network::{UNetConfig, VideoUNet};

/// Channels that a predictive stream adds to the condition: its mean, then its features.
pub fn channels(predictor: &UNetConfig) -> i64 {
    predictor.out_channels + predictor.channels / (predictor.patch * predictor.patch).max(1)
}

/// What a predictive stream says of a condition, `[sample, frame, channel, y, x]`, the mean first.
pub fn of(predictor: &VideoUNet, condition: &Condition) -> Tensor {
    let x = &condition.channels;
    let steps = vec![0; x.size()[0].max(0) as usize];
    let (mean, features) = predictor.forward_with_features(x, &step_tensor(&steps, x.device()));
    Tensor::cat(&[mean, features], 2)
}

/// The same of a domain, tile by tile.
pub fn of_domain(predictor: &VideoUNet, condition: &Condition, tiles: &Tiles) -> Tensor {
    let see = |x: &Tensor| [of(predictor, &Condition { channels: x.shallow_clone() })];
    let [said] = tiles.blend(&[&condition.channels], channels(predictor.config()), |parts| see(&parts[0]));
    said
}

/// The mean of what a predictive stream says.
pub fn mean(predictor: &UNetConfig, said: &Tensor) -> Tensor {
    said.narrow(2, 0, predictor.out_channels).to_kind(Kind::Float)
}
