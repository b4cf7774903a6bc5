//! Scores forecasts of one issue time: on the whole grid, in regions, and at stations.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::{Array2, Array3, ArrayView3, Axis};
use squall_fields::{Forecast, Frame, Grid, LeadTime, ValidTime, Variable};
use squall_models::scores::{AnyScore, Field, Statistics, common, of_fields, of_places};
use squall_operators::verify::{DOMAIN, Places, Region, STATIONS};

use super::state::Sum;

/// Where forecasts are judged, besides on the whole grid.
#[derive(Clone, Debug, Default)]
pub struct Areas {
    /// Parts of the grid.
    pub regions: Vec<Region>,
    /// What stations said of each valid time.
    pub stations: BTreeMap<ValidTime, Places>,
    /// Tells these stations from others.
    pub identity: String,
}

impl Areas {
    /// Their names.
    pub fn names(&self) -> Vec<String> {
        let stations = (!self.stations.is_empty()).then(|| STATIONS.to_owned());
        self.regions.iter().map(|region| region.name.to_string()).chain(stations).collect()
    }
}

/// Scores forecasts on one grid, all models on the cells that all of them have.
pub struct Judge<'a> {
    empty: &'a [Box<dyn AnyScore>],
    grid: Arc<Grid>,
    masks: Vec<(&'a str, Array2<bool>)>,
    stations: &'a BTreeMap<ValidTime, Places>,
}

/// `[member, y, x]` of each variable, of each model that has a lead, with its place among the models.
type AtLead<'f> = Vec<(usize, Vec<ArrayView3<'f, f32>>)>;

impl<'a> Judge<'a> {
    /// By scores that start as `empty`.
    pub fn new(empty: &'a [Box<dyn AnyScore>], areas: &'a Areas, grid: Arc<Grid>) -> Self {
        let masks = areas.regions.iter().map(|region| (&*region.name, region.mask(&grid))).collect();
        Self { empty, grid, masks, stations: &areas.stations }
    }

    /// The sums of each model at a lead, against what was observed then.
    pub fn scores(&self, forecasts: &[Forecast], lead: LeadTime, observed: Option<&Frame>) -> Vec<Vec<Sum>> {
        let mut sums = vec![Vec::new(); forecasts.len()];
        let Some(first) = forecasts.first() else { return sums };
        let variables: Vec<Variable> = first.ensembles.iter().map(|ensemble| ensemble.variable).collect();
        let Some(models) = at_lead(forecasts, variables.len(), lead) else { return sums };
        let mut add = |model: usize, region: &str, scored: Vec<(&'static str, Statistics)>| {
            let counted = scored.into_iter().filter(|(_, statistics)| !statistics.is_zero());
            sums[model].extend(counted.map(|(variable, statistics)| Sum {
                variable: variable.to_owned(),
                region: region.to_owned(),
                lead: lead.seconds(),
                statistics,
            }));
        };
        let planes = observed.and_then(|observed| {
            let plane = |(v, variable): (usize, &Variable)| {
                Some(common(observed.plane(*variable)?, models.iter().map(|(_, members)| members[v])))
            };
            variables.iter().enumerate().map(plane).collect::<Option<Vec<Array2<f32>>>>()
        });
        if let Some(planes) = planes {
            let parts = self.masks.iter().map(|(name, mask)| (*name, inside(&planes, mask)));
            for (region, planes) in std::iter::once((DOMAIN, planes.clone())).chain(parts) {
                for (model, members) in &models {
                    add(*model, region, of_fields(self.empty, &fields(&variables, members, &planes)));
                }
            }
        }
        if let Some(places) = self.stations.get(&first.id.issue_time.at(lead)) {
            let spots = places.on(&self.grid);
            let at_spots = |members: &Vec<ArrayView3<'_, f32>>| -> Vec<Array3<f32>> {
                members.iter().map(|members| spots.members(*members)).collect()
            };
            let models: Vec<_> = models.iter().map(|(model, members)| (*model, at_spots(members))).collect();
            let planes: Vec<Array2<f32>> = variables
                .iter()
                .enumerate()
                .map(|(v, variable)| {
                    common(spots.observed(*variable).view(), models.iter().map(|(_, members)| members[v].view()))
                })
                .collect();
            for (model, members) in &models {
                let members: Vec<_> = members.iter().map(|members| members.view()).collect();
                add(*model, STATIONS, of_places(self.empty, &fields(&variables, &members, &planes)));
            }
        }
        sums
    }
}

/// The models that have a lead; none where one lacks a variable.
fn at_lead(forecasts: &[Forecast], variables: usize, lead: LeadTime) -> Option<AtLead<'_>> {
    let mut models = Vec::new();
    for (model, forecast) in forecasts.iter().enumerate() {
        let Some(index) = forecast.leads.iter().position(|own| *own == lead) else { continue };
        let members = |v: usize| Some(forecast.ensembles.get(v)?.values.index_axis(Axis(1), index));
        models.push((model, (0..variables).map(members).collect::<Option<Vec<_>>>()?));
    }
    Some(models)
}

/// Observations of a part of the grid: missing elsewhere.
fn inside(planes: &[Array2<f32>], mask: &Array2<bool>) -> Vec<Array2<f32>> {
    let masked = |plane: &Array2<f32>| {
        let mut plane = plane.clone();
        plane.zip_mut_with(mask, |value, inside| *value = if *inside { *value } else { f32::NAN });
        plane
    };
    planes.iter().map(masked).collect()
}

fn fields<'f>(variables: &[Variable], members: &[ArrayView3<'f, f32>], planes: &'f [Array2<f32>]) -> Vec<Field<'f>> {
    let fields = variables.iter().zip(members).zip(planes);
    fields
        .map(|((variable, members), observed)| Field {
            variable: *variable,
            members: *members,
            observed: observed.view(),
        })
        .collect()
}
