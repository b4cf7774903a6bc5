//! What hangs does not hang the rest: a frozen decoder holds up its own stream alone, a frozen device costs a stream
//! with a deadline its model, but not a forecast, and a frozen companion costs scores alone.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use squall_pipeline::http::get_text;
use squall_tests::forecasts::published_on;
use squall_tests::freeze::{FrozenProcesses, FrozenThread, children, memory};
use squall_tests::rain::{Rain, rfc3339};
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Running, Seen, Sent, Setting, models};

const CADENCE: i64 = 300;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// A storm up to now, as `squall publish` writes it, to be sent again frame by frame. The frames become known when they
/// are sent, long after their slots: the streams' horizon is longer.
fn frames(setting: &Setting, count: usize) -> (Vec<Seen>, Vec<i64>) {
    let first = now_ms() / 1000 / CADENCE * CADENCE - count as i64 * CADENCE;
    let (start, number) = (rfc3339(first), count.to_string());
    let arguments = ["--frames", &number, "--size", "48x48", "--variables", "rain", "--start", &start];
    let storm = Rain::storm(setting.folder(), "storm.nc", &arguments);
    let frames = setting.published(&storm.file);
    assert_eq!(frames.len(), count);
    (frames, storm.slots)
}

/// A live instance on one worker, fed by hand.
struct Live {
    setting: Setting,
    running: Running,
    address: String,
    frames: Vec<Seen>,
    slots: Vec<i64>,
}

impl Live {
    /// `streams`: name, and lines of TOML. Each has a source and a topic of its own.
    fn start(setting: Setting, count: usize, streams: &[(&str, String)]) -> Self {
        let (frames, slots) = frames(&setting, count);
        let topic = |kind: &str| setting.topic(kind);
        let mut text = format!(
            "name = \"{}\"\n[log]\nkind = \"kafka\"\nbootstrap_servers = \"{}\"\n[store]\nurl = \"{}\"\n\
             [runtime]\nclock = \"wall\"\nworkers = 1\n[metrics]\nlisten = \"127.0.0.1:0\"\n\
             [topics]\ndead_letters = \"{}\"\nprogress = \"{}\"\n",
            setting.prefix(),
            Kafka::shared().address(),
            setting.store().display(),
            topic("dead-letters"),
            topic("progress"),
        );
        for (name, lines) in streams {
            Kafka::shared().create(&topic(&format!("live-{name}")), 1);
            text += &format!(
                "[[sources]]\nname = \"{name}\"\ntopic = \"{}\"\nvariables = [\"rain_rate\"]\ncadence = \"5 min\"\n\
                 [[streams]]\nname = \"{name}\"\nsource = \"{name}\"\nwindow_frames = 2\nleads = 3\nmembers = 2\n\
                 horizon = \"2 d\"\nproducts = [\"ensemble\"]\ntopics = {{ index = \"{}\" }}\n{lines}\n",
                topic(&format!("live-{name}")),
                topic(&format!("{name}.index")),
            );
        }
        let config = setting.folder().join("live.toml");
        fs::write(&config, text).expect("a configuration file");
        let mut running = setting.start(&["run", &config.display().to_string(), "--log-format", "json"]);
        let address = models::address(&mut running);
        Self { setting, running, address, frames, slots }
    }

    fn send(&self, stream: &str, frames: std::ops::Range<usize>) {
        let records: Vec<_> = self.frames[frames].iter().map(|frame| Sent::again(frame, 0, now_ms())).collect();
        Kafka::shared().write(&self.setting.topic(&format!("live-{stream}")), &records);
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // A counter that was never increased is not there.
        models::metric(&self.address, name, labels).unwrap_or(0.0)
    }

    /// Whether a stream has committed the forecast of a frame's slot.
    fn has(&self, stream: &str, frame: usize) -> bool {
        self.metric("squall_newest_issue_time_seconds", &[("stream", stream)]) >= self.slots[frame] as f64
    }

    fn until(&mut self, limit: Duration, what: &str, condition: impl Fn(&Self) -> bool) {
        let held = squall_tests::program::until(limit, || condition(self));
        assert!(held, "{what}?\n{}", self.running.output());
    }

    fn until_it_has(&mut self, stream: &str, frame: usize) {
        self.until(LIMIT, "a forecast", |live| live.has(stream, frame));
    }

    /// Ends it as an operator would, within a bound, and says how long that took.
    fn end(&mut self, frozen: Option<FrozenThread>, limit: Duration) -> Duration {
        let asked = Instant::now();
        self.running.terminate();
        if let Some(frozen) = frozen {
            frozen.until_dead(limit);
        }
        let status = self.running.end(limit);
        assert!(status.success(), "{status}:\n{}", self.running.output());
        asked.elapsed()
    }
}

#[test]
fn a_frozen_decoder_of_one_stream_does_not_hold_up_another() {
    const TRIES: usize = 8;
    let model = || "model = { name = \"extrapolation\" }".to_owned();
    let setting = Setting::new("frozen-decoder");
    let mut live = Live::start(setting, TRIES + 4, &[("stuck", model()), ("free", model())]);
    live.send("stuck", 0..2);
    live.until_it_has("stuck", 1);
    let helpers = children(live.running.pid());
    assert!(!helpers.is_empty(), "records are decoded in helper processes");
    let frozen = FrozenProcesses::new(helpers);
    live.send("stuck", 2..3);
    live.send("free", 0..2);
    live.until_it_has("free", 1);
    // On a machine as busy as this a single forecast may take its time: one of several must not.
    let in_time = (2..2 + TRIES).any(|frame| {
        live.send("free", frame..frame + 1);
        let sent = Instant::now();
        live.until_it_has("free", frame);
        sent.elapsed() < Duration::from_secs(1)
    });
    assert!(in_time, "the other stream goes on within 1 s:\n{}", live.running.output());
    assert!(!live.has("stuck", 2), "its decoder stands still");
    drop(frozen);
    live.until_it_has("stuck", 2);
    live.end(None, LIMIT);
    assert!(Kafka::shared().read(&live.setting.topic("dead-letters")).is_empty());
}

