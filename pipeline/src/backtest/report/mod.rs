//! The report of a backtest as one HTML file: which forecast is better, by how much, how sure that is, and where each
//! of them is wrong.
//!
//! The page needs nothing from outside, runs no script and can be printed. It shows what it is given and computes no
//! score; the same numbers go into JSON, as every type here is serializable. A list that is empty leaves its section
//! out; a value that is missing is a gap or a dash, never zero.

use serde::Serialize;

pub use crate::verify::curves::Point;

mod axis;
mod by_lead;
mod chart;
mod curves;
mod format;
mod look;
mod meaning;
mod page;
#[cfg(test)]
mod sample;
mod score_table;
mod subject;
mod svg;
mod tables;
mod verdicts;

/// Name of the event in [`Row`] that is all events pooled.
pub const ALL_EVENTS: &str = "all";

/// Everything a backtest found out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// Program and version.
    pub made_by: String,
    /// From when to when, as it shall be read.
    pub period: String,
    /// Unit of the variable, such as `mm/h`.
    pub unit: String,
    /// The quantities; of several each number says of which it is.
    pub variables: Vec<String>,
    /// The models, in the order in which they stand everywhere.
    pub models: Vec<Model>,
    /// What was forecast.
    pub events: Vec<Event>,
    /// Scores of each event and of all of them ([`ALL_EVENTS`]).
    pub scores: Vec<Row>,
    /// How sure the scores are, those of all events and of each.
    pub intervals: Vec<Interval>,
    /// Which model is better than which.
    pub verdicts: Vec<Verdict>,
    /// x is the forecast probability, y the observed frequency, `count` the number of cases.
    pub reliability: Vec<Curve>,
    /// Where observations lie among the members.
    pub ranks: Vec<Ranks>,
    /// x is the wavelength in km, y the power of the members over that of the observations.
    pub spectra: Vec<Curve>,
    /// x is the false alarm rate, y the hit rate.
    pub roc: Vec<Curve>,
    /// x is the ratio of cost to loss, y the value.
    pub economic_value: Vec<Curve>,
    /// Pictures.
    pub maps: Vec<MapImage>,
    /// How long forecasts took.
    pub timeliness: Vec<Timeliness>,
    /// What else a reader should know, a paragraph each.
    pub notes: Vec<String>,
}

/// A forecast model that took part.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Model {
    /// Name, the same everywhere in the report.
    pub name: String,
    /// What it is, in a sentence.
    pub description: String,
    /// Which file and settings exactly.
    pub digest: String,
    /// Size of its ensemble.
    pub members: usize,
    /// Issue times at which its fallback answered in its place, and is scored.
    pub fallbacks: usize,
    /// Issue times at which there was no forecast at all, and which count for no model.
    pub failures: usize,
}

/// A stretch of time that was forecast.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Event {
    /// Name, the same as in [`Row::event`].
    pub name: String,
    /// First issue time.
    pub from: String,
    /// Last issue time.
    pub to: String,
    /// Number of issue times.
    pub forecasts: usize,
    /// Area and spacing of the cells.
    pub grid: String,
}

/// One score.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// [`Event::name`], or [`ALL_EVENTS`].
    pub event: String,
    /// [`Model::name`].
    pub model: String,
    /// The quantity.
    pub variable: String,
    /// Lead time in minutes.
    pub lead_minutes: f64,
    /// Name as in files, such as `crps_fair`.
    pub score: String,
    /// Threshold of its event in the unit of the variable.
    pub threshold: Option<f32>,
    /// Side of its windows, or its wavelength, in cells.
    pub scale: Option<f64>,
    /// The score; `None` where it cannot be computed.
    pub value: Option<f64>,
    /// Number of cases.
    pub count: f64,
}

/// A 95 % bootstrap interval of a score.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Interval {
    /// [`Event::name`], or [`ALL_EVENTS`].
    pub event: String,
    /// [`Model::name`].
    pub model: String,
    /// The quantity.
    pub variable: String,
    /// Lead time in minutes.
    pub lead_minutes: f64,
    /// As in [`Row::score`].
    pub score: String,
    /// Threshold of its event in the unit of the variable.
    pub threshold: Option<f32>,
    /// Side of its windows in cells.
    pub scale: Option<f64>,
    /// 2.5 % of the samples are below.
    pub low: f64,
    /// 2.5 % of the samples are above.
    pub high: f64,
    /// How long the blocks of the bootstrap are, in minutes: 60, or 30 of an event of few hours.
    pub block_minutes: i64,
}

