//! STEPS: an ensemble in which rain that cannot be foreseen is drawn at random, scale by scale.
//!
//! After Bowler, Pierce and Seed (2006) and Seed (2003), in the form of pysteps (Pulkkinen et al. 2019). The rain is
//! looked at in coordinates that move with it, in dB. It is split into a cascade of scales (`cascade`); each scale
//! follows an autoregressive process whose memory was measured over the last three frames (`ar`) and which noise with
//! the rain's own spectrum keeps going (`noise`). Their sum may rain only near where it rained a step before
//! (`mask`), gets the distribution of values that was observed last (`matching`), and moves with a motion of which
//! each member has its own version.
//!
//! It differs from pysteps where that is slow or fails. All of the process runs on spectra, so that a member and step
//! takes one Fourier transform in place of nine. Members run one after another, on as many threads as there are, so
//! that memory grows with threads, not with members. Fields without rain, without motion or without change are forecast.

mod ar;
mod cascade;
mod fft;
#[cfg(test)]
mod fresh;
mod mask;
mod matching;
mod model;
mod noise;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod tests;

use ndarray::Array4;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use squall_fields::{Ensemble, Variable, random::Philox};

use super::{
    Kind,
    advection::{Displacement, displacements},
    digest,
    extrapolation::rain_coordinates,
    motion::{MotionField, MotionParams},
    perturbation::{PerturbationParams, Scale, member_paths},
    source::Source,
};
use crate::{Coordinates, Forecaster, ModelError, Prediction, Request};
use mask::Rim;
use model::{DRY_STEP_DB, Model, State};

/// Counts changes of the algorithm; part of the digest.
const VERSION: u32 = 1;
/// Frames that the process is measured over.
const FRAMES: usize = 3;
/// Far below any threshold.
const NO_RAIN_DB: f32 = -1000.0;
/// Smallest side of a domain in cells, for the cascade to have scales to split.
const LEAST_SIDE: usize = 16;

/// What tunes STEPS; the defaults are those of pysteps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StepsParams {
    /// How the motion is found.
    pub motion: MotionParams,
    /// How the members' motions differ.
    pub perturbation: PerturbationParams,
    /// Scales that the rain is split into, 3 to 12.
    pub cascade_levels: usize,
    /// Rates below this are dry, in mm/h.
    pub threshold_mm_h: f32,
    /// Cells around the rain of one step over which less and less of it may fall in the next.
    pub mask_rim_cells: usize,
    /// As for [`super::ExtrapolationParams::steering_wind_factor`].
    pub steering_wind_factor: Option<f32>,
}

impl Default for StepsParams {
    fn default() -> Self {
        Self {
            motion: MotionParams::default(),
            perturbation: PerturbationParams::default(),
            cascade_levels: 6,
            threshold_mm_h: 0.1,
            mask_rim_cells: 10,
            steering_wind_factor: None,
        }
    }
}

impl StepsParams {
    /// The parameters of its own that make no sense, each with what must hold.
    pub(super) fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let rules = [
            ((3..=12).contains(&self.cascade_levels), ("cascade_levels", "must be from 3 to 12")),
            (self.threshold_mm_h > 0.0 && self.threshold_mm_h.is_finite(), ("threshold_mm_h", "must be more than 0")),
            (self.mask_rim_cells <= 1000, ("mask_rim_cells", "must be at most 1000 cells")),
        ];
        rules.into_iter().filter(|(holds, _)| !holds).map(|(_, fault)| fault).collect()
    }
}

/// The forecaster `steps`.
///
/// Every member is perturbed; none is a control. A member is a function of the digest, the stream, the issue time and its
/// number alone. It needs the newest present frame and the two before it, without a gap, on at least 16 x 16 cells. Cells
/// that are missing in any of them stay missing, and so does what comes from outside the domain. Leads between two steps
/// are interpolated in time.
///
/// ```
/// use squall_models::{Forecaster, baselines::{Steps, StepsParams}};
/// let model = Steps::new(StepsParams { cascade_levels: 8, ..StepsParams::default() });
/// assert_eq!((model.name(), model.coordinates().context_frames), ("steps", 3));
/// ```
#[derive(Clone, Debug)]
pub struct Steps {
    params: StepsParams,
    digest: String,
}

