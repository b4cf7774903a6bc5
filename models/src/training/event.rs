//! Events: unbroken series of frames, in memory.

use std::sync::Arc;

use half::f16;
use ndarray::Array3;
use squall_fields::{Cadence, Frame, Grid, InputRef, IssueTime, ValidTime, Variable, Window};

use super::TrainingError;

/// An unbroken series of frames on one grid, held in 16 bits.
#[derive(Clone, Debug)]
pub struct Event {
    /// Name for reports, such as the file's.
    pub name: String,
    /// Where its cells lie.
    pub grid: Arc<Grid>,
    /// Step from frame to frame.
    pub cadence: Cadence,
    /// When the first frame is valid.
    pub start: ValidTime,
    /// Whose data it is, such as a radar's name; empty if nobody asks.
    pub domain: Arc<str>,
    /// Planes of a frame.
    pub variables: Arc<[Variable]>,
    /// `[frame, variable, y, x]`, row-major; NaN where missing.
    pub(super) values: Vec<f16>,
    frames: usize,
}

impl Event {
    /// From frames in order of time, one cadence step apart.
    ///
    /// # Errors
    /// If there are none, or they differ in grid or variables, or lie not one step apart.
    pub fn new(name: &str, cadence: Cadence, frames: &[Arc<Frame>]) -> Result<Self, TrainingError> {
        let data = |reason: String| TrainingError::Data(format!("{name}: {reason}"));
        let first = frames.first().ok_or_else(|| data("holds no frames".to_owned()))?;
        let mut values = Vec::with_capacity(frames.len() * first.values.len());
        for (i, frame) in frames.iter().enumerate() {
            let expected = cadence.step(first.slot, i as i64);
            if frame.slot != expected {
                return Err(data(format!("frame {i} is valid at {}, {expected} was expected", frame.slot)));
            }
            if frame.values.dim() != first.values.dim() || frame.variables != first.variables {
                return Err(data(format!("frame {i} differs from the first in its grid or variables")));
            }
            values.extend(frame.values.iter().map(|v| f16::from_f32(*v)));
        }
        let (grid, variables) = (first.grid.clone(), first.variables.clone());
        let (name, domain, start) = (name.to_owned(), "".into(), first.slot);
        Ok(Self { name, grid, cadence, start, domain, variables, values, frames: frames.len() })
    }

    /// The same as data of a domain.
    #[must_use]
    pub fn of_domain(mut self, domain: &str) -> Self {
        self.domain = domain.into();
        self
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.frames
    }

    /// Whether it has no frame.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// The window of `context` frames that starts at frame `start`.
    pub fn window(&self, start: usize, context: usize) -> Window {
        let frames = (start..start + context).map(|i| Some(Arc::new(self.frame(i)))).collect();
        let newest = self.cadence.step(self.start, (start + context) as i64 - 1);
        Window {
            issue_time: IssueTime::from_unix_seconds(newest.unix_seconds()),
            cadence: self.cadence,
            frames,
            steering: None,
        }
    }

    /// One frame, in f32.
    pub fn frame(&self, index: usize) -> Frame {
        let (rows, columns) = self.grid.shape();
        let plane = self.variables.len() * rows * columns;
        let values = self.values[index * plane..(index + 1) * plane].iter().map(|v| v.to_f32()).collect();
        let values = Array3::from_shape_vec((self.variables.len(), rows, columns), values).expect("a plane a variable");
        let input =
            InputRef { topic: self.name.as_str().into(), partition: 0, offset: index as i64, digest: "".into() };
        Frame {
            grid: self.grid.clone(),
            slot: self.cadence.step(self.start, index as i64),
            variables: self.variables.clone(),
            values,
            quality: None,
            input,
        }
    }
}
