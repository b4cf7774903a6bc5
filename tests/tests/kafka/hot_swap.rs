//! Files of models that change while their stream runs: better weights are taken up at a slot, without a restart; damaged
//! ones cost nothing but an alert; a stream that had to start with such is healed by sound ones; and a calibration that is
//! fitted to what a stream has published becomes that of the stream.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use squall_tests::forecasts::{Published, published_on};
use squall_tests::rain::{Rain, rfc3339};
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Running, Seen, Sent, Setting, models};

const CADENCE: i64 = 300;
/// Frames that can be published: more than the test needs, and none more than an hour ahead, which Kafka refuses.
const FRAMES: usize = 14;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// A live instance with two streams of one source, and the frames that it will be fed with.
struct Live {
    setting: Setting,
    running: Running,
    address: String,
    /// In the order of their slots: the first two lie in the past, the others begin with the present slot. Frames ahead
    /// of the clock are forecast from as soon as they come, so that nothing here waits for the next five minutes.
    frames: Vec<Seen>,
    slots: Vec<i64>,
    sent: usize,
}

impl Live {
    /// With these models, as a configuration names them.
    fn start(setting: Setting, models: [&str; 2]) -> Self {
        let first = now_ms() / 1000 / CADENCE * CADENCE - 2 * CADENCE;
        let (start, frames) = (rfc3339(first), FRAMES.to_string());
        let arguments = ["--frames", &frames, "--size", "48x48", "--variables", "rain", "--start", &start];
        let storm = Rain::storm(setting.folder(), "storm.nc", &arguments);
        // As `squall publish` writes them, to be sent again one by one.
        let frames = setting.published(&storm.file);
        assert_eq!(frames.len(), FRAMES);
        Kafka::shared().create(&setting.topic("live"), 1);
        let config = setting.folder().join("live.toml");
        fs::write(&config, Self::config(&setting, models)).expect("a configuration file");
        let mut running = setting.start(&["run", &config.display().to_string(), "--log-format", "json"]);
        let address = models::address(&mut running);
        Self { setting, running, address, frames, slots: storm.slots, sent: 0 }
    }

    fn config(setting: &Setting, models: [&str; 2]) -> String {
        let topic = |kind: &str| setting.topic(kind);
        let mut text = format!(
            "name = \"{}\"\n[log]\nkind = \"kafka\"\nbootstrap_servers = \"{}\"\n[store]\nurl = \"{}\"\n\
             [runtime]\nclock = \"wall\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n\
             [topics]\ndead_letters = \"{}\"\nprogress = \"{}\"\n\
             [[sources]]\nname = \"radar\"\ntopic = \"{}\"\nvariables = [\"rain_rate\"]\ncadence = \"5 min\"\n\
             future_tolerance = \"1 d\"\n",
            setting.prefix(),
            Kafka::shared().address(),
            setting.store().display(),
            topic("dead-letters"),
            topic("progress"),
            topic("live"),
        );
        for (name, model) in ["swapped", "healed"].into_iter().zip(models) {
            text += &format!(
                "[[streams]]\nname = \"{name}\"\nsource = \"radar\"\nwindow_frames = 2\nleads = 3\nmembers = 2\n\
                 model = {model}\nproducts = [\"ensemble\"]\n\
                 topics = {{ index = \"{}\" }}\n",
                topic(&format!("{name}.index")),
            );
        }
        text
    }

    /// Sends one more frame.
    fn send(&mut self) {
        let record = Sent::again(&self.frames[self.sent], 0, now_ms());
        Kafka::shared().write(&self.setting.topic("live"), &[record]);
        self.sent += 1;
    }

    /// Sends one more frame and waits for both streams' forecasts of its slot.
    fn forecast(&mut self) {
        assert!(self.sent < FRAMES, "no frame is left:\n{}", self.running.output());
        self.send();
        let (address, slot) = (&self.address, self.slots[self.sent - 1] as f64);
        for stream in ["swapped", "healed"] {
            let newest = || models::metric(address, "squall_newest_issue_time_seconds", &[("stream", stream)]);
            self.running.until(LIMIT, "a forecast", || newest().is_some_and(|newest| newest >= slot));
        }
    }

