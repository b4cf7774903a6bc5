//! Gridded forecasts from files: Squall's own, IMPROVER's, pysteps', and whatever else has members, times and a grid.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use ndarray::{Array2, Array3, Array4, ArrayView3, ArrayView4, Axis, s};
use squall_connectors::archive::Archive;
use squall_connectors::netcdf::Reader;
use squall_connectors::options::ReadOptions;
use squall_fields::{Cadence, Grid, InputRef, IssueTime, LeadTime, ValidTime, Variable};
use squall_models::scores::{Field, of_fields};
use squall_operators::verify::{DOMAIN, Places, Region, STATIONS};

use super::tally::{Subject, Tally};
use crate::commands::Usage;
use crate::frames::Frames;

/// What was observed, kept while forecasts are compared with it.
pub struct Observations {
    frames: Box<dyn Frames>,
    grid: Arc<Grid>,
    places: BTreeMap<ValidTime, usize>,
    /// Whether a grid of the same shape is taken for the same.
    any_grid: bool,
    /// Parts of the grid that are judged by themselves, `[y, x]`.
    masks: Vec<(Arc<str>, Array2<bool>)>,
}

impl Observations {
    /// Opens files; a slot that several have is taken from the first.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn open<P: AsRef<Path>>(files: &[P], options: &ReadOptions, any_grid: bool) -> anyhow::Result<Self> {
        let archive = Archive::open(files, options)?.without_duplicates();
        let places = archive.slots().enumerate().map(|(place, slot)| (slot, place)).collect();
        Self::of(Box::new(archive), places, any_grid)
    }

    /// Frames, of which each valid time has one.
    ///
    /// # Errors
    /// There is none, or the first cannot be read.
    pub fn of(frames: Box<dyn Frames>, places: BTreeMap<ValidTime, usize>, any_grid: bool) -> anyhow::Result<Self> {
        let first = places.values().next().context("nothing was observed")?;
        let grid = frames.frame(*first)?.grid;
        Ok(Self { frames, grid, places, any_grid, masks: Vec::new() })
    }

    /// With parts of the grid that are judged by themselves, too.
    #[must_use]
    pub fn with_regions(mut self, regions: &[Region]) -> Self {
        self.masks = regions.iter().map(|region| (region.name.clone(), region.mask(&self.grid))).collect();
        self
    }

    /// `[variable, y, x]` at a time, if it was observed.
    fn at(&self, time: ValidTime) -> anyhow::Result<Option<Array3<f32>>> {
        let Some(place) = self.places.get(&time) else { return Ok(None) };
        Ok(Some(self.frames.frame(*place)?.values))
    }
}

/// A forecast in a file, or in the bytes of one.
pub struct ForecastFile<'b> {
    reader: Reader<'b>,
    issue_time: IssueTime,
    model: Arc<str>,
}

impl ForecastFile<'static> {
    /// Opens a file.
    ///
    /// # Errors
    /// The file cannot be read, or does not say when it was issued and `issue_time` does not either.
    pub fn open(path: &Path, options: &ReadOptions, issue_time: Option<IssueTime>) -> anyhow::Result<Self> {
        let reader = Reader::open(path, options).with_context(|| format!("cannot read {}", path.display()))?;
        let issue_time = issue_time.or(reader.issue_time()).ok_or_else(|| {
            let why = "has no forecast_reference_time, and its times are not counted from the issue time";
            Usage(format!("{} {why}: say it with --issue-time", path.display()))
        })?;
        // Titles and sources of other programs' files are sentences.
        let named = reader.attribute("squall_model").filter(|name| !name.trim().is_empty());
        let model = named.map_or_else(|| super::stem(path), str::to_owned).into();
        Ok(Self { reader, issue_time, model })
    }
}

impl<'b> ForecastFile<'b> {
    /// Reads the bytes of a file that a stream wrote.
    ///
    /// # Errors
    /// They are none, or do not say when the forecast was issued.
    pub fn of_stream(bytes: &'b [u8], stream: &str, options: &ReadOptions) -> anyhow::Result<Self> {
        let reader = Reader::from_bytes(bytes, options)?;
        let issue_time = reader.issue_time().context("the file has no forecast_reference_time")?;
        let model = reader.attribute("squall_model").unwrap_or(stream).into();
        Ok(Self { reader, issue_time, model })
    }

    /// What its fields are of.
    pub fn variables(&self) -> &[Variable] {
        self.reader.variables()
    }

    /// Members of each field.
    pub fn members(&self) -> usize {
        self.reader.members()
    }

    /// The longest step of which its issue time and its valid times are multiples; none if there is no such step.
    pub fn cadence(&self) -> Option<Cadence> {
        let valid = self.reader.slots().iter().map(|valid| valid.unix_seconds());
        let times = std::iter::once(self.issue_time.unix_seconds()).chain(valid);
        let step = times.fold(0, |step, time| greatest_divisor(step, time.unsigned_abs()));
        Cadence::every_seconds(u32::try_from(step).ok()?)
    }

    /// The digest of the model that made it, if it says so.
    pub fn model_digest(&self) -> Option<&str> {
        self.reader.attribute("squall_model_digest")
    }

