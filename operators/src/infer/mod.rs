//! Has windows forecast by models, without ever blocking a timely worker.
//!
//! The operator keeps the capability of each window that is under way, so that no frontier passes a forecast that is
//! still being computed. One long-lived thread per device ([`device`]) takes requests from a bounded queue, batches them
//! by size and deadline, and wakes the worker when answers are there. A device that hangs costs a stream with a deadline
//! nothing but its model: the fallback answers in time, and what the device was asked for is taken back. Several streams may share a device. Forecasts
//! are large: an operator asks for a new one only while few of its own are alive further down ([`Permits`]).
//!
//! What a live stream's clock decides here, less than all of a forecast ([`ladder`]) or none of it, is passed on with the
//! forecast as a decision, and committed with it. A replay decides nothing, or what was recorded ([`Rules`]).

pub mod device;
pub mod ladder;
mod operator;
mod orders;
pub mod pace;
mod permits;
pub mod slot;

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use squall_fields::{Degradation, ErrorKind, Forecast, ForecastId, InputRef, LeadTime, Provenance};
use squall_models::{ModelError, Prediction, Request};

pub use self::operator::infer;
pub use self::permits::{Inferred, Made, Permit, Permits};
use crate::Tick;
use crate::decisions::Recorded;
use crate::infer::ladder::{Ladder, Step};
use crate::window::Fired;

/// What a stream asks of its model.
#[derive(Clone, Debug)]
pub struct InferConfig {
    /// Name of the stream.
    pub stream: Arc<str>,
    /// Leads to give.
    pub leads: Vec<LeadTime>,
    /// Members to give.
    pub members: usize,
    /// Forecasts of the stream that may be in memory at once, at least 1.
    pub max_alive: usize,
    /// What the machine's clock decides.
    pub rules: Rules,
}

/// What the machine's clock decides about the windows of a stream.
#[derive(Clone, Debug, Default)]
pub enum Rules {
    /// Nothing: each is forecast in full, however long that takes.
    #[default]
    Clean,
    /// Nothing anew: what was decided in the run that is replayed.
    Recorded(Arc<Recorded>),
    /// What a live stream is set to.
    Live(Live),
    /// Of a companion whose windows are forecast again after a restart.
    Resumed(Resumed),
}

/// What was decided stays decided, and what comes after that is decided anew.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// What was decided about windows that fired before a time.
    pub recorded: Arc<Recorded>,
    /// That time.
    pub before: Tick,
    /// As in [`Live`].
    pub skip_older_than: Duration,
}

/// What a live stream is set to do where time is short.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// From the arrival of the last frame that a window needs, or the end of its patience, until another model answers
    /// in place of one that has not; `None` waits for it.
    pub deadline: Option<Duration>,
    /// What is given up to keep the deadline.
    pub ladder: Ladder,
    /// A window with an issue time longer ago than this is skipped if a newer one waits behind it; `None` skips none.
    pub skip_older_than: Option<Duration>,
}

/// What a device made of one request.
#[derive(Debug)]
pub struct Answer {
    /// The prediction, or why there is none, not even from the fallback.
    pub prediction: Result<Prediction, ModelError>,
    /// Name of the model that made it.
    pub model: String,
    /// Digest of that model.
    pub model_digest: Arc<str>,
    /// Device, instruction set and precision.
    pub device: String,
    /// Why it is not what the stream normally publishes.
    pub degraded: Option<Degradation>,
    /// Whether its members are one field repeated.
    pub identical_members: bool,
}

/// The request of a window for all that its stream asks.
pub fn request(config: &InferConfig, fired: &Fired) -> Request {
    request_for(config, fired, Step::Full)
}

/// The request of a window for a step of the stream's ladder.
fn request_for(config: &InferConfig, fired: &Fired, step: Step) -> Request {
    let (steps, members) = match step {
        Step::Less { steps, members } => (steps.map(|fewer| fewer.steps), members),
        Step::Full | Step::StandIn(_) => (None, config.members),
    };
    let InferConfig { stream, leads, .. } = config;
    Request { stream: stream.clone(), window: fired.window.clone(), leads: leads.clone(), members, steps }
}

/// First 8 bytes of a digest over what keys the random numbers of a forecast: what its provenance names as seed.
pub fn seed(model_digest: &str, stream: &str, issue_time: squall_fields::IssueTime) -> u64 {
    let mut hash = Sha256::new();
    for part in [model_digest, stream] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(issue_time.unix_seconds().to_le_bytes());
    let first: [u8; 8] = hash.finalize()[..8].try_into().expect("a SHA-256 digest has 32 bytes");
    u64::from_le_bytes(first)
}

/// Why a window has no forecast.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// Neither the model nor its fallback gave one.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The window has no frame, so that there is no grid to forecast on.
    #[error("the window has no frame")]
    Empty,
}

impl InferError {
    /// Who can help.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Model(error) => error.kind(),
            Self::Empty => ErrorKind::Data,
        }
    }
}

/// Makes a forecast of a window and what a model answered: identity, grid, provenance.
///
/// `squall forecast` and the stream both go through here, so that their files are equal.
///
/// # Errors
/// There is no prediction, or no frame.
pub fn assemble(config: &InferConfig, fired: &Fired, answer: Answer) -> Result<Forecast, InferError> {
    let Fired { window, revision, known_at, trace, .. } = fired;
    let Answer { prediction, model, model_digest, device, degraded, identical_members } = answer;
    let prediction = prediction?;
    let newest = window.newest().ok_or(InferError::Empty)?;
    let missing = window.missing();
    let missing = (!missing.is_empty()).then_some(Degradation::MissingFrames { slots: missing });
    let frames = window.frames.iter().chain([&window.steering]).flatten();
    let inputs: Vec<InputRef> = frames.map(|frame| frame.input.clone()).collect();
    let issue_time = window.issue_time;
    let provenance = Provenance {
        inputs,
        window_mask: window.mask(),
        seed: seed(&model_digest, &config.stream, issue_time),
        model,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        device,
        degraded: missing.into_iter().chain(degraded).collect(),
        identical_members,
    };
    Ok(Forecast {
        id: ForecastId { stream: config.stream.clone(), model_digest, issue_time, revision: *revision },
        known_at: *known_at,
        grid: newest.grid.clone(),
        leads: config.leads.clone(),
        ensembles: prediction.ensembles,
        precision: prediction.precision,
        provenance,
        trace: *trace,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_tells_forecasts_apart() {
        let at = squall_fields::IssueTime::from_unix_seconds;
        let seeds =
            [seed("a", "rain", at(0)), seed("b", "rain", at(0)), seed("a", "rai", at(0)), seed("a", "rain", at(1))];
        let distinct: std::collections::BTreeSet<_> = seeds.iter().collect();
        assert_eq!(distinct.len(), 4);
    }
}