    fn metric(&self, name: &str, stream: &str) -> Option<f64> {
        models::metric(&self.address, name, &[("stream", stream)])
    }

    fn uses(&self, stream: &str, digest: &str) -> bool {
        let labels = [("stream", stream), ("digest", digest)];
        models::metric(&self.address, "squall_model_in_use", &labels) == Some(1.0)
    }

    /// Waits until a stream has loaded a model so many times.
    fn until_loaded(&mut self, stream: &str, times: usize) {
        self.running.until_said(LIMIT, "the model is loaded", |output| {
            let log = models::log(output);
            let loaded = |line: &&serde_json::Value| line["message"] == "model loaded" && line["stream"] == stream;
            log.iter().filter(loaded).count() >= times
        });
    }

    /// Ends it cleanly; gives the forecasts of both streams.
    fn end(mut self) -> [Vec<Published>; 2] {
        self.running.terminate();
        let status = self.running.end(LIMIT);
        assert!(status.success(), "{status}:\n{}", self.running.output());
        let published = ["swapped", "healed"].map(|s| published_on(&self.setting.topic(&format!("{s}.index"))));
        // The first frame alone makes no window of two.
        let slots: Vec<_> = self.slots[1..self.sent].iter().map(|slot| (rfc3339(*slot), 0)).collect();
        for published in &published {
            let identities: Vec<_> = published.iter().map(|p| (p.issue_time.clone(), p.revision)).collect();
            assert_eq!(identities, slots, "one forecast for each slot, none lost, none twice");
        }
        published
    }
}

#[test]
fn a_new_weights_file_is_taken_up_at_a_slot_and_a_damaged_one_is_not() {
    let setting = Setting::new("weights");
    let folder = setting.folder().to_owned();
    let old = fs::read(models::small_model(&folder)).expect("a weights file");
    let at = old.windows(7).position(|part| part == b"small-a").expect("its name");
    let new = [&old[..at], b"small-b", &old[at + 7..]].concat();
    let damaged = &old[..old.len() / 2];
    let [swapped, healed] = ["swapped", "healed"].map(|name| folder.join(format!("{name}.safetensors")));
    models::replace(&swapped, &new);
    let new_digest = models::digest(&folder, &swapped);
    models::replace(&swapped, &old);
    let old_digest = models::digest(&folder, &swapped);
    models::replace(&healed, damaged);

    let watched = |path: &PathBuf| format!("{{ file = \"{}\", watch = true }}", path.display());
    let mut live = Live::start(setting, [&watched(&swapped), &watched(&healed)]);
    assert!(live.metric("squall_model_load_failures_total", "healed") >= Some(1.0), "the damaged file is counted");
    live.send();
    live.forecast();
    live.forecast();
    assert!(live.uses("swapped", &old_digest));

    models::replace(&swapped, &new);
    models::replace(&healed, &old);
    live.until_loaded("swapped", 2);
    live.until_loaded("healed", 1);
    // The new models serve from the next slot of the clock on: the second frame from here at the latest, unless the
    // clock itself passes a slot.
    while !(live.uses("swapped", &new_digest) && live.uses("healed", &old_digest)) {
        live.forecast();
    }
    assert!(!live.uses("swapped", &old_digest), "one model is in use at a time");
    live.forecast();

    models::replace(&swapped, damaged);
    let address = live.address.clone();
    let failures = || models::metric(&address, "squall_model_load_failures_total", &[("stream", "swapped")]);
    live.running.until(LIMIT, "the damaged file is counted", || failures() >= Some(1.0));
    live.forecast();
    live.forecast();
    assert_eq!(live.metric("squall_models_taken_up_total", "swapped"), Some(2.0), "at the start and once since");
    assert_eq!(live.metric("squall_forecasts_lost_total", "swapped"), None);

    let [swapped, healed] = live.end();
    let change = change(&swapped, &new_digest);
    assert!(change >= 2, "the first forecasts are by the old model");
    assert!(swapped[..change].iter().all(|p| p.model_digest() == old_digest));
    assert!(swapped.iter().all(|p| !p.degraded()), "nothing is degraded");
    let change = self::change(&healed, &old_digest);
    assert!(change >= 2, "the first forecasts are by the fallback");
    for one in &healed[..change] {
        assert!(one.degraded() && one.reasons().contains("healed.safetensors"), "{}", one.reasons());
    }
    assert!(healed[change..].iter().all(|p| !p.degraded()), "healed");
}

