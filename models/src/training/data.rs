//! Crops of events, drawn by importance.
//!
//! Training and validation are split by event, never by frame: two frames
//! five minutes apart are nearly the same weather. Rain is rare, so crops are drawn more often where there is more of it;
//! the probability of each crop is kept, for whoever wants the loss of uniform crops.

use std::sync::{Arc, Mutex, PoisonError};

use half::f16;
use ndarray::Array4;
use rayon::prelude::*;
use squall_fields::Variable;
use tch::Tensor;

use super::TrainingError;
use super::augment::Reading;
use super::batch::{Crops, Order};
use super::config::Task;
use super::event::Event;
use crate::ModelSpec;
use crate::diffusion::Transform;
use crate::diffusion::extra::Extra;
use crate::diffusion::first_guess::{self, FirstGuess};

/// Where a clip starts.
#[derive(Clone, Debug)]
struct Clip {
    event: usize,
    start: usize,
    /// First guesses `[lead, variable, y, x]` that are not made of a crop: one, or one a member.
    guesses: Vec<Vec<f16>>,
    /// The same of [`Extra::Extrapolation`].
    moved: Option<Vec<f16>>,
}

/// A place that a crop may be cut from.
#[derive(Clone, Copy, Debug)]
struct Place {
    clip: u32,
    row: u32,
    column: u32,
    /// Sum of the weights up to and with this one.
    cumulative: f64,
}

/// A crop in transformed units, f32 on the CPU; NaN where missing.
#[derive(Debug)]
pub struct Crop {
    /// `[frame, variable, y, x]`.
    pub history: Tensor,
    /// `[lead, variable, y, x]`.
    pub future: Tensor,
    /// `[lead, variable, y, x]` each: none, one for all members, or one each, as the configuration wants.
    pub guesses: Vec<Tensor>,
    /// `[lead, variable, y, x]`, for [`Extra::Extrapolation`].
    pub moved: Option<Tensor>,
    /// `[frame, variable, y, x]`: the past of the variables of extra channels, none of none.
    pub beside: Tensor,
    /// Probability with which it was drawn, times the number of places: 1 on average for uniform draws.
    pub density: f64,
}

/// Events ready to be drawn from.
#[derive(Debug)]
pub struct Archive {
    held: Arc<Held>,
    /// Of one batch, drawn ahead.
    ready: Mutex<Option<(Order, Crops)>>,
}

/// What an archive holds, shared by those who draw from it.
#[derive(Debug)]
struct Held {
    events: Vec<Event>,
    clips: Vec<Clip>,
    places: Vec<Place>,
    /// Each domain with its places, in order.
    domains: Vec<(Arc<str>, std::ops::Range<usize>)>,
    model: ModelSpec,
    /// Of all variables that the model takes.
    transforms: Vec<Transform>,
    size: usize,
    periodic: bool,
}

impl Archive {
    /// Makes first guesses and weighs places; every `every`-th frame starts a clip.
    ///
    /// # Errors
    /// [`TrainingError::Data`] if no crop can be cut from any event.
    pub fn new(mut events: Vec<Event>, task: &Task, every: usize) -> Result<Self, TrainingError> {
        events.sort_by(|a, b| a.domain.cmp(&b.domain));
        let inputs = task.model.inputs();
        if let Some(event) = events.iter().find(|event| *event.variables != inputs[..]) {
            let names = |set: &[Variable]| set.iter().map(|v| v.name()).collect::<Vec<_>>().join(", ");
            let (expected, found) = (names(&inputs), names(&event.variables));
            return Err(TrainingError::Data(format!("{}: expected {expected}, got {found}", event.name)));
        }
        let starts: Vec<(usize, usize)> = events
            .iter()
            .enumerate()
            .flat_map(|(e, event)| {
                let count = (event.len() + 1).saturating_sub(task.model.frames());
                (0..count).step_by(every.max(1)).map(move |start| (e, start))
            })
            .collect();
        let clips = starts
            .par_iter()
            .map(|(event, start)| {
                let first_guess = task.model.first_guess;
                let guesses = match first_guess {
                    FirstGuess::Extrapolation | FirstGuess::Steps => of_members(&events[*event], *start, task)?,
                    FirstGuess::None | FirstGuess::Persistence => Vec::new(),
                };
                let wants = task.model.extra.contains(&Extra::Extrapolation {});
                let moved = if wants { extrapolation(&events[*event], *start, task)? } else { None };
                Ok(Clip { event: *event, start: *start, guesses, moved })
            })
            .collect::<Result<Vec<_>, TrainingError>>()?;
        let mut held = Held {
            places: Vec::new(),
            domains: Vec::new(),
            model: task.model.clone(),
            transforms: task.model.input_transforms(),
            size: task.training.crop.size,
            periodic: task.training.crop.periodic,
            events,
            clips,
        };
        held.weigh(task);
        if held.places.is_empty() {
            let need = format!("{} frames of {1} x {1} cells", task.model.frames(), task.training.crop.size);
            return Err(TrainingError::Data(format!("no event holds a crop of {need} with few missing cells")));
        }
        Ok(Self { held: Arc::new(held), ready: Mutex::default() })
    }

