//! `squall model score`: a model beside its rivals, on the same cases and cells.

mod report;

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use squall_fields::{Unit, Variable};
use squall_models::scores::Scoreboard;
use squall_models::scores::list::{self, Settings};
use squall_models::scores::precision::{PRECISION, PRECISION_WET};
use squall_models::training::validate::{self, Contestant};

use super::asked::{DataArguments, Gathered};
use crate::backtest::contestants::{Asked, label};
use crate::commands::verify::FssArguments;
use crate::commands::{Usage, print};
use report::{Block, Difference, Row, block, difference_table, differences, pooled_table, rows};

/// Examples that `--help` shows.
pub(super) const EXAMPLES: &str = "Examples:
  squall model score models/weights/cogdpm-rain.safetensors --events configs/events.toml --split test --leads 8
  squall model score models/weights/cogdpm-rain.safetensors --data radar_fmi_20170509.nc --data radar_mch_20150515.nc
  squall model score configs/calibrated/steps.toml --against steps:24,extrapolation:24 --data radar_fmi_20170509.nc";

/// Arguments of `squall model score`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Model: weights (safetensors), a file of `squall model calibrate`, or a baseline; members behind a colon.
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    data: DataArguments,
    /// Models beside it, named alike; default: persistence and, of rain, extrapolation with one member and with as many
    /// as MODEL, of wind damped-persistence.
    #[arg(long, value_delimiter = ',', value_name = "MODELS")]
    against: Option<Vec<String>>,
    /// Members of MODEL; default: what its name says behind a colon, or as many as it was calibrated with, or 8.
    #[arg(long)]
    members: Option<usize>,
    /// Thresholds of the CSI of the ensemble mean.
    #[arg(long, value_delimiter = ',', default_values_t = [0.1, 1.0, 5.0])]
    thresholds: Vec<f32>,
    /// Sides of windows, of scores that have such, in cells.
    #[arg(long, value_delimiter = ',', default_values_t = [9])]
    scales: Vec<usize>,
    #[command(flatten)]
    fss: FssArguments,
    /// Scores by their names in docs/verification.md. Default: those that tell good from bad, and what members look like.
    #[arg(long, value_delimiter = ',')]
    scores: Option<Vec<String>>,
    /// How they are printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// How scores are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a person, as Markdown: by lead, over all leads, and differences.
    Table,
    /// Every number, as one object.
    Json,
}

/// Scores that each lead has a row of in the table, unless others are asked for.
const BY_LEAD: [&str; 5] = ["crps", "csi", "spread-skill", "precision", "precision-wet"];
/// Scores of what members look like.
const LOOKS: [&str; 2] = ["rank", "spectrum"];
/// The same of rain.
const LOOKS_OF_RAIN: [&str; 3] = ["wet-area", "maximum", "spectrum-log"];

/// What `--format json` prints.
#[derive(Serialize)]
struct Json<'a> {
    cases: usize,
    size: usize,
    events: Vec<String>,
    blocks: usize,
    models: Vec<ModelOf<'a>>,
    scores: Vec<Row>,
    differences: Vec<Difference>,
}

/// A model that was scored.
#[derive(Serialize)]
struct ModelOf<'a> {
    name: &'a str,
    what: String,
    members: usize,
    digest: String,
    seconds_a_forecast: f64,
}

