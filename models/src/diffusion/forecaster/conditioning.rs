//! From a request to what its members share: the window checked, and laid out as the network's condition.

use std::sync::Arc;

use ndarray::{Array3, Array4, Axis};
use rayon::prelude::*;
use squall_fields::{Ensemble, Frame, Variable, Window};
use tch::Tensor;

use super::DiffusionForecaster;
use crate::diffusion::Transform;
use crate::diffusion::denoiser::{Condition, ConditionParts, Guess};
use crate::diffusion::extra::Extra;
use crate::diffusion::guidance::Guidance;
use crate::diffusion::latent::Space;
use crate::diffusion::tiles::Tiles;
use crate::diffusion::{extra, first_guess, foresight};
use crate::{ModelError, Prediction, Request};

/// What a member is sampled from.
pub(super) struct Start {
    pub(super) condition: Condition,
    /// Transformed first guess `[1, lead, channel, y, x]`, NaN where nothing is known.
    pub(super) guess: Option<Tensor>,
}

/// What the members of one request share.
pub(super) struct Prepared {
    /// The first guess of each member, in the units of the variables, if they have their own.
    guesses: Vec<Array4<f32>>,
    /// What all members are sampled from, if they share it.
    shared: Option<Start>,
    /// Transformed frames of the past, as they came.
    past: Tensor,
    /// The same in the space that is diffused, up to the domain.
    history: Tensor,
    extra: Option<Tensor>,
    /// Rows and columns that are diffused: at least a tile, in cells of the latent space if there is one.
    pub(super) domain: (usize, usize),
    /// `[1, 1, 1, y, x]` of the domain: 1 where the newest frames say anything, and so a forecast is given.
    pub(super) known: Tensor,
    /// `[y, x]`: missing in every frame.
    pub(super) missing: Vec<bool>,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Clone for Start {
    fn clone(&self) -> Self {
        Self { condition: self.condition.clone(), guess: self.guess.as_ref().map(Tensor::shallow_clone) }
    }
}

impl Prepared {
    /// Fills `[sample, frame, channel, y, x]` up to the domain, below and to the right.
    pub(super) fn pad(&self, x: &Tensor, value: f64) -> Tensor {
        pad(x, self.domain, value)
    }
}

fn pad(x: &Tensor, (rows, columns): (usize, usize), value: f64) -> Tensor {
    let (below, right) = (rows as i64 - x.size()[3], columns as i64 - x.size()[4]);
    x.pad([0, right, 0, below], "constant", value)
}

impl DiffusionForecaster {
    /// Steps of the cadence, from 0, of each lead that is asked for.
    pub(super) fn lead_indices(&self, request: &Request) -> Result<Vec<usize>, ModelError> {
        let step = request.window.cadence.step_seconds();
        let most = self.spec().leads;
        let index = |lead: &squall_fields::LeadTime| {
            let seconds = lead.seconds();
            let steps = usize::try_from(seconds / step).unwrap_or(0);
            if seconds % step == 0 && (1..=most).contains(&steps) {
                return Ok(steps - 1);
            }
            Err(wrong(&request.window, format!("lead {lead} is none of the {most} leads of {step} s")))
        };
        request.leads.iter().map(index).collect()
    }

    /// The newest frames that the model takes, checked to have its variables on one grid.
    pub(super) fn frames(&self, window: &Window) -> Result<Vec<Option<Arc<Frame>>>, ModelError> {
        let spec = self.spec();
        if window.cadence.step_seconds() != i64::from(spec.cadence_seconds) {
            let found = window.cadence.step_seconds();
            return Err(wrong(window, format!("has frames every {found} s, {} s was expected", spec.cadence_seconds)));
        }
        let skip = window.frames.len().checked_sub(spec.context);
        let skip = skip.ok_or_else(|| {
            wrong(window, format!("has {} frames, {} were expected", window.frames.len(), spec.context))
        })?;
        let frames = window.frames[skip..].to_vec();
        let mut present = frames.iter().flatten();
        let first = present.next().ok_or_else(|| wrong(window, "every frame is missing".to_owned()))?;
        if present.any(|frame| frame.grid.shape() != first.grid.shape()) {
            return Err(wrong(window, "its frames differ in their grid".to_owned()));
        }
        let inputs = spec.inputs();
        for (frame, variable) in frames.iter().flatten().flat_map(|f| inputs.iter().map(move |v| (f, v))) {
            if frame.plane(*variable).is_none() {
                return Err(wrong(window, format!("the frame of {} has no {}", frame.slot, variable.name())));
            }
        }
        Ok(frames)
    }