    /// Places that crops are cut from.
    pub fn places(&self) -> usize {
        self.held.places.len()
    }

    /// The domains of its events that crops are cut from.
    pub fn domains(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.held.domains.iter().map(|(domain, _)| domain)
    }

    /// Its events.
    pub fn events(&self) -> &[Event] {
        &self.held.events
    }

    /// The crop of a domain, by its number, or of any at a uniform number in [0, 1), read in some way. Where its event is too small for a coarser one, it is not
    /// coarser.
    pub fn draw(&self, domain: Option<usize>, uniform: f64, reading: Reading) -> Crop {
        self.held.draw(domain, uniform, reading)
    }

    /// The same archive with the crops of a batch at hand, or with none.
    pub(super) fn with(&self, ready: Option<(Order, Crops)>) -> Self {
        Self { held: self.held.clone(), ready: Mutex::new(ready) }
    }

    /// The crops of a batch, on the CPU, if they are those that were drawn ahead.
    pub(super) fn at_hand(&self, order: &Order) -> Option<Crops> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.as_ref().filter(|(of, _)| of == order).map(|(_, crops)| crops.map(Tensor::shallow_clone))
    }

    /// Whether both draw from the same events in memory.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.held, &other.held)
    }

    /// How many hold what it draws from.
    #[cfg(test)]
    pub(super) fn holders(&self) -> usize {
        Arc::strong_count(&self.held)
    }
}

impl Held {
    fn weigh(&mut self, task: &Task) {
        let crop = &task.training.crop;
        let of_clip = |(index, clip): (usize, &Clip)| {
            let event = &self.events[clip.event];
            let (rows, columns) = event.grid.shape();
            let last_column = if self.periodic { columns } else { (columns + 1).saturating_sub(crop.size) };
            let rows = (0..(rows + 1).saturating_sub(crop.size)).step_by(crop.stride);
            let places = rows.flat_map(|row| (0..last_column).step_by(crop.stride).map(move |column| (row, column)));
            let weighed = places.filter_map(|(row, column)| {
                let weight = self.weight(clip, row, column, crop.floor, crop.most_missing)?;
                Some(Place { clip: index as u32, row: row as u32, column: column as u32, cumulative: weight })
            });
            weighed.collect::<Vec<_>>()
        };
        let mut places: Vec<Place> = self.clips.par_iter().enumerate().flat_map_iter(of_clip).collect();
        let mut total = 0.0;
        for place in &mut places {
            total += place.cumulative;
            place.cumulative = total;
        }
        let domain = |place: &Place| &self.events[self.clips[place.clip as usize].event].domain;
        let mut from = 0;
        for of_one in places.chunk_by(|a, b| domain(a) == domain(b)) {
            self.domains.push((domain(&of_one[0]).clone(), from..from + of_one.len()));
            from += of_one.len();
        }
        self.places = places;
    }

    /// `floor + mean(1 - exp(-rate))` over a sparse sample of the clip's newest, middle and last frame; `None` if too
    /// much is missing. 1 for anything but rain.
    fn weight(&self, clip: &Clip, row: usize, column: usize, floor: f64, most_missing: f64) -> Option<f64> {
        const SPARSE: usize = 4;
        let event = &self.events[clip.event];
        let (rows, columns) = event.grid.shape();
        let plane = event.variables.len() * rows * columns;
        let (mut wet, mut missing, mut count) = (0.0, 0usize, 0usize);
        let ModelSpec { context, leads, .. } = self.model;
        for frame in [context - 1, context + leads / 2, context + leads - 1] {
            let values = &event.values[(clip.start + frame) * plane..];
            for y in (row..row + self.size).step_by(SPARSE) {
                for x in (column..column + self.size).step_by(SPARSE) {
                    let value = values[y * columns + x % columns].to_f64();
                    count += 1;
                    if value.is_nan() { missing += 1 } else { wet += 1.0 - (-value).exp() }
                }
            }
        }
        if missing as f64 > most_missing * count as f64 {
            return None;
        }
        let rain = matches!(self.transforms.first(), Some(Transform::Rain { .. }));
        Some(if rain { floor + wet / (count - missing).max(1) as f64 } else { 1.0 })
    }

