//! A forecast, who it is, and what it was made from.

use std::fmt;
use std::sync::Arc;

use ndarray::Array3;
use serde::{Deserialize, Serialize};

use crate::{Ensemble, Grid, InputRef, IssueTime, KnowledgeTime, LeadTime, TraceParent, ValidTime};

/// What makes two forecasts the same forecast.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ForecastId {
    /// Name of the stream in the configuration.
    pub stream: Arc<str>,
    /// Digest of the model that made it: of its weights, or of a baseline's name and parameters.
    pub model_digest: Arc<str>,
    /// Slot of the newest frame of the window.
    pub issue_time: IssueTime,
    /// 0, then one more each time an input arrived late or was corrected.
    pub revision: u32,
}

impl fmt::Display for ForecastId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.model_digest.get(..12).unwrap_or(&self.model_digest);
        write!(f, "{} {} {} r{}", self.stream, model, self.issue_time, self.revision)
    }
}

/// Why a forecast is less than the stream normally publishes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Degradation {
    /// Slots of the window were missing when its patience ended.
    MissingFrames {
        /// The slots, oldest first.
        slots: Vec<ValidTime>,
    },
    /// The model failed and a fallback made the forecast.
    ModelFailed {
        /// What the model said.
        message: String,
    },
    /// The publication deadline passed and a fallback made the forecast.
    Deadline,
    /// By the times measured so far the model would not have answered before the publication deadline: a stand-in was
    /// asked at once.
    DeadlineForeseen,
    /// To answer before the publication deadline the model took fewer solver steps than it is set to take.
    FewerSteps {
        /// Steps that it took.
        steps: usize,
        /// Steps that it is set to take.
        of: usize,
    },
    /// To answer before the publication deadline the model gave fewer members than the stream asks for.
    FewerMembers {
        /// Members that it gave.
        members: usize,
        /// Members that the stream asks for.
        of: usize,
    },
}

/// What a forecast was made from, by what, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Every frame that was used, oldest first.
    pub inputs: Vec<InputRef>,
    /// `true` for each slot of the window that was present, oldest first.
    pub window_mask: Vec<bool>,
    /// Key of the random numbers.
    pub seed: u64,
    /// Name of the model, such as `extrapolation`.
    pub model: String,
    /// Squall's version.
    pub code_version: String,
    /// Device, instruction set and numerical precision, such as `cpu avx512 f32`.
    pub device: String,
    /// Empty for a forecast as it should be.
    pub degraded: Vec<Degradation>,
    /// Whether the members are one field repeated, so that they say nothing of the uncertainty.
    #[serde(default, skip_serializing_if = "is_false")]
    pub identical_members: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A probabilistic forecast of one or more variables on one grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Who it is.
    pub id: ForecastId,
    /// When the input that completed it became known.
    pub known_at: KnowledgeTime,
    /// Where the cells lie.
    pub grid: Arc<Grid>,
    /// Lead of each step, ascending.
    pub leads: Vec<LeadTime>,
    /// One for each variable.
    pub ensembles: Vec<Ensemble>,
    /// `[lead, y, x]`: the precision weight of a guided diffusion model, 1 where nothing is known of it.
    pub precision: Option<Array3<f32>>,
    /// What it was made from.
    pub provenance: Provenance,
    /// The trace of the record that completed its window, if it had one.
    pub trace: Option<TraceParent>,
}

impl Forecast {
    /// Valid time of each lead.
    pub fn valid_times(&self) -> Vec<ValidTime> {
        self.leads.iter().map(|lead| self.id.issue_time.at(*lead)).collect()
    }

    /// Number of members (0 for a forecast without ensembles).
    pub fn members(&self) -> usize {
        self.ensembles.first().map_or(0, Ensemble::members)
    }

    /// Bytes of its values.
    pub fn bytes(&self) -> usize {
        let values: usize = self.ensembles.iter().map(|ensemble| ensemble.values.len()).sum();
        (values + self.precision.as_ref().map_or(0, Array3::len)) * size_of::<f32>()
    }

    /// Whether anything kept it from being what it should be.
    pub fn is_degraded(&self) -> bool {
        !self.provenance.degraded.is_empty()
    }
}
