//! The thread that holds the fields and scores them: forecasts and observations wait on disk, packed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array2, Array3, Array4, Axis};
use rayon::prelude::*;
use squall_fields::{Chain, Forecast, Frame, Grid, ValidTime, Variable};
use squall_models::scores::{AnyScore, Field, Statistics, of_fields};

use super::PublishedFile;
use super::matching::{Handle, Match, Truth};
use super::packed::{pack, unpack};
use super::places::Places;
use super::region::Region;
use super::series::{DOMAIN, STATIONS};
use crate::control::Control;
use crate::events;
use crate::infer::Permit;
use crate::ports::{DecodeError, FieldStore, ForecastDecoder, Kept, Scratch, StoreError};
use crate::retry::{Backoff, retry};
use crate::stream::StreamContext;

/// Where a forecast comes from.
#[derive(Clone)]
pub enum Source {
    /// It was made here; the room that it takes is given back once it is held.
    Made(Arc<Forecast>, Arc<Permit>),
    /// It was published, and lies in the store.
    Stored(PublishedFile),
}

/// What the thread is asked.
pub enum Task {
    /// To hold a forecast.
    Forecast(Handle, Source),
    /// To hold an observation.
    Observation(Handle, Arc<Frame>),
    /// To hold what stations said of a time.
    Places(Handle, Arc<Places>),
    /// To score a forecast that is held against an observation that is held.
    Score(Match),
    /// To let go of them.
    Forget(Vec<Handle>),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// It is held; `false` if it cannot be had, and will not be scored.
    Held(bool),
    /// The statistics of each variable and region.
    Scored(Vec<Scored>),
}

/// Statistics of one forecast at one lead.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Name of the model.
    pub model: Arc<str>,
    /// Its digest.
    pub digest: Arc<str>,
    /// The quantity.
    pub variable: &'static str,
    /// [`DOMAIN`], or the name of a region.
    pub region: Arc<str>,
    /// What counts.
    pub statistics: Statistics,
}

/// What is needed to hold and to score.
pub struct Tools {
    /// Room on disk.
    pub scratch: Arc<dyn Scratch>,
    /// Where published forecasts lie.
    pub store: Arc<dyn FieldStore>,
    /// Reads their files.
    pub decoder: Arc<dyn ForecastDecoder>,
    /// Most bytes of a file.
    pub max_bytes: u64,
    /// The scores, empty.
    pub empty: Arc<[Box<dyn AnyScore>]>,
    /// Parts of the grid that are judged by themselves.
    pub regions: Vec<Region>,
}

/// A field on disk.
struct OnDisk {
    kept: Box<dyn Kept>,
    variables: Arc<[Variable]>,
    /// `[member, y, x]` of each part and variable.
    shape: (usize, usize, usize),
    grid: Arc<Grid>,
    /// Name and digest of the model; empty for an observation.
    made_by: (Arc<str>, Arc<str>),
}

impl OnDisk {
    /// `[variable, member, y, x]`.
    fn part(&mut self, index: usize) -> Result<Array4<f32>, HoldError> {
        let (members, rows, columns) = self.shape;
        let shape = (self.variables.len(), members, rows, columns);
        let values = unpack(&self.kept.part(index)?, shape.0 * members * rows * columns)?;
        Ok(Array4::from_shape_vec(shape, values).map_err(std::io::Error::other)?)
    }
}

/// Why a field cannot be held or read.
#[derive(Debug, thiserror::Error)]
enum HoldError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the file of the forecast cannot be read")]
    Decode(#[from] DecodeError),
    #[error("the field cannot be packed")]
    Pack(#[from] std::io::Error),
    #[error("the file of the forecast holds no ensemble")]
    NoEnsemble,
}

impl HoldError {
    fn is_retriable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retriable())
    }
}

