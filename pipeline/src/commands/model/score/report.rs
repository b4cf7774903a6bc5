//! What `squall model score` tells: scores by lead and of all leads, and differences with their intervals.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use squall_fields::{IssueTime, LeadTime};
use squall_models::scores::{AnyScore, Scoreboard, Statistics, Value};

use crate::backtest::verdict::{self, FEWEST_BLOCKS, Interval};

/// Wavelengths in cells at which a table shows spectra.
const WAVELENGTHS: [f64; 5] = [4.0, 8.0, 16.0, 32.0, 64.0];

/// An hour of an event.
pub(super) type Block = (Arc<str>, i64);

/// The block of a case: forecasts of one hour resemble each other.
pub(super) fn block(event: &Arc<str>, issue_time: IssueTime) -> Block {
    (event.clone(), issue_time.unix_seconds().div_euclid(3600))
}

/// A number of a model.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    model: String,
    /// None for all leads together.
    lead_minutes: Option<f64>,
    score: &'static str,
    threshold: Option<f32>,
    scale: Option<f64>,
    value: Option<f64>,
    count: f64,
}

/// A model's score less that of another, on the same cells.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    model: String,
    rival: String,
    score: &'static str,
    /// None for all leads together.
    lead_minutes: Option<f64>,
    difference: f64,
    low: f64,
    high: f64,
    /// `better`, `worse` or `undecided`.
    verdict: &'static str,
}

/// Every number of every model, by lead and of all leads.
pub(super) fn rows(board: &Scoreboard) -> Vec<Row> {
    let mut rows = Vec::new();
    for (model, name) in board.models().enumerate() {
        for score in 0..board.scores().len() {
            let leads =
                board.leads().into_iter().filter_map(|lead| Some((Some(lead), board.at_lead(model, lead, score)?)));
            let all = board.all_leads(model, score);
            for (lead, sums) in leads.chain([(None, &*all)]).filter(|(_, sums)| sums.count() > 0.0) {
                rows.extend(sums.values().into_iter().map(|value| Row {
                    model: name.to_owned(),
                    lead_minutes: lead.map(minutes),
                    score: value.score,
                    threshold: sums.threshold(),
                    scale: value.scale.or(sums.scale().map(|cells| cells as f64)),
                    value: value.value.filter(|value| value.is_finite()),
                    count: sums.count(),
                }));
            }
        }
    }
    rows
}

fn minutes(lead: LeadTime) -> f64 {
    lead.seconds() as f64 / 60.0
}

/// How the first model compares with each other one, in the CRPS of the empirical distribution and in the fair one, by
/// lead and over all; nothing where the boards of blocks keep no CRPS.
pub(super) fn differences(blocks: &BTreeMap<Block, Scoreboard>, whole: &Scoreboard) -> Vec<Difference> {
    let (names, Some(crps)): (Vec<&str>, _) = (whole.models().collect(), whole.score("CRPS")) else {
        return Vec::new();
    };
    let empty = [whole.scores()[crps].clone()];
    let draws = verdict::draws(blocks.len());
    let sums = |board: &Scoreboard, model: usize, lead: Option<LeadTime>| match lead {
        None => Statistics::of(&[board.all_leads(model, crps)]),
        Some(lead) => {
            board.at_lead(model, lead, crps).map_or_else(Statistics::default, |s| Statistics::of(&[s.boxed()]))
        }
    };
    let mut found = Vec::new();
    for (rival, name) in names.iter().enumerate().skip(1) {
        for lead in std::iter::once(None).chain(whole.leads().into_iter().map(Some)) {
            let pairs: Vec<[Statistics; 2]> =
                blocks.values().map(|board| [sums(board, 0, lead), sums(board, rival, lead)]).collect();
            for score in ["crps", "crps_fair"] {
                let of = |sums: &Statistics| verdict::number(sums, &empty, score);
                let Some(interval) = verdict::interval(&pairs, &draws, |[a, b]| Some(of(a)? - of(b)?)) else {
                    continue;
                };
                found.push(Difference {
                    model: names[0].to_owned(),
                    rival: (*name).to_owned(),
                    score,
                    lead_minutes: lead.map(minutes),
                    difference: interval.value,
                    low: interval.low,
                    high: interval.high,
                    verdict: told(interval, blocks.len()),
                });
            }
        }
    }
    found
}