impl Default for Steps {
    fn default() -> Self {
        Self::new(StepsParams::default())
    }
}

impl Steps {
    /// With these parameters.
    pub fn new(params: StepsParams) -> Self {
        let digest = digest(Kind::Steps, VERSION, &params);
        Self { params, digest }
    }

    fn answer(&self, request: &Request) -> Result<Prediction, ModelError> {
        let source = Source::new(&request.window)?;
        let (rows, columns) = source.newest.grid.shape();
        if rows.min(columns) < LEAST_SIDE {
            let reason = format!("STEPS needs at least {LEAST_SIDE} x {LEAST_SIDE} cells, got {rows} x {columns}");
            return Err(ModelError::Window { issue_time: request.window.issue_time, reason });
        }
        let motion = source.motion(&self.params.motion, self.params.steering_wind_factor);
        let ensembles = source.variables.iter().map(|variable| {
            let values = self.ensemble(request, &source, &motion, *variable)?;
            Ok(Ensemble { variable: *variable, values })
        });
        Ok(Prediction { ensembles: ensembles.collect::<Result<_, ModelError>>()?, precision: None })
    }

    /// `[member, lead, y, x]` in the unit of a variable.
    fn ensemble(
        &self,
        request: &Request,
        source: &Source<'_>,
        motion: &MotionField,
        variable: Variable,
    ) -> Result<Array4<f32>, ModelError> {
        let (rows, columns) = source.newest.grid.shape();
        let steps = source.steps(&request.leads);
        let scale = Scale::new(&source.newest.grid, request.window.cadence.step_seconds());
        let unit = source.unit(variable)?;
        let frames = source.consecutive_rates::<FRAMES>(variable, unit)?;
        let observed = Observed::new(&frames, motion, self.params.threshold_mm_h);
        let cell_km = (scale.cell_km[0] * scale.cell_km[1]).abs().sqrt();
        let rim = Rim::new(scale.step_minutes / cell_km, self.params.mask_rim_cells);
        let model = observed.fields.as_ref().map(|fields| {
            Model::new(fields, (rows, columns), self.params.cascade_levels, rim, decibel(self.params.threshold_mm_h))
        });
        let mut values = Array4::zeros((request.members, steps.len(), rows, columns));
        let member_cells = steps.len() * rows * columns;
        if member_cells > 0
            && let Some(out) = values.as_slice_mut()
        {
            let of = |member: usize, what: &str| {
                Philox::of_member(&self.digest, &request.stream, request.window.issue_time, member as u32, what)
            };
            let members = out.par_chunks_mut(member_cells).enumerate();
            members.for_each_init(
                || Workspace::new(model.as_ref(), rows * columns),
                |work, (member, out)| {
                    let paths = member_paths(motion, of(member, "motion"), &self.params.perturbation, scale, &steps);
                    let random = of(member, &format!("noise {}", variable.name()));
                    let member = Member { model: model.as_ref(), missing: &observed.missing, random };
                    member.forecast(&steps, &paths, work, out);
                    let wet_db = decibel(self.params.threshold_mm_h);
                    out.iter_mut().for_each(|v| *v = unit.of_rate(rate_mm_h(*v, wet_db)));
                },
            );
        }
        Ok(values)
    }
}

