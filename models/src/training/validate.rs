//! Forecasts scored against what came, each model beside the others on the same cases.
//!
//! Scores are sums over all cases, cells and (for winds) components; means of scores would weigh a dry case like a wet
//! one. Every model is asked through the same trait, with the same windows, and is judged where all of them have a value.

use std::fmt::Write as _;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2, ArrayView3, Axis, s};
use squall_fields::{Axis as GridAxis, Frame, Grid, Window};

use super::TrainingError;
use super::data::Event;
use crate::scores::{Contingency, Crps, Event as Threshold, Spread, spearman};
use crate::{Forecaster, ModelError, Prediction, Request};

/// A window and the frames that followed it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the models see.
    pub window: Arc<Window>,
    /// What came, a frame for each lead.
    pub truth: Vec<Arc<Frame>>,
}

/// Square parts of events at issue times spread over each event: where the newest frame holds most.
///
/// # Errors
/// [`TrainingError::Data`] if no event is long and large enough.
pub fn cases(
    events: &[Event],
    context: usize,
    leads: usize,
    size: usize,
    count: usize,
) -> Result<Vec<Case>, TrainingError> {
    let mut cases = Vec::new();
    for event in events {
        let starts = (event.len() + 1).saturating_sub(context + leads);
        let (rows, columns) = event.grid.shape();
        if starts == 0 || rows.min(columns) == 0 {
            continue;
        }
        let (height, width) = (size.min(rows), size.min(columns));
        for i in 0..count.min(starts) {
            // The middle of each of `count` equal parts of the event.
            let start = (2 * i + 1) * starts / (2 * count.min(starts));
            let newest = event.frame(start + context - 1);
            let (row, column) = fullest(newest.values.index_axis(Axis(0), 0), height, width);
            let part = |index: usize| Arc::new(part(&event.frame(index), row, column, height, width));
            let mut window = event.window(start, 0);
            window.issue_time = event.window(start, context).issue_time;
            window.frames = (start..start + context).map(|i| Some(part(i))).collect();
            let truth = (start + context..start + context + leads).map(part).collect();
            cases.push(Case { window: Arc::new(window), truth });
        }
    }
    if cases.is_empty() {
        return Err(TrainingError::Data(format!("no event holds {} frames", context + leads)));
    }
    Ok(cases)
}

/// Corner of the window in which the most cells are above 0.1 in size, on a lattice of an eighth of its side.
fn fullest(field: ArrayView2<'_, f32>, height: usize, width: usize) -> (usize, usize) {
    let (rows, columns) = field.dim();
    let places = (0..=rows - height)
        .step_by((height / 8).max(1))
        .flat_map(|row| (0..=columns - width).step_by((width / 8).max(1)).map(move |column| (row, column)));
    let count = |(row, column): &(usize, usize)| {
        field.slice(s![*row..row + height;4, *column..column + width;4]).iter().filter(|v| v.abs() >= 0.1).count()
    };
    places.max_by_key(count).unwrap_or_default()
}

fn part(frame: &Frame, row: usize, column: usize, height: usize, width: usize) -> Frame {
    let along = |axis: &GridAxis, from: usize, len: usize| GridAxis { first: axis.centre(from), step: axis.step, len };
    let grid =
        Grid { x: along(&frame.grid.x, column, width), y: along(&frame.grid.y, row, height), ..(*frame.grid).clone() };
    let values = frame.values.slice(s![.., row..row + height, column..column + width]).to_owned();
    Frame { grid: Arc::new(grid), values, quality: None, ..frame.clone() }
}

/// Scores of one model at one lead.
#[derive(Clone, Debug)]
pub struct LeadScores {
    /// Continuous ranked probability score; of a single member, the mean absolute error.
    pub crps: Crps,
    /// Spread and error of the mean.
    pub spread: Spread,
    /// Of the ensemble mean at or above each threshold.
    pub hits: Vec<Contingency>,
}

/// Scores of one model.
#[derive(Clone, Debug)]
pub struct ModelScores {
    /// Name for people.
    pub name: String,
    /// One for each lead.
    pub leads: Vec<LeadScores>,
    /// Rank correlation of the precision map with the absolute error of the ensemble mean, over all cells and leads;
    /// and over those cells alone where rain is forecast or came.
    pub precision: Option<(f64, f64)>,
    /// Seconds that its forecasts took together.
    pub seconds: f64,
}