/// Lower is better.
fn told(interval: Interval, blocks: usize) -> &'static str {
    match interval.is_decided() && blocks >= FEWEST_BLOCKS {
        true if interval.value < 0.0 => "better",
        true => "worse",
        false => "undecided",
    }
}

/// A table of scores over all leads, a row for each model.
pub(super) fn pooled_table(board: &Scoreboard) -> String {
    let rows: Vec<Vec<(String, Option<f64>)>> = (0..board.models().len())
        .map(|model| {
            let of = |score: usize| cells(&*board.all_leads(model, score));
            (0..board.scores().len()).filter(|score| board.has_any(*score)).flat_map(of).collect()
        })
        .collect();
    let heads: Vec<&str> =
        rows.first().map(|row| row.iter().map(|(head, _)| head.as_str()).collect()).unwrap_or_default();
    if heads.is_empty() {
        return String::new();
    }
    let mut text =
        format!("\nOver all leads:\n\n| model | {} |\n|{}\n", heads.join(" | "), "---|".repeat(heads.len() + 1));
    for (name, row) in board.models().zip(&rows) {
        let values: Vec<String> = row.iter().map(|(_, v)| v.map_or_else(String::new, |v| format!("{v:.3}"))).collect();
        let _ = writeln!(text, "| {name} | {} |", values.join(" | "));
    }
    text
}

/// The columns of one score: what is worth a glance, with its heading.
fn cells(sums: &dyn AnyScore) -> Vec<(String, Option<f64>)> {
    let values = sums.values();
    let one = |name: &str| values.iter().find(|value| value.score == name).and_then(|value| value.value);
    let with = |head: &str| sums.threshold().map_or_else(|| head.to_owned(), |threshold| format!("{head} {threshold}"));
    match sums.name() {
        "CRPS" => vec![("CRPS".to_owned(), one("crps")), ("fair CRPS".to_owned(), one("crps_fair"))],
        "CSI" => vec![(with("CSI"), one("csi")), (with("frequency bias of the mean"), one("frequency_bias"))],
        "outliers" => vec![("unevenness of ranks".to_owned(), one("rank_reliability_index"))],
        "spectrum" => spectrum(&values, "power"),
        "spectrum of logarithms" => spectrum(&values, "power of logarithms"),
        "precision" | "precision where wet" => Vec::new(),
        name => vec![(with(name), sums.finish())],
    }
}

/// The ratios nearest to some wavelengths.
fn spectrum(values: &[Value], head: &str) -> Vec<(String, Option<f64>)> {
    let near = |length: f64| {
        let distance = |value: &&Value| (value.scale.unwrap_or(f64::INFINITY) / length).ln().abs();
        values.iter().filter(|v| v.value.is_some()).min_by(|a, b| distance(a).total_cmp(&distance(b)))
    };
    WAVELENGTHS.iter().map(|length| (format!("{head} at {length}"), near(*length).and_then(|v| v.value))).collect()
}