/// The state of the thread.
pub struct Scorer {
    tools: Tools,
    stream: Arc<str>,
    control: Arc<Control>,
    held: HashMap<Handle, OnDisk>,
    places: HashMap<Handle, Arc<Places>>,
    /// The observation that was scored against last, `[variable, y, x]`: the next one is likely the same.
    last: Option<(Handle, Array3<f32>)>,
    /// Cells of each region on a grid.
    masks: Option<(Arc<Grid>, Vec<Array2<bool>>)>,
}

impl Scorer {
    /// Without any field.
    pub fn new(tools: Tools, stream: &StreamContext) -> Self {
        let (stream, control) = (stream.name.clone(), stream.control.clone());
        Self { tools, stream, control, held: HashMap::new(), places: HashMap::new(), last: None, masks: None }
    }

    /// Does what is asked.
    pub fn answer(&mut self, task: Task) -> Done {
        match task {
            Task::Forecast(handle, source) => Done::Held(self.hold(handle, |scorer| scorer.forecast(&source))),
            Task::Observation(handle, frame) => Done::Held(self.hold(handle, |scorer| scorer.observation(&frame))),
            Task::Places(handle, places) => {
                self.places.insert(handle, places);
                Done::Held(true)
            }
            Task::Score(pair) => Done::Scored(self.score(&pair).unwrap_or_else(|error| {
                self.lost(&error);
                Vec::new()
            })),
            Task::Forget(handles) => {
                for handle in handles {
                    self.held.remove(&handle);
                    self.places.remove(&handle);
                }
                Done::Held(false)
            }
        }
    }

    fn lost(&self, error: &HoldError) {
        let reason = Chain(error).to_string();
        events::NotJudged { stream: &self.stream, reason: &reason }.emit();
    }

    /// Holds what `make` makes, for as long as a full disk or a store that is away needs to come back.
    fn hold(&mut self, handle: Handle, make: impl Fn(&Self) -> Result<OnDisk, HoldError>) -> bool {
        let passes = |error: &HoldError| {
            if error.is_retriable() {
                let (stream, reason) = (&*self.stream, Chain(error).to_string());
                events::BrokerTrouble { stream, what: "keeping a field for verification", reason }.emit();
            }
            error.is_retriable()
        };
        let pause = |wait: Duration| self.control.pause_until_done(wait);
        match retry(Backoff::default(), pause, passes, || make(self)) {
            Ok(held) => {
                self.held.insert(handle, held);
                true
            }
            Err(error) => {
                self.lost(&error);
                false
            }
        }
    }

    fn forecast(&self, source: &Source) -> Result<OnDisk, HoldError> {
        let read;
        let forecast = match source {
            Source::Made(forecast, _) => &**forecast,
            Source::Stored(file) => {
                let bytes = self.tools.store.get(&file.url, self.tools.max_bytes)?;
                read = self.tools.decoder.decode(&bytes)?;
                &read
            }
        };
        let first = forecast.ensembles.first().ok_or(HoldError::NoEnsemble)?;
        let (members, leads, rows, columns) = first.values.dim();
        let part = |lead: usize| {
            let mut values: Vec<f32> = Vec::with_capacity(forecast.ensembles.len() * members * rows * columns);
            for ensemble in &forecast.ensembles {
                for plane in ensemble.values.index_axis(Axis(1), lead).outer_iter() {
                    match plane.as_slice() {
                        Some(plane) => values.extend_from_slice(plane),
                        None => values.extend(plane.iter()),
                    }
                }
            }
            pack(&values)
        };
        let parts: Vec<Vec<u8>> = (0..leads).into_par_iter().map(part).collect::<Result<_, _>>()?;
        Ok(OnDisk {
            kept: self.tools.scratch.keep(&parts)?,
            variables: forecast.ensembles.iter().map(|e| e.variable).collect(),
            shape: (members, rows, columns),
            grid: forecast.grid.clone(),
            made_by: (forecast.provenance.model.as_str().into(), forecast.id.model_digest.clone()),
        })
    }

