//! Diffusion models: CogDPM, DyDiff, and what they are composed of.
//!
//! A model is a [`process`] (how frames are noised), a [`denoiser`] (a network and its conditioning), guidance and a
//! solver. The dynamical process is the variance-preserving one seen through an [`operator`] over the frames, so that
//! no solver exists twice and a further composition costs no new sampler.

pub mod denoiser;
pub mod operator;
pub mod process;
pub mod schedule;

pub use denoiser::{Condition, ConditionParts, Denoiser, FutureCondition, NetworkDenoiser};
pub use process::{Process, Target};
pub use schedule::{Grid, Instant, Schedule};