impl Interval {
    /// Whether its blocks are shorter than an hour.
    fn is_of_short_blocks(&self) -> bool {
        (1..60).contains(&self.block_minutes)
    }
}

/// Whether a model is better than another one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// The one that is judged.
    pub model: String,
    /// The one it is compared with.
    pub against: String,
    /// The quantity.
    pub variable: String,
    /// As in [`Row::score`].
    pub score: String,
    /// Threshold of its event in the unit of the variable.
    pub threshold: Option<f32>,
    /// Lead time in minutes; `None` is all leads together.
    pub lead_minutes: Option<f64>,
    /// Score of `model` minus score of `against`.
    pub difference: f64,
    /// Low end of the 95 % interval of the difference.
    pub low: f64,
    /// High end of it.
    pub high: f64,
    /// Number of blocks of the bootstrap: independent pieces of time.
    pub blocks: usize,
    /// What follows.
    pub verdict: Decision,
}

/// What a comparison says of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is better than the other.
    Better,
    /// It is worse.
    Worse,
    /// The data do not say.
    #[default]
    Undecided,
}

/// A line of one model, whose axes depend on the list it stands in.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Curve {
    /// [`Model::name`].
    pub model: String,
    /// The quantity.
    pub variable: String,
    /// What it is of besides model, quantity and threshold, such as `30 min`; may be empty. Curves of the same label,
    /// quantity and threshold share a chart.
    pub label: String,
    /// Lead time in minutes; `None` is all leads together. Those of a lead are folded away.
    pub lead_minutes: Option<f64>,
    /// Threshold of its event in the unit of the variable.
    pub threshold: Option<f32>,
    /// In any order.
    pub points: Vec<Point>,
}

/// A rank histogram (Hamill 2001).
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ranks {
    /// [`Model::name`].
    pub model: String,
    /// The quantity.
    pub variable: String,
    /// Lead time in minutes; `None` is all leads together. Those of a lead are folded away.
    pub lead_minutes: Option<f64>,
    /// Observations below all members, then between each two of them, then above all: one more than members.
    pub ranks: Vec<f64>,
}

/// A picture.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MapImage {
    /// Heading.
    pub title: String,
    /// What can be seen on it.
    pub caption: String,
    /// The PNG file in base64.
    pub png_base64: String,
}

/// How long after its newest frame a forecast was there.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timeliness {
    /// [`Model::name`].
    pub model: String,
    /// Median in seconds.
    pub median_s: f64,
    /// 95th percentile in seconds.
    pub p95_s: f64,
    /// The slowest one in seconds.
    pub worst_s: f64,
    /// Forecasts that came too late.
    pub late: usize,
    /// All forecasts.
    pub forecasts: usize,
    /// x is a share of the forecasts in percent, y the seconds within which they were there.
    pub quantiles: Vec<Point>,
    /// Seconds from frame to frame, after which a forecast is late.
    pub cadence_s: Option<f64>,
}

impl Report {
    /// What is said of a quantity behind the name of a score: nothing where there is one alone, of which the title tells.
    fn of_variable(&self, variable: &str) -> String {
        match self.variables.len() {
            0 | 1 => String::new(),
            _ => format!(" of {}", variable.replace('_', " ")),
        }
    }

    /// The same at the beginning of a heading.
    fn called(&self, variable: &str) -> String {
        self.of_variable(variable).trim_start_matches(" of ").to_owned()
    }
}

/// The name of a score for people.
pub fn title_of(score: &str) -> &str {
    meaning::Meaning::of(score).title(score)
}

/// The report as one HTML file.
///
/// Never fails: what cannot be shown, such as a value that is not a number, is left out.
pub fn html(report: &Report) -> String {
    page::html(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_in_json_says_decisions_in_words() {
        let json = serde_json::to_value(sample::report()).unwrap_or_default();
        assert_eq!(json["verdicts"][0]["verdict"], "better");
        assert_eq!(json["scores"].as_array().map(Vec::len), Some(sample::report().scores.len()));
    }
}
