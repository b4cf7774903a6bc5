//! The cheap forecast that a model starts from.

use std::sync::Arc;

use ndarray::{Array2, Array4, ArrayView2, Axis};
use serde::{Deserialize, Serialize};
use squall_fields::{Ensemble, Frame, Variable, Window};
use tch::Tensor;

use crate::baselines::{self, Extrapolation, Steps, advection, motion};
use crate::{Forecaster, ModelError, Request};

/// The cheap forecast that a model conditions on, and whose error it diffuses if there is a residual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstGuess {
    /// None: the future frames of the condition are empty.
    #[default]
    None,
    /// The newest frame, unchanged.
    Persistence,
    /// The newest frame, moved on: every variable along the motion of the frame's rain, or, where frames hold no rain, of
    /// the first variable. Components of a wind are carried along and not turned.
    Extrapolation,
    /// For each member a member of its own: that of STEPS with the same number or, where STEPS cannot be run (a frame is
    /// missing, the domain is small), that of the extrapolation with perturbed motions. Of rain alone.
    Steps,
}

/// What the network sees in place of a first guess that is missing: where nothing is known, and around a domain or crop
/// that fills no tile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingGuess {
    /// 0 in transformed units, which for rain is 10.4 mm/h: what models of files without this entry were trained with.
    #[default]
    Zero,
    /// The transformed value of 0: dry, calm.
    Dry,
    /// The same, and one channel more, which is 1 where the first guess is known.
    Masked,
}

impl FirstGuess {
    /// Whether each member has its own.
    pub const fn is_of_members(self) -> bool {
        matches!(self, Self::Steps)
    }

    /// `[member, lead, variable, y, x]` as [`FirstGuess::fields`], for so many members of a stream's forecast: one for all, or
    /// one each.
    ///
    /// # Errors
    /// As [`FirstGuess::fields`].
    pub fn of_members(
        self,
        window: &Window,
        (stream, members): (&str, usize),
        variables: &[Variable],
        leads: usize,
    ) -> Result<Vec<Array4<f32>>, ModelError> {
        if !self.is_of_members() {
            return Ok(self.fields(window, variables, leads)?.into_iter().collect());
        }
        let request = Request {
            stream: stream.into(),
            window: Arc::new(window.clone()),
            leads: window.cadence.leads(leads),
            members,
            steps: None,
        };
        let of = |mut model: Box<dyn Forecaster>| model.forecast(std::slice::from_ref(&request)).remove(0);
        let prediction = of(Box::<Steps>::default()).or_else(|_| of(Box::<Extrapolation>::default()))?;
        let lacks = |variable: &Variable| ModelError::Window {
            issue_time: window.issue_time,
            reason: format!("{} is not rain and has no first guess of its members", variable.name()),
        };
        let ensembles = variables.iter().map(|variable| {
            prediction.ensembles.iter().find(|ensemble| ensemble.variable == *variable).ok_or_else(|| lacks(variable))
        });
        let ensembles: Vec<&Ensemble> = ensembles.collect::<Result<_, ModelError>>()?;
        let of_member = |member: usize| {
            let planes: Vec<_> = ensembles.iter().map(|e| e.values.index_axis(Axis(0), member)).collect();
            ndarray::stack(Axis(1), &planes).expect("ensembles of one request have one shape")
        };
        Ok((0..members).map(of_member).collect())
    }

