//! The trait that every forecast model implements, whether a baseline or a diffusion model.

use std::sync::Arc;

use ndarray::Array3;
use squall_fields::error::AnyError;
use squall_fields::{Cadence, Cause, Ensemble, ErrorKind, Grid, LeadTime, Variable, Window};

/// What a model takes and gives, checked when it is wired to a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Coordinates {
    /// Any of these sets of variables, in order; a frame must have them all.
    pub variables: Vec<Vec<Variable>>,
    /// The cadence that it was made for; `None` takes any.
    pub cadence: Option<Cadence>,
    /// Grid spacing in metres, smallest and largest; `None` takes any.
    pub spacing_m: Option<(f64, f64)>,
    /// Frames of context that it needs.
    pub context_frames: usize,
    /// Most leads that it can give; `None` gives any number.
    pub max_leads: Option<usize>,
    /// Smallest domain as `(rows, columns)`.
    pub min_shape: (usize, usize),
    /// Most members; `Some(1)` for a deterministic model.
    pub max_members: Option<usize>,
}

/// What a stream will ask of a model, known when the graph is wired.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    /// Name of the stream.
    pub stream: Arc<str>,
    /// Variables of its frames.
    pub variables: Vec<Variable>,
    /// Its cadence.
    pub cadence: Cadence,
    /// Its grid, if known before the first frame.
    pub grid: Option<Arc<Grid>>,
    /// Frames in its window.
    pub window_frames: usize,
    /// Leads that it wants.
    pub leads: usize,
    /// Members that it wants.
    pub members: usize,
}

/// One forecast to make.
#[derive(Clone, Debug)]
pub struct Request {
    /// Name of the stream, part of the key of the random numbers.
    pub stream: Arc<str>,
    /// The context, with its mask.
    pub window: Arc<Window>,
    /// Leads to give, multiples of the cadence, ascending.
    pub leads: Vec<LeadTime>,
    /// Members to give.
    pub members: usize,
    /// Solver steps to take at most, by a model that has such steps; `None` takes as many as it is set to.
    pub steps: Option<usize>,
}

/// What a model answers to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// One for each variable, `[member, lead, y, x]` on the window's grid.
    pub ensembles: Vec<Ensemble>,
    /// `[lead, y, x]`, of guided models.
    pub precision: Option<Array3<f32>>,
}

/// Why a model gave no forecast.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The model does not fit the stream that it is wired to; every reason is named.
    #[error("model {model} does not fit stream {stream}: {}", reasons.join("; "))]
    DoesNotFit {
        /// Name of the model.
        model: String,
        /// Name of the stream.
        stream: String,
        /// One sentence each: what was expected, what came.
        reasons: Vec<String>,
    },
    /// The window cannot be forecast from, for example because every frame is missing.
    #[error("window of {issue_time}: {reason}")]
    Window {
        /// Its issue time.
        issue_time: squall_fields::IssueTime,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of the model cannot be used.
    #[error("model file {path}")]
    File {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
    /// The model could not be loaded, for the reason given.
    #[error(transparent)]
    Unavailable(Cause),
    /// The device or its library failed.
    #[error("device {device}")]
    Device {
        /// Name of the device.
        device: String,
        /// What it did, or does not have.
        #[source]
        cause: Cause,
    },
    /// The model answered fewer requests than it was asked, or with the wrong thing: a defect.
    #[error("model {model} {reason}")]
    Answer {
        /// Name of the model.
        model: String,
        /// What it did: what was expected and what came.
        reason: String,
    },
    /// The model panicked: a defect.
    #[error(transparent)]
    Panicked(squall_fields::Failure),
}

impl ModelError {
    /// A file that cannot be used, for that reason.
    pub fn file(path: impl Into<String>, cause: impl Into<AnyError>) -> Self {
        Self::File { path: path.into(), cause: Cause::new(cause) }
    }

    /// A device that failed or is not there, for that reason.
    pub fn device(device: impl Into<String>, cause: impl Into<AnyError>) -> Self {
        Self::Device { device: device.into(), cause: Cause::new(cause) }
    }

    /// Who can help.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::DoesNotFit { .. } | Self::File { .. } => ErrorKind::User,
            Self::Window { .. } => ErrorKind::Data,
            Self::Unavailable(_) | Self::Device { .. } => ErrorKind::Device,
            Self::Answer { .. } | Self::Panicked(_) => ErrorKind::Internal,
        }
    }

    /// Whether the same request may succeed later.
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::Device { .. } | Self::Unavailable(_))
    }
}

