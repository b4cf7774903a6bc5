//! Sizes of the networks, as stored in a weights file.

use serde::{Deserialize, Serialize};

/// Prefix of the video U-Net's parameter names in a checkpoint.
pub const UNET_PREFIX: &str = "model.diffusion_model";
/// Prefix of a predictive stream's parameter names.
pub const PREDICTOR_PREFIX: &str = "predictor";
/// Prefix of the autoencoder's parameter names in a checkpoint.
pub const AUTOENCODER_PREFIX: &str = "first_stage_model";

/// Sizes of a [`VideoUNet`](super::VideoUNet).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels of a frame at the input: noisy frame, clean history and masks together.
    pub in_channels: i64,
    /// Channels of a frame at the output.
    pub out_channels: i64,
    /// Channels at full resolution; a multiple of 32, the number of normalisation groups.
    pub channels: i64,
    /// Factor on `channels` at each level, finest first.
    pub mult: Vec<i64>,
    /// Residual blocks a level.
    pub res_blocks: usize,
    /// Downsampling factors (1, 2, 4, ...) at which attention is applied.
    pub attention: Vec<i64>,
    /// Attention heads.
    pub heads: i64,
    /// Side of the square of pixels that enters the network as channels of one cell; 1 as published. Channels of a
    /// cell at the input are `in_channels * patch^2`. A larger patch makes all levels cheaper by its square.
    #[serde(default = "no_patch")]
    pub patch: i64,
}

fn no_patch() -> i64 {
    1
}

impl UNetConfig {
    /// The published full size for frames of `frame_channels` channels (60,982,185 parameters for 3).
    pub fn full(frame_channels: i64) -> Self {
        Self {
            in_channels: 2 * frame_channels + 2,
            out_channels: frame_channels,
            channels: 64,
            mult: vec![1, 2, 4, 4],
            res_blocks: 2,
            attention: vec![1, 2, 4],
            heads: 4,
            patch: 1,
        }
    }

    /// The size of tests (2,059,634 parameters for frames of 3 channels).
    pub fn tiny(frame_channels: i64) -> Self {
        Self {
            in_channels: 2 * frame_channels + 2,
            out_channels: frame_channels,
            channels: 32,
            mult: vec![1, 2],
            res_blocks: 1,
            attention: vec![1, 2],
            heads: 2,
            patch: 1,
        }
    }

    /// Rows and columns must be multiples of this.
    pub fn stride(&self) -> usize {
        self.patch.max(1) as usize * (1 << self.mult.len().saturating_sub(1))
    }

    /// What is wrong with the sizes, one sentence each; empty if nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.mult.is_empty() || self.res_blocks == 0 || self.out_channels < 1 || self.in_channels < 1 {
            faults.push("a network needs at least one level, one residual block a level and one channel".to_owned());
        }
        if self.patch < 1 {
            faults.push("a patch has at least one pixel".to_owned());
        }
        for width in self.mult.iter().map(|m| m * self.channels).chain([self.channels]) {
            if width < 32 || width % 32 != 0 {
                faults.push(format!("a width of {width} channels is no multiple of 32"));
            } else if self.heads < 1 || width % self.heads != 0 {
                faults.push(format!("{} heads do not divide {width} channels", self.heads));
            }
        }
        faults
    }
}

/// Sizes of an [`Autoencoder`](super::Autoencoder).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderConfig {
    /// Channels of a frame in pixel space.
    pub in_channels: i64,
    /// Channels at full resolution; a multiple of 32.
    pub channels: i64,
    /// Factor on `channels` at each level, finest first.
    pub mult: Vec<i64>,
    /// Residual blocks a level in the encoder; the decoder has one more.
    pub res_blocks: usize,
    /// Channels of a frame in latent space.
    pub latent_channels: i64,
    /// Factor from the encoder's mean to the latent that is diffused. In a training configuration 0 is fitted to the data.
    #[serde(default)]
    pub scale: f64,
}

impl AutoencoderConfig {
    /// The published full size (55,309,758 parameters).
    pub fn full() -> Self {
        Self { in_channels: 2, channels: 128, mult: vec![1, 2, 4], res_blocks: 2, latent_channels: 3, scale: 0.18215 }
    }

    /// The size of tests.
    pub fn tiny() -> Self {
        Self { channels: 32, mult: vec![1, 2], res_blocks: 1, ..Self::full() }
    }

    /// What is wrong with the sizes for frames of so many channels, one sentence each; empty if nothing is.
    pub fn faults(&self, frame_channels: usize) -> Vec<String> {
        let mut faults = Vec::new();
        if self.in_channels != frame_channels as i64 {
            let found = self.in_channels;
            faults.push(format!(
                "the autoencoder takes frames of {found} channels, there are {frame_channels} variables"
            ));
        }
        if self.mult.is_empty() || self.res_blocks == 0 || self.latent_channels < 1 {
            faults.push("an autoencoder needs a level, a residual block a level and a latent channel".to_owned());
        }
        for width in self.mult.iter().map(|m| m * self.channels).chain([self.channels]) {
            if width < 32 || width % 32 != 0 {
                faults.push(format!("an autoencoder's width of {width} channels is no multiple of 32"));
            }
        }
        faults
    }

    /// Pixels along one side of a latent cell.
    pub fn stride(&self) -> usize {
        1 << self.mult.len().saturating_sub(1)
    }
}
