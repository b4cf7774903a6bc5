//! The thread that holds the fields and scores them: forecasts and observations wait on disk, packed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array2, Array3, Array4, ArrayView3, Axis};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use squall_fields::{Chain, Forecast, Frame, Grid, ValidTime, Variable};
use squall_models::scores::{AnyScore, Field, Statistics, common, of_fields};

use super::PublishedFile;
use super::matching::{Handle, Match, Truth};
use super::packed::{pack, unpack};
use super::places::Places;
use super::region::Region;
use super::series::{DOMAIN, STATIONS};
use crate::control::Control;
use crate::encode::is_file_of;
use crate::events;
use crate::infer::Permit;
use crate::ports::{DecodeError, FieldStore, ForecastDecoder, Kept, Scratch, StoreError};
use crate::retry::{Backoff, retry};
use crate::source::budget::Budget;
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
    /// The same of what was published and of its rival, where both have a value.
    Compared {
        /// Of what was published.
        published: Vec<Scored>,
        /// Of the other.
        rival: Vec<Scored>,
    },
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
    /// Those that what was published and a rival are compared by, empty.
    pub measures: Arc<[Box<dyn AnyScore>]>,
    /// Parts of the grid that are judged by themselves.
    pub regions: Vec<Region>,
}

/// A field on disk.
struct OnDisk {
    kept: Box<dyn Kept>,
    /// SHA-256 of each part: nothing else is scored in its place.
    digests: Vec<[u8; 32]>,
    /// Room that it takes there.
    bytes: u64,
    variables: Arc<[Variable]>,
    /// `[member, y, x]` of each part and variable.
    shape: (usize, usize, usize),
    grid: Arc<Grid>,
    /// Name and digest of the model; empty for an observation.
    made_by: (Arc<str>, Arc<str>),
}

impl OnDisk {
    /// Of what is packed, a part each.
    fn new(
        scratch: &dyn Scratch,
        parts: &[Vec<u8>],
        (variables, shape): (Arc<[Variable]>, (usize, usize, usize)),
        grid: Arc<Grid>,
        made_by: (Arc<str>, Arc<str>),
    ) -> Result<Self, HoldError> {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        let digests = parts.iter().map(|part| digest(part)).collect();
        Ok(Self { kept: scratch.keep(parts)?, digests, bytes, variables, shape, grid, made_by })
    }

    /// `[variable, member, y, x]`.
    fn part(&mut self, index: usize) -> Result<Array4<f32>, HoldError> {
        let (members, rows, columns) = self.shape;
        let shape = (self.variables.len(), members, rows, columns);
        let packed = self.kept.part(index)?;
        if self.digests.get(index) != Some(&digest(&packed)) {
            return Err(HoldError::Changed);
        }
        let values = unpack(&packed, shape.0 * members * rows * columns)?;
        Ok(Array4::from_shape_vec(shape, values).map_err(std::io::Error::other)?)
    }
}

/// A forecast at one lead.
#[derive(Clone)]
struct Part {
    /// `[variable, member, y, x]`.
    values: Arc<Array4<f32>>,
    variables: Arc<[Variable]>,
    grid: Arc<Grid>,
    made_by: (Arc<str>, Arc<str>),
}

impl Part {
    fn ensembles(&self) -> impl Iterator<Item = (Variable, ArrayView3<'_, f32>)> {
        self.variables.iter().copied().zip(self.values.outer_iter())
    }

