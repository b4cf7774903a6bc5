//! Forecasts of series beside the simplest ones: scores by lead.

use ndarray::{Array2, Array3};
use serde::Serialize;
use squall_fields::{Cadence, Quantity};
use squall_models::scores::list::{self, Settings};
use squall_models::scores::{AnyScore, Pair, Scoreboard};
use squall_models::series::{Prompt, SeriesModel};

use super::Case;

/// In the order of the table. The CRPS itself has both estimators, of which the table shows the biased one first.
const SCORES: [&str; 4] = ["crps", "fair-crps", "mae", "spread-skill"];
/// The score of these whose numbers are among those of the CRPS.
const FAIR: usize = 1;
/// Cases that are forecast before the next progress is told.
const PART: usize = 64;

/// A row for each number of each model and lead.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the model.
    pub model: String,
    /// Minutes from issue time to valid time.
    pub lead_minutes: f64,
    /// Name of the number.
    pub score: &'static str,
    /// The number; nothing where it cannot be computed.
    pub value: Option<f64>,
    /// Cases.
    pub count: f64,
}

/// The prompt of a case.
pub fn prompt(case: &Case) -> Prompt<'_> {
    Prompt { place: &case.station, issue_time: case.issue_time, past: &case.past }
}

/// Scores a model, persistence of the newest value, and the known past taken as an ensemble, on the same cases.
///
/// # Errors
/// There is no score of a name: a defect.
pub fn judge(
    model: &SeriesModel,
    cases: &[Case],
    quantity: Quantity,
    members: usize,
    mut progress: impl FnMut(usize),
) -> anyhow::Result<Scoreboard> {
    let spec = &model.metadata.spec;
    let mut board = Scoreboard::new(list::start(&SCORES, &Settings::default())?);
    let [own, persistence, climatology] =
        [spec.name.as_str(), "persistence", "climatology"].map(|name| board.enter(name));
    let leads = super::config::cadence(spec).leads(spec.leads);
    for part in cases.chunks(PART) {
        let prompts: Vec<Prompt<'_>> = part.iter().map(prompt).collect();
        let forecasts = model.forecast(&prompts, quantity, members);
        let count = part.len();
        let newest = Array3::from_shape_fn((1, 1, count), |(.., case)| part[case].past[spec.context - 1]);
        let known = Array3::from_shape_fn((spec.context, 1, count), |(value, _, case)| part[case].past[value]);
        for (number, lead) in leads.iter().enumerate() {
            let observed = Array2::from_shape_fn((1, count), |(_, case)| part[case].future[number]);
            let forecast = Array3::from_shape_fn((members, 1, count), |(m, _, case)| forecasts[case][[m, number]]);
            for (entry, ensemble) in [(own, &forecast), (persistence, &newest), (climatology, &known)] {
                board.add(entry, *lead, &Pair::new(ensemble.view(), observed.view()));
            }
        }
        progress(count);
    }
    Ok(board)
}

/// The numbers of a board.
pub fn rows(board: &Scoreboard) -> Vec<Row> {
    let mut rows = Vec::new();
    for (model, name) in board.models().enumerate() {
        for lead in board.leads() {
            let scores = (0..board.scores().len()).filter(|score| *score != FAIR);
            for sums in scores.filter_map(|score| board.at_lead(model, lead, score)) {
                let lead_minutes = lead.seconds() as f64 / 60.0;
                let row = |value: squall_models::scores::Value| Row {
                    model: name.to_owned(),
                    lead_minutes,
                    score: value.score,
                    value: value.value,
                    count: AnyScore::count(sums),
                };
                rows.extend(sums.values().into_iter().map(row));
            }
        }
    }
    rows
}

/// Whether issue times so far apart are slots of the cadence of a model.
pub const fn fits(every: Cadence, cadence: Cadence) -> bool {
    every.step_seconds() % cadence.step_seconds() == 0
}

/// The value below which a share of an ensemble lies.
pub fn quantile(members: &[f32], share: f64) -> f32 {
    let mut sorted = members.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let place = share * sorted.len().saturating_sub(1) as f64;
    sorted.get(place.round() as usize).copied().unwrap_or(f32::NAN)
}
