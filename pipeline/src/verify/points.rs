//! Ensembles at places against what was observed there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ndarray::{Array2, Array3};
use squall_connectors::netcdf::Points;
use squall_fields::{LeadTime, ValidTime};
use squall_models::scores::Pair;
use squall_models::scores::fields::of_pair;
use squall_operators::verify::STATIONS;

use super::tally::{ALL_EVENTS, Subject, Tally};

/// What was observed, by the number of the station and the valid time.
pub type Readings = HashMap<(i64, ValidTime), f32>;

/// The observations of a file of cases; of several of one station and valid time the last.
pub fn readings(observation: &Points) -> Readings {
    let known = observation.cases.iter().zip(&observation.observed).filter(|(_, value)| !value.is_nan());
    known.map(|(case, value)| ((case.station, case.valid), *value)).collect()
}

/// Adds the scores of each lead, that of an analysis (0) among them; how many cases had an observation. An observation is of
/// the same station and valid time: one reading serves all leads.
pub fn add_points(tally: &mut Tally, model: &Arc<str>, forecast: &Points, readings: &Readings) -> usize {
    let mut leads: BTreeMap<LeadTime, Vec<usize>> = BTreeMap::new();
    for (row, case) in forecast.cases.iter().enumerate() {
        leads.entry(case.lead).or_default().push(row);
    }
    let mut judged = 0;
    for (lead, rows) in leads {
        let reading = |row: &usize| {
            let case = forecast.cases[*row];
            readings.get(&(case.station, case.valid)).copied()
        };
        let rows: Vec<(usize, f32)> = rows.iter().filter_map(|row| Some((*row, reading(row)?))).collect();
        judged += rows.len();
        let (members, count) = (forecast.members.ncols(), rows.len());
        // As a field of one row of cells.
        let ensemble = Array3::from_shape_fn((members, 1, count), |(m, _, i)| forecast.members[[rows[i].0, m]]);
        let observed = Array2::from_shape_fn((1, count), |(_, i)| rows[i].1);
        let pair = Pair::new(ensemble.view(), observed.view());
        let statistics = of_pair(tally.empty(), &pair, |score| !score.is_of_vectors());
        let variable = forecast.quantity.as_str().into();
        let (event, region) = (ALL_EVENTS.into(), STATIONS.into());
        tally.add(Subject { event, model: model.clone(), variable, region, lead }, &statistics);
    }
    judged
}