    fn draw(&self, domain: Option<usize>, uniform: f64, reading: Reading) -> Crop {
        let range = domain.and_then(|domain| self.domains.get(domain)).map_or(0..self.places.len(), |(_, r)| r.clone());
        let up_to = |place: usize| if place == 0 { 0.0 } else { self.places[place - 1].cumulative };
        let (least, total) = (up_to(range.start), up_to(range.end) - up_to(range.start));
        let index = self.places.partition_point(|p| p.cumulative <= least + uniform * total);
        let index = index.clamp(range.start, range.end - 1);
        let place = self.places[index];
        let density = (place.cumulative - up_to(index)) / total * range.len() as f64;
        self.cut(&self.clips[place.clip as usize], (place.row as usize, place.column as usize), density, reading)
    }

    fn cut(&self, clip: &Clip, (row, column): (usize, usize), density: f64, reading: Reading) -> Crop {
        let event = &self.events[clip.event];
        let (rows, columns) = event.grid.shape();
        let fits = reading.zoom * self.size <= rows.min(columns);
        let zoom = if fits { reading.zoom } else { 1 };
        let side = zoom * self.size;
        let (row, column) = (row.min(rows - side), if self.periodic { column } else { column.min(columns - side) });
        // Of values with so many planes a frame.
        let take = |values: &[f16], planes: usize, frames: std::ops::Range<usize>| {
            let mut out = Vec::with_capacity(frames.len() * planes * self.size * self.size);
            for plane in frames.start * planes..frames.end * planes {
                let transform = self.transforms[plane % planes];
                let factor = if matches!(transform, Transform::Rain { .. }) { reading.factor } else { 1.0 };
                let value = |y: usize, x: usize| values[(plane * rows + y) * columns + x % columns].to_f32();
                let pixel = |y: usize, x: usize| match zoom {
                    1 => value(y, x),
                    zoom => mean_of_known((0..zoom * zoom).map(|i| value(y + i / zoom, x + i % zoom))),
                };
                for y in (row..row + side).step_by(zoom) {
                    let pixels = (column..column + side).step_by(zoom).map(|x| pixel(y, x));
                    out.extend(pixels.map(|value| transform.forward(value * factor)));
                }
            }
            let size = self.size as i64;
            Tensor::from_slice(&out).reshape([frames.len() as i64, planes as i64, size, size])
        };
        let ModelSpec { context, leads, .. } = self.model;
        let newest = clip.start + context;
        let (all, forecast) = (self.transforms.len(), self.model.variables.len() as i64);
        let past = take(&event.values, all, clip.start..newest);
        let history = past.narrow(1, 0, forecast);
        let of_clip =
            |fields: &Vec<f16>| first_guess::complete(&take(fields, self.model.variables.len(), 0..leads), &history);
        let guesses = match self.model.first_guess {
            FirstGuess::None => Vec::new(),
            FirstGuess::Extrapolation | FirstGuess::Steps => clip.guesses.iter().map(of_clip).collect(),
            FirstGuess::Persistence => {
                let newest = history.narrow(0, context as i64 - 1, 1).repeat([leads as i64, 1, 1, 1]);
                vec![first_guess::complete(&newest, &history)]
            }
        };
        Crop {
            guesses,
            moved: clip.moved.as_ref().map(of_clip),
            future: take(&event.values, all, newest..newest + leads).narrow(1, 0, forecast),
            beside: past.narrow(1, forecast, all as i64 - forecast),
            history,
            density,
        }
    }
}

/// The first guesses of a clip's context, `[lead, variable, y, x]` each: one, or one a member.
fn of_members(event: &Event, start: usize, task: &Task) -> Result<Vec<Vec<f16>>, TrainingError> {
    let (window, model) = (event.window(start, task.model.context), &task.model);
    let members = (event.name.as_str(), task.members_of_crop());
    let guesses = model.first_guess.of_members(&window, members, &model.variables, model.leads);
    let guesses = guesses.map_err(|e| TrainingError::Data(format!("{}: {e}", event.name)))?;
    Ok(guesses.iter().map(in_16_bits).collect())
}

/// The extrapolation of a clip's context, `[lead, variable, y, x]`.
fn extrapolation(event: &Event, start: usize, task: &Task) -> Result<Option<Vec<f16>>, TrainingError> {
    let (window, model) = (event.window(start, task.model.context), &task.model);
    let moved = FirstGuess::Extrapolation.fields(&window, &model.variables, model.leads);
    Ok(moved.map_err(|e| TrainingError::Data(format!("{}: {e}", event.name)))?.as_ref().map(in_16_bits))
}

/// NaN where more than half are missing.
fn mean_of_known(values: impl Iterator<Item = f32>) -> f32 {
    let (mut sum, mut known, mut count) = (0.0, 0usize, 0usize);
    for value in values {
        count += 1;
        if value.is_finite() {
            (sum, known) = (sum + value, known + 1);
        }
    }
    if 2 * known < count { f32::NAN } else { sum / known as f32 }
}

fn in_16_bits(fields: &Array4<f32>) -> Vec<f16> {
    fields.iter().map(|v| f16::from_f32(*v)).collect()
}
