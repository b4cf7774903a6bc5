//! Channels of the condition beyond the variables that are forecast.

use serde::{Deserialize, Serialize};
use squall_fields::Variable;
use tch::{Kind, Tensor};

use super::Transform;
use super::first_guess;

/// One channel more that the network sees in every frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Extra {
    /// Another variable of the frames: its past, and in future frames its newest value that is known. Where none is
    /// known, the transformed value of 0 stands.
    Variable {
        /// Which; none that is forecast.
        name: Variable,
        /// Its normalisation.
        transform: Transform,
    },
    /// The time of a frame: 0 for the newest one of the past, 1 at the last lead.
    LeadTime {},
    /// The first variable that is forecast: its past, and its extrapolation, beside a first guess of a member's own. Where
    /// neither is known, the transformed value of 0 stands.
    Extrapolation {},
}

impl Extra {
    /// The variable that it needs, with its normalisation.
    pub const fn variable(self) -> Option<(Variable, Transform)> {
        match self {
            Self::Variable { name, transform } => Some((name, transform)),
            Self::LeadTime {} | Self::Extrapolation {} => None,
        }
    }
}

/// The channels `[sample, frame, extra, y, x]` of a clip, or none of none.
///
/// `past` is `[sample, past frame, variable, y, x]`: the transformed variables that `extra` names, in that order, NaN
/// where missing. `moved` is `[sample, frame, 1, y, x]` of the whole clip, transformed, for [`Extra::Extrapolation`], and
/// `dry` stands where it is missing.
pub fn channels(extra: &[Extra], past: &Tensor, leads: usize, moved: Option<(&Tensor, f32)>) -> Option<Tensor> {
    if extra.is_empty() {
        return None;
    }
    let (samples, count, _, height, width) = past.size5().expect("of shape [sample, frame, variable, y, x]");
    let leads = leads as i64;
    let mut variables = 0;
    let channel = |extra: &Extra| match extra {
        Extra::Variable { transform, .. } => {
            let plane = past.narrow(2, variables, 1);
            variables += 1;
            let nothing = plane.narrow(1, count - 1, 1).full_like(f64::NAN);
            let newest = first_guess::complete(&nothing, &plane).expand([samples, leads, 1, height, width], false);
            let all = Tensor::cat(&[plane, newest], 1);
            all.nan_to_num(f64::from(transform.forward(0.0)), None, None)
        }
        Extra::LeadTime {} => {
            let frames = count + leads;
            let share = (Tensor::arange(frames, (Kind::Float, past.device())) - (count - 1) as f64) / leads as f64;
            share.reshape([1, frames, 1, 1, 1]).expand([samples, frames, 1, height, width], false)
        }
        Extra::Extrapolation {} => match moved {
            Some((moved, dry)) => moved.nan_to_num(f64::from(dry), None, None),
            None => Tensor::zeros([samples, count + leads, 1, height, width], (Kind::Float, past.device())),
        },
    };
    let channels: Vec<Tensor> = extra.iter().map(channel).collect();
    Some(Tensor::cat(&channels, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_variable_stays_as_it_was_last_known_and_the_lead_time_runs_on() {
        let nan = f32::NAN;
        let wind = Extra::Variable { name: Variable::XWind, transform: Transform::Scale { by: 30.0 } };
        let rain = Extra::Variable { name: Variable::RainRate, transform: Transform::Rain { dry_below_mm_h: 0.05 } };
        // Two frames of two variables in two cells, and two leads.
        let past = Tensor::from_slice(&[0.1f32, 0.2, 0.5, nan, 0.3, nan, nan, nan]).reshape([1, 2, 2, 1, 2]);
        let channels = channels(&[wind, Extra::LeadTime {}, rain], &past, 2, None).unwrap();
        assert_eq!(channels.size(), [1, 4, 3, 1, 2]);
        let of = |channel: i64, cell: i64| -> Vec<f32> {
            Vec::try_from(channels.select(2, channel).select(3, cell).reshape([4]).contiguous()).unwrap()
        };
        assert_eq!((of(0, 0), of(0, 1)), (vec![0.1, 0.3, 0.3, 0.3], vec![0.2, 0.0, 0.2, 0.2]));
        assert_eq!(of(1, 0), [-0.5, 0.0, 0.5, 1.0]);
        assert_eq!((of(2, 0), of(2, 1)), (vec![0.5, -1.0, 0.5, 0.5], vec![-1.0; 4]));
        let moved = Tensor::from_slice(&[0.3f32, nan, 0.5, 0.6, 0.7, 0.8, nan, 0.9]).reshape([1, 4, 1, 1, 2]);
        let of_moved = super::channels(&[Extra::Extrapolation {}], &past, 2, Some((&moved, -1.0))).unwrap();
        let expected = Tensor::from_slice(&[0.3f32, -1.0, 0.5, 0.6, 0.7, 0.8, -1.0, 0.9]).reshape([1, 4, 1, 1, 2]);
        assert_eq!(of_moved, expected);
        assert!(super::channels(&[], &past, 2, None).is_none());
    }
}