    /// `[lead, variable, y, x]` in the units of the variables for `leads` steps of the window's cadence; NaN where it
    /// comes from outside the domain. `None` for [`FirstGuess::None`]; what all members share, the extrapolation, for
    /// [`FirstGuess::Steps`].
    ///
    /// # Errors
    /// [`ModelError::Window`] if no frame is present or none holds a variable.
    pub fn fields(
        self,
        window: &Window,
        variables: &[Variable],
        leads: usize,
    ) -> Result<Option<Array4<f32>>, ModelError> {
        if self == Self::None {
            return Ok(None);
        }
        let wrong = |reason: String| ModelError::Window { issue_time: window.issue_time, reason };
        let newest = window.newest().ok_or_else(|| wrong("no frame is present".to_owned()))?;
        let plane = |variable: &Variable| {
            newest.plane(*variable).ok_or_else(|| wrong(format!("the newest frame has no {}", variable.name())))
        };
        let planes = variables.iter().map(plane).collect::<Result<Vec<_>, _>>()?;
        let (rows, columns) = newest.grid.shape();
        let mut fields = Array4::zeros((leads, variables.len(), rows, columns));
        let motion = match self {
            Self::Extrapolation | Self::Steps => Some(motion_of(window, newest, variables)?),
            _ => None,
        };
        // From the newest frame, which may lie before the issue time.
        let behind = window.frames.iter().rev().position(Option::is_some).unwrap_or(0);
        let steps: Vec<f32> = (1..=leads).map(|lead| (lead + behind) as f32).collect();
        for (plane, mut into) in planes.iter().zip(fields.axis_iter_mut(Axis(1))) {
            match &motion {
                Some(motion) => into.assign(&advection::extrapolate(plane.view(), motion, &steps)),
                None => into.outer_iter_mut().for_each(|mut lead| lead.assign(plane)),
            }
        }
        Ok(Some(fields))
    }
}

/// The motion of the rain of a window's frames or, if they hold none, of the first variable.
fn motion_of(window: &Window, newest: &Frame, variables: &[Variable]) -> Result<motion::MotionField, ModelError> {
    if newest.variables.iter().any(|variable| baselines::RAIN.contains(variable)) {
        return Ok(baselines::first_guess(window, &[])?.motion);
    }
    let shape = newest.grid.shape();
    let still = || motion::MotionField::zero(shape);
    let Some(first) = variables.first() else { return Ok(still()) };
    let plane = |frame: &Frame| frame.plane(*first).filter(|plane| plane.dim() == shape).map(|plane| plane.to_owned());
    let planes: Vec<(f64, Array2<f32>)> = window
        .frames
        .iter()
        .enumerate()
        .filter_map(|(index, frame)| Some((index as f64, plane(frame.as_deref()?)?)))
        .collect();
    let echoes = as_echoes(planes.iter().map(|(_, plane)| plane.view()));
    let timed: Vec<_> = planes.iter().zip(&echoes).map(|((time, _), echo)| (*time, echo.view())).collect();
    Ok(motion::estimate(&timed, &motion::MotionParams::default()).unwrap_or_else(still))
}

/// Fields of any sign as what the motion of rain is estimated from: from the least value to the greatest of all, from
/// 0.1 to 100 mm/h on the logarithmic scale on which rain is tracked.
fn as_echoes<'a>(fields: impl Iterator<Item = ArrayView2<'a, f32>> + Clone) -> Vec<Array2<f32>> {
    let values = fields.clone().flat_map(|field| field.into_iter().copied()).filter(|value| value.is_finite());
    let (least, most) = values.fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let range = (most - least).max(f32::MIN_POSITIVE);
    fields.map(|field| field.mapv(|value| 0.1 * 10f32.powf(3.0 * (value - least) / range))).collect()
}