    /// What it calls the model that made it.
    pub fn model(&self) -> &Arc<str> {
        &self.model
    }

    /// Adds its scores at each lead ahead that was observed, on the grid, in its regions and where stations stand; how many
    /// there were. What is not ahead is no forecast: files of fields often hold what was observed up to the issue time.
    ///
    /// # Errors
    /// A field cannot be read, or lies on another grid than the observations.
    pub fn add_to(
        &self,
        tally: &mut Tally,
        model: &Arc<str>,
        observations: &Observations,
        stations: &BTreeMap<ValidTime, Places>,
    ) -> anyhow::Result<usize> {
        self.lies_on(observations)?;
        let mut leads = 0;
        for (index, valid) in self.reader.slots().iter().enumerate() {
            let lead = self.lead(*valid);
            let observed = observations.at(*valid)?.filter(|_| lead.seconds() > 0);
            let places = stations.get(valid).filter(|_| lead.seconds() > 0);
            if observed.is_none() && places.is_none() {
                continue;
            }
            let ensemble = self.ensemble(index)?;
            let members = || self.variables().iter().zip(ensemble.outer_iter());
            let mut judge = |region: &str, observed: ArrayView3<'_, f32>| {
                let field = |((variable, members), observed): ((&Variable, _), _)| Field {
                    variable: *variable,
                    members,
                    observed,
                };
                let fields: Vec<_> = members().zip(observed.outer_iter()).map(field).collect();
                for (variable, statistics) in of_fields(tally.empty(), &fields) {
                    tally.add(subject(model, variable, region, lead), &statistics);
                }
            };
            if let Some(observed) = &observed {
                judge(DOMAIN, observed.view());
                observations.masks.iter().for_each(|(region, mask)| judge(region, inside(observed, mask).view()));
            }
            if let Some(places) = places {
                let ensembles = members().map(|(variable, members)| (*variable, members));
                for (variable, statistics) in places.on(self.reader.grid()).scores(tally.empty(), ensembles) {
                    tally.add(subject(model, variable, STATIONS, lead), &statistics);
                }
            }
            leads += 1;
        }
        Ok(leads)
    }

    /// Visits each lead that was observed, with members `[variable, member, y, x]` and what came `[variable, y, x]`; how many
    /// there were.
    ///
    /// # Errors
    /// A field cannot be read, or lies on another grid than the observations.
    pub fn for_each_lead(
        &self,
        observations: &Observations,
        mut visit: impl FnMut(LeadTime, ArrayView4<'_, f32>, ArrayView3<'_, f32>),
    ) -> anyhow::Result<usize> {
        self.lies_on(observations)?;
        let mut leads = 0;
        for (index, valid) in self.reader.slots().iter().enumerate() {
            let lead = self.lead(*valid);
            if let Some(observed) = observations.at(*valid)?.filter(|_| lead.seconds() > 0) {
                visit(lead, self.ensemble(index)?.view(), observed.view());
                leads += 1;
            }
        }
        Ok(leads)
    }

    fn lead(&self, valid: ValidTime) -> LeadTime {
        LeadTime::from_seconds(valid.unix_seconds() - self.issue_time.unix_seconds())
    }

    /// # Errors
    /// The observations lie on another grid.
    fn lies_on(&self, observations: &Observations) -> anyhow::Result<()> {
        let (own, other) = (self.reader.grid(), &observations.grid);
        let same = if observations.any_grid { own.shape() == other.shape() } else { own.is_same(other) };
        if same {
            return Ok(());
        }
        let grid = |grid: &Grid| format!("{:?} cells of `{}`, id {}", grid.shape(), grid.proj, grid.id());
        let (own, other) = (grid(own), grid(other));
        let text = format!(
            "the forecast lies on {own}, the observation on {other}: expected one grid \
             (--any-grid takes grids of one shape for the same)"
        );
        Err(Usage(text).into())
    }

    /// `[variable, member, y, x]`.
    fn ensemble(&self, index: usize) -> anyhow::Result<Array4<f32>> {
        let (rows, columns) = self.reader.grid().shape();
        let mut all = Array4::zeros((self.variables().len(), self.members(), rows, columns));
        let input = InputRef { topic: "".into(), partition: 0, offset: 0, digest: "".into() };
        for member in 0..self.members() {
            let frame = self.reader.member(index, member, input.clone())?;
            all.slice_mut(s![.., member, .., ..]).assign(&frame.values);
        }
        Ok(all)
    }
}

/// What was observed in a part of the grid: missing elsewhere.
fn inside(observed: &Array3<f32>, mask: &Array2<bool>) -> Array3<f32> {
    let mut observed = observed.clone();
    for mut plane in observed.axis_iter_mut(Axis(0)) {
        plane.zip_mut_with(mask, |value, inside| *value = if *inside { *value } else { f32::NAN });
    }
    observed
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

fn subject(model: &Arc<str>, variable: &str, region: &str, lead: LeadTime) -> Subject {
    let event = super::tally::ALL_EVENTS.into();
    Subject { event, model: model.clone(), variable: variable.into(), region: region.into(), lead }
}