/// The sums of all cases, and of each block.
struct Scored {
    board: Scoreboard,
    blocks: BTreeMap<Block, Scoreboard>,
    seconds: Vec<f64>,
    digests: Vec<String>,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (thresholds, scales) = (self.thresholds.clone(), self.scales.clone());
        let settings = Settings { thresholds, scales, fss: self.fss.options() };
        let start =
            |names: &[String]| list::start(names, &settings).map_err(|error| Usage(format!("--scores: {error}")));
        let asked = self.scores.as_deref().map(start).transpose()?;
        let gathered = self.data.gather(&self.names()?)?;
        gathered.leaks()?.iter().for_each(|leak| eprintln!("warning: {leak}"));
        let variables = &gathered.contestants.streams()[0].source.variables;
        let scores = asked.map_or_else(|| start(&usual(variables)), Ok)?;
        let scored = score(&gathered, &Scoreboard::new(scores))?;
        let differences = differences(&scored.blocks, &scored.board);
        if self.format == Format::Json {
            let json = self.json(&gathered, &scored, differences);
            print(&format!("{}\n", serde_json::to_string_pretty(&json)?));
            return Ok(());
        }
        let usual = ["CRPS", "CSI", "spread/skill"];
        let by_lead = scored.board.markdown_of(|score| self.scores.is_some() || usual.contains(&score.name()));
        print(&by_lead);
        print(&pooled_table(&scored.board));
        print(&difference_table(&differences, scored.blocks.len()));
        print(&self.summary(&scored, &gathered));
        Ok(())
    }

    fn json<'a>(&self, gathered: &'a Gathered, scored: &Scored, differences: Vec<Difference>) -> Json<'a> {
        let cases = gathered.cases.len();
        let each = scored.seconds.iter().zip(&scored.digests);
        let models = gathered.contestants.described().zip(each).map(|((name, what, members), (seconds, digest))| {
            ModelOf { name, what, members, digest: digest.clone(), seconds_a_forecast: seconds / cases as f64 }
        });
        Json {
            cases,
            size: self.data.size,
            events: gathered.events(),
            blocks: scored.blocks.len(),
            models: models.collect(),
            scores: rows(&scored.board),
            differences,
        }
    }

    /// The model and those beside it.
    fn names(&self) -> anyhow::Result<Vec<String>> {
        let own = self.members.map_or_else(|| self.model.clone(), |members| format!("{}:{members}", self.model));
        let mut names = vec![own];
        match &self.against {
            Some(against) => names.extend(against.iter().cloned()),
            None => names.extend(rivals(&names[0], Asked::parse(&names[0])?.members)?),
        }
        Ok(names)
    }

    fn summary(&self, scored: &Scored, gathered: &Gathered) -> String {
        let (cases, size, board) = (gathered.cases.len(), self.data.size, &scored.board);
        let mut text = format!("\n{cases} cases of {size} x {size} cells at most: {}\n", gathered.events().join(", "));
        for (model, stream) in gathered.contestants.streams().iter().enumerate() {
            let each = scored.seconds[model] / cases as f64;
            text += &format!("{}: {} members, {each:.1} s a forecast", stream.name, stream.members);
            let precision = |name| board.pooled(model, board.score(name)?);
            if let Some((all, wet)) = precision(PRECISION).zip(precision(PRECISION_WET)) {
                text += &format!(
                    "; rank correlation of the precision map with the absolute error of the ensemble mean {all:.3}, \
                     where it rains {wet:.3}"
                );
            }
            text.push('\n');
        }
        text
    }
}

/// The scores of variables, unless others are asked for.
fn usual(variables: &[Variable]) -> Vec<String> {
    let is_rain = !variables.iter().any(|variable| variable.unit() == Unit::MetresPerSecond);
    let looks = LOOKS.iter().chain(LOOKS_OF_RAIN.iter().filter(|_| is_rain));
    BY_LEAD.iter().chain(looks).map(|name| (*name).to_owned()).collect()
}

/// Forecasts every case by every model, and scores them on the same cells.
fn score(gathered: &Gathered, empty: &Scoreboard) -> anyhow::Result<Scored> {
    let mut models = gathered.models()?;
    let digests = models.iter().map(|ready| ready.model.digest().to_owned()).collect();
    let mut board = empty.clone();
    for ready in &models {
        board.enter(&ready.name);
    }
    let (mut blocks, mut seconds) = (BTreeMap::new(), vec![0.0; models.len()]);
    let nothing = board.clone();
    let bar = ProgressBar::new((gathered.cases.len() * models.len()) as u64)
        .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} forecasts scored")?);
    for case in &gathered.cases {
        let mut contestants: Vec<Contestant<'_>> = models
            .iter_mut()
            .map(|ready| Contestant { name: ready.name.clone(), model: &mut *ready.model, members: ready.members })
            .collect();
        let cases = std::slice::from_ref(&case.case);
        let scores = empty.scores().to_vec();
        let one = validate::score(&mut contestants, cases, gathered.leads, scores, || bar.inc(1))?;
        board.merge(&one.board);
        let own = blocks.entry(block(&case.event, case.case.window.issue_time));
        own.or_insert_with(|| nothing.clone()).merge(&one.board);
        seconds.iter_mut().zip(&one.seconds).for_each(|(sum, more)| *sum += more);
    }
    bar.finish_and_clear();
    Ok(Scored { board, blocks, seconds, digests })
}

/// Who a model is compared with if nobody says: of wind those that forecast wind.
fn rivals(model: &str, members: usize) -> anyhow::Result<Vec<String>> {
    let mut rivals = vec!["persistence".to_owned()];
    if Asked::takes(model, &[Variable::RainRate])? {
        rivals.extend(["extrapolation".to_owned(), format!("extrapolation:{members}")]);
    } else {
        rivals.push(format!("damped-persistence:{members}"));
    }
    // What is scored is no rival of its own.
    rivals.retain(|rival| label(rival) != label(model));
    Ok(rivals)
}