/// One model to score, and how many members to ask of it.
pub struct Contestant<'a> {
    /// Name in the table.
    pub name: String,
    /// The model.
    pub model: &'a mut dyn Forecaster,
    /// Members to ask for.
    pub members: usize,
}

/// Scores models on the same cases and cells. `progress` is called after each forecast.
///
/// # Errors
/// The error of any model that cannot forecast a case.
pub fn score(
    contestants: &mut [Contestant<'_>],
    cases: &[Case],
    leads: usize,
    thresholds: &[f32],
    mut progress: impl FnMut(),
) -> Result<Vec<ModelScores>, ModelError> {
    let empty = LeadScores {
        crps: Crps::default(),
        spread: Spread::default(),
        hits: vec![Contingency::default(); thresholds.len()],
    };
    let mut scores: Vec<ModelScores> = contestants
        .iter()
        .map(|c| ModelScores { name: c.name.clone(), leads: vec![empty.clone(); leads], precision: None, seconds: 0.0 })
        .collect();
    let mut ranks: Vec<Vec<(f32, f32, bool)>> = vec![Vec::new(); contestants.len()];
    for case in cases {
        let mut predictions = Vec::with_capacity(contestants.len());
        for (contestant, scores) in contestants.iter_mut().zip(&mut scores) {
            let request = Request {
                stream: "validation".into(),
                window: case.window.clone(),
                leads: case.window.cadence.leads(leads),
                members: contestant.members,
            };
            let start = std::time::Instant::now();
            let answer = contestant.model.forecast(std::slice::from_ref(&request)).pop();
            let none =
                || ModelError::Answer { model: contestant.model.name().to_owned(), reason: "gave no answer".into() };
            predictions.push(answer.ok_or_else(none)??);
            scores.seconds += start.elapsed().as_secs_f64();
            progress();
        }
        for lead in 0..leads {
            let known = Known::of(case, &predictions, lead);
            for (i, prediction) in predictions.iter().enumerate() {
                known.add(prediction, lead, thresholds, &mut scores[i].leads[lead], &mut ranks[i]);
            }
        }
    }
    for (scores, ranks) in scores.iter_mut().zip(ranks) {
        let all = spearman(ranks.iter().map(|(p, e, _)| (*p, *e)));
        let wet = spearman(ranks.iter().filter(|r| r.2).map(|(p, e, _)| (*p, *e)));
        scores.precision = all.zip(wet);
    }
    Ok(scores)
}

/// What came at one lead, NaN wherever a model has no value.
struct Known {
    planes: Vec<Array2<f32>>,
}

impl Known {
    fn of(case: &Case, predictions: &[Prediction], lead: usize) -> Self {
        let truth = &case.truth[lead];
        let count = predictions.first().map_or(0, |p| p.ensembles.len());
        let planes = (0..count).map(|variable| {
            let name = predictions[0].ensembles[variable].variable;
            let mut plane = truth.plane(name).map(|p| p.to_owned()).unwrap_or_default();
            for prediction in predictions {
                for member in prediction.ensembles[variable].values.index_axis(Axis(1), lead).outer_iter() {
                    plane.zip_mut_with(&member, |t, f| {
                        if f.is_nan() {
                            *t = f32::NAN
                        }
                    });
                }
            }
            plane
        });
        Self { planes: planes.collect() }
    }

    fn add(
        &self,
        prediction: &Prediction,
        lead: usize,
        thresholds: &[f32],
        scores: &mut LeadScores,
        ranks: &mut Vec<(f32, f32, bool)>,
    ) {
        /// Every so many cells along each axis take part in the rank correlation: neighbours say the same.
        const SPARSE: usize = 3;
        for (plane, ensemble) in self.planes.iter().zip(&prediction.ensembles) {
            let members: ArrayView3<'_, f32> = ensemble.values.index_axis(Axis(1), lead);
            scores.crps.add(members, plane.view());
            scores.spread.add(members, plane.view());
            let mean = members.mean_axis(Axis(0)).unwrap_or_default();
            for (table, threshold) in scores.hits.iter_mut().zip(thresholds) {
                table.add(mean.view(), plane.view(), Threshold::AtLeast(*threshold));
            }
            let Some(map) = &prediction.precision else { continue };
            let map = map.index_axis(Axis(0), lead);
            let sparse = s![..;SPARSE, ..;SPARSE];
            let cells = map.slice(sparse).into_iter().zip(mean.slice(sparse)).zip(plane.slice(sparse));
            ranks.extend(cells.filter(|(_, t)| !t.is_nan()).map(|((p, m), t)| (*p, (m - t).abs(), m.max(*t) >= 0.1)));
        }
    }
}

/// The scores as a Markdown table, a row for each lead and columns for each model.
pub fn markdown(scores: &[ModelScores], thresholds: &[f32], minutes: f64) -> String {
    let mut text = String::from("| lead (min) |");
    for model in scores {
        let _ = write!(text, " {} CRPS |", model.name);
    }
    for threshold in thresholds {
        for model in scores {
            let _ = write!(text, " {} CSI {threshold} |", model.name);
        }
    }
    for model in scores.iter().filter(|m| m.leads.iter().any(|l| l.spread.count() > 0.0)) {
        let _ = write!(text, " {} spread/skill |", model.name);
    }
    let columns = text.matches('|').count() - 1;
    let _ = writeln!(text, "\n|{}", "---|".repeat(columns));
    let number = |value: Option<f64>| value.map_or_else(|| " |".to_owned(), |v| format!(" {v:.4} |"));
    for lead in 0..scores.first().map_or(0, |m| m.leads.len()) {
        let _ = write!(text, "| {:.0} |", minutes * (lead + 1) as f64);
        for model in scores {
            text += &number(model.leads[lead].crps.biased());
        }
        for i in 0..thresholds.len() {
            for model in scores {
                text += &number(model.leads[lead].hits[i].csi());
            }
        }
        for model in scores.iter().filter(|m| m.leads.iter().any(|l| l.spread.count() > 0.0)) {
            text += &number(model.leads[lead].spread.ratio());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;
    use squall_fields::{Cadence, InputRef, ValidTime, Variable};

    use super::*;
    use crate::baselines::{Extrapolation, Persistence};

    fn event() -> Event {
        let axis = |step| GridAxis { first: 0.0, step, len: 96 };
        let grid = Arc::new(Grid { proj: String::new(), wkt: None, x: axis(1000.0), y: axis(-1000.0) });
        let value = |t: usize, y: usize, x: usize| {
            let (x, y) = (x as f32 - 30.0 - 2.0 * t as f32, y as f32 - 50.0);
            20.0 * (-(x * x + y * y) / 60.0).exp() + 8.0 * (-((x - 14.0).powi(2) + (y - 20.0).powi(2)) / 30.0).exp()
        };
        let frames: Vec<Arc<Frame>> = (0..10)
            .map(|t| {
                Arc::new(Frame {
                    grid: grid.clone(),
                    slot: ValidTime::from_unix_seconds(300 * t as i64),
                    variables: [Variable::RainRate].into(),
                    values: Array3::from_shape_fn((1, 96, 96), |(_, y, x)| value(t, y, x)),
                    quality: None,
                    input: InputRef { topic: "test".into(), partition: 0, offset: t as i64, digest: "".into() },
                })
            })
            .collect();
        Event::new("shower", Cadence::every_seconds(300).unwrap(), &frames).unwrap()
    }

    #[test]
    fn extrapolation_beats_persistence_on_a_shower_that_moves() {
        let cases = cases(&[event()], 4, 3, 64, 2).unwrap();
        assert_eq!(cases.len(), 2);
        let (mut persistence, mut extrapolation) = (Persistence::default(), Extrapolation::default());
        let mut contestants = [
            Contestant { name: "persistence".into(), model: &mut persistence, members: 1 },
            Contestant { name: "extrapolation".into(), model: &mut extrapolation, members: 1 },
        ];
        let scores = score(&mut contestants, &cases, 3, &[1.0], || ()).unwrap();
        for lead in 0..3 {
            let crps = |i: usize| scores[i].leads[lead].crps.biased().unwrap();
            assert!(crps(1) < crps(0), "lead {lead}: {} {}", crps(1), crps(0));
        }
        let table = markdown(&scores, &[1.0], 5.0);
        assert_eq!(table.lines().count(), 5);
        assert!(table.starts_with("| lead (min) | persistence CRPS | extrapolation CRPS | persistence CSI 1 |"));
    }
}
