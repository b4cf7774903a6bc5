//! Scores of forecasts against persistence, by lead.

use std::collections::BTreeMap;
use std::fmt::Write;

use ndarray::{ArrayView2, Axis, s};
use squall_fields::{Forecast, Frame, LeadTime, ValidTime};
use squall_models::scores::{Contingency, Crps, Error, Event};

/// Sums for one lead of one forecaster.
#[derive(Clone, Debug, Default)]
struct Sums {
    events: Contingency,
    crps: Crps,
    error: Error,
}

/// Scores so far, by lead: the forecast's and persistence's on the same cells.
#[derive(Clone, Debug)]
pub struct Board {
    threshold: f32,
    leads: BTreeMap<LeadTime, (Sums, Sums)>,
    forecasts: usize,
}

impl Board {
    /// No forecast yet; events are values at or above the threshold.
    pub fn new(threshold: f32) -> Self {
        Self { threshold, leads: BTreeMap::new(), forecasts: 0 }
    }

    /// Scores a forecast at the leads whose observation is known. Persistence is the frame of the issue time.
    ///
    /// The CSI and the MAE are those of the ensemble's first member and of its mean: the control keeps the intensity
    /// of the rain, which a mean smooths away; the mean has the smaller error.
    pub fn add<'f>(&mut self, forecast: &Forecast, observed: impl Fn(ValidTime) -> Option<&'f Frame>) {
        let Some(ensemble) = forecast.ensembles.first() else { return };
        let Some(last) = observed(forecast.id.issue_time.slot()).and_then(|frame| frame.plane(ensemble.variable))
        else {
            return;
        };
        for (index, lead) in forecast.leads.iter().enumerate() {
            let frame = observed(forecast.id.issue_time.at(*lead));
            let Some(truth) = frame.and_then(|frame| frame.plane(ensemble.variable)) else { continue };
            let members = ensemble.values.slice(s![.., index, .., ..]);
            let (model, persistence) = self.leads.entry(*lead).or_default();
            let event = Event::AtLeast(self.threshold);
            model.events.add(members.index_axis(Axis(0), 0), truth, event);
            model.crps.add(members, truth);
            if let Some(mean) = members.mean_axis(Axis(0)) {
                model.error.add(mean.view(), truth);
            }
            persist(persistence, last, truth, event);
        }
        self.forecasts += 1;
    }

    /// Number of forecasts that were scored.
    pub fn forecasts(&self) -> usize {
        self.forecasts
    }

    /// The scores as a table for people; about six leads of it.
    pub fn table(&self, model: &str) -> String {
        let mut text = String::new();
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let event = format!("CSI at {} mm/h", self.threshold);
        let _ = writeln!(text, "{:>9} |{event:^26}|{:^26}|{:^26}", "", "CRPS (mm/h)", "MAE (mm/h)");
        let heads = format!("{:>13}{:>12} ", short(model), "persistence");
        let _ = writeln!(text, "{:>9} |{heads}|{heads}|{heads}", "lead");
        let step = self.leads.len().div_ceil(6).max(1);
        for (lead, (model, persistence)) in self.leads.iter().skip(step - 1).step_by(step) {
            let pair = |a: Option<f64>, b: Option<f64>| format!("{:>13}{:>12} ", number(a), number(b));
            let csi = pair(model.events.csi(), persistence.events.csi());
            let crps = pair(model.crps.fair(), persistence.error.mae());
            let mae = pair(model.error.mae(), persistence.error.mae());
            let _ = writeln!(text, "{:>9} |{csi}|{crps}|{mae}", lead.to_string());
        }
        text
    }

    /// Fair CRPS of the forecasts and of persistence over all leads; `None` before anything was scored.
    pub fn crps(&self) -> Option<(f64, f64)> {
        let (mut model, mut persistence) = (Crps::default(), Error::default());
        for (a, b) in self.leads.values() {
            (model, persistence) = (model.merge(&a.crps), persistence.merge(&b.error));
        }
        model.fair().zip(persistence.mae())
    }
}

/// A deterministic forecast's CRPS is its absolute error.
fn persist(sums: &mut Sums, last: ArrayView2<'_, f32>, truth: ArrayView2<'_, f32>, event: Event) {
    sums.events.add(last, truth, event);
    sums.error.add(last, truth);
}

fn short(model: &str) -> &str {
    model.get(..13).unwrap_or(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::event::Event as Played;
    use ndarray::Array4;
    use squall_fields::{Cadence, Ensemble, ForecastId, KnowledgeTime, Provenance, Variable};

    fn perfect(event: &Played, leads: usize) -> Forecast {
        let first = &event.frames[0];
        let cadence = Cadence::every_seconds(300).unwrap();
        let (rows, columns) = first.grid.shape();
        let mut values = Array4::zeros((2, leads, rows, columns));
        for (lead, frame) in event.frames[1..].iter().enumerate().take(leads) {
            for member in 0..2 {
                values.slice_mut(s![member, lead, .., ..]).assign(&frame.values.index_axis(Axis(0), 0));
            }
        }
        Forecast {
            id: ForecastId {
                stream: "rain".into(),
                model_digest: "".into(),
                issue_time: first.slot.into(),
                revision: 0,
            },
            known_at: KnowledgeTime::from_unix_ms(0),
            grid: first.grid.clone(),
            leads: cadence.leads(leads),
            ensembles: vec![Ensemble { variable: Variable::RainRate, values }],
            precision: None,
            provenance: Provenance {
                inputs: vec![],
                window_mask: vec![],
                seed: 0,
                model: "perfect".into(),
                code_version: "0".into(),
                device: "cpu".into(),
                degraded: vec![],
            },
        }
    }

    #[test]
    fn a_perfect_forecast_beats_persistence() {
        let event = Played::choose(None, 4, 64).unwrap();
        let mut board = Board::new(1.0);
        board.add(&perfect(&event, 5), |time| event.frames.iter().find(|f| f.slot == time).map(|f| &**f));
        let table = board.table("perfect");
        // Only three of the five leads were observed.
        assert_eq!((table.lines().count(), board.forecasts()), (5, 1), "{table}");
        assert!(table.contains("+15 min") && table.contains("1.000"), "{table}");
        let (model, persistence) = board.crps().unwrap();
        assert!(model == 0.0 && persistence > 0.01, "{model} {persistence}");
    }
}
