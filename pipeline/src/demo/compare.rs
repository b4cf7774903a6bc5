//! A trained model beside the demo's own: the same event, a few of its issue times.
//!
//! On two cores a diffusion model takes as long for one forecast as the extrapolation for all of them. A stream answers
//! every window, so a second stream would make the demo wait for half an hour, and one that left windows out would be a
//! stream that exists for the demo alone. So the model is asked through the pure cores of a stream ([`Once`], whose
//! fields are those of the stream bit for bit), after the first stream has ended and has left it the processor, and for
//! as many issue times as there is time for: how many is decided by how long one member took.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use squall_fields::{Forecast, IssueTime};
use squall_models::diffusion::Options;
use squall_models::weights;
use squall_operators::encode::file_name;
use squall_operators::products::products;

use super::board::Joint;
use super::{Demo, EVENT_MM_H, Outcome};
use crate::config::{ModelConfig, StreamConfig};
use crate::dashboard::Dashboard;
use crate::once::Once;
use crate::signals::Stop;
use crate::{maps, runtime};

/// Where the weights lie in the folder that Squall was built from.
const WEIGHTS: &str = "models/weights/cogdpm-rain.safetensors";

/// The weights that come with Squall: from the working folder, or else from any folder above the program.
pub fn shipped_weights() -> Option<PathBuf> {
    let program = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let above = program.iter().flat_map(|program| program.ancestors().skip(1)).map(|folder| folder.join(WEIGHTS));
    std::iter::once(PathBuf::from(WEIGHTS)).chain(above).find(|path| path.is_file())
}

/// What the comparison has made.
#[derive(Debug)]
pub struct Compared {
    /// Scores on the same issue times and cells.
    pub board: Joint,
    /// Name of the model.
    pub model: String,
    /// Members of its forecasts: as many as the demo's, or fewer if even one forecast of so many took too long.
    pub members: usize,
    /// Issue times that both models forecast.
    pub forecasts: usize,
    /// How long it took.
    pub took: Duration,
}

impl Demo {
    /// Forecasts issue times of the event by a trained model, as many as fit in `time` but at least one, draws them
    /// beside what the demo forecast and scores both together.
    ///
    /// # Errors
    /// The weights cannot be read or do not fit the event, or the store failed.
    pub fn compare(
        &self,
        weights: &Path,
        time: Duration,
        outcome: &Outcome,
        dashboard: &Dashboard,
        stop: &Stop,
    ) -> anyhow::Result<Compared> {
        let started = Instant::now();
        let stream = self.second_stream(weights)?;
        let mut once = Once::new(&stream)?;
        let times = self.candidates(&stream, outcome);
        let middle = *times.get(times.len() / 2).context("no issue time has a whole window of both models")?;
        let member = self.time_of_member(&mut once, middle)?;
        let left = time.saturating_sub(started.elapsed());
        // On a slow machine fewer members, rather than none in time.
        let members = affordable(left, member, stream.members);
        let count = affordable(left, member * members as u32, times.len());
        once.set_members(members);
        let mut board = Joint::new(&[&stream.name, &outcome.model], EVENT_MM_H)?;
        let (task, mut forecasts, mut longest) = (dashboard.task(&stream.name, count as u64), 0, Duration::ZERO);
        for issue_time in spread(&times, count) {
            // What was promised from one member may turn out longer.
            if stop.is_set() || forecasts > 0 && started.elapsed() + longest > time {
                break;
            }
            let begun = Instant::now();
            let forecast = self.ask(&mut once, issue_time)?;
            longest = longest.max(begun.elapsed());
            let path = self.beside(&forecast, outcome, &mut board)?;
            forecasts += 1;
            let took = begun.elapsed().as_secs_f64();
            dashboard.line(&format!("{issue_time}  {} in {took:.0} s  {}", stream.name, path.display()));
            task.step(issue_time.to_string());
        }
        task.end("");
        Ok(Compared { board, model: stream.name.to_string(), members, forecasts, took: started.elapsed() })
    }

    /// The demo's stream, with a trained model and what it was trained with.
    fn second_stream(&self, weights: &Path) -> anyhow::Result<StreamConfig> {
        let first = self.config.streams.first().context("the demo has a stream")?.clone();
        let spec = weights::describe(weights)?.metadata.spec;
        let options = Options { device: first.device.to_string(), ..Options::default() };
        Ok(StreamConfig {
            name: spec.name.as_str().into(),
            window_frames: spec.context,
            leads: first.leads.min(spec.leads),
            model: ModelConfig::File { file: weights.to_owned(), watch: None, options },
            ..first
        })
    }

