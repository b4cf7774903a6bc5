//! The cheap forecast that a model starts from.

use ndarray::{Array4, Axis};
use serde::{Deserialize, Serialize};
use squall_fields::{Variable, Window};
use tch::Tensor;

use crate::ModelError;
use crate::baselines;

/// The cheap forecast that a model conditions on, and whose error it diffuses if there is a residual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstGuess {
    /// None: the future frames of the condition are empty.
    #[default]
    None,
    /// The newest frame, unchanged.
    Persistence,
    /// The newest frame, moved on along the motion of the rain.
    Extrapolation,
}

impl FirstGuess {
    /// `[lead, variable, y, x]` in the units of the variables for `leads` steps of the window's cadence; NaN where it
    /// comes from outside the domain. `None` for [`FirstGuess::None`].
    ///
    /// # Errors
    /// [`ModelError::Window`] if no frame is present or none holds a variable.
    pub fn fields(
        self,
        window: &Window,
        variables: &[Variable],
        leads: usize,
    ) -> Result<Option<Array4<f32>>, ModelError> {
        match self {
            Self::None => Ok(None),
            Self::Persistence => {
                let wrong = |reason: &str| ModelError::Window { issue_time: window.issue_time, reason: reason.into() };
                let newest = window.newest().ok_or_else(|| wrong("no frame is present"))?;
                let (rows, columns) = newest.grid.shape();
                let mut fields = Array4::zeros((leads, variables.len(), rows, columns));
                for (i, variable) in variables.iter().enumerate() {
                    let plane = newest.plane(*variable);
                    let plane = plane.ok_or_else(|| wrong(&format!("the newest frame has no {}", variable.name())))?;
                    for mut lead in fields.index_axis_mut(Axis(1), i).outer_iter_mut() {
                        lead.assign(&plane);
                    }
                }
                Ok(Some(fields))
            }
            Self::Extrapolation => {
                let guess = baselines::extrapolation::first_guess(window, &window.cadence.leads(leads))?;
                Ok(Some(guess.fields.insert_axis(Axis(1))))
            }
        }
    }
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
    use super::*;

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