/// A forecast model.
///
/// A prediction is a function of the request and of [`Forecaster::digest`] alone: never of the batch it
/// is in, of earlier requests, or of the ensemble size (member 3 of 4 is member 3 of 40). The one exception to the last is a
/// model of [`crate::calibration`], whose members are corrected around their common mean.
pub trait Forecaster: Send {
    /// Name for people, such as `extrapolation`.
    fn name(&self) -> &str;

    /// Hex digest of all that decides its output: weights, or name and parameters.
    fn digest(&self) -> &str;

    /// What it takes and gives.
    fn coordinates(&self) -> Coordinates;

    /// Device, instruction set and precision, such as `cpu avx512 f32`.
    fn device(&self) -> String {
        "cpu f32".to_owned()
    }

    /// Solver steps that it takes for a member unless a request asks for fewer; `None` for a model without such steps.
    fn steps(&self) -> Option<usize> {
        None
    }

    /// Whether its members are one field repeated: an ensemble without spread, which says nothing of the uncertainty.
    fn repeats_members(&self) -> bool {
        false
    }

    /// Refuses, with every reason, a stream that the model was not made for.
    fn check(&self, context: &Context) -> Result<(), ModelError> {
        self.coordinates().check(self.name(), context)
    }

    /// Says what a stream will ask, before [`Forecaster::warm_up`]: no forecast is another for it.
    fn prepare_for(&mut self, _context: &Context) {}

    /// Does what the first request would otherwise wait for. Called on the thread that will call the model.
    fn warm_up(&mut self) {}

    /// Answers each request of a batch, in order.
    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>>;
}

impl Coordinates {
    /// Compares with what a stream will ask.
    pub fn check(&self, model: &str, context: &Context) -> Result<(), ModelError> {
        let mut reasons = Vec::new();
        if !self.variables.iter().any(|set| set.iter().all(|v| context.variables.contains(v))) {
            let names = |set: &[Variable]| set.iter().map(|v| v.name()).collect::<Vec<_>>().join(", ");
            let sets: Vec<_> = self.variables.iter().map(|set| names(set)).collect();
            reasons.push(format!(
                "takes variables {}, the stream has {}",
                sets.join(" or "),
                names(&context.variables)
            ));
        }
        if let Some(cadence) = self.cadence.filter(|c| *c != context.cadence) {
            let (a, b) = (cadence.step_seconds(), context.cadence.step_seconds());
            reasons.push(format!("was made for a cadence of {a} s, the stream has {b} s"));
        }
        if context.window_frames < self.context_frames {
            reasons.push(format!("needs {} frames, the window has {}", self.context_frames, context.window_frames));
        }
        if let Some(most) = self.max_leads.filter(|most| context.leads > *most) {
            reasons.push(format!("gives at most {most} leads, {} are asked for", context.leads));
        }
        if let Some(most) = self.max_members.filter(|most| context.members > *most) {
            reasons.push(format!("gives at most {most} members, {} are asked for", context.members));
        }
        if let Some(grid) = &context.grid {
            reasons.extend(self.grid_faults(grid));
        }
        if reasons.is_empty() {
            return Ok(());
        }
        Err(ModelError::DoesNotFit { model: model.to_owned(), stream: context.stream.to_string(), reasons })
    }

    /// What of a grid the model was not made for, one clause each.
    pub fn grid_faults(&self, grid: &Grid) -> Vec<String> {
        let mut faults = Vec::new();
        let (rows, columns) = grid.shape();
        let (least_rows, least_columns) = self.min_shape;
        if rows < least_rows || columns < least_columns {
            faults
                .push(format!("needs at least {least_rows} x {least_columns} cells, the grid has {rows} x {columns}"));
        }
        if let Some((least, most)) = self.spacing_m {
            match grid.spacing_m() {
                // Rounding of coordinates must not decide.
                Ok((spacing, _)) if spacing >= 0.99 * least && spacing <= 1.01 * most => {}
                Ok((spacing, _)) => {
                    faults
                        .push(format!("was made for cells of {least:.0} to {most:.0} m, the grid has {spacing:.0} m"));
                }
                Err(error) => faults.push(format!("the grid's spacing is unknown: {error}")),
            }
        }
        faults
    }
}