    fn observation(&self, frame: &Frame) -> Result<OnDisk, HoldError> {
        let (_, rows, columns) = frame.values.dim();
        let values: Vec<f32> = frame.values.iter().copied().collect();
        Ok(OnDisk {
            kept: self.tools.scratch.keep(&[pack(&values)?])?,
            variables: frame.variables.clone(),
            shape: (1, rows, columns),
            grid: frame.grid.clone(),
            made_by: ("".into(), "".into()),
        })
    }

    fn score(&mut self, pair: &Match) -> Result<Vec<Scored>, HoldError> {
        match pair.truth {
            Truth::Field => self.score_field(pair),
            Truth::Places => self.score_places(pair),
        }
    }

    /// At the cells that stations stand in; those beyond the grid do not count.
    fn score_places(&mut self, pair: &Match) -> Result<Vec<Scored>, HoldError> {
        let places = self.places.get(&pair.observation);
        let (Some(places), Some(forecast)) = (places, self.held.get_mut(&pair.forecast)) else { return Ok(Vec::new()) };
        let grid = forecast.grid.clone();
        let members = forecast.part(pair.lead as usize)?;
        let ensembles = forecast.variables.iter().copied().zip(members.outer_iter());
        let all = places.on(&grid).scores(&self.tools.empty, ensembles);
        let (model, digest) = forecast.made_by.clone();
        let scored = |(variable, statistics)| {
            let (model, digest) = (model.clone(), digest.clone());
            Scored { model, digest, variable, region: STATIONS.into(), statistics }
        };
        Ok(all.into_iter().map(scored).filter(|scored| !scored.statistics.is_zero()).collect())
    }

    fn score_field(&mut self, pair: &Match) -> Result<Vec<Scored>, HoldError> {
        let Some(observation) = self.held.get_mut(&pair.observation) else { return Ok(Vec::new()) };
        let (seen, grid) = (observation.variables.clone(), observation.grid.clone());
        let observed = match self.last.take() {
            Some((handle, values)) if handle == pair.observation => values,
            _ => observation.part(0)?.index_axis_move(Axis(1), 0),
        };
        let observed = &self.last.insert((pair.observation, observed)).1;
        let Some(forecast) = self.held.get_mut(&pair.forecast) else { return Ok(Vec::new()) };
        if !forecast.grid.is_same(&grid) {
            let reason = format!("the forecast for {} lies on another grid", ValidTime::from_unix_seconds(pair.valid));
            events::NotJudged { stream: &self.stream, reason: &reason }.emit();
            return Ok(Vec::new());
        }
        let members = forecast.part(pair.lead as usize)?;
        let (model, digest) = forecast.made_by.clone();
        let (variables, empty) = (forecast.variables.clone(), self.tools.empty.clone());
        let scores = |observed: &Array3<f32>, region: &Arc<str>| -> Vec<Scored> {
            let field = |(place, variable): (usize, &Variable)| {
                let seen = seen.iter().position(|v| v == variable)?;
                let (members, observed) = (members.index_axis(Axis(0), place), observed.index_axis(Axis(0), seen));
                Some(Field { variable: *variable, members, observed })
            };
            let fields: Vec<_> = variables.iter().enumerate().filter_map(field).collect();
            let scored = |(variable, statistics)| {
                let (model, digest, region) = (model.clone(), digest.clone(), region.clone());
                Scored { model, digest, variable, region, statistics }
            };
            of_fields(&empty, &fields).into_iter().map(scored).filter(|scored| !scored.statistics.is_zero()).collect()
        };
        let mut all = scores(observed, &DOMAIN.into());
        if self.masks.as_ref().is_none_or(|(of, _)| !of.is_same(&grid)) {
            let masks = self.tools.regions.iter().map(|region| region.mask(&grid)).collect();
            self.masks = Some((grid, masks));
        }
        for (region, mask) in self.tools.regions.iter().zip(self.masks.iter().flat_map(|(_, masks)| masks)) {
            let mut inside = observed.clone();
            for mut plane in inside.outer_iter_mut() {
                plane.zip_mut_with(mask, |value, inside| *value = if *inside { *value } else { f32::NAN });
            }
            all.extend(scores(&inside, &region.name));
        }
        Ok(all)
    }
}