/// A transformed first guess `[..., lead, channel, y, x]` of a transformed past `[..., frame, channel, y, x]`: where the
/// guess comes from outside the domain, the newest value known there stands in. NaN is left where there is none.
pub fn complete(guess: &Tensor, past: &Tensor) -> Tensor {
    const FRAME: i64 = -4;
    let frames = past.dim() as i64 + FRAME;
    let count = *past.size().get(frames as usize).expect("of shape [..., frame, channel, y, x]");
    let newest_first = (0..count).rev().map(|i| past.narrow(FRAME, i, 1));
    newest_first.fold(guess.shallow_clone(), |known, frame| known.where_self(&known.isnan().logical_not(), &frame))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::Array3;
    use squall_fields::{Axis as GridAxis, Cadence, Grid, InputRef, IssueTime, ValidTime};

    use super::*;

    /// Three frames in which a bump of each variable moves east by so many cells a frame.
    fn window(variables: &[(Variable, f32, f32)]) -> Window {
        let axis = |step| GridAxis { first: 0.0, step, len: 96 };
        let grid = Arc::new(Grid { proj: String::new(), wkt: None, x: axis(1000.0), y: axis(-1000.0) });
        let cadence = Cadence::every_seconds(300).unwrap();
        let frame = |t: usize| {
            let value = |(v, y, x): (usize, usize, usize)| {
                let (_, height, speed) = variables[v];
                let (x, y) = (x as f32 - 34.0 - speed * t as f32, y as f32 - 50.0);
                height
                    * ((-(x * x + y * y) / 90.0).exp()
                        + 0.5 * (-((x - 12.0).powi(2) + (y - 20.0).powi(2)) / 40.0).exp())
            };
            Some(Arc::new(Frame {
                grid: grid.clone(),
                slot: ValidTime::from_unix_seconds(300 * t as i64),
                variables: variables.iter().map(|(variable, ..)| *variable).collect(),
                values: Array3::from_shape_fn((variables.len(), 96, 96), value),
                quality: None,
                input: InputRef { topic: "t".into(), partition: 0, offset: t as i64, digest: "".into() },
            }))
        };
        let issue_time = IssueTime::from_unix_seconds(600);
        Window { issue_time, cadence, frames: (0..3).map(frame).collect(), steering: None }
    }

    /// Column of the largest size in the row of the bump's centre.
    fn peak(fields: &Array4<f32>, lead: usize, variable: usize) -> usize {
        let plane = fields.index_axis(Axis(0), lead).index_axis_move(Axis(0), variable);
        let size = |x: &usize| if plane[[50, *x]].is_nan() { 0.0 } else { plane[[50, *x]].abs() };
        (0..96).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap()
    }

    #[test]
    fn every_variable_moves_with_the_rain_or_with_the_first_of_them() {
        let extrapolated = |window: &Window, variables: &[Variable]| {
            FirstGuess::Extrapolation.fields(window, variables, 4).unwrap().unwrap()
        };
        let (rain, wind) = ((Variable::RainRate, 20.0, 2.0), (Variable::XWind, -9.0, 0.0));
        let both = window(&[wind, rain]);
        let fields = extrapolated(&both, &[Variable::XWind, Variable::RainRate]);
        assert_eq!(fields.dim(), (4, 2, 96, 96));
        // The rain stands at column 38 by now and the wind at 34; both go on at the rain's two cells a step.
        assert_eq!((peak(&fields, 3, 0), peak(&fields, 3, 1)), (42, 46));
        let alone = baselines::first_guess(&both, &both.cadence.leads(4)).unwrap().fields;
        let same = alone.iter().zip(fields.index_axis(Axis(1), 1)).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "rain alone is extrapolated as the baseline does it");

        let winds = window(&[(Variable::XWind, -9.0, 2.0), (Variable::YWind, 5.0, 0.0)]);
        let fields = extrapolated(&winds, &[Variable::XWind, Variable::YWind]);
        let (x, y) = (peak(&fields, 3, 0), peak(&fields, 3, 1));
        assert!(x.abs_diff(46) <= 1 && y.abs_diff(42) <= 1, "{x} {y}");
        assert!(FirstGuess::Extrapolation.fields(&winds, &[Variable::RainRate], 4).is_err());
    }

    #[test]
    fn the_newest_value_known_stands_in_for_a_missing_guess() {
        let nan = f32::NAN;
        // Two frames, then two leads, of four cells.
        let past = Tensor::from_slice(&[1f32, 2.0, 3.0, nan, 5.0, nan, nan, nan]).reshape([2, 1, 1, 4]);
        let guess = Tensor::from_slice(&[nan, nan, nan, nan, 9.0, nan, 8.0, nan]).reshape([2, 1, 1, 4]);
        let complete = complete(&guess.unsqueeze(0), &past.unsqueeze(0)).nan_to_num(-1.0, None, None);
        let expected = Tensor::from_slice(&[5f32, 2.0, 3.0, -1.0, 9.0, 2.0, 8.0, -1.0]).reshape([1, 2, 1, 1, 4]);
        assert_eq!(complete, expected);
    }
}
