//! How long after the last needed frame a forecast is committed, as a `read_committed` consumer sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::rain::{Rain, rfc3339};
use crate::setting::LIMIT;
use crate::{Kafka, Setting};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Frames that stream in.
    pub frames: usize,
    /// Seconds from one to the next.
    pub cadence: i64,
    /// Rows and columns of each.
    pub size: usize,
    /// Members of each forecast.
    pub members: usize,
    /// Leads of each forecast.
    pub leads: usize,
    /// A model beside it with as many members and leads, both scored.
    pub companion: Option<String>,
}

/// Frames of a window.
const WINDOW: usize = 3;

/// What came of it, in milliseconds.
pub struct Report {
    /// Of the first forecast, for which much is done for the first time.
    first: i64,
    /// Of all, from the shortest to the longest.
    sorted: Vec<i64>,
}

impl Report {
    /// The latency that so many of a hundred forecasts do not exceed.
    pub fn percentile(&self, percent: usize) -> i64 {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted[rank - 1]
    }
}

/// As one line of JSON.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| self.percentile(percent));
        let (count, first, most) = (self.sorted.len(), self.first, self.percentile(100));
        write!(
            f,
            "{{\"forecasts\":{count},\"first_ms\":{first},\"p50_ms\":{p50},\"p90_ms\":{p90},\"p99_ms\":{p99},\"max_ms\":{most}}}"
        )
    }
}

/// Streams frames in as they would come from a radar, and measures each forecast of persistence, which costs the model
/// nothing: from the broker's timestamp of the frame to the moment at which a consumer has the forecast's index record.
pub fn measure(options: &Options) -> Report {
    let &Options { frames, cadence, size, members, leads, .. } = options;
    let mut setting = Setting::new("latency");
    setting.clock = "wall";
    setting.stream = format!(
        "model = {{ name = \"persistence\" }}\nwindow_frames = {WINDOW}\nleads = {leads}\nmembers = {members}\n\
         thresholds = [0.1, 1.0, 5.0]\n"
    );
    if let Some(companion) = &options.companion {
        let topics = ["scores", "statistics"].map(|kind| format!("{kind} = \"{}\"", setting.topic(kind))).join(", ");
        setting.more = format!(
            "[streams.companions.other]\nmodel = {{ name = \"{companion}\" }}\nmembers = {members}\n\
             [streams.verification]\ntopics = {{ {topics} }}\n"
        );
    }
    let config = setting.config();
    let text = fs::read_to_string(&config).expect("the configuration");
    fs::write(&config, text.replace("cadence = \"5 min\"", &format!("cadence = \"{cadence} s\""))).expect("a file");
    let mut running = setting.start(&["run", &config]);
    running.until_said(LIMIT, "the start", |said| said.contains("running"));

    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs() as i64;
    let first = rfc3339((now / cadence + 2) * cadence);
    let (frames, size) = (frames.to_string(), format!("{size}x{size}"));
    let every = format!("{cadence} s");
    let storm = ["--frames", &frames, "--size", &size, "--cadence", &every, "--start", &first];
    let rain = Rain::storm(setting.folder(), "storm.nc", &storm);
    let file = rain.file.display().to_string();
    let mut publisher = setting.start(&["publish", &file, "--config", &config, "--speed", "1x"]);

    let mut seen = BTreeMap::new();
    let expected = rain.slots.len() + 1 - WINDOW;
    let consumer = Kafka::shared().follow(&setting.topic("index"));
    let limit = Duration::from_secs(cadence as u64 * rain.slots.len() as u64) + LIMIT;
    running.until(limit, "every forecast", || {
        for (record, at_ms) in consumer.take(Duration::from_millis(5)) {
            seen.entry(record.header("issue-time")).or_insert(at_ms);
        }
        seen.len() >= expected
    });
    assert!(publisher.end(LIMIT).success(), "{}", publisher.output());
    let appended = Kafka::shared().read(&setting.topic("observations"));
    let mut latencies: Vec<i64> = rain
        .slots
        .iter()
        .zip(appended)
        .skip(WINDOW - 1)
        .map(|(slot, record)| {
            seen.get(&rfc3339(*slot)).unwrap_or_else(|| panic!("no forecast of {}", rfc3339(*slot)))
                - record.timestamp_ms
        })
        .collect();
    let first = latencies.first().copied().unwrap_or(0);
    latencies.sort_unstable();
    Report { first, sorted: latencies }
}
