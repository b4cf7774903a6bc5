//! Lagrangian extrapolation: the rain keeps its pattern and moves on.
//!
//! The motion comes from optical flow over the window, the newest frame is carried along it, and an
//! ensemble comes from errors of the motion. Growth and decay are not forecast; over the first hour
//! that is hard to beat.

use ndarray::{Array3, Array4};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use squall_fields::{Ensemble, IssueTime, LeadTime, Window, random::Philox};

use super::{
    Kind,
    advection::{Displacement, displacements, extrapolate},
    digest,
    motion::{MotionField, MotionParams},
    perturbation::{PerturbationParams, Scale, member_paths},
    source::{RAIN, Source},
};
use crate::{Coordinates, Forecaster, ModelError, Prediction, Request};

/// Counts changes of the algorithm; part of the digest.
const VERSION: u32 = 1;

/// What tunes the extrapolation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtrapolationParams {
    /// How the motion is found.
    pub motion: MotionParams,
    /// How the members' motions differ.
    pub perturbation: PerturbationParams,
    /// Where no rain can be tracked it moves with the domain's mean wind times this, which is that of the window's
    /// [steering](Window::steering) or else of its frames. Without it, it moves with the steering as it is, and stands
    /// still where there is none. (Rain moves with the wind aloft: for a wind at 10 m about 2.)
    pub steering_wind_factor: Option<f32>,
}

/// The forecaster `extrapolation`.
///
/// **Member 0 is the control**: it moves with the motion as estimated, so that one member is the
/// deterministic extrapolation. Members from 1 on move with perturbed motions. A member does not
/// depend on how many are asked for.
///
/// Of a window with gaps it uses what is there: pairs of successive present frames for the motion, and
/// the newest present frame, carried over the gap as well, for the rain.
#[derive(Clone, Debug)]
pub struct Extrapolation {
    params: ExtrapolationParams,
    digest: String,
}

/// A deterministic extrapolation with its motion.
#[derive(Clone, Debug, PartialEq)]
pub struct FirstGuess {
    /// `[lead, y, x]` in the unit of the frames, NaN where it comes from outside.
    pub fields: Array3<f32>,
    /// In cells per step; none if nothing could be tracked.
    pub motion: MotionField,
}

/// The deterministic extrapolation of a window's rain, with default parameters: what a model that
/// learns the rest starts from.
///
/// # Errors
/// [`ModelError::Window`] if no frame is present or the frames hold no rain variable.
pub fn first_guess(window: &Window, leads: &[LeadTime]) -> Result<FirstGuess, ModelError> {
    Extrapolation::default().first_guess(window, leads)
}

impl Default for Extrapolation {
    fn default() -> Self {
        Self::new(ExtrapolationParams::default())
    }
}

impl Extrapolation {
    /// With these parameters.
    pub fn new(params: ExtrapolationParams) -> Self {
        let digest = digest(Kind::Extrapolation, VERSION, &params);
        Self { params, digest }
    }

    /// The deterministic extrapolation of the first rain variable of a window's frames.
    ///
    /// # Errors
    /// [`ModelError::Window`] if no frame is present or the frames hold no rain variable.
    pub fn first_guess(&self, window: &Window, leads: &[LeadTime]) -> Result<FirstGuess, ModelError> {
        let source = Source::new(window)?;
        let motion = source.motion(&self.params.motion, self.params.steering_wind_factor);
        let fields = extrapolate(source.plane(source.variables[0])?, &motion, &source.steps(leads));
        Ok(FirstGuess { fields, motion })
    }

