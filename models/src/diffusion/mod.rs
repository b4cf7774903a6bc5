//! Diffusion models: CogDPM, DyDiff, and what they are composed of.
//!
//! A model is a [`process`] (how frames are noised), a [`denoiser`] (a network and its conditioning), [`guidance`] and
//! a [`solver`]; a [`sampler`] ties them together. The dynamical process is the variance-preserving one seen through an
//! [`operator`] over the frames, so that no solver exists twice and a further composition costs no new sampler.

pub mod denoiser;
pub mod extra;
pub mod first_guess;
pub mod forecaster;
pub mod foresight;
pub mod guidance;
pub mod latent;
pub mod noise;
pub mod operator;
pub mod process;
pub mod residual;
pub mod sampler;
pub mod schedule;
pub mod solver;
pub mod tiles;
pub mod transform;

pub use denoiser::{Condition, ConditionParts, Denoiser, Guess, History, NetworkDenoiser};
pub use extra::Extra;
pub use first_guess::{FirstGuess, MissingGuess};
pub use forecaster::{DiffusionForecaster, Options};
pub use guidance::{Fields, Guidance, PrecisionConfig, Undo};
pub use process::{Process, ProcessConfig, Target};
pub use residual::Residual;
pub use sampler::{Sample, Sampler, SamplerConfig};
pub use schedule::{Grid, Instant, Schedule};
pub use solver::{Method, SolverConfig};
pub use tiles::{Tiled, Tiles, Tiling};
pub use transform::Transform;
