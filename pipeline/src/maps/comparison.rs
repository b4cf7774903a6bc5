//! The page of one issue time by several models: a few leads, each beside what was observed then and persistence.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis};
use squall_fields::{Forecast, Frame, LeadTime, ValidTime, Variable};

use super::forecast::{issued, label, shown};
use super::{Map, MapError, Panel, scale_of};

/// Draws forecasts of one issue time on one grid: what was observed, the mean of each, and persistence. Leads are those
/// of the first. `observed` gives the frame of a valid time, if it is known.
///
/// # Errors
/// The drawing library failed, or a forecast is empty.
pub fn page(forecasts: &[&Forecast], observed: &dyn Fn(ValidTime) -> Option<Arc<Frame>>) -> Result<Vec<u8>, MapError> {
    let first = forecasts.first().ok_or_else(|| MapError::new("there is no forecast"))?;
    let variable = first.ensembles.first().ok_or_else(|| MapError::new("the forecast is empty"))?.variable;
    let scale = scale_of(variable);
    let newest = observed(first.id.issue_time.slot());
    let leads: Vec<LeadTime> = shown(first.leads.len()).into_iter().map(|lead| first.leads[lead]).collect();
    let truths: Vec<_> = leads.iter().map(|lead| observed(first.id.issue_time.at(*lead))).collect();
    let means: Vec<Vec<Option<Array2<f32>>>> =
        leads.iter().map(|lead| forecasts.iter().map(|forecast| mean(forecast, *lead)).collect()).collect();
    let panel = |title: String, values| Panel { title, values, scale: Arc::clone(&scale) };
    let mut rows = Vec::new();
    for ((lead, truth), means) in leads.iter().zip(&truths).zip(&means) {
        let mut panels = vec![panel(format!("Observed {}", label(first, *lead)), plane(truth, variable))];
        for (forecast, mean) in forecasts.iter().zip(means) {
            let title = format!("{} {lead}", forecast.provenance.model);
            panels.push(panel(title, mean.as_ref().map(|mean| mean.view())));
        }
        panels.push(panel(format!("persistence {lead}"), plane(&newest, variable)));
        rows.push(panels);
    }
    let models = forecasts.iter().map(|f| format!("{} (mean of {} members)", f.provenance.model, f.members()));
    let subtitle =
        format!("{} and persistence; Squall {}", models.collect::<Vec<_>>().join(", "), first.provenance.code_version);
    Map { title: issued(first, variable), subtitle, grid: &first.grid, rows }.png()
}

fn plane(frame: &Option<Arc<Frame>>, variable: Variable) -> Option<ArrayView2<'_, f32>> {
    frame.as_ref()?.plane(variable)
}

/// Mean of the first variable's members at a lead.
fn mean(forecast: &Forecast, lead: LeadTime) -> Option<Array2<f32>> {
    let index = forecast.leads.iter().position(|own| *own == lead)?;
    forecast.ensembles.first()?.values.index_axis(Axis(1), index).mean_axis(Axis(0))
}