    fn answer(&self, request: &Request) -> Result<Prediction, ModelError> {
        let source = Source::new(&request.window)?;
        let motion = source.motion(&self.params.motion, self.params.steering_wind_factor);
        let steps = source.steps(&request.leads);
        let paths: Vec<Displacement> = (0..request.members)
            .into_par_iter()
            .flat_map_iter(|member| self.paths(request, &source, &motion, &steps, member as u32))
            .collect();
        let ensembles = source.variables.iter().map(|variable| {
            let plane = source.plane(*variable)?;
            let plane = plane.as_standard_layout();
            let mut values = Array4::zeros((request.members, steps.len(), plane.nrows(), plane.ncols()));
            if let (Some(cells), Some(out)) = (plane.as_slice(), values.as_slice_mut()) {
                let planes = out.par_chunks_mut(cells.len().max(1));
                planes.zip(&paths).for_each(|(out, path)| path.sample_into(cells, out));
            }
            Ok(Ensemble { variable: *variable, values })
        });
        Ok(Prediction { ensembles: ensembles.collect::<Result<_, ModelError>>()?, precision: None })
    }

    /// A member's displacement at every lead.
    fn paths(
        &self,
        request: &Request,
        source: &Source<'_>,
        motion: &MotionField,
        steps: &[f32],
        member: u32,
    ) -> Vec<Displacement> {
        if member == 0 {
            let zero = Displacement::zero(motion);
            return displacements(steps, zero, |path, part, _| path.advance(motion, part));
        }
        let scale = Scale::new(&source.newest.grid, request.window.cadence.step_seconds());
        let random = self.random(&request.stream, request.window.issue_time, member);
        member_paths(motion, random, &self.params.perturbation, scale, steps)
    }

    fn random(&self, stream: &str, issue_time: IssueTime, member: u32) -> Philox {
        Philox::of_member(&self.digest, stream, issue_time, member, "motion")
    }
}

impl Forecaster for Extrapolation {
    fn name(&self) -> &str {
        Kind::Extrapolation.name()
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn coordinates(&self) -> Coordinates {
        rain_coordinates()
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        requests.iter().map(|request| self.answer(request)).collect()
    }
}

/// Rain in any form, on any grid, from two frames on. A wind is not carried along by itself.
pub(super) fn rain_coordinates() -> Coordinates {
    Coordinates {
        variables: RAIN.map(|v| vec![v]).to_vec(),
        cadence: None,
        spacing_m: None,
        context_frames: 2,
        max_leads: None,
        min_shape: (1, 1),
        max_members: None,
    }
}

#[cfg(test)]
mod tests {
    use squall_fields::{Frame, Variable};

    use super::*;
    use crate::baselines::testing::{bump, context, frame, request};

    fn run(frames: Vec<Option<Frame>>, leads: usize, members: usize) -> Ensemble {
        let answer = Extrapolation::default().forecast(&[request(frames, leads, members)]).remove(0);
        answer.unwrap().ensembles.remove(0)
    }

    /// Place of the maximum of a plane as `(row, column)`.
    fn peak(ensemble: &Ensemble, member: usize, lead: usize) -> (usize, usize) {
        let plane = ensemble.values.index_axis(ndarray::Axis(0), member);
        let cells = plane.index_axis(ndarray::Axis(0), lead);
        let best = cells.indexed_iter().filter(|(_, v)| v.is_finite()).max_by(|a, b| a.1.total_cmp(b.1));
        best.unwrap().0
    }

    #[test]
    fn rain_moves_on() {
        let forecast = run((0..4).map(|t| Some(bump(30.0 + 2.0 * t as f32, 40.0))).collect(), 5, 1);
        assert_eq!(peak(&forecast, 0, 0), (40, 38));
        assert_eq!(peak(&forecast, 0, 4), (40, 46));
    }

    #[test]
    fn gaps_in_the_window_are_bridged() {
        let at = |t: f32| Some(bump(30.0 + 2.0 * t, 40.0));
        for frames in [
            vec![at(0.0), None, at(2.0), at(3.0)],
            vec![at(0.0), None, None, at(3.0)],
            vec![at(0.0), at(1.0), at(2.0), None],
        ] {
            let forecast = run(frames, 2, 1);
            assert_eq!(peak(&forecast, 0, 0), (40, 38));
            assert_eq!(peak(&forecast, 0, 1), (40, 40));
        }
        let alone = run(vec![None, None, None, at(3.0)], 3, 1);
        assert_eq!(peak(&alone, 0, 2), (40, 36), "one frame has no motion");
    }