    /// Whether there is rain nowhere, in a model of rain alone.
    pub(super) fn is_dry(&self, frames: &[Option<Arc<Frame>>]) -> bool {
        let spec = self.spec();
        let threshold = |variable: &Variable, transform: &Transform| match transform {
            Transform::Rain { dry_below_mm_h } => Some((*variable, *dry_below_mm_h)),
            Transform::Scale { .. } => None,
        };
        let rain: Option<Vec<_>> = spec.variables.iter().zip(&spec.transforms).map(|(v, t)| threshold(v, t)).collect();
        rain.is_some_and(|rain| {
            rain.iter().all(|(variable, below)| {
                let planes = frames.iter().flatten().filter_map(|frame| frame.plane(*variable));
                // Missing is not wet.
                planes.into_iter().all(|plane| plane.iter().all(|v| v.is_nan() || *v <= *below))
            })
        })
    }

    /// Zeros, and missing where every frame is.
    pub(super) fn dry(&self, frames: &[Option<Arc<Frame>>], leads: usize, members: usize) -> Prediction {
        let (rows, columns) = shape(frames);
        let missing = self.missing(frames, rows * columns);
        let plane: Vec<f32> = missing.iter().map(|m| if *m { f32::NAN } else { 0.0 }).collect();
        let of = |variable: &Variable| {
            let values: Vec<f32> = plane.iter().copied().cycle().take(plane.len() * leads * members).collect();
            let values =
                Array4::from_shape_vec((members, leads, rows, columns), values).expect("a plane a lead and member");
            Ensemble { variable: *variable, values }
        };
        let guided = self.sampler.config.guidance != Guidance::None;
        Prediction {
            ensembles: self.spec().variables.iter().map(of).collect(),
            precision: guided.then(|| {
                let values = plane.iter().copied().cycle().take(plane.len() * leads).collect();
                Array3::from_shape_vec((leads, rows, columns), values).expect("a plane a lead")
            }),
        }
    }

    /// Cells that are missing in every frame that is present.
    pub(super) fn missing(&self, frames: &[Option<Arc<Frame>>], cells: usize) -> Vec<bool> {
        let mut missing = vec![true; cells];
        for frame in frames.iter().flatten() {
            for plane in self.spec().variables.iter().filter_map(|v| frame.plane(*v)) {
                missing.iter_mut().zip(plane).for_each(|(m, v)| *m &= v.is_nan());
            }
        }
        missing
    }

    pub(super) fn prepare(&self, request: &Request, frames: Vec<Option<Arc<Frame>>>) -> Result<Prepared, ModelError> {
        let spec = self.spec();
        let (rows, columns) = shape(&frames);
        let window = self.context_window(request, &frames);
        let members = (request.stream.as_ref(), request.members);
        let mut guesses = spec.first_guess.of_members(&window, members, &spec.variables, spec.leads)?;
        let missing = self.missing(&frames, rows * columns);
        let space = self.space();
        let device = self.device.device;
        // The variables that are forecast, then those of extra channels.
        let planes = self.planes(&frames, rows, columns).to_device(device);
        let forecast = spec.variables.len() as i64;
        let past = planes.narrow(2, 0, forecast);
        let beside = planes.narrow(2, forecast, planes.size()[2] - forecast);
        let history = space.encode(&past);
        let (_, _, _, height, width) = history.size5().expect("of shape [sample, frame, channel, y, x]");
        let domain = self.tiles((height as usize, width as usize)).domain(height as usize, width as usize);
        // Outside the domain nothing is known.
        let history = pad(&history, domain, f64::NAN);
        let moved = match spec.extra.contains(&Extra::Extrapolation {}) {
            true => spec.first_guess.fields(&window, &spec.variables, spec.leads)?,
            false => None,
        };
        let moved = moved.map(|fields| {
            let moved = Tensor::cat(&[&past, &self.completed(&fields, &past)], 1).narrow(2, 0, 1);
            pad(&moved, domain, f64::NAN)
        });
        let moved = moved.as_ref().zip(spec.dry().first().copied());
        let extra = extra::channels(&spec.extra, &pad(&beside, domain, f64::NAN), spec.leads, moved);
        let unknown = history.isnan().all_dim(1, true).all_dim(2, true);
        let known = unknown.logical_not().to_kind(tch::Kind::Float);
        let shared = !spec.first_guess.is_of_members();
        let guess = if shared { guesses.pop() } else { None };
        let mut prepared =
            Prepared { guesses, shared: None, past, history, extra, domain, known, missing, rows, columns };
        if shared {
            prepared.shared = Some(self.start_from(&prepared, guess.as_ref()));
        }
        Ok(prepared)
    }