/// The differences over all leads, in the middle and at the last lead, as a table.
pub(super) fn difference_table(differences: &[Difference], blocks: usize) -> String {
    if differences.is_empty() {
        return String::new();
    }
    let mut leads: Vec<f64> = differences.iter().filter_map(|d| d.lead_minutes).collect();
    leads.sort_by(f64::total_cmp);
    leads.dedup();
    let shown = [leads.first(), leads.get(leads.len() / 2), leads.last()];
    let mut text = format!(
        "\nCRPS of {} less that of others, with the middle 95 % of 1,000 draws of {blocks} blocks (hours of events){}:\n\n\
         | rival | score | lead (min) | difference | 95 % | verdict |\n|---|---|---|---|---|---|\n",
        differences[0].model,
        if blocks < FEWEST_BLOCKS { "; so few decide nothing" } else { "" }
    );
    let is_shown = |d: &&Difference| d.lead_minutes.is_none_or(|lead| shown.contains(&Some(&lead)));
    for d in differences.iter().filter(is_shown) {
        let lead = d.lead_minutes.map_or_else(|| "all".to_owned(), |lead| format!("{lead:.0}"));
        let name = if d.score == "crps" { "CRPS" } else { "fair CRPS" };
        let _ = writeln!(
            text,
            "| {} | {name} | {lead} | {:+.4} | {:+.4} to {:+.4} | {} |",
            d.rival, d.difference, d.low, d.high, d.verdict
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};
    use squall_models::scores::{Pair, list};

    use super::*;

    /// A board of two models, whose members are off by so much.
    fn board(errors: [f32; 2]) -> Scoreboard {
        let mut board = Scoreboard::new(list::start(&["crps", "csi", "spectrum"], &vec![1.0].into()).unwrap());
        let observed = Array2::from_shape_fn((16, 16), |(y, x)| ((y * x) % 7) as f32);
        for (model, error) in errors.into_iter().enumerate() {
            board.enter(["new", "old"][model]);
            let members = Array3::from_shape_fn((2, 16, 16), |(m, y, x)| observed[[y, x]] + error * (1.0 + m as f32));
            board.add(model, LeadTime::from_seconds(300), &Pair::new(members.view(), observed.view()));
        }
        board
    }

    fn found(errors: &[[f32; 2]]) -> Vec<Difference> {
        let blocks: BTreeMap<Block, Scoreboard> =
            errors.iter().enumerate().map(|(i, errors)| (("event".into(), i as i64), board(*errors))).collect();
        let mut whole = board([0.0, 0.0]);
        blocks.values().for_each(|block| whole.merge(block));
        differences(&blocks, &whole)
    }

    #[test]
    fn one_that_is_always_better_is_and_few_blocks_decide_nothing() {
        let found_many = found(&[[1.0, 2.0]; 6]);
        // All leads and one lead, empirical and fair.
        assert_eq!(found_many.len(), 4);
        assert!(found_many.iter().all(|d| d.verdict == "better" && d.difference < 0.0 && d.high < 0.0));
        assert!(found(&[[1.0, 2.0]; 4]).iter().all(|d| d.verdict == "undecided"));
        assert!(found(&[[2.0, 1.0]; 6]).iter().all(|d| d.verdict == "worse"));
        let mixed = found(&[[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [2.0, 1.0]]);
        assert!(mixed.iter().all(|d| d.verdict == "undecided"));
    }

    #[test]
    fn tables_have_a_row_for_each_and_rows_every_number() {
        let board = board([1.0, 2.0]);
        let table = pooled_table(&board);
        assert!(
            table.contains("| model | CRPS | fair CRPS | CSI 1 | frequency bias of the mean 1 | power at 4 |"),
            "{table}"
        );
        assert_eq!(table.lines().filter(|line| line.starts_with("| new") || line.starts_with("| old")).count(), 2);
        let rows = rows(&board);
        let of = |model: &str, lead: Option<f64>, score: &str| {
            let is_it = |row: &&Row| row.model == model && row.lead_minutes == lead && row.score == score;
            rows.iter().find(is_it).and_then(|row| row.value)
        };
        assert_eq!(of("new", Some(5.0), "crps"), of("new", None, "crps"));
        assert!(of("old", None, "crps_fair") > of("new", None, "crps_fair"));
        assert!(rows.iter().any(|row| row.score == "rapsd_ratio" && row.scale == Some(4.0)));
        let differences = found(&[[1.0, 2.0]; 5]);
        let table = difference_table(&differences, 5);
        assert!(table.contains("| old | CRPS | all | -") && table.contains("| old | fair CRPS | 5 | -"), "{table}");
    }
}
