//! Series at a place: GPD, generative pre-trained diffusion for zero-shot forecasts (Yang et al. 2024).
//!
//! A small network learns, without any condition, what stretches of many series look like. A forecast trains nothing: the known
//! past is the prompt, and at every step of the sampling the known part of the state is replaced by the known values with the noise
//! of that step, while the rest is denoised beside it. So one model forecasts stations that it has never seen.
//!
//! Replacing is an approximation: what is denoised at one step knows the prompt only through the noise of that step. Going back and
//! forth several times at each step, as RePaint does (Lugmayr et al. 2022), brings it nearer to the conditional distribution; how
//! near, the tests of [`sampler`] say for series whose distribution is known.
//!
//! The parts: [`spec`] (what a model is), [`denoiser`] (the network), [`sampler`], [`train`], [`file`](mod@file) and [`model`]
//! (weights, and forecasts from them).

pub mod denoiser;
pub mod file;
pub mod model;
pub mod sampler;
pub mod spec;
pub mod train;

pub use denoiser::{Mlp, MlpConfig};
pub use file::SeriesMetadata;
pub use model::{Prompt, SeriesModel};
pub use sampler::InPainting;
pub use spec::{Scale, SeriesSpec};
pub use train::{SeriesTrainer, SeriesTraining, Windows};