    fn members(&self, variable: Variable) -> Option<ArrayView3<'_, f32>> {
        self.ensembles().find(|(of, _)| *of == variable).map(|(_, members)| members)
    }

    /// Statistics of it, by variable, in a region; those that hold nothing are left out.
    fn scored(&self, all: Vec<(&'static str, Statistics)>, region: &Arc<str>) -> impl Iterator<Item = Scored> + use<> {
        let ((model, digest), region) = (self.made_by.clone(), region.clone());
        let of = move |(variable, statistics)| {
            let (model, digest, region) = (model.clone(), digest.clone(), region.clone());
            Scored { model, digest, variable, region, statistics }
        };
        all.into_iter().map(of).filter(|scored| !scored.statistics.is_zero())
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Bytes of so many values.
const fn bytes_of(values: usize) -> u64 {
    (values * size_of::<f32>()) as u64
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
    #[error("{0} is not the file that was published: its digest differs")]
    Another(String),
    #[error("what waited on disk is not what was written there: its digest differs")]
    Changed,
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
    budget: Arc<Budget>,
    held: HashMap<Handle, OnDisk>,
    places: HashMap<Handle, Arc<Places>>,
    /// The observation that was scored against last, `[variable, y, x]`: the next one is likely the same.
    last: Option<(Handle, Arc<Array3<f32>>)>,
    /// The parts of forecasts that were scored last, the newest first, once forecasts are compared with each other.
    recent: Vec<((Handle, u32), Part)>,
    compares: bool,
    /// Cells of each region on a grid.
    masks: Option<(Arc<Grid>, Vec<Array2<bool>>)>,
}

impl Scorer {
    /// Without any field.
    pub fn new(tools: Tools, stream: &StreamContext) -> Self {
        let (stream, control, budget) = (stream.name.clone(), stream.control.clone(), stream.budget.clone());
        let (held, places) = (HashMap::new(), HashMap::new());
        let (last, recent, compares, masks) = (None, Vec::new(), false, None);
        Self { tools, stream, control, budget, held, places, last, recent, compares, masks }
    }

    /// Does what is asked.
    pub fn answer(&mut self, task: Task) -> Done {
        let done = self.done(task);
        let recent: usize = self.recent.iter().map(|(_, part)| part.values.len()).sum();
        let last = self.last.as_ref().map_or(0, |(_, values)| values.len());
        self.budget.set_beside(bytes_of(recent + last));
        done
    }

    fn done(&mut self, task: Task) -> Done {
        match task {
            Task::Forecast(handle, source) => Done::Held(self.hold(handle, |scorer| scorer.forecast(&source))),
            Task::Observation(handle, frame) => Done::Held(self.hold(handle, |scorer| scorer.observation(&frame))),
            Task::Places(handle, places) => {
                self.places.insert(handle, places);
                Done::Held(true)
            }
            Task::Score(pair) => self.score(&pair).unwrap_or_else(|error| {
                self.lost(&error);
                Done::Scored(Vec::new())
            }),
            Task::Forget(handles) => {
                for handle in handles {
                    self.held.remove(&handle);
                    self.recent.retain(|((of, _), _)| *of != handle);
                    self.places.remove(&handle);
                }
                self.tell_room();
                Done::Held(false)
            }
        }
    }

    /// Says how much of the disk is taken.
    fn tell_room(&self) {
        let bytes = self.held.values().map(|held| held.bytes).sum();
        events::ScratchHeld { stream: &self.stream, bytes }.emit();
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
                self.tell_room();
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
                self.budget.set_beside(bytes.len() as u64);
                if !is_file_of(&file.url, &bytes) {
                    return Err(HoldError::Another(file.url.clone()));
                }
                read = self.tools.decoder.decode(&bytes)?;
                &read
            }
        };
        if let Source::Stored(_) = source {
            // The values, and at most as much again while they are packed.
            let values = forecast.ensembles.iter().map(|ensemble| ensemble.values.len()).sum();
            self.budget.set_beside(2 * bytes_of(values));
        }
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
        let variables = forecast.ensembles.iter().map(|e| e.variable).collect();
        let made_by = (forecast.provenance.model.as_str().into(), forecast.id.model_digest.clone());
        let shape = (members, rows, columns);
        OnDisk::new(&*self.tools.scratch, &parts, (variables, shape), forecast.grid.clone(), made_by)
    }

    fn observation(&self, frame: &Frame) -> Result<OnDisk, HoldError> {
        let (_, rows, columns) = frame.values.dim();
        let values: Vec<f32> = frame.values.iter().copied().collect();
        let what = (frame.variables.clone(), (1, rows, columns));
        OnDisk::new(&*self.tools.scratch, &[pack(&values)?], what, frame.grid.clone(), ("".into(), "".into()))
    }

    fn score(&mut self, pair: &Match) -> Result<Done, HoldError> {
        let nothing = Ok(Done::Scored(Vec::new()));
        self.compares |= pair.rival.is_some();
        let Some(forecast) = self.part(pair.forecast, pair.lead)? else { return nothing };
        // What was published comes last: the next pair is likely to want it again.
        let published = match pair.rival {
            None => None,
            Some(handle) => match self.part(handle, pair.lead)? {
                None => return nothing,
                published => published,
            },
        };
        match pair.truth {
            Truth::Field => self.score_field(pair, &forecast, published.as_ref()),
            Truth::Places => Ok(self.score_places(pair, &forecast, published.as_ref())),
        }
    }

    /// A forecast at a lead.
    fn part(&mut self, handle: Handle, lead: u32) -> Result<Option<Part>, HoldError> {
        let found = self.recent.iter().position(|(of, _)| *of == (handle, lead));
        let part = match found.map(|place| self.recent.remove(place)) {
            Some((_, part)) => part,
            None => {
                let Some(held) = self.held.get_mut(&handle) else { return Ok(None) };
                let values = held.part(lead as usize)?.into();
                let (variables, grid, made_by) = (held.variables.clone(), held.grid.clone(), held.made_by.clone());
                Part { values, variables, grid, made_by }
            }
        };
        // As many as are compared at once: each is as large as an ensemble at a lead.
        if self.compares {
            self.recent.truncate(1);
            self.recent.insert(0, ((handle, lead), part.clone()));
        }
        Ok(Some(part))
    }

    /// At the cells that stations stand in; those beyond the grid do not count.
    fn score_places(&self, pair: &Match, forecast: &Part, published: Option<&Part>) -> Done {
        let Some(places) = self.places.get(&pair.observation) else { return Done::Scored(Vec::new()) };
        let (places, region) = (places.on(&forecast.grid), STATIONS.into());
        match published {
            None => {
                let all = places.scores(&self.tools.empty, forecast.ensembles());
                Done::Scored(forecast.scored(all, &region).collect())
            }
            Some(published) => {
                let both = places.compared(&self.tools.measures, published.ensembles(), forecast.ensembles());
                let [own, others] = both;
                Done::Compared {
                    published: published.scored(own, &region).collect(),
                    rival: forecast.scored(others, &region).collect(),
                }
            }
        }
    }

    fn score_field(&mut self, pair: &Match, forecast: &Part, published: Option<&Part>) -> Result<Done, HoldError> {
        let Some(observation) = self.held.get_mut(&pair.observation) else { return Ok(Done::Scored(Vec::new())) };
        let (seen, grid) = (observation.variables.clone(), observation.grid.clone());
        let observed = match self.last.take() {
            Some((handle, values)) if handle == pair.observation => values,
            _ => observation.part(0)?.index_axis_move(Axis(1), 0).into(),
        };
        self.last = Some((pair.observation, observed.clone()));
        if published.into_iter().chain([forecast]).any(|part| !part.grid.is_same(&grid)) {
            let reason = format!("the forecast for {} lies on another grid", ValidTime::from_unix_seconds(pair.valid));
            events::NotJudged { stream: &self.stream, reason: &reason }.emit();
            return Ok(Done::Scored(Vec::new()));
        }
        if self.masks.as_ref().is_none_or(|(of, _)| !of.is_same(&grid)) {
            let masks = self.tools.regions.iter().map(|region| region.mask(&grid)).collect();
            self.masks = Some((grid, masks));
        }
        let Some(published) = published else {
            return Ok(Done::Scored(self.on_field(forecast, &seen, &observed, &self.tools.empty)));
        };
        let mut shared = Array3::clone(&observed);
        for (variable, mut plane) in seen.iter().zip(shared.outer_iter_mut()) {
            let members = [published, forecast].into_iter().filter_map(|part| part.members(*variable));
            let common = common(plane.view(), members);
            plane.assign(&common);
        }
        let of = |part: &Part| self.on_field(part, &seen, &shared, &self.tools.measures);
        Ok(Done::Compared { published: of(published), rival: of(forecast) })
    }

    /// Of the whole grid, then of each region.
    fn on_field(
        &self,
        part: &Part,
        seen: &[Variable],
        observed: &Array3<f32>,
        empty: &[Box<dyn AnyScore>],
    ) -> Vec<Scored> {
        let scores = |observed: &Array3<f32>, region: &Arc<str>| -> Vec<Scored> {
            let field = |(variable, members): (Variable, _)| {
                let seen = seen.iter().position(|v| *v == variable)?;
                Some(Field { variable, members, observed: observed.index_axis(Axis(0), seen) })
            };
            let fields: Vec<_> = part.ensembles().filter_map(field).collect();
            part.scored(of_fields(empty, &fields), region).collect()
        };
        let mut all = scores(observed, &DOMAIN.into());
        for (region, mask) in self.tools.regions.iter().zip(self.masks.iter().flat_map(|(_, masks)| masks)) {
            let mut inside = observed.clone();
            for mut plane in inside.outer_iter_mut() {
                plane.zip_mut_with(mask, |value, inside| *value = if *inside { *value } else { f32::NAN });
            }
            all.extend(scores(&inside, &region.name));
        }
        all
    }
}

#[cfg(test)]
mod tests;
