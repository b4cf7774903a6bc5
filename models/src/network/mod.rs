//! The networks: a video U-Net that predicts noise, and an autoencoder into a latent space.
//!
//! Parameters live in a [`tch::nn::VarStore`] under the names that published checkpoints of the method use, so that
//! weights move between programs by name alone. A network is made with all parameters zero; [`init::initialise`] or
//! [`init::fill_by_hash`] or a weights file ([`crate::weights`]) then gives them their values, also by name.
//!
//! Activations are kept *channels-last* in memory (`[frame, y, x, channel]`) while their logical shape stays
//! `[frame, channel, y, x]`. Then a frame's pixels are tokens without a copy, a temporal convolution is a two-dimensional
//! one over (time, pixel) without a copy, and oneDNN and cuDNN take their faster kernels.

pub mod autoencoder;
pub mod config;
pub mod init;
pub mod layers;
pub mod res_block;
pub mod transformer;
pub mod unet;

pub use autoencoder::Autoencoder;
pub use config::{AutoencoderConfig, UNetConfig};
pub use unet::VideoUNet;
