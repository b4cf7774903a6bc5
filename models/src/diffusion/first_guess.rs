//! The cheap forecast that a model starts from.

use ndarray::{Array4, Axis};
use serde::{Deserialize, Serialize};
use squall_fields::{Variable, Window};

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
