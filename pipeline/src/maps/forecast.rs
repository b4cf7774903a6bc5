//! The page of one forecast: a few leads, each beside what was observed then.

use std::sync::Arc;

use ndarray::{Array2, Axis, s};
use squall_fields::{Forecast, Frame, LeadTime, ValidTime, Variable};
use squall_operators::products::{Products, ProductsConfig, products};

use super::{Map, MapError, Panel, Scale, scale_of};
use crate::config::StreamConfig;

/// Rows of a page.
const LEADS: usize = 3;

/// Draws the page of a forecast. `observed` gives the frame of a valid time, if it is known.
///
/// # Errors
/// The drawing library failed, or the forecast is empty.
pub fn page(
    forecast: &Forecast,
    stream: &StreamConfig,
    observed: &dyn Fn(ValidTime) -> Option<Arc<Frame>>,
) -> Result<Vec<u8>, MapError> {
    let ensemble = forecast.ensembles.first().ok_or_else(|| MapError::new("the forecast is empty"))?;
    let threshold = middle(&stream.thresholds);
    let wanted = ProductsConfig { mean: true, quantiles: Vec::new(), thresholds: threshold.into_iter().collect() };
    let shown = shown(forecast.leads.len());
    let frames: Vec<_> = shown.iter().map(|lead| observed(forecast.id.issue_time.at(forecast.leads[*lead]))).collect();
    let rows: Vec<Row> = shown.iter().map(|lead| Row::of(&products_of(ensemble, *lead, &wanted))).collect();
    let (scale, odds) = (scale_of(ensemble.variable), Arc::new(odds(ensemble.variable, threshold)));
    let mut all = Vec::new();
    for ((lead, frame), row) in shown.iter().zip(&frames).zip(&rows) {
        let when = label(forecast, forecast.leads[*lead]);
        let plane = frame.as_ref().and_then(|frame| frame.plane(ensemble.variable));
        let mut panels = vec![
            Panel { title: format!("Observed {when}"), values: plane, scale: Arc::clone(&scale) },
            Panel { title: format!("Forecast {when}"), values: Some(row.mean.view()), scale: Arc::clone(&scale) },
        ];
        if let (Some(values), Some(threshold)) = (&row.probability, threshold) {
            let title = format!("Probability of {threshold} {} or more", ensemble.variable.unit().label());
            panels.push(Panel { title, values: Some(values.view()), scale: Arc::clone(&odds) });
        }
        all.push(panels);
    }
    let (title, members) = (issued(forecast, ensemble.variable), forecast.members());
    let degraded = if forecast.is_degraded() { ", degraded" } else { "" };
    let subtitle = format!(
        "{}, mean of {members} members{degraded}; stream {}, revision {}, Squall {}",
        forecast.provenance.model, forecast.id.stream, forecast.id.revision, forecast.provenance.code_version
    );
    Map { title, subtitle, grid: &forecast.grid, rows: all }.png()
}

/// What is forecast and when, as a title.
pub(super) fn issued(forecast: &Forecast, variable: Variable) -> String {
    let issued = forecast.id.issue_time.to_rfc3339().replace('T', " ").replace(":00Z", " UTC");
    let mut title = format!("{} issued {issued}", variable.name().replace('_', " "));
    title.get_mut(..1).into_iter().for_each(str::make_ascii_uppercase);
    title
}

/// What is drawn of one lead.
struct Row {
    mean: Array2<f32>,
    probability: Option<Array2<f32>>,
}

impl Row {
    fn of(products: &Products) -> Self {
        let mean = products.mean.as_ref().expect("a page asks for the mean");
        let probability = products.probabilities.as_ref();
        let probability = probability.map(|values| values.slice(s![0, 0, .., ..]).to_owned());
        Self { mean: mean.index_axis(Axis(0), 0).to_owned(), probability }
    }
}

fn products_of(ensemble: &squall_fields::Ensemble, lead: usize, wanted: &ProductsConfig) -> Products {
    let values = ensemble.values.slice(s![.., lead..=lead, .., ..]).to_owned();
    products(&squall_fields::Ensemble { variable: ensemble.variable, values }, wanted)
}

/// Up to three leads, evenly spread, the last one among them.
pub(super) fn shown(leads: usize) -> Vec<usize> {
    let rows = leads.min(LEADS);
    (1..=rows).map(|row| row * leads / rows - 1).collect()
}

/// The threshold that a map shows: 1 where it is one of them, otherwise the middle one.
fn middle(thresholds: &[f32]) -> Option<f32> {
    thresholds
        .iter()
        .copied()
        .find(|threshold| *threshold == 1.0)
        .or_else(|| thresholds.get(thresholds.len() / 2).copied())
}

pub(super) fn label(forecast: &Forecast, lead: LeadTime) -> String {
    let valid = forecast.id.issue_time.at(lead).to_rfc3339();
    format!("{lead} ({} UTC)", valid.get(11..16).unwrap_or(&valid))
}

fn odds(variable: Variable, threshold: Option<f32>) -> Scale {
    let threshold =
        threshold.map_or_else(String::new, |threshold| format!(" of {threshold} {} or more", variable.unit().label()));
    Scale::of_probability(format!("Probability{threshold}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_are_spread() {
        assert_eq!(shown(12), [3, 7, 11]);
        assert_eq!(shown(2), [0, 1]);
        assert_eq!(shown(0), Vec::<usize>::new());
    }

    #[test]
    fn one_is_the_threshold_that_people_know() {
        assert_eq!(middle(&[0.1, 1.0, 5.0, 10.0]), Some(1.0));
        assert_eq!(middle(&[5.0, 10.0, 15.0]), Some(10.0));
        assert_eq!(middle(&[]), None);
    }
}
