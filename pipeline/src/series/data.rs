//! Readings of stations as stretches without gaps, and as cases that a forecast is judged by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use squall_fields::random::Philox;
use squall_fields::{Cadence, IssueTime, Quantity, ValidTime};
use squall_models::series::SeriesSpec;

use super::SeriesFile;
use crate::commands::Usage;
use crate::config::quantity::format_cadence;
use crate::training::archive::Learnt;
use crate::verify::{series, stem};

/// What the stations of files said, on the slots of a cadence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// Each unbroken stretch: the station, the valid time of the first value, the values.
    pub stretches: Vec<(Arc<str>, ValidTime, Vec<f32>)>,
    /// The files, each with the part of its time that has readings, as weights name what they were trained on.
    pub names: Vec<String>,
}

/// A forecast that can be judged: what was known, and what came.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Identifier of the station.
    pub station: Arc<str>,
    /// When the newest known value was valid.
    pub issue_time: IssueTime,
    /// The known values, the newest last.
    pub past: Vec<f32>,
    /// What came, lead by lead; nothing where a forecast is not judged.
    pub future: Vec<f32>,
}

impl Readings {
    /// Reads files, after quality control.
    ///
    /// # Errors
    /// A file cannot be found or read, has no station of a name, or no reading of the quantity on these slots.
    pub fn of<'f>(
        files: impl IntoIterator<Item = &'f SeriesFile>,
        quantity: Quantity,
        cadence: Cadence,
    ) -> anyhow::Result<Self> {
        let mut readings = Self::default();
        for file in files {
            readings.take(file, quantity, cadence)?;
        }
        Ok(readings)
    }

    fn take(&mut self, file: &SeriesFile, quantity: Quantity, cadence: Cadence) -> anyhow::Result<()> {
        let path = file.part.find()?;
        let is_wanted = |valid| cadence.is_slot(valid) && file.part.holds(valid);
        let mut stations: BTreeMap<Arc<str>, Vec<(ValidTime, f32)>> = BTreeMap::new();
        for ((station, valid), value) in series::by_station(std::slice::from_ref(&path), quantity, is_wanted)? {
            stations.entry(station).or_default().push((valid, value));
        }
        if let Some(unknown) = file.stations.iter().find(|id| !stations.contains_key(id.as_str())) {
            let text = format!("{} has no {} of a station {unknown:?} then", path.display(), quantity.name());
            return Err(Usage(text).into());
        }
        stations.retain(|id, _| file.stations.is_empty() || file.stations.iter().any(|wanted| **wanted == **id));
        let times = || stations.values().flatten().map(|(valid, _)| *valid);
        let (Some(first), Some(last)) = (times().min(), times().max()) else {
            let (file, name, step) = (path.display(), quantity.name(), format_cadence(cadence.step_seconds() as u32));
            return Err(
                Usage(format!("{file} has no {name} at multiples of {step} in the time that is asked for")).into()
            );
        };
        let count = (last.unix_seconds() - first.unix_seconds()) / cadence.step_seconds() + 1;
        self.names.push(Learnt::name(&stem(&path), first, usize::try_from(count).unwrap_or(0)));
        for (station, values) in stations {
            for run in values.chunk_by(|(a, _), (b, _)| cadence.step(*a, 1) == *b) {
                self.stretches.push((station.clone(), run[0].0, run.iter().map(|(_, value)| *value).collect()));
            }
        }
        Ok(())
    }

    /// The values of the stretches.
    pub fn series(&self) -> impl Iterator<Item = Vec<f32>> {
        self.stretches.iter().map(|(.., values)| values.clone())
    }

    /// The longest stretch, in values.
    pub fn longest(&self) -> usize {
        self.stretches.iter().map(|(.., values)| values.len()).max().unwrap_or(0)
    }

    /// Every forecast of a model, issued at the slots of `every`, whose past and future have no gap.
    pub fn cases(&self, spec: &SeriesSpec, cadence: Cadence, every: Cadence) -> Vec<Case> {
        let mut cases = Vec::new();
        for (station, first, values) in &self.stretches {
            for (place, window) in values.windows(spec.length()).enumerate() {
                let newest = cadence.step(*first, (place + spec.context) as i64 - 1);
                if every.is_slot(newest) {
                    let (past, future) = window.split_at(spec.context);
                    let (past, future) = (past.to_vec(), future.to_vec());
                    cases.push(Case { station: station.clone(), issue_time: newest.into(), past, future });
                }
            }
        }
        cases
    }

    /// A forecast of each station whose past up to a time has no gap, whatever came afterwards.
    pub fn at(&self, issue_time: IssueTime, spec: &SeriesSpec, cadence: Cadence) -> Vec<Case> {
        let case = |(station, first, values): &(Arc<str>, ValidTime, Vec<f32>)| {
            let seconds = issue_time.unix_seconds() - first.unix_seconds();
            if seconds < 0 || seconds % cadence.step_seconds() != 0 {
                return None;
            }
            let until = usize::try_from(seconds / cadence.step_seconds()).ok()? + 1;
            let past = values.get(until.checked_sub(spec.context)?..until)?.to_vec();
            Some(Case { station: station.clone(), issue_time, past, future: Vec::new() })
        };
        self.stretches.iter().filter_map(case).collect()
    }
}

/// At most so many cases, drawn without regard to the station or the time of day, in the order in which they were.
pub fn thinned(cases: Vec<Case>, most: usize) -> Vec<Case> {
    if cases.len() <= most {
        return cases;
    }
    let draw = Philox::new(0, 0);
    let mut drawn: Vec<(u32, usize)> = (0..cases.len()).map(|place| (draw.block(place as u64)[0], place)).collect();
    drawn.sort_unstable();
    drawn.truncate(most);
    let kept: BTreeSet<usize> = drawn.into_iter().map(|(_, place)| place).collect();
    cases.into_iter().enumerate().filter(|(place, _)| kept.contains(place)).map(|(_, case)| case).collect()
}
