//! What an extrapolation takes from a window.

use std::sync::Arc;

use ndarray::{ArrayView2, CowArray, Ix2};
use squall_fields::{Frame, LeadTime, Variable, Window, ZRelation};

use super::{
    motion::{MotionField, MotionParams, estimate},
    steering,
};
use crate::ModelError;

/// Variables that move with the rain.
pub const RAIN: [Variable; 3] = [Variable::RainRate, Variable::Reflectivity, Variable::PrecipitationAmount];

/// A window with at least one frame that holds rain.
pub(super) struct Source<'a> {
    window: &'a Window,
    /// The newest present frame.
    pub(super) newest: &'a Arc<Frame>,
    /// Its rain variables, at least one; the motion comes from the first.
    pub(super) variables: Vec<Variable>,
    /// Steps from the newest present frame to the issue time.
    behind: usize,
}

impl<'a> Source<'a> {
    /// # Errors
    /// [`ModelError::Window`] if no frame is present or the newest holds no rain.
    pub(super) fn new(window: &'a Window) -> Result<Self, ModelError> {
        let fault = |reason| ModelError::Window { issue_time: window.issue_time, reason };
        let newest =
            window.newest().ok_or_else(|| fault(format!("none of its {} frames is present", window.frames.len())))?;
        let variables: Vec<Variable> = newest.variables.iter().copied().filter(|v| RAIN.contains(v)).collect();
        if variables.is_empty() {
            return Err(fault("its frames hold no rain variable".to_owned()));
        }
        let behind = window.frames.iter().rev().position(Option::is_some).unwrap_or(0);
        Ok(Self { window, newest, variables, behind })
    }

    /// Times from the newest present frame, in steps, of leads from the issue time.
    pub(super) fn steps(&self, leads: &[LeadTime]) -> Vec<f32> {
        let step = self.window.cadence.step_seconds() as f64;
        leads.iter().map(|lead| (lead.seconds() as f64 / step + self.behind as f64) as f32).collect()
    }

    /// A variable of the newest present frame.
    pub(super) fn plane(&self, variable: Variable) -> Result<ArrayView2<'a, f32>, ModelError> {
        self.newest.plane(variable).ok_or_else(|| ModelError::Window {
            issue_time: self.window.issue_time,
            reason: format!("its newest frame lacks {}", variable.name()),
        })
    }

    /// The motion over the window, or the steering wind, or none.
    pub(super) fn motion(&self, params: &MotionParams, steering_wind_factor: Option<f32>) -> MotionField {
        let shape = self.newest.grid.shape();
        let frames: Vec<(f64, CowArray<'_, f32, Ix2>)> = self
            .window
            .frames
            .iter()
            .enumerate()
            .filter_map(|(index, frame)| Some((index as f64, self.rain_rate(frame.as_deref()?)?)))
            .filter(|(_, field)| field.dim() == shape)
            .collect();
        let views: Vec<_> = frames.iter().map(|(time, field)| (*time, field.view())).collect();
        estimate(&views, params)
            .or_else(|| steering::motion(self.window, &self.newest.grid, steering_wind_factor))
            .unwrap_or_else(|| MotionField::zero(shape))
    }

    /// The rain of a frame in mm/h.
    fn rain_rate<'f>(&self, frame: &'f Frame) -> Option<CowArray<'f, f32, Ix2>> {
        let plane = frame.plane(self.variables[0])?;
        Some(match self.unit(self.variables[0]).ok()? {
            RateUnit::Rate => plane.into(),
            unit => plane.mapv(|value| unit.rate_mm_h(value)).into(),
        })
    }

    /// How values of a variable say how much it rains.
    pub(super) fn unit(&self, variable: Variable) -> Result<RateUnit, ModelError> {
        Ok(match variable {
            Variable::Reflectivity => {
                let least =
                    self.plane(variable)?.iter().copied().filter(|v| v.is_finite()).fold(f32::INFINITY, f32::min);
                RateUnit::Reflectivity { dry: if least.is_finite() { least } else { f32::NEG_INFINITY } }
            }
            Variable::PrecipitationAmount => {
                RateUnit::Amount { per_hour: 3600.0 / self.window.cadence.step_seconds() as f32 }
            }
            _ => RateUnit::Rate,
        })
    }

    /// Rain rates in mm/h, row by row, of the newest present frame and those right before it, oldest first.
    ///
    /// # Errors
    /// [`ModelError::Window`] if one of them is missing, has another grid or lacks the variable.
    pub(super) fn consecutive_rates<const N: usize>(
        &self,
        variable: Variable,
        unit: RateUnit,
    ) -> Result<[Vec<f32>; N], ModelError> {
        let frames = &self.window.frames[..self.window.frames.len() - self.behind];
        let shape = self.newest.grid.shape();
        let rates = |frame: &Option<Arc<Frame>>| {
            let plane = frame.as_ref()?.plane(variable).filter(|plane| plane.dim() == shape)?;
            Some(plane.iter().map(|value| unit.rate_mm_h(*value)).collect::<Vec<f32>>())
        };
        let newest = &frames[frames.len().saturating_sub(N)..];
        let present: Vec<Vec<f32>> = newest.iter().filter_map(rates).collect();
        let count = present.len();
        present.try_into().map_err(|_| ModelError::Window {
            issue_time: self.window.issue_time,
            reason: format!(
                "expected {N} frames of {} on one grid in a row up to the newest, {count} of them are there",
                variable.name()
            ),
        })
    }
}

/// What a variable's values say of the rain rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum RateUnit {
    /// The rate in mm/h itself.
    Rate,
    /// Reflectivity in dBZ; `dry` is that of no rain.
    Reflectivity {
        /// In dBZ.
        dry: f32,
    },
    /// An amount in each step, in mm.
    Amount {
        /// Steps in an hour.
        per_hour: f32,
    },
}

impl RateUnit {
    /// Rain rate in mm/h of a value.
    pub(super) fn rate_mm_h(self, value: f32) -> f32 {
        match self {
            Self::Rate => value,
            Self::Reflectivity { .. } => ZRelation::default().rain_rate_mm_h(value),
            Self::Amount { per_hour } => value * per_hour,
        }
    }

    /// Value of a rain rate in mm/h.
    pub(super) fn of_rate(self, rate_mm_h: f32) -> f32 {
        match self {
            Self::Rate => rate_mm_h,
            Self::Reflectivity { dry } if rate_mm_h <= 0.0 => dry,
            Self::Reflectivity { .. } => ZRelation::default().dbz(rate_mm_h),
            Self::Amount { per_hour } => rate_mm_h / per_hour,
        }
    }
}