    /// Issue times that the demo has forecast and whose window is whole: those of which all leads were observed, or,
    /// if there are none, all of them.
    fn candidates(&self, stream: &StreamConfig, outcome: &Outcome) -> Vec<IssueTime> {
        let is_known = |time: &IssueTime, from: i64, to: i64| {
            (from..=to).all(|step| self.event.at(stream.source.cadence.step(time.slot(), step)).is_some())
        };
        let window = 1 - stream.window_frames as i64;
        let whole: Vec<_> = outcome.files.keys().copied().filter(|time| is_known(time, window, 0)).collect();
        let observed: Vec<_> = whole.iter().copied().filter(|time| is_known(time, 1, stream.leads as i64)).collect();
        if observed.is_empty() { whole } else { observed }
    }

    fn time_of_member(&self, once: &mut Once<'_>, issue_time: IssueTime) -> anyhow::Result<Duration> {
        once.set_members(1);
        let started = Instant::now();
        self.ask(once, issue_time)?;
        Ok(started.elapsed())
    }

    fn ask(&self, once: &mut Once<'_>, issue_time: IssueTime) -> anyhow::Result<Forecast> {
        let forecast = once.forecast_from(self.event.frames.iter().cloned().map(Ok), issue_time)?;
        // A fallback would be compared with itself.
        anyhow::ensure!(!forecast.is_degraded(), "{issue_time}: {:?}", forecast.provenance.degraded);
        Ok(forecast)
    }

    /// Stores, scores and draws a forecast beside the demo's of the same issue time.
    fn beside(&self, forecast: &Forecast, outcome: &Outcome, board: &mut Joint) -> anyhow::Result<PathBuf> {
        let issue_time = forecast.id.issue_time;
        let (encoder, wanted) = (runtime::encoder(&self.config), self.config.streams[0].products.to_make());
        let bytes =
            encoder.encode(forecast, &products(forecast, &wanted)).context("cannot write the forecast as NetCDF")?;
        self.store.put(&file_name(forecast, &bytes, encoder.extension()), &bytes)?;
        let other = self.fetch(&outcome.files[&issue_time])?;
        let forecasts = [forecast, &other];
        board.add(&forecasts, |time| self.event.frames.iter().find(|f| f.slot == time).map(|f| &**f));
        let page = maps::comparison::page(&forecasts, &|time| self.event.at(time))?;
        self.write_map("compared", issue_time, &page)
    }
}

/// How many things that take so long each fit in a time: at least 1, at most `most`.
fn affordable(time: Duration, each: Duration, most: usize) -> usize {
    ((time.as_secs_f64() / each.as_secs_f64().max(1e-9)) as usize).clamp(1, most.max(1))
}

/// The middle of each of `count` equal parts of a series.
fn spread(times: &[IssueTime], count: usize) -> impl Iterator<Item = IssueTime> {
    (0..count).map(move |part| times[(2 * part + 1) * times.len() / (2 * count)])
}

impl Compared {
    /// The last words: scores of both models and persistence.
    pub fn summary(&self) -> String {
        let (count, seconds) = (self.forecasts, self.took.as_secs_f64());
        let times = if count == 1 { "issue time" } else { "issue times" };
        format!(
            "\n{}\n{count} {times} by {} ({} members) in {seconds:.0} s; all models on the same cells, the CSI is that of the mean\n",
            self.board.table(),
            self.model,
            self.members
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_issue_times_as_fit_are_spread_over_the_event() {
        let times: Vec<_> = (0..15).map(|i| IssueTime::from_unix_seconds(300 * i)).collect();
        let count = affordable(Duration::from_secs(120), Duration::from_secs(25), times.len());
        let chosen: Vec<_> = spread(&times, count).map(|time| time.unix_seconds() / 300).collect();
        assert_eq!(chosen, [1, 5, 9, 13]);
        assert_eq!(affordable(Duration::from_secs(120), Duration::from_secs(500), 15), 1);
        assert_eq!(affordable(Duration::from_secs(120), Duration::ZERO, 15), 15);
    }
}
