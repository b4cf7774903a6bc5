//! Scores of forecasts against persistence, by lead.

use ndarray::{ArrayView3, Axis, s};
use squall_fields::{Forecast, Frame, LeadTime, ValidTime};
use squall_models::scores::{Pair, Scoreboard, UnknownScore, common, list};

/// Rows of a table.
const ROWS: usize = 6;

/// Scores so far, of one model and of persistence, each on the cells that it has.
///
/// The CSI is that of the ensemble's first member and the MAE that of its mean: the control keeps the intensity of the
/// rain, which a mean smooths away; the mean has the smaller error.
#[derive(Clone, Debug)]
pub struct Board {
    scores: Scoreboard,
    unit: &'static str,
    forecasts: usize,
}

/// Places on a [`Board`].
const MODEL: usize = 0;
const PERSISTENCE: usize = 1;
const CRPS: usize = 1;

impl Board {
    /// No forecast yet; events are values at or above the threshold.
    ///
    /// # Errors
    /// Never: the scores are in the list.
    pub fn new(threshold: f32) -> Result<Self, UnknownScore> {
        let scores = list::start(&["csi-control", "fair-crps", "mae"], &vec![threshold].into())?;
        Ok(Self { scores: Scoreboard::new(scores), unit: "", forecasts: 0 })
    }

    /// Scores a forecast at the leads whose observation is known. Persistence is the frame of the issue time.
    pub fn add<'f>(&mut self, forecast: &Forecast, observed: impl Fn(ValidTime) -> Option<&'f Frame>) {
        let Some(ensemble) = forecast.ensembles.first() else { return };
        let plane = |time| observed(time).and_then(|frame| frame.plane(ensemble.variable));
        let Some(last) = plane(forecast.id.issue_time.slot()) else { return };
        if self.scores.models().len() == 0 {
            self.scores.enter(&forecast.provenance.model);
            self.scores.enter("persistence");
            self.unit = ensemble.variable.unit().label();
        }
        for (index, lead) in forecast.leads.iter().enumerate() {
            let Some(truth) = plane(forecast.id.issue_time.at(*lead)) else { continue };
            let members = ensemble.values.slice(s![.., index, .., ..]);
            self.scores.add(MODEL, *lead, &Pair::new(members, truth));
            self.scores.add(PERSISTENCE, *lead, &Pair::new(last.insert_axis(Axis(0)), truth));
        }
        self.forecasts += 1;
    }

    /// Number of forecasts that were scored.
    pub fn forecasts(&self) -> usize {
        self.forecasts
    }

    /// The scores as a table for people; about six leads of it.
    pub fn table(&self) -> String {
        self.scores.text(self.unit, ROWS)
    }

    /// Fair CRPS of the forecasts and of persistence over all leads; `None` before anything was scored.
    pub fn crps(&self) -> Option<(f64, f64)> {
        if self.forecasts == 0 {
            return None;
        }
        self.scores.pooled(MODEL, CRPS).zip(self.scores.pooled(PERSISTENCE, CRPS))
    }
}

/// Scores of several models and persistence on the same issue times and cells.
#[derive(Clone, Debug)]
pub struct Joint {
    scores: Scoreboard,
    unit: &'static str,
}

impl Joint {
    /// Of models with these names, in their order; events are values at or above the threshold. The CSI is that of the
    /// mean: the first sample of a diffusion model is no control.
    ///
    /// # Errors
    /// Never: the scores are in the list.
    pub fn new(models: &[&str], threshold: f32) -> Result<Self, UnknownScore> {
        let mut scores = Scoreboard::new(list::start(&["csi", "fair-crps"], &vec![threshold].into())?);
        for name in models.iter().chain(&["persistence"]) {
            scores.enter(name);
        }
        Ok(Self { scores, unit: "" })
    }

    /// Takes a forecast of each model for one issue time, at the leads that all of them have and that were observed.
    pub fn add<'f>(&mut self, forecasts: &[&Forecast], observed: impl Fn(ValidTime) -> Option<&'f Frame>) {
        let Some((issue_time, leads)) = forecasts.first().map(|first| (first.id.issue_time, &first.leads)) else {
            return;
        };
        let Some(variable) = forecasts[0].ensembles.first().map(|ensemble| ensemble.variable) else { return };
        let plane = |time| observed(time).and_then(|frame| frame.plane(variable));
        let Some(last) = plane(issue_time.slot()) else { return };
        self.unit = variable.unit().label();
        for lead in leads {
            let ensembles: Option<Vec<_>> = forecasts.iter().map(|forecast| members_at(forecast, *lead)).collect();
            let (Some(mut ensembles), Some(truth)) = (ensembles, plane(issue_time.at(*lead))) else { continue };
            ensembles.push(last.insert_axis(Axis(0)));
            let truth = common(truth, ensembles.iter().copied());
            for (model, members) in ensembles.into_iter().enumerate() {
                self.scores.add(model, *lead, &Pair::new(members, truth.view()));
            }
        }
    }

    /// The scores as a table for people; about six leads of it.
    pub fn table(&self) -> String {
        self.scores.text(self.unit, ROWS)
    }
}

/// The members `[member, y, x]` of a forecast's first variable at a lead.
fn members_at(forecast: &Forecast, lead: LeadTime) -> Option<ArrayView3<'_, f32>> {
    let index = forecast.leads.iter().position(|own| *own == lead)?;
    Some(forecast.ensembles.first()?.values.index_axis(Axis(1), index))
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
                identical_members: false,
            },
            trace: None,
        }
    }

    #[test]
    fn a_perfect_forecast_beats_persistence() {
        let event = Played::choose(None, 4, 64).unwrap();
        let mut board = Board::new(1.0).unwrap();
        board.add(&perfect(&event, 5), |time| event.frames.iter().find(|f| f.slot == time).map(|f| &**f));
        let table = board.table();
        // Only three of the five leads were observed.
        assert_eq!((table.lines().count(), board.forecasts()), (5, 1), "{table}");
        assert!(table.contains("+15 min") && table.contains("1.000"), "{table}");
        let (model, persistence) = board.crps().unwrap();
        assert!(model == 0.0 && persistence > 0.01, "{model} {persistence}");
    }

    #[test]
    fn models_are_judged_together_where_all_of_them_have_a_value() {
        let event = Played::choose(None, 4, 64).unwrap();
        let whole = perfect(&event, 3);
        let mut partial = perfect(&event, 2);
        partial.ensembles[0].values.slice_mut(s![.., .., .., 10..]).fill(f32::NAN);
        let mut board = Joint::new(&["whole", "partial"], 0.1).unwrap();
        board.add(&[&whole, &partial], |time| event.frames.iter().find(|f| f.slot == time).map(|f| &**f));
        let leads = board.scores.leads();
        assert_eq!(leads.len(), 2, "one of them has no third lead");
        let value = |model| board.scores.value(model, leads[1], 1).unwrap();
        assert_eq!((value(0), value(1)), (0.0, 0.0));
        // Persistence is judged by the ten columns that the second model has.
        let (first, third) =
            (event.frames[0].values.slice(s![0, .., ..10]), event.frames[2].values.slice(s![0, .., ..10]));
        let pairs = first.iter().zip(third).filter(|(a, b)| !a.is_nan() && !b.is_nan());
        let (sum, count) =
            pairs.fold((0.0, 0), |(sum, n), (a, b)| (sum + (f64::from(*a) - f64::from(*b)).abs(), n + 1));
        assert!((value(2) - sum / f64::from(count)).abs() < 1e-9);
        assert!(board.table().contains("whole") && board.table().contains("persistence"), "{}", board.table());
    }
}
