//! How fast an archive is replayed through a real broker.

use std::fmt;
use std::time::Instant;

use crate::rain::Rain;
use crate::setting::LIMIT;
use crate::{Kafka, Setting};

/// What is replayed.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// Leads of each forecast of persistence.
    pub leads: usize,
    /// The product that is made of it: `mean` or `ensemble`.
    pub products: &'static str,
    /// What it is scored by while it runs: names, or nothing for those that a stream has by default; `None` scores nothing.
    pub scores: Option<&'static str>,
}

/// What came of it.
pub struct Report {
    of: Replay,
    forecasts: usize,
    /// Of the observations.
    seconds: f64,
    /// From the start of the program to its end.
    took: f64,
    /// The same of an empty topic: what starting and ending takes.
    starting: f64,
}

/// As one line of JSON.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of: Replay { leads, products, scores }, forecasts, seconds, took, starting } = self;
        let scores = match scores {
            None => "none",
            Some("") => "default",
            Some(scores) => scores,
        };
        let net = (took - starting).max(0.001);
        write!(
            f,
            "{{\"products\":\"{products}\",\"scores\":\"{scores}\",\"leads\":{leads},\"forecasts\":{forecasts},\
             \"observed_s\":{seconds},\"took_s\":{took:.2},\"starting_s\":{starting:.2},\"times_real_time\":{:.0},\
             \"times_real_time_without_start\":{:.0}}}",
            seconds / took,
            seconds / net
        )
    }
}

/// Replays an archive that lies on a topic.
pub fn measure(rain: &Rain, of: Replay) -> Report {
    let run = |publishes: bool| {
        let mut setting = Setting::new("replay");
        let Replay { leads, products, scores } = of;
        setting.stream = format!(
            "model = {{ name = \"persistence\" }}\nwindow_frames = 2\nleads = {leads}\nmembers = 1\n\
             products = [\"{products}\"]\nthresholds = [0.1, 1.0, 5.0]\n"
        );
        if let Some(scores) = scores {
            let [of_scores, statistics] = ["scores", "statistics"].map(|kind| setting.topic(kind));
            let chosen = if scores.is_empty() { String::new() } else { format!("scores = [\"{scores}\"]\n") };
            setting.more = format!(
                "[streams.verification]\n{chosen}topics = {{ scores = \"{of_scores}\", statistics = \"{statistics}\" }}\n"
            );
        }
        if publishes {
            setting.publish(&rain.file);
        } else {
            Kafka::shared().create(&setting.topic("observations"), 1);
        }
        let started = Instant::now();
        let mut arguments = vec!["run".to_owned(), setting.config()];
        if !publishes {
            arguments.extend(["--set", "runtime.clock=wall"].map(str::to_owned));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut running = setting.start(&arguments);
        if !publishes {
            running.until_said(LIMIT, "the start", |said| said.contains("running"));
            running.terminate();
        }
        assert!(running.end(LIMIT).success(), "{}", running.output());
        let took = started.elapsed().as_secs_f64();
        (took, if publishes { Kafka::shared().read(&setting.topic("index")).len() } else { 0 })
    };
    let (starting, _) = run(false);
    let (took, forecasts) = run(true);
    let seconds = rain.slots.last().zip(rain.slots.first()).map_or(0.0, |(last, first)| (last - first) as f64);
    Report { of, forecasts, seconds, took, starting }
}