    /// What a member is sampled from.
    pub(super) fn start(&self, prepared: &Prepared, member: usize) -> Start {
        match &prepared.shared {
            Some(start) => start.clone(),
            None => self.start_from(prepared, prepared.guesses.get(member)),
        }
    }

    fn start_from(&self, prepared: &Prepared, fields: Option<&Array4<f32>>) -> Start {
        let spec = self.spec();
        let guess = fields.map(|fields| self.completed(fields, &prepared.past));
        let padded = guess.as_ref().map(|guess| prepared.pad(&self.space().encode(guess), f64::NAN));
        let dry = spec.dry();
        let guess_of = |fields| Guess { fields, missing: spec.missing_guess, dry: &dry };
        let parts = ConditionParts {
            history: &prepared.history,
            frames: spec.frames() as i64,
            first_guess: padded.as_ref().map(guess_of),
            extra: prepared.extra.as_ref(),
            seen: spec.history,
        };
        let condition = parts.assemble();
        let condition = match &self.model.predictor {
            Some(predictor) => {
                let tiles = Tiles::new(self.tiles(prepared.domain), self.batch);
                condition.with(&foresight::of_domain(predictor, &condition, &tiles))
            }
            None => condition,
        };
        Start { condition, guess }
    }

    /// A transformed first guess, completed by a transformed past.
    fn completed(&self, fields: &Array4<f32>, past: &Tensor) -> Tensor {
        first_guess::complete(&self.transformed(fields).to_device(past.device()), past)
    }

    /// The window of the context alone, which is what a model is trained with.
    fn context_window(&self, request: &Request, frames: &[Option<Arc<Frame>>]) -> Window {
        Window { frames: frames.to_vec(), ..(*request.window).clone() }
    }

    /// Transformed frames `[1, frame, variable, y, x]` of all variables that the model takes, NaN where missing.
    fn planes(&self, frames: &[Option<Arc<Frame>>], rows: usize, columns: usize) -> Tensor {
        let variables = self.spec().inputs();
        let mut values = Array4::from_elem((frames.len(), variables.len(), rows, columns), f32::NAN);
        for (mut planes, frame) in values.outer_iter_mut().zip(frames) {
            for (i, plane) in variables.iter().enumerate().filter_map(|(i, v)| Some((i, frame.as_ref()?.plane(*v)?))) {
                planes.index_axis_mut(Axis(0), i).assign(&plane);
            }
        }
        self.transformed(&values)
    }

    /// `[frame, variable, y, x]` of the first variables that the model takes, in their units, as
    /// `[1, frame, channel, y, x]`.
    fn transformed(&self, fields: &Array4<f32>) -> Tensor {
        let (frames, channels, rows, columns) = fields.dim();
        let transforms = self.spec().input_transforms();
        let mut values: Vec<f32> = fields.iter().copied().collect();
        values.par_chunks_mut((rows * columns).max(1)).enumerate().for_each(|(plane, values)| {
            let transform = transforms[plane % channels];
            values.iter_mut().for_each(|v| *v = transform.forward(*v));
        });
        Tensor::from_slice(&values).reshape([1, frames as i64, channels as i64, rows as i64, columns as i64])
    }

    pub(super) fn space(&self) -> Space<'_> {
        Space::new(self.model.autoencoder.as_ref())
    }
}

fn wrong(window: &Window, reason: String) -> ModelError {
    ModelError::Window { issue_time: window.issue_time, reason }
}

fn shape(frames: &[Option<Arc<Frame>>]) -> (usize, usize) {
    frames.iter().flatten().next().map_or((0, 0), |frame| frame.grid.shape())
}