    #[test]
    fn a_member_does_not_depend_on_the_size_and_the_control_is_unperturbed() {
        let frames: Vec<_> = (0..3).map(|t| Some(bump(30.0 + 2.0 * t as f32, 40.0))).collect();
        let (one, four, nine) = (run(frames.clone(), 6, 1), run(frames.clone(), 6, 4), run(frames.clone(), 6, 9));
        let bits = |e: &Ensemble, m: usize| -> Vec<u32> {
            e.values.index_axis(ndarray::Axis(0), m).iter().map(|v| v.to_bits()).collect()
        };
        (0..4).for_each(|m| assert_eq!(bits(&four, m), bits(&nine, m)));
        assert_eq!(bits(&one, 0), bits(&nine, 0));
        assert_ne!(bits(&nine, 1), bits(&nine, 2));
        let guess = Extrapolation::default().first_guess(&request(frames, 6, 1).window, &request(vec![], 6, 1).leads);
        let fields = guess.unwrap().fields;
        assert_eq!(bits(&one, 0), fields.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    }

    #[test]
    fn the_spread_grows_with_the_lead() {
        let forecast = run((0..3).map(|t| Some(bump(30.0 + 2.0 * t as f32, 40.0))).collect(), 8, 30);
        let spread = |lead| {
            let places: Vec<f32> = (1..30).map(|m| peak(&forecast, m, lead).1 as f32).collect();
            let mean = places.iter().sum::<f32>() / 29.0;
            places.iter().map(|p| (p - mean).powi(2)).sum::<f32>() / 29.0
        };
        assert!(spread(7) > 2.0 * spread(2), "{} {}", spread(7), spread(2));
    }

    #[test]
    fn a_wind_steers_what_cannot_be_tracked() {
        let calm = frame(&[Variable::RainRate, Variable::XWind, Variable::YWind], (20, 20), |v, y, x| match v {
            0 => f32::from(y == 10 && x == 10),
            1 => 10.0,
            _ => -10.0,
        });
        let window = request(vec![Some(calm.clone()), Some(calm)], 1, 1).window;
        let leads = window.cadence.leads(1);
        let still = Extrapolation::default().first_guess(&window, &leads).unwrap();
        assert_eq!(still.fields[[0, 10, 10]], 1.0);
        let params = ExtrapolationParams { steering_wind_factor: Some(1.0), ..Default::default() };
        let steered = Extrapolation::new(params).first_guess(&window, &leads).unwrap();
        assert_eq!(steered.motion.at(3.0, 3.0), (3.0, 3.0), "10 m/s are 3 km in 5 min, and south is down");
        assert_eq!(steered.fields[[0, 13, 13]], 1.0);
    }

    #[test]
    fn what_cannot_be_forecast_is_an_error() {
        let mut model = Extrapolation::default();
        let wind = frame(&[Variable::XWind, Variable::YWind], (8, 8), |_, _, _| 1.0);
        let answers =
            model.forecast(&[request(vec![None, None], 1, 1), request(vec![Some(wind.clone()), Some(wind)], 1, 1)]);
        assert!(answers.iter().all(|a| matches!(a, Err(ModelError::Window { .. }))));
        assert!(model.check(&context(&[Variable::XWind, Variable::YWind])).is_err());
        assert!(model.check(&context(&[Variable::RainRate])).is_ok());
    }

    #[test]
    fn reflectivity_moves_too_and_keeps_its_unit() {
        let dbz = |t: usize| {
            let mut frame = bump(30.0 + 2.0 * t as f32, 40.0);
            frame.variables = [Variable::Reflectivity].into();
            frame.values.mapv_inplace(|rate| squall_fields::ZRelation::default().dbz(rate.max(0.01)));
            Some(frame)
        };
        let forecast = run((0..3).map(dbz).collect(), 2, 1);
        assert_eq!(forecast.variable, Variable::Reflectivity);
        assert_eq!(peak(&forecast, 0, 1), (40, 38));
    }
}