impl Forecaster for Steps {
    fn name(&self) -> &str {
        Kind::Steps.name()
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn coordinates(&self) -> Coordinates {
        Coordinates { context_frames: FRAMES, min_shape: (LEAST_SIDE, LEAST_SIDE), ..rain_coordinates() }
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        requests.iter().map(|request| self.answer(request)).collect()
    }
}

/// dB of a rain rate in mm/h.
fn decibel(rate_mm_h: f32) -> f32 {
    (10.0 * f64::from(rate_mm_h).log10()) as f32
}

/// Rain rate in mm/h of dB; 0 below what counts as wet, NaN where missing.
fn rate_mm_h(db: f32, wet_db: f32) -> f32 {
    // 10^(x / 10) = 2^(x * log2(10) / 10)
    if db < wet_db { 0.0 } else { (db * (std::f32::consts::LOG2_10 / 10.0)).exp2() }
}

/// The frames in dB, moved to where the newest is.
struct Observed {
    /// Oldest first, row by row, without missing values; `None` if the newest is dry.
    fields: Option<[Vec<f64>; FRAMES]>,
    /// Cells that are missing in any frame.
    missing: Vec<bool>,
}

impl Observed {
    fn new(rates_mm_h: &[Vec<f32>; FRAMES], motion: &MotionField, threshold_mm_h: f32) -> Self {
        let wet_db = 10.0 * f64::from(threshold_mm_h).log10();
        let missing = (0..rates_mm_h[0].len()).map(|i| rates_mm_h.iter().any(|field| !field[i].is_finite())).collect();
        if !rates_mm_h[FRAMES - 1].iter().any(|rate| rate.is_finite() && *rate >= threshold_mm_h) {
            return Self { fields: None, missing };
        }
        let to_db = |rate: &f32| match rate {
            rate if !rate.is_finite() => f32::NAN,
            rate if *rate >= threshold_mm_h => (10.0 * f64::from(*rate).log10()) as f32,
            _ => (wet_db - DRY_STEP_DB) as f32,
        };
        let mut age = FRAMES;
        let fields = rates_mm_h.each_ref().map(|rates| {
            age -= 1;
            let field: Vec<f32> = rates.iter().map(to_db).collect();
            aligned(field, motion, age)
        });
        Self { fields: Some(fields), missing }
    }
}

/// A field as it would be `steps` later; what is missing or comes from outside has its least value.
fn aligned(field: Vec<f32>, motion: &MotionField, steps: usize) -> Vec<f64> {
    let least = field.iter().copied().filter(|v| v.is_finite()).fold(f32::INFINITY, f32::min);
    let mut moved = field;
    if steps > 0 {
        let times: Vec<f32> = (1..=steps).map(|step| step as f32).collect();
        let paths = displacements(&times, Displacement::zero(motion), |path, part, _| path.advance(motion, part));
        let mut out = vec![0f32; moved.len()];
        paths.last().expect("a path for each step").sample_into(&moved, &mut out);
        moved = out;
    }
    let least = if least.is_finite() { least } else { 0.0 };
    moved.iter().map(|v| f64::from(if v.is_finite() { *v } else { least })).collect()
}

/// What a thread works in, member after member.
struct Workspace {
    state: Option<State>,
    /// The field of the step before.
    before: Vec<f32>,
    /// What is moved along and read.
    shown: Vec<f32>,
}

impl Workspace {
    fn new(model: Option<&Model>, cells: usize) -> Self {
        Self { state: model.map(Model::state), before: vec![0.0; cells], shown: vec![0.0; cells] }
    }
}

/// One member of a forecast.
struct Member<'a> {
    /// `None` where no rain is.
    model: Option<&'a Model>,
    missing: &'a [bool],
    random: Philox,
}

impl Member<'_> {
    /// Writes `[lead, y, x]` in dB, at ascending times in steps.
    fn forecast(&self, steps: &[f32], paths: &[Displacement], work: &mut Workspace, out: &mut [f32]) {
        let Workspace { state, before, shown } = work;
        if let (Some(model), Some(state)) = (self.model, state.as_mut()) {
            model.begin(state);
            before.copy_from_slice(&state.field);
        }
        let mut now = 0f32;
        for ((step, path), out) in steps.iter().zip(paths).zip(out.chunks_exact_mut(shown.len())) {
            match (self.model, state.as_mut()) {
                (Some(model), Some(state)) => {
                    while now < step.ceil() {
                        before.copy_from_slice(&state.field);
                        model.advance(&self.random, state);
                        now += 1.0;
                    }
                    let older = (now - step).clamp(0.0, 1.0);
                    let fields = before.iter().zip(&state.field);
                    shown.iter_mut().zip(fields).for_each(|(v, (a, b))| *v = b + (a - b) * older);
                }
                _ => shown.fill(NO_RAIN_DB),
            }
            shown.iter_mut().zip(self.missing).filter(|(_, missing)| **missing).for_each(|(v, _)| *v = f32::NAN);
            path.sample_sequentially(shown, out);
        }
    }
}
