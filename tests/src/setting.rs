//! What one test runs in: a folder, a prefix for its topics, a configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Kafka, Running, Seen, squall};

/// How long one command of a test may take on a busy machine with two cores.
pub const LIMIT: Duration = Duration::from_secs(240);

/// Folder, topics and configuration of one test.
pub struct Setting {
    folder: TempDir,
    prefix: String,
    /// Timely workers.
    pub workers: usize,
    /// Partitions of the observation topic.
    pub partitions: i32,
    /// Lines of TOML for the stream.
    pub stream: String,
    /// Lines of TOML for the source.
    pub source: String,
    /// The clock: `log` ends at the end of the log, `wall` runs until it is told to stop.
    pub clock: &'static str,
    /// Topic of observations, if it is not this test's own.
    pub observations: Option<String>,
    /// `bootstrap.servers`, if it is not the shared broker's.
    pub address: Option<String>,
    /// Name of the instance, if it is not the prefix of the topics.
    pub name: Option<String>,
    /// More lines of TOML, at the end.
    pub more: String,
}

impl Setting {
    /// A setting with one worker, one partition and a small extrapolation ensemble; its topics begin with `name`.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("{name}.{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let stream = "model = { name = \"extrapolation\" }\nwindow_frames = 3\nleads = 3\nmembers = 4\n\
                      thresholds = [0.1, 1.0, 5.0]\n";
        Self {
            folder: tempfile::Builder::new().prefix("squall-test-").tempdir().expect("a temporary folder"),
            prefix,
            workers: 1,
            partitions: 1,
            stream: stream.to_owned(),
            source: String::new(),
            clock: "log",
            observations: None,
            address: None,
            name: None,
            more: String::new(),
        }
    }

    /// The temporary folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The store of fields.
    pub fn store(&self) -> PathBuf {
        self.folder().join("store")
    }

    /// One of the test's topics: `observations`, `index`, `probabilities`, `quantiles`, `dead-letters`, `progress`.
    pub fn topic(&self, kind: &str) -> String {
        match &self.observations {
            Some(topic) if kind == "observations" => topic.clone(),
            _ => format!("{}.{kind}", self.prefix),
        }
    }

    /// The prefix of the test's topics.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `bootstrap.servers`.
    pub fn address(&self) -> &str {
        self.address.as_deref().unwrap_or_else(|| Kafka::shared().address())
    }

    /// Writes the configuration and says where.
    pub fn config(&self) -> String {
        let Self { prefix, workers, partitions, stream, source, clock, more, .. } = self;
        let (address, store) = (self.address(), self.store());
        let topic = |kind: &str| self.topic(kind);
        let text = format!(
            r#"
name = "{name}"
[log]
kind = "kafka"
bootstrap_servers = "{address}"
[store]
url = "{store}"
[runtime]
workers = {workers}
clock = "{clock}"
[topics]
dead_letters = "{dead_letters}"
progress = "{progress}"
[[sources]]
name = "radar"
topic = "{observations}"
partitions = {partitions}
variables = ["rain_rate"]
cadence = "5 min"
{source}
[[streams]]
name = "rain"
source = "radar"
{stream}
topics = {{ index = "{index}", probabilities = "{probabilities}", quantiles = "{quantiles}" }}
{more}
"#,
            name = self.name.as_deref().unwrap_or(prefix),
            store = store.display(),
            dead_letters = topic("dead-letters"),
            progress = topic("progress"),
            observations = topic("observations"),
            index = topic("index"),
            probabilities = topic("probabilities"),
            quantiles = topic("quantiles"),
        );
        let path = self.folder().join("squall.toml");
        fs::write(&path, text).expect("a configuration file");
        path.display().to_string()
    }

    /// Starts the binary with these arguments.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.folder(), &squall(), arguments)
    }

    /// Publishes an archive to the observation topic at full speed.
    pub fn publish(&self, file: &Path) -> String {
        let (config, file) = (self.config(), file.display().to_string());
        self.start(&["publish", &file, "--config", &config, "--speed", "max"]).success(LIMIT)
    }

    /// The records that `squall publish` writes of an archive, in the order of its frames, to be sent again by hand.
    pub fn published(&self, file: &Path) -> Vec<Seen> {
        self.publish(file);
        Kafka::shared().read(&self.topic("observations"))
    }

    /// Runs as often as `ends` has entries, each time until `more` records have been written to its topic of a kind, then
    /// kills the program (true) or stops it in order. There are as many topics of that kind once it runs.
    pub fn run_with_ends(&self, kind: &str, topics: usize, more: usize, ends: &[bool]) {
        let (config, topic) = (self.config(), self.topic(kind));
        for is_killed in ends {
            let mut running = self.start(&["run", &config]);
            running.until(LIMIT, "the topics are there", || Kafka::shared().topics(&topic).len() == topics);
            let following = Kafka::shared().follow(&topic);
            let before = Kafka::shared().read(&topic).len();
            let mut seen = 0;
            running.until(LIMIT, "more is written", || {
                seen += following.take(Duration::from_millis(5)).len();
                seen > before + more
            });
            if *is_killed {
                running.kill();
            } else {
                running.terminate();
                let said = running.success(LIMIT);
                assert!(!said.contains("stops without what is under way"), "{said}");
            }
        }
    }

    /// Runs to the end of the log.
    pub fn run(&self) -> String {
        self.start(&["run", &self.config()]).success(LIMIT)
    }
}