#[test]
fn a_frozen_device_costs_no_forecast_and_no_memory_and_is_named() {
    /// Windows that warm the allocator up, and those over which memory must be flat.
    const WARM: usize = 60;
    const WINDOWS: usize = WARM + 90;
    const BURST: usize = 10;
    let setting = Setting::new("frozen-device");
    let weights = models::small_model(setting.folder());
    let lines = format!("model = {{ file = \"{}\" }}\ndeadline = \"1500 ms\"", weights.display());
    let mut live = Live::start(setting, WINDOWS + 2, &[("rain", lines)]);
    live.send("rain", 0..2);
    live.until_it_has("rain", 1);
    let (device, stream) = ([("device", "cpu")], [("stream", "rain")]);
    // On a busy machine the first forecast may have missed the deadline by itself.
    let before = live.metric("squall_deadlines_missed_total", &stream);
    let frozen = FrozenThread::new(live.running.pid(), "device cpu");
    let mut at_first = 0;
    for first in (2..WINDOWS + 2).step_by(BURST) {
        live.send("rain", first..first + BURST);
        // In time: the deadline, what the fallback needs for ten forecasts, and room for a busy machine.
        live.until(Duration::from_secs(20), "forecasts by the deadline", |live| live.has("rain", first + BURST - 1));
        // What its queue has room for, and a batch.
        assert!(live.metric("squall_device_requests", &device) <= 12.0, "its queue does not grow");
        if first < WARM {
            at_first = memory(live.running.pid());
        }
    }
    let at_last = memory(live.running.pid());
    assert!(at_last < at_first + at_first / 10, "memory is flat: {at_first} bytes, then {at_last}");
    assert_eq!(live.metric("squall_deadlines_missed_total", &stream) - before, WINDOWS as f64);
    assert!(live.metric("squall_device_silent_seconds", &device) > 0.0);
    let (code, text) = get_text(&live.address, "/ready").expect("an answer");
    assert!(code == 503 && text.contains("device cpu has not answered"), "{code}: {text}");

    let took = live.end(Some(frozen), Duration::from_secs(10));
    assert!(took < Duration::from_secs(10), "it ended {} ms after SIGTERM", took.as_millis());
    let published = published_on(&live.setting.topic("rain.index"));
    let issued: Vec<_> = published.iter().map(|p| (p.issue_time.clone(), p.revision)).collect();
    let slots: Vec<_> = live.slots[1..].iter().map(|slot| (rfc3339(*slot), 0)).collect();
    assert_eq!(issued, slots, "one forecast for each slot, none lost, none twice");
    assert!(published[1..].iter().all(|p| p.reasons().contains("deadline")), "the fallback's, and they say so");
}

#[test]
fn a_frozen_companion_leaves_the_forecasts_and_how_long_they_take_as_they_are() {
    const TRIES: usize = 10;
    let setting = Setting::new("frozen-companion");
    let [scores, statistics, beside] = ["scores", "statistics", "rain.index.other"].map(|kind| setting.topic(kind));
    let lines = format!(
        "model = {{ name = \"extrapolation\" }}\n\
         companions.other = {{ model = {{ name = \"persistence\" }}, topics = {{}} }}\n\
         verification = {{ scores = [\"crps\"], topics = {{ scores = \"{scores}\", statistics = \"{statistics}\" }} }}"
    );
    let mut live = Live::start(setting, 2 + 2 * TRIES, &[("rain", lines)]);
    live.send("rain", 0..2);
    live.until_it_has("rain", 1);
    let one_by_one = |live: &mut Live, first: usize| {
        let forecast = |frame: usize| {
            live.send("rain", frame..frame + 1);
            let sent = Instant::now();
            live.until_it_has("rain", frame);
            sent.elapsed()
        };
        // On a busy machine one may take its time: what counts is how long it need take.
        (first..first + TRIES).map(forecast).min().expect("a forecast")
    };
    let by_companion = || published_on(&beside).len();
    let free = one_by_one(&mut live, 2);
    live.until(LIMIT, "the companion has made all, and rests", |_| by_companion() == 1 + TRIES);
    // `device cpu for companions`, as far as the system has it.
    let frozen = FrozenThread::new(live.running.pid(), "device cpu for");
    let beside_it = one_by_one(&mut live, 2 + TRIES);
    assert!(beside_it < 2 * free + Duration::from_millis(200), "{beside_it:?}, and {free:?} before");
    assert_eq!(by_companion(), 1 + TRIES, "it stands still");
    drop(frozen);
    live.until(LIMIT, "the companion has made the others", |_| by_companion() == 1 + 2 * TRIES);
    live.end(None, LIMIT);
    let published = published_on(&live.setting.topic("rain.index"));
    let issued: Vec<_> = published.iter().map(|p| (p.issue_time.clone(), p.revision, p.degraded())).collect();
    let slots: Vec<_> = live.slots[1..].iter().map(|slot| (rfc3339(*slot), 0, false)).collect();
    assert_eq!(issued, slots);
}