#[test]
fn a_calibration_fitted_to_what_was_published_is_taken_up_by_the_running_stream() {
    let setting = Setting::new("recalibrated");
    let fitted = setting.folder().join("fitted.toml");
    let (path, storm) = (fitted.display().to_string(), setting.folder().join("other.nc"));
    let storm = storm.display().to_string();
    let simulate = ["simulate", "--output", &storm, "--frames", "10", "--size", "48x48", "--variables", "rain"];
    setting.start(&simulate).success(LIMIT);
    let fit = ["model", "calibrate", "--model", "extrapolation:2", "--data", &storm, "--leads", "3", "--output", &path];
    setting.start(&fit).success(LIMIT);
    // Much too much rain.
    let text = fs::read_to_string(&fitted).expect("a fitted file");
    let (head, _) = text.split_once("[[calibration.variables]]").expect("corrections");
    let wrong = "[[calibration.variables]]\nname = \"rain_rate\"\nfloor = 0.1\nleads_seconds = [300]\nlevel = [1.6]\n\
                 spread = [1.0]\n";
    fs::write(&fitted, format!("{head}{wrong}")).expect("a fitted file");

    let model = format!("{{ calibrated = \"{path}\", watch = true }}");
    let mut live = Live::start(setting, [&model, "{ name = \"extrapolation\" }"]);
    live.send();
    for _ in 0..6 {
        live.forecast();
    }
    let config = live.setting.folder().join("live.toml").display().to_string();
    let renew = |stream: &str, output: &str| {
        let arguments =
            ["model", "calibrate", "--config", &config, "--stream", stream, "--every", "1", "--output", output];
        live.setting.start(&arguments)
    };
    let told = renew("swapped", &path).success(LIMIT);
    let numbers = |line: &str| {
        let words: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        <[f64; 5]>::try_from(words).expect("minutes, level, spread, CRPS before and after")
    };
    let leads: Vec<_> = told.lines().filter(|line| line.starts_with("rain_rate ")).map(numbers).collect();
    assert_eq!(leads.len(), 3, "{told}");
    for [_, level, _, before, after] in leads {
        assert!(level < 1.5 && after < before, "{told}");
    }
    let text = fs::read_to_string(&fitted).expect("a fitted file");
    assert!(text.contains("6 forecasts") && text.contains("/swapped\""), "{text}");

    let address = live.address.clone();
    let taken_up = || models::metric(&address, "squall_models_taken_up_total", &[("stream", "swapped")]);
    let before = taken_up();
    while taken_up() == before {
        live.forecast();
    }
    live.forecast();
    // What the old calibration made says nothing of the new one.
    let other = live.setting.folder().join("other.toml").display().to_string();
    let arguments = ["model", "calibrate", "--config", &config, "--stream", "swapped", "--output", &other];
    live.setting.start(&[&arguments[..], &["--until", &rfc3339(live.slots[6])]].concat()).failure(1, LIMIT);
    let [swapped, _] = live.end();
    let newest = swapped.last().expect("a forecast").model_digest().to_owned();
    let change = change(&swapped, &newest);
    assert!(change >= 6 && swapped.iter().all(|p| !p.degraded()));
    let old = swapped[0].model_digest();
    assert!(swapped[..change].iter().all(|p| p.model_digest() == old));
}

/// The place from which on every forecast is by one model, and none before.
fn change(published: &[Published], digest: &str) -> usize {
    let place = published.iter().position(|p| p.model_digest() == digest).expect("it is taken up");
    assert!(published[place..].iter().all(|p| p.model_digest() == digest), "it changes once");
    place
}
