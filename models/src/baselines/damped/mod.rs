//! Damped persistence of wind: what persists, what fades, and how far it is off.
//!
//! Persistence is a rival that anything beats. What the newest analysis says about a later one is less the later it is, and
//! least of all about its small scales; the change from the analysis before goes on for a while. So the mean is a sum of
//! the newest frame, of the newest frame smoothed a little and much, and of the last change, with weights that follow from
//! a regression by lead. Around it lies Gaussian noise of the size of that regression's errors, correlated in space and
//! from lead to lead as they are.
//!
//! The defaults are what [`fit`] gives for 10 m winds of GFS over the North Atlantic at 1 degree, 6 to 13 October 2018.

mod fit;
mod smooth;

use ndarray::{Array2, Array4, Axis, Zip};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use squall_fields::random::Philox;
use squall_fields::{Ensemble, LeadTime, Variable, Window};

use super::{Kind, digest};
use crate::calibration::interpolated;
use crate::{Coordinates, Forecaster, ModelError, Prediction, Request};
pub use fit::{Fit, fit};
use smooth::{noise, smoothed};

/// Counts changes of the algorithm; part of the digest.
const VERSION: u32 = 1;

/// Passes of smoothing of the frame that is smoothed a little, and of the one that is smoothed much.
const PASSES: [usize; 2] = [3, 20];

/// What the forecast is made of, by lead. Between two leads weights are interpolated, beyond them they stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DampedParams {
    /// Leads in seconds, ascending.
    pub leads_seconds: Vec<i64>,
    /// Weight of the newest frame, for each lead.
    pub newest: Vec<f32>,
    /// Weight of the newest frame without its small scales.
    pub smooth: Vec<f32>,
    /// Weight of the newest frame's large scales.
    pub broad: Vec<f32>,
    /// Hours for which the last change goes on.
    pub change_hours: Vec<f32>,
    /// Standard deviation of the noise in m/s.
    pub deviation: Vec<f32>,
    /// Passes of smoothing that the noise has gone through.
    pub noise_passes: usize,
    /// Correlation of the noise with that of an hour before.
    pub noise_persistence: f32,
}

impl Default for DampedParams {
    fn default() -> Self {
        DEFAULTS.with_hours(&[3, 6, 9, 12, 15, 18, 21, 24])
    }
}

/// What the defaults are made of.
struct Constants {
    newest: [f32; 8],
    smooth: [f32; 8],
    broad: [f32; 8],
    change_hours: [f32; 8],
    deviation: [f32; 8],
    noise_passes: usize,
    noise_persistence: f32,
}

/// `squall model calibrate --model damped-persistence --events configs/events.toml --split train` on the North Atlantic.
const DEFAULTS: Constants = Constants {
    newest: [0.4602, 0.1574, 0.0667, 0.0332, 0.0426, 0.0684, 0.1106, 0.122],
    smooth: [0.5581, 0.6935, 0.5628, 0.4171, 0.26, 0.1164, -0.0314, -0.1229],
    broad: [-0.0296, 0.1291, 0.3306, 0.4755, 0.5772, 0.6458, 0.7039, 0.7371],
    change_hours: [0.991, 1.2345, 1.1408, 1.1528, 1.0172, 0.8958, 0.7683, 0.8309],
    deviation: [1.4774, 2.2318, 2.7757, 3.1567, 3.478, 3.7266, 3.9187, 4.0586],
    noise_passes: 4,
    noise_persistence: 0.9586,
};

impl Constants {
    fn with_hours(&self, hours: &[i64]) -> DampedParams {
        DampedParams {
            leads_seconds: hours.iter().map(|hours| 3600 * hours).collect(),
            newest: self.newest.to_vec(),
            smooth: self.smooth.to_vec(),
            broad: self.broad.to_vec(),
            change_hours: self.change_hours.to_vec(),
            deviation: self.deviation.to_vec(),
            noise_passes: self.noise_passes,
            noise_persistence: self.noise_persistence,
        }
    }
}

impl DampedParams {
    /// What makes no sense, by the name of the setting.
    pub(super) fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let count = self.leads_seconds.len();
        let is_whole = |values: &[f32]| values.len() == count && values.iter().all(|v| v.is_finite());
        let mut faults = Vec::new();
        if count == 0 || !self.leads_seconds.is_sorted() {
            faults.push(("leads_seconds", "must be ascending, one at least"));
        }
        let lists = [
            ("newest", &self.newest),
            ("smooth", &self.smooth),
            ("broad", &self.broad),
            ("change_hours", &self.change_hours),
            ("deviation", &self.deviation),
        ];
        let short = lists.into_iter().filter(|(_, values)| !is_whole(values));
        faults.extend(short.map(|(name, _)| (name, "must have a number for each of leads_seconds")));
        if self.deviation.iter().any(|v| *v < 0.0) {
            faults.push(("deviation", "must not be negative"));
        }
        if self.noise_passes > 1000 {
            faults.push(("noise_passes", "must be 1000 at most"));
        }
        if !(0.0..=1.0).contains(&self.noise_persistence) {
            faults.push(("noise_persistence", "must lie between 0 and 1"));
        }
        faults
    }
}

/// The parts that a mean is the sum of, each `[y, x]`: newest, smoothed a little, smoothed much, change in an hour.
struct Parts([Array2<f32>; 4]);

