//! Training of diffusion models: data in memory, importance-sampled crops, and a trainer that resumes bit for bit.
//!
//! Everything random in a step is a function of (seed, step, sample) through a counter-based generator: which crop,
//! how it is turned, the diffusion index, the noise, whether the condition is dropped. So a checkpoint needs no state
//! of a generator, and a run that is stopped and resumed at any step gives the losses of one that was not.
//!
//! The parts, in the order in which data passes through them: [`event`], [`data`] (crops), [`augment`], [`batch`]
//! (what the network sees), [`loss`] and [`ensemble`], [`optimizer`], [`average`], [`trainer`], [`checkpoint`],
//! [`validate`], [`report`]. Models of several networks are trained in [`stages`]. A further way to train adds a source of batches, as [`tuning`] does, or a loss, as
//! [`ensemble`] and [`distill`] do, and keeps the rest. Parameters and what belongs to each of them lie in [`flat`] buffers, and
//! crops are drawn a batch [`ahead`].

pub mod ahead;
pub mod augment;
pub mod average;
pub mod batch;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod distill;
pub mod domains;
pub mod ensemble;
pub mod event;
pub mod flat;
pub mod loss;
pub mod optimizer;
pub mod report;
mod spectrum;
pub mod stages;
#[cfg(test)]
mod tests;
pub mod trainer;
pub mod tuning;
pub mod validate;
mod version1;

pub use checkpoint::{Checkpoint, Parent};
pub use config::{Task, TrainingConfig};
pub use data::Archive;
pub use event::Event;
pub use trainer::{StepReport, Trainer};

/// Why a training cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// The configuration does not make sense; every fault is named.
    #[error("training configuration: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The data cannot be trained on.
    #[error("training data: {0}")]
    Data(String),
    /// A checkpoint cannot be read or written, or belongs to another run.
    #[error("checkpoint {path}: {reason}")]
    Checkpoint {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The weights to start from are those of another network.
    #[error("weights to start from: {0}")]
    Weights(String),
    /// The loss is no number any more.
    #[error("the loss of step {step} is {loss}; try a lower learning rate or a longer warm-up")]
    Diverged {
        /// The step.
        step: u64,
        /// Its loss.
        loss: f64,
    },
    /// The device or its library failed.
    #[error("device: {0}")]
    Device(#[from] tch::TchError),
}

impl TrainingError {
    /// Who can help.
    pub const fn kind(&self) -> squall_fields::ErrorKind {
        use squall_fields::ErrorKind;
        match self {
            Self::Config(_) | Self::Checkpoint { .. } | Self::Weights(_) | Self::Diverged { .. } => ErrorKind::User,
            Self::Data(_) => ErrorKind::Data,
            Self::Device(_) => ErrorKind::Device,
        }
    }
}
