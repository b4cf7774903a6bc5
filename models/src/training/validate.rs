//! Forecasts scored against what came, each model beside the others on the same cases.
//!
//! Scores are sums over all cases, cells and (for winds) components; means of scores would weigh a dry case like a wet
//! one. Every model is asked through the same trait, with the same windows, and is judged where all of them have a value.

use std::sync::Arc;

use ndarray::{ArrayView2, Axis, s};
use squall_fields::{Axis as GridAxis, Frame, Grid, LeadTime, Window};

use super::TrainingError;
use super::event::Event;
use crate::scores::{AnyScore, Pair, Scoreboard, common};
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
    places.max_by_key(count).expect("a part is no larger than the field, so one place is there")
}

fn part(frame: &Frame, row: usize, column: usize, height: usize, width: usize) -> Frame {
    let along = |axis: &GridAxis, from: usize, len: usize| GridAxis { first: axis.centre(from), step: axis.step, len };
    let grid =
        Grid { x: along(&frame.grid.x, column, width), y: along(&frame.grid.y, row, height), ..(*frame.grid).clone() };
    let values = frame.values.slice(s![.., row..row + height, column..column + width]).to_owned();
    Frame { grid: Arc::new(grid), values, quality: None, ..frame.clone() }
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

/// What came of it.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The scores, by the order of the contestants.
    pub board: Scoreboard,
    /// Seconds that the forecasts of each contestant took together.
    pub seconds: Vec<f64>,
}

/// Scores models on the same cases and cells. `scores` are empty; `progress` is called after each forecast.
///
/// # Errors
/// The error of any model that cannot forecast a case.
pub fn score(
    contestants: &mut [Contestant<'_>],
    cases: &[Case],
    leads: usize,
    scores: Vec<Box<dyn AnyScore>>,
    mut progress: impl FnMut(),
) -> Result<Comparison, ModelError> {
    let mut board = Scoreboard::new(scores);
    let mut seconds = vec![0.0; contestants.len()];
    for contestant in contestants.iter() {
        board.enter(&contestant.name);
    }
    for case in cases {
        let mut predictions = Vec::with_capacity(contestants.len());
        for (contestant, seconds) in contestants.iter_mut().zip(&mut seconds) {
            let request = Request {
                stream: "validation".into(),
                window: case.window.clone(),
                leads: case.window.cadence.leads(leads),
                members: contestant.members,
                steps: None,
            };
            let start = std::time::Instant::now();
            let answer = contestant.model.forecast(std::slice::from_ref(&request)).pop();
            let none =
                || ModelError::Answer { model: contestant.model.name().to_owned(), reason: "gave no answer".into() };
            predictions.push(answer.ok_or_else(none)??);
            *seconds += start.elapsed().as_secs_f64();
            progress();
        }
        for (index, lead) in case.window.cadence.leads(leads).into_iter().enumerate() {
            judge(&mut board, &predictions, lead, index, &case.truth[index]);
        }
    }
    Ok(Comparison { board, seconds })
}

/// Adds one lead of every model, each variable where all of them have a value.
fn judge(board: &mut Scoreboard, predictions: &[Prediction], lead: LeadTime, index: usize, truth: &Frame) {
    let variables = predictions.first().map_or(0, |prediction| prediction.ensembles.len());
    for variable in 0..variables {
        let members = |i: usize| predictions[i].ensembles[variable].values.index_axis(Axis(1), index);
        let observed = truth.plane(predictions[0].ensembles[variable].variable);
        let observed = observed.expect("the frames of an event have one set of variables");
        let observed = common(observed, (0..predictions.len()).map(members));
        for (model, prediction) in predictions.iter().enumerate() {
            let precision = prediction.precision.as_ref().map(|map| map.index_axis(Axis(0), index));
            board.add(model, lead, &Pair::new(members(model), observed.view()).with_precision(precision));
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;
    use squall_fields::{Cadence, InputRef, ValidTime, Variable};

    use super::*;
    use crate::baselines::{Extrapolation, Persistence};
    use crate::scores::list;

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
        let scores = list::start(&["crps", "csi", "spread-skill"], &vec![1.0].into()).unwrap();
        let board = score(&mut contestants, &cases, 3, scores, || ()).unwrap().board;
        for lead in board.leads() {
            let crps = |i: usize| board.value(i, lead, 0).unwrap();
            assert!(crps(1) < crps(0), "lead {lead}: {} {}", crps(1), crps(0));
        }
        let table = board.markdown();
        assert_eq!(table.lines().count(), 5);
        assert!(table.starts_with("| lead (min) | persistence CRPS | extrapolation CRPS | persistence CSI 1 |"));
    }
}