impl Parts {
    fn new(window: &Window, variable: Variable) -> Result<Self, ModelError> {
        let fault = |reason: String| ModelError::Window { issue_time: window.issue_time, reason };
        let none = || fault(format!("none of its {} frames is present", window.frames.len()));
        let mut present = window.frames.iter().rev().flatten();
        let frame = present.next().ok_or_else(none)?;
        let newest = frame.plane(variable);
        let newest = newest.ok_or_else(|| fault(format!("its newest frame lacks {}", variable.name())))?;
        let before = present.next().and_then(|before| Some((before.plane(variable)?, before.slot)));
        let change = match before.filter(|(plane, _)| plane.dim() == newest.dim()) {
            Some((before, slot)) => {
                let hours = (frame.slot.unix_seconds() - slot.unix_seconds()) as f32 / 3600.0;
                Zip::from(newest).and(before).map_collect(|new, old| (new - old) / hours.max(1e-3))
            }
            None => Array2::zeros(newest.dim()),
        };
        // Where the frame before has a gap, nothing is known of a change.
        let change = change.mapv_into(|v| if v.is_nan() { 0.0 } else { v });
        let [little, much] = PASSES.map(|passes| smoothed(newest, passes));
        Ok(Self([newest.to_owned(), little, much, change]))
    }

    fn mean(&self, weights: [f32; 4]) -> Array2<f32> {
        let mut mean = Array2::zeros(self.0[0].dim());
        for (part, weight) in self.0.iter().zip(weights) {
            mean.scaled_add(weight, part);
        }
        mean
    }
}

/// The forecaster; see the module.
#[derive(Clone, Debug)]
pub struct DampedPersistence {
    params: DampedParams,
    digest: String,
}

impl Default for DampedPersistence {
    fn default() -> Self {
        Self::new(DampedParams::default())
    }
}

impl DampedPersistence {
    /// With these parameters.
    pub fn new(params: DampedParams) -> Self {
        let digest = digest(Kind::DampedPersistence, VERSION, &params);
        Self { params, digest }
    }

    /// Weights of the parts and size of the noise at a lead, counted from the newest frame that is there.
    fn at(&self, seconds: i64) -> ([f32; 4], f32) {
        let params = &self.params;
        let of = |values: &[f32]| interpolated(&params.leads_seconds, values, seconds);
        let parts = [&params.newest, &params.smooth, &params.broad, &params.change_hours];
        (parts.map(|values| of(values)), of(&params.deviation))
    }

    fn answer(&self, request: &Request) -> Result<Prediction, ModelError> {
        let window = &request.window;
        let behind = window.frames.iter().rev().position(Option::is_some).unwrap_or(0) as i64;
        let late = behind * window.cadence.step_seconds();
        let variables = window.newest().map(|frame| frame.variables.to_vec()).unwrap_or_default();
        let wind = WINDS.iter().find(|pair| pair.iter().all(|v| variables.contains(v)));
        let wind = wind.ok_or_else(|| ModelError::Window {
            issue_time: window.issue_time,
            reason: "its newest frame holds no two components of wind".to_owned(),
        })?;
        let of = |variable: &Variable| self.ensemble(request, *variable, late);
        Ok(Prediction { ensembles: wind.iter().map(of).collect::<Result<_, _>>()?, precision: None })
    }

    fn ensemble(&self, request: &Request, variable: Variable, late: i64) -> Result<Ensemble, ModelError> {
        let parts = Parts::new(&request.window, variable)?;
        let (rows, columns) = parts.0[0].dim();
        let at: Vec<_> = request.leads.iter().map(|lead| self.at(lead.seconds() + late)).collect();
        let means: Vec<Array2<f32>> = at.iter().map(|(weights, _)| parts.mean(*weights)).collect();
        let mut values = Array4::zeros((request.members, at.len(), rows, columns));
        values.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(member, mut values)| {
            let mut error: Option<Array2<f32>> = None;
            let mut before = LeadTime::from_seconds(0);
            for (index, lead) in request.leads.iter().enumerate() {
                let own = self.noise(request, variable, member as u32, *lead, (rows, columns));
                let hours = (lead.seconds() - before.seconds()) as f32 / 3600.0;
                let kept = self.params.noise_persistence.powf(hours);
                let next = match error {
                    Some(error) => error * kept + own * (1.0 - kept * kept).max(0.0).sqrt(),
                    None => own,
                };
                let (mean, deviation) = (&means[index], at[index].1);
                Zip::from(values.index_axis_mut(Axis(0), index)).and(mean).and(&next).for_each(|to, mean, error| {
                    *to = mean + deviation * error;
                });
                (error, before) = (Some(next), *lead);
            }
        });
        Ok(Ensemble { variable, values })
    }

    fn noise(
        &self,
        request: &Request,
        variable: Variable,
        member: u32,
        lead: LeadTime,
        shape: (usize, usize),
    ) -> Array2<f32> {
        let what = format!("noise {} {}", variable.name(), lead.seconds());
        let issue_time = request.window.issue_time;
        let random = Philox::of_member(&self.digest, &request.stream, issue_time, member, &what);
        noise(random, shape, self.params.noise_passes)
    }
}

/// The pairs of components that it forecasts.
const WINDS: [[Variable; 2]; 2] =
    [[Variable::EastwardWind, Variable::NorthwardWind], [Variable::XWind, Variable::YWind]];

impl Forecaster for DampedPersistence {
    fn name(&self) -> &str {
        Kind::DampedPersistence.name()
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn coordinates(&self) -> Coordinates {
        Coordinates {
            variables: WINDS.map(|pair| pair.to_vec()).to_vec(),
            cadence: None,
            spacing_m: None,
            context_frames: 2,
            max_leads: None,
            min_shape: (1, 1),
            max_members: None,
        }
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        requests.iter().map(|request| self.answer(request)).collect()
    }
}

#[cfg(test)]
mod tests;
