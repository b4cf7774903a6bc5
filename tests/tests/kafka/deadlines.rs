//! What the clock decides: forecasts degraded for a deadline, windows skipped; decided by a live run, committed with what it
//! is about, and repeated by a replay to the last bit, or ignored.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use squall_tests::forecasts::{Published, published_on};
use squall_tests::freeze::{FrozenThread, memory};
use squall_tests::program::{root, until};
use squall_tests::rain::{Rain, rfc3339};
use squall_tests::setting::LIMIT;
use squall_tests::topics::{REPLAY, Topics};
use squall_tests::{Kafka, Running, Seen, Sent, Setting, files, models};

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Frames of a storm up to now, `step` seconds apart, as `squall publish` writes them, to be sent again by hand.
fn frames(count: i64, step: i64, source: &str, arguments: &[&str]) -> (Vec<Seen>, Vec<i64>) {
    frames_from(now_ms() / 1000 / step * step - count * step, count, source, arguments)
}

/// The same from a slot on.
fn frames_from(first: i64, count: i64, source: &str, arguments: &[&str]) -> (Vec<Seen>, Vec<i64>) {
    let setting = Setting::new("deadlines-source");
    let (start, number) = (rfc3339(first), count.to_string());
    let storm = [&["--frames", &number, "--start", &start], arguments].concat();
    let storm = Rain::storm(setting.folder(), "storm.nc", &storm);
    let run = Run::new(&setting, "source");
    let (config, file) =
        (run.config("log", source, "model = { name = \"persistence\" }"), storm.file.display().to_string());
    setting.start(&["publish", &file, "--config", &config, "--speed", "max"]).success(LIMIT);
    let mut frames = Kafka::shared().read(&setting.topic("live"));
    frames.retain(|record| record.header("squall-end-of-log").is_empty());
    assert_eq!(frames.len(), count as usize);
    (frames, storm.slots)
}

/// One run of a stream: live, or a replay of it under another name.
struct Run<'s> {
    setting: &'s Setting,
    name: String,
}

impl<'s> Run<'s> {
    fn new(setting: &'s Setting, name: &str) -> Self {
        Self { setting, name: format!("{}.{name}", setting.prefix()) }
    }

    fn index(&self) -> String {
        format!("{}.index", self.name)
    }

    /// Writes the configuration: all runs read one topic and keep their decisions on one topic.
    fn config(&self, clock: &str, source: &str, stream: &str) -> String {
        let text = format!(
            "name = \"{name}\"\n[log]\nkind = \"kafka\"\nbootstrap_servers = \"{address}\"\n[store]\nurl = \"{store}\"\n\
             [runtime]\nclock = \"{clock}\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n\
             [topics]\ndead_letters = \"{name}.dead\"\nprogress = \"{progress}\"\n\
             [[sources]]\nname = \"obs\"\ntopic = \"{topic}\"\n{source}\n\
             [[streams]]\nname = \"now\"\nsource = \"obs\"\nproducts = [\"ensemble\"]\n{stream}\n\
             topics = {{ index = \"{index}\" }}\n",
            name = self.name,
            address = Kafka::shared().address(),
            store = self.setting.folder().join(&self.name).display(),
            progress = self.setting.topic("progress"),
            topic = self.setting.topic("live"),
            index = self.index(),
        );
        let path = self.setting.folder().join(format!("{}.toml", self.name));
        fs::write(&path, text).expect("a configuration file");
        path.display().to_string()
    }

    fn forecasts(&self) -> Vec<Published> {
        published_on(&self.index())
    }
}

/// What is said of a forecast, without the names of the run.
fn said(forecast: &Published) -> Value {
    let mut squall = forecast.json["properties"]["squall"].clone();
    squall.as_object_mut().expect("a table").remove("topics");
    squall
}

/// Issue time, revision and mask of each.
fn identities(forecasts: &[Published]) -> Vec<(String, u64, Vec<bool>)> {
    forecasts.iter().map(|f| (f.issue_time.clone(), f.revision, f.mask())).collect()
}

/// Each is the other, to the last bit of its file.
fn assert_equal(left: &[Published], right: &[Published]) {
    assert_eq!(identities(left), identities(right));
    for (left, right) in left.iter().zip(right) {
        assert_eq!(said(left), said(right));
        assert_eq!(files::difference(&left.file(), &right.file()), Vec::<String>::new(), "{}", left.issue_time);
    }
}

/// The forecasts of a replay, under a name of its own, of what is on the topic.
fn replay(setting: &Setting, name: &str, (source, stream): (&str, &str), flag: &str) -> Vec<Published> {
    let run = Run::new(setting, name);
    setting.start(&["run", &run.config("log", source, stream), flag]).success(LIMIT);
    run.forecasts()
}

fn send(setting: &Setting, frames: &[Seen]) {
    let records: Vec<_> = frames.iter().map(|frame| Sent::again(frame, 0, 0)).collect();
    Kafka::shared().write(&setting.topic("live"), &records);
}

fn stop(mut running: Running) -> String {
    running.terminate();
    let status = running.end(LIMIT);
    assert!(status.success(), "{status}:\n{}", running.output());
    running.output()
}

const RAIN: &str = "variables = [\"rain_rate\"]\ncadence = \"5 min\"";

#[test]
fn a_replay_as_recorded_is_the_live_run_to_the_last_bit_and_a_clean_one_has_every_forecast_in_full() {
    let setting = Setting::new("as-recorded");
    let (frames, slots) = frames(9, 300, RAIN, &["--size", "48x48", "--variables", "rain"]);
    let weights = models::small_model(setting.folder());
    // So many steps that all of a forecast takes several times the deadline.
    let stream = format!(
        "model = {{ file = \"{}\", sampler.solver = {{ method = \"ddim\", grid = \"uniform-t\", steps = 120 }} }}\n\
         window_frames = 2\nleads = 3\nmembers = 2\nhorizon = \"2 d\"\ndeadline = \"2 s\"\n\
         degrade = [\"steps\", \"members\", \"extrapolation\", \"persistence\"]\nmin_steps = 2\nmin_members = 1\n\
         skip_older_than = \"1 min\"",
        weights.display()
    );
    let live = Run::new(&setting, "live");
    let config = live.config("wall", RAIN, &stream);
    let mut running = setting.start(&["run", &config, "--log-format", "json"]);
    let address = models::address(&mut running);
    let metric = |name: &str| models::metric(&address, name, &[("stream", "now")]).unwrap_or(0.0);
    let has = |frame: usize| metric("squall_newest_issue_time_seconds") >= slots[frame] as f64;
    // Nothing was measured yet: the deadline passes. The device goes on, and what it took is known then; a window that was
    // late already when it fired is not asked of it.
    let device = [("stream", "now"), ("device", "cpu")];
    let measured = || models::metric(&address, "squall_inference_seconds_count", &device) >= Some(1.0);
    let mut sent = 1;
    send(&setting, &frames[..1]);
    while sent < 4 && !measured() {
        send(&setting, &frames[sent..=sent]);
        running.until(LIMIT, "a forecast by the deadline", || has(sent));
        sent += 1;
        until(Duration::from_secs(15), measured);
    }
    assert!(measured(), "{}", running.output());
    // Foreseen; on a machine that is busy even what was foreseen may miss the deadline.
    let is_foreseen = |forecast: &Published| {
        ["fewer_steps", "fewer_members", "deadline_foreseen"].iter().any(|word| forecast.reasons().contains(word))
    };
    while sent + 3 < frames.len() && !live.forecasts().iter().any(is_foreseen) {
        send(&setting, &frames[sent..=sent]);
        running.until(LIMIT, "a forecast with less than everything", || has(sent));
        sent += 1;
    }
    // All at once: of those that are old only the newest is forecast.
    send(&setting, &frames[sent..]);
    running.until(LIMIT, "the newest forecast", || has(frames.len() - 1));
    let decided = ["squall_windows_skipped_total", "squall_deadlines_foreseen_total"].map(metric);
    let output = stop(running);
    assert!(decided.iter().all(|count| *count >= 1.0), "{decided:?}\n{output}");
    let said_skipped = output.matches("skipped: the window is old and a newer one waits").count();
    assert_eq!(said_skipped, decided[0] as usize, "each skip is said\n{output}");

    let of_live = live.forecasts();
    let reasons: Vec<_> = of_live.iter().map(Published::reasons).collect();
    assert!(reasons[0].contains("\"deadline\""), "{reasons:?}");
    assert!(of_live.iter().any(is_foreseen), "{reasons:?}");
    assert!(of_live.len() < slots.len() - 1, "some windows were skipped: {} forecasts", of_live.len());

    let replay = |name: &str, flag: &str| replay(&setting, name, (RAIN, stream.as_str()), flag);
    assert_equal(&of_live, &replay("again", &format!("--as-recorded={}", live.name)));
    let clean = replay("clean", "--clean");
    let issue_times: Vec<_> = clean.iter().map(|forecast| forecast.issue_time.clone()).collect();
    assert_eq!(issue_times, slots[1..].iter().map(|slot| rfc3339(*slot)).collect::<Vec<_>>());
    let digest = models::digest(setting.folder(), &weights);
    for forecast in &clean {
        assert!(!forecast.degraded(), "{}", forecast.reasons());
        assert_ne!(forecast.model_digest(), digest, "the steps that are set are part of what decides a forecast");
    }
}

/// Of two frames the later one comes first, ten minutes ahead of the clock. Live it is not believed, and its window waits for
/// the other. Who believes it has lost patience by then, and forecasts without the other first.
#[test]
fn a_replay_as_recorded_knows_late_records_when_the_live_run_did() {
    const AHEAD_MS: i64 = 10 * 60_000;
    const AHEAD: usize = 4;
    // So many records of a partition are known at one instant.
    const AT_ONCE: usize = 8;
    let setting = Setting::new("late-recorded");
    let (frames, slots) = frames(5, 300, RAIN, &["--size", "32x32", "--variables", "rain"]);
    let (kafka, topic) = (Kafka::shared(), setting.topic("live"));
    Topics::of(kafka.address()).create(&topic, 1, &REPLAY);
    // The newest slot is five to ten minutes old.
    let stream =
        "model = { name = \"extrapolation\" }\nwindow_frames = 3\nleads = 2\nmembers = 2\npatience = \"12 min\"";
    let live = Run::new(&setting, "live");
    let mut running = setting.start(&["run", &live.config("wall", RAIN, stream), "--log-format", "json"]);
    let address = models::address(&mut running);
    for i in [0, 1, 2, AHEAD, 3] {
        let ahead_ms = if i == AHEAD { AHEAD_MS } else { 0 };
        let frame = Sent::again(&frames[i], 0, now_ms() + ahead_ms);
        if i == 3 {
            // Who believes the one before knows these with it, and this frame after them.
            let junk = Sent { value: b"junk".to_vec(), ..frame.clone() };
            kafka.write(&topic, &vec![junk; AT_ONCE]);
        }
        kafka.write(&topic, &[frame]);
    }
    let newest = || models::metric(&address, "squall_newest_issue_time_seconds", &[("stream", "now")]);
    running.until(LIMIT, "the newest forecast", || newest() >= Some(slots[AHEAD] as f64));
    let output = stop(running);
    assert!(output.contains("timestamp not believed"), "{output}");

    let expected = |full: bool| {
        let of = |slot: usize, revision: u64, mask: [bool; 3]| (rfc3339(slots[slot]), revision, mask.to_vec());
        let (before, all) = ([of(2, 0, [true; 3]), of(3, 0, [true; 3])], [true; 3]);
        let last = if full { vec![of(4, 0, all)] } else { vec![of(4, 0, [true, false, true]), of(4, 1, all)] };
        [&before[..], &last].concat()
    };
    let of_live = live.forecasts();
    assert_eq!(identities(&of_live), expected(true), "{output}");
    let replay = |name: &str, flag: &str| replay(&setting, name, (RAIN, stream), flag);
    assert_equal(&of_live, &replay("again", &format!("--as-recorded={}", live.name)));
    assert_eq!(identities(&replay("clean", "--clean")), expected(false));
}

/// Two windows miss a frame until their patience ends. Then that of the first comes, with a timestamp that the clock has long
/// passed; that of the second never does, and no record comes after its patience.
#[test]
fn a_replay_as_recorded_goes_on_to_where_the_live_run_had_come() {
    const STEP: i64 = 10;
    // For the start, and for all that is sent then, on a busy machine. Between the two windows there are 20 s.
    const ROOM_MS: i64 = 30_000;
    const LATE: usize = 3;
    const WAIT: [usize; 2] = [4, 6];
    let setting = Setting::new("patience-recorded");
    let (source, cadence) = (format!("variables = [\"rain_rate\"]\ncadence = \"{STEP} s\""), format!("{STEP} s"));
    let storm = ["--size", "32x32", "--variables", "rain", "--cadence", &cadence];
    let (frames, slots) = frames(9, STEP, &source, &storm);
    let (kafka, topic) = (Kafka::shared(), setting.topic("live"));
    Topics::of(kafka.address()).create(&topic, 1, &REPLAY);
    let patience_ms = now_ms() - slots[WAIT[0]] * 1000 + ROOM_MS;
    let stream = format!(
        "model = {{ name = \"extrapolation\" }}\nwindow_frames = 3\nleads = 2\nmembers = 2\n\
         patience = \"{patience_ms} ms\""
    );
    let live = Run::new(&setting, "live");
    let mut running = setting.start(&["run", &live.config("wall", &source, &stream), "--log-format", "json"]);
    let address = models::address(&mut running);
    let in_time = |window: usize| {
        assert!(now_ms() < slots[window] * 1000 + patience_ms, "too slow for this test: the patience was over before");
    };
    let newest = || models::metric(&address, "squall_newest_issue_time_seconds", &[("stream", "now")]);
    let sent_ms = now_ms();
    // The last one waits when the run is stopped, and is to be forecast by nobody.
    let sent: Vec<_> = [0, 1, 2, 4, 6, 8].map(|i: usize| Sent::again(&frames[i], 0, sent_ms)).into();
    kafka.write(&topic, &sent);
    in_time(WAIT[0]);
    running.until(LIMIT, "a forecast after its patience", || newest() >= Some(slots[WAIT[0]] as f64));
    kafka.write(&topic, &[Sent::again(&frames[LATE], 0, sent_ms)]);
    in_time(WAIT[1]);
    running.until(LIMIT, "one that no record fired", || newest() >= Some(slots[WAIT[1]] as f64));
    let output = stop(running);
    assert!(output.contains("record became visible late"), "{output}");

    let of = |slot: usize, revision: u64, mask: [bool; 3]| (rfc3339(slots[slot]), revision, mask.to_vec());
    let (all, gap) = ([true; 3], [true, false, true]);
    let of_live = live.forecasts();
    let expected = [of(2, 0, all), of(3, 0, all), of(4, 0, gap), of(4, 1, all), of(6, 0, gap)];
    let first: Vec<_> = identities(&of_live).into_iter().take(expected.len()).collect();
    assert_eq!(first, expected, "{output}");
    let replay = |name: &str, flag: &str| replay(&setting, name, (source.as_str(), stream.as_str()), flag);
    assert_equal(&of_live, &replay("again", &format!("--as-recorded={}", live.name)));
    // Who decides nothing knows the late frame with the others, and ends with the newest of them.
    assert_eq!(identities(&replay("clean", "--clean")), [of(2, 0, all), of(3, 0, all), of(4, 0, all)]);
}

/// A live run whose model was asked once and has answered, in time or not, and how long that took in seconds.
fn measured(run: &Run<'_>, stream: &str, frames: &[Seen]) -> (Running, String, f64) {
    let mut running = run.setting.start(&["run", &run.config("wall", RAIN, stream), "--log-format", "json"]);
    let address = models::address(&mut running);
    send(run.setting, frames);
    let device = [("stream", "now"), ("device", "cpu")];
    let metric = |name: &str| models::metric(&address, name, &device);
    running.until(LIMIT, "a measurement", || metric("squall_inference_seconds_count") >= Some(1.0));
    let seconds = metric("squall_inference_seconds_sum").expect("how long it took");
    (running, address, seconds)
}

/// There is a fifth of the time that a model takes, and what must not be given up decides what is. That a forecast in full
/// takes half as long in one run as in another, or three times, changes nothing.
#[test]
fn steps_are_given_up_before_members_and_members_before_the_model() {
    const STEPS: usize = 20;
    const MEMBERS: usize = 12;
    let setting = Setting::new("in-steps");
    let (frames, slots) = frames(8, 300, RAIN, &["--size", "48x48", "--variables", "rain"]);
    let weights = models::small_model(setting.folder());
    let stream = |more: &str| {
        format!(
            "model = {{ file = \"{}\", sampler.solver = {{ method = \"ddim\", grid = \"uniform-t\", steps = {STEPS} }} }}\n\
             window_frames = 2\nleads = 3\nmembers = {MEMBERS}\nhorizon = \"2 d\"\n{more}",
            weights.display()
        )
    };
    let (running, _, seconds) = measured(&Run::new(&setting, "full"), &stream(""), &frames[..2]);
    stop(running);
    let deadline_ms = (seconds * 1000.0 / 5.0).ceil();

    // With half of the steps and one member there is time enough, with half of the steps and all members there is not.
    let few_steps = format!("FewerSteps {{ steps: {}, of: {STEPS} }}", STEPS / 2);
    let all_members = format!("members: {MEMBERS}");
    for (name, min_steps, min_members, reason) in [
        ("steps", 1, 1, "fewer_steps"),
        ("members", STEPS / 2, 1, "fewer_members"),
        ("model", STEPS, MEMBERS, "deadline_foreseen"),
    ] {
        let setting = Setting::new(&format!("in-steps-{name}"));
        let run = Run::new(&setting, "live");
        let stream = stream(&format!(
            "deadline = \"{deadline_ms} ms\"\ndegrade = [\"steps\", \"members\", \"extrapolation\", \"persistence\"]\n\
             min_steps = {min_steps}\nmin_members = {min_members}"
        ));
        let (mut running, address, _) = measured(&run, &stream, &frames[..2]);
        let is_there = |forecast: &Published| forecast.reasons().contains(reason);
        let newest = || models::metric(&address, "squall_newest_issue_time_seconds", &[("stream", "now")]);
        let waiting = || models::metric(&address, "squall_device_requests", &[("device", "cpu")]);
        // Even what was foreseen may miss the deadline; how long it took is then known before the next.
        let mut sent = 2;
        while sent < frames.len() && !run.forecasts().iter().any(is_there) {
            send(&setting, &frames[sent..=sent]);
            running.until(LIMIT, "a forecast", || newest() >= Some(slots[sent] as f64));
            until(Duration::from_secs(30), || waiting() == Some(0.0));
            sent += 1;
        }
        let output = stop(running);
        let forecasts = run.forecasts();
        let reasons: Vec<_> = forecasts.iter().map(Published::reasons).collect();
        let given = forecasts.iter().find(|forecast| is_there(forecast));
        let given = given.unwrap_or_else(|| panic!("{name}: {reasons:?}\n{output}"));
        let squall = &given.json["properties"]["squall"];
        // The first was chosen by one measurement, with nothing else to do.
        let log = models::log(&output);
        let first = log.iter().find(|line| line["left_ms"].is_u64()).and_then(|line| line["step"].as_str());
        let first = first.unwrap_or_else(|| panic!("{name}: nothing was foreseen\n{output}"));
        match name {
            "steps" => {
                assert!(first.contains("steps: Some") && first.contains(&all_members), "{first}\n{output}");
            }
            "members" => {
                assert!(first.contains(&few_steps) && !first.contains(&all_members), "{first}\n{output}");
                assert!(given.reasons().contains("fewer_steps"), "{reasons:?}");
            }
            _ => {
                assert_eq!(first, "StandIn(Extrapolation)", "{output}");
                assert_eq!(squall["model"], "extrapolation", "before persistence");
            }
        }
    }
}

/// The device never answers: what comes is what another model says when the deadline passes, neither before nor long after.
#[test]
fn a_deadline_counts_from_the_last_needed_frame_or_the_end_of_the_patience_also_behind_other_windows() {
    const DEADLINE_MS: i64 = 3_000;
    // For all that comes after the stand-in was asked, on a busy machine. Of 14 windows no more than three are forecast at a
    // time: were the deadline counted from when it is their turn, the last would take five times as long.
    const ROOM_MS: i64 = 9_000;
    const PATIENCE_MS: i64 = 8_000;
    const STEP: i64 = 2;
    let setting = Setting::new("deadline-from");
    let source = format!("variables = [\"rain_rate\"]\ncadence = \"{STEP} s\"");
    let stream = format!(
        "model = {{ name = \"extrapolation\" }}\nwindow_frames = 2\nleads = 1\nmembers = 1\n\
         patience = \"{PATIENCE_MS} ms\"\ndeadline = \"{DEADLINE_MS} ms\""
    );
    let run = Run::new(&setting, "live");
    let mut running = setting.start(&["run", &run.config("wall", &source, &stream), "--log-format", "json"]);
    models::address(&mut running);
    // From now on: the window behind the missing slot still waits when everything is sent.
    let cadence = format!("{STEP} s");
    let first = now_ms() / 1000 / STEP * STEP;
    let storm = ["--size", "32x32", "--variables", "rain", "--cadence", &cadence];
    let (mut frames, slots) = frames_from(first, 17, &source, &storm);
    let (missing, incomplete) = (2, 3);
    frames.remove(missing);
    let frozen = FrozenThread::new(running.pid(), "device cpu");
    let consumer = Kafka::shared().follow(&run.index());
    let sent_ms = now_ms();
    send(&setting, &frames);
    let due_ms = slots[incomplete] * 1000 + PATIENCE_MS;
    assert!(now_ms() < due_ms, "too slow for this test: the patience was over before the frames were sent");

    let mut came = BTreeMap::new();
    running.until(LIMIT, "a forecast of each window", || {
        for (record, at_ms) in consumer.take(Duration::from_millis(5)) {
            came.entry(record.header("issue-time")).or_insert(at_ms);
        }
        came.len() >= slots.len() - 2
    });
    drop(frozen);
    let output = stop(running);
    for (i, slot) in slots.iter().enumerate().filter(|(i, _)| ![0, missing].contains(i)) {
        let from_ms = if i == incomplete { due_ms } else { sent_ms };
        let took_ms = came.get(&rfc3339(*slot)).map(|at_ms| at_ms - from_ms);
        let in_time = took_ms.is_some_and(|ms| (DEADLINE_MS..DEADLINE_MS + ROOM_MS).contains(&ms));
        assert!(in_time, "window {i}: {took_ms:?} ms\n{output}");
    }
    let published = run.forecasts();
    assert!(published.iter().all(|forecast| forecast.reasons().contains("\"deadline\"")), "{output}");
    let of_incomplete = published.iter().find(|forecast| forecast.issue_time == rfc3339(slots[incomplete]));
    assert_eq!(of_incomplete.map(Published::mask), Some(vec![false, true]));
}

#[test]
fn wind_with_a_deadline_has_as_many_members_as_asked_by_persistence_which_says_so() {
    let wind = "variables = [\"eastward_wind\", \"northward_wind\"]\ncadence = \"3 h\"";
    let arguments = ["--size", "64x64", "--variables", "wind", "--cadence", "3h", "--spacing", "100"];
    let setting = Setting::new("wind-deadline");
    let (frames, slots) = frames(6, 10_800, wind, &arguments);
    let run = Run::new(&setting, "live");
    let refused = "model = { name = \"persistence\" }\nmembers = 3\ndeadline = \"1 s\"";
    let said = setting.start(&["run", &run.config("wall", wind, refused)]).failure(2, LIMIT);
    assert!(said.contains("streams.now.deadline: no other model fits the stream"), "{said}");

    let weights = root().join("models/weights/dydiff-wind.safetensors");
    let stream = format!(
        "model = {{ file = \"{}\", sampler.solver = {{ method = \"ddim\", grid = \"uniform-t\", steps = 500 }} }}\n\
         leads = 8\nmembers = 3\nhorizon = \"30 d\"\npatience = \"30 d\"\ndeadline = \"1 s\"",
        weights.display()
    );
    let mut running = setting.start(&["run", &run.config("wall", wind, &stream), "--log-format", "json"]);
    let address = models::address(&mut running);
    send(&setting, &frames);
    let newest = slots[slots.len() - 1] as f64;
    running.until(Duration::from_secs(60), "forecasts by the deadline", || {
        models::metric(&address, "squall_newest_issue_time_seconds", &[("stream", "now")]) >= Some(newest)
    });
    stop(running);
    let published = run.forecasts();
    assert_eq!(published.len(), slots.len() - 3, "one for each full window");
    for forecast in &published {
        let squall = &forecast.json["properties"]["squall"];
        assert_eq!((&squall["model"], &squall["members"]), (&"persistence".into(), &3.into()));
        assert!(squall["variables"].as_array().is_some_and(|v| v.len() == 2), "{squall}");
        assert_eq!(squall["provenance"]["identical_members"], true);
        assert!(forecast.reasons().contains("\"deadline\""), "{}", forecast.reasons());
    }
}

/// Frames of the long replay: `SQUALL_REPLAY_FRAMES`, such as 10000, or so many as a test of every day has time for.
fn replay_frames() -> usize {
    std::env::var("SQUALL_REPLAY_FRAMES").ok().and_then(|text| text.parse().ok()).unwrap_or(1500)
}

/// Replays a long storm with a stream, and compares the memory of its first fifth with the most that it has later.
fn memory_is_flat(setting: &Setting, stream: &str) {
    let frames = replay_frames();
    let limit = LIMIT + Duration::from_millis(100) * frames as u32;
    let number = frames.to_string();
    let storm =
        Rain::storm(setting.folder(), "long.nc", &["--frames", &number, "--size", "32x32", "--variables", "rain"]);
    let run = Run::new(setting, "replay");
    let config = run.config("log", RAIN, stream);
    let file = storm.file.display().to_string();
    setting.start(&["publish", &file, "--config", &config, "--speed", "max"]).success(limit);
    let mut running = setting.start(&["run", &config, "--log-format", "json"]);
    let address = models::address(&mut running);
    let made = |address: &str| models::metric(address, "squall_forecasts_total", &[("stream", "now")]).unwrap_or(0.0);
    let mut seen = BTreeMap::new();
    let pid = running.pid();
    running.until(limit, "the end of the replay, nearly", || {
        let count = made(&address) as usize;
        if count > 0 {
            seen.insert(count, memory(pid));
        }
        count >= frames * 19 / 20
    });
    let warm = seen.range(frames / 5..).next().expect("a measurement after the warm-up");
    let most = seen.range(frames / 5..).map(|(_, bytes)| *bytes).max().expect("a measurement");
    eprintln!("{} bytes after {} forecasts, then at most {most}", warm.1, warm.0);
    assert!(most <= warm.1 + warm.1 / 10, "{seen:?}");
    running.success(limit);
}

#[test]
fn memory_is_flat_over_a_long_replay_with_a_model_slower_than_the_log() {
    let stream = "model = { name = \"extrapolation\" }\nwindow_frames = 2\nleads = 1\nmembers = 1";
    memory_is_flat(&Setting::new("long-replay"), stream);
}

#[test]
fn memory_is_flat_over_a_long_replay_that_is_scored() {
    let setting = Setting::new("long-scored-replay");
    let [scores, statistics] = ["scores", "statistics"].map(|kind| setting.topic(kind));
    // The windows of a day are full after 288 frames, before the first fifth is over.
    let stream = format!(
        "model = {{ name = \"extrapolation\" }}\nwindow_frames = 2\nleads = 6\nmembers = 2\nthresholds = [1.0]\n\
         companions.persistence = {{ model = {{ name = \"persistence\" }}, members = 1 }}\n\
         verification = {{ topics = {{ scores = \"{scores}\", statistics = \"{statistics}\" }} }}"
    );
    memory_is_flat(&setting, &stream);
    let scored = judged(&statistics).into_keys().filter(|key| key.contains("persistence")).count();
    assert!(scored >= replay_frames(), "{scored}");
}

/// Contestant, lead, valid time and sums of each record of raw statistics that counts.
fn judged(topic: &str) -> BTreeMap<String, String> {
    let records = Kafka::shared().read(topic).into_iter();
    let json = records.map(|seen| serde_json::from_slice::<Value>(&seen.value).unwrap_or_default());
    let of = |json: Value| {
        let key = ["contestant", "lead_minutes", "valid_time"].map(|field| json[field].to_string()).join(" ");
        (key, json["sums"].to_string())
    };
    json.filter(|json| !json.is_null()).map(of).collect()
}

#[test]
fn a_companion_that_is_too_slow_passes_over_windows_which_stay_passed_over_after_a_restart_and_in_a_replay() {
    let setting = Setting::new("slow-companion");
    let (frames, slots) = frames(9, 300, RAIN, &["--size", "48x48", "--variables", "rain"]);
    let weights = models::small_model(setting.folder());
    let run = |name: &str, clock: &str| {
        let run = Run::new(&setting, name);
        let [scores, statistics] = ["scores", "statistics"].map(|kind| setting.topic(&format!("{name}.{kind}")));
        let stream = format!(
            "model = {{ name = \"persistence\" }}\nwindow_frames = 2\nleads = 3\nmembers = 1\nhorizon = \"2 d\"\n\
             companions.slow = {{ members = 2, skip_older_than = \"1 min\", model = {{ file = \"{}\", \
             sampler.solver = {{ method = \"ddim\", grid = \"uniform-t\", steps = 120 }} }} }}\n\
             verification = {{ scores = [\"crps\"], topics = {{ scores = \"{scores}\", statistics = \"{statistics}\" }} }}",
            weights.display()
        );
        let config = run.config(clock, RAIN, &stream);
        (config, statistics, run.name.clone())
    };
    let (config, statistics, name) = run("live", "wall");
    let mut running = setting.start(&["run", &config, "--log-format", "json"]);
    let address = models::address(&mut running);
    let skipped = |address: &str| models::metric(address, "squall_windows_skipped_total", &[("stream", "now/slow")]);
    let published = |frames: usize| 3 * (frames - 1) - 3 * 4 / 2;
    // Eight windows: one that it has made before there are others, and the newest.
    send(&setting, &frames[..2]);
    let companion = [("stream", "now/slow"), ("device", "cpu for companions")];
    let made = || models::metric(&address, "squall_inference_seconds_count", &companion) >= Some(1.0);
    running.until(LIMIT, "the companion has made one", made);
    send(&setting, &frames[2..]);
    running.until(LIMIT, "windows are passed over", || skipped(&address) >= Some(5.0));
    running.until(LIMIT, "forecasts are scored", || judged(&statistics).len() > published(slots.len()));
    let output = stop(running);
    let before = judged(&statistics);
    let of_slow = |all: &BTreeMap<String, String>| all.keys().filter(|key| key.contains("slow")).count();
    assert!((1..=6).contains(&of_slow(&before)), "{before:?}\n{output}");
    assert_eq!(before.len() - of_slow(&before), published(slots.len()));

    // Begun anew it forecasts again what it forecast, and nothing else.
    let mut running = setting.start(&["run", &config, "--log-format", "json"]);
    let address = models::address(&mut running);
    running.until(LIMIT, "they are passed over again", || skipped(&address) >= Some(5.0));
    stop(running);
    assert_eq!(judged(&statistics), before);

    let (config, statistics, _) = run("again", "log");
    setting.start(&["run", &config, &format!("--as-recorded={name}")]).success(LIMIT);
    assert_eq!(judged(&statistics), before);

    // Begun anew in full, nothing of what was decided is left.
    let decisions = || {
        let records = Kafka::shared().read(&setting.topic("progress")).into_iter();
        let key = |seen: Seen| (String::from_utf8_lossy(&seen.key).into_owned(), !seen.value.is_empty());
        let newest: BTreeMap<String, bool> = records.map(key).collect();
        let of_live = |key: &str| key.starts_with(&format!("{name}/now/slow/decisions/"));
        newest.iter().filter(|(key, is_there)| of_live(key) && **is_there).count()
    };
    assert!(decisions() >= 5);
    let (config, statistics, _) = run("live", "log");
    let reset = ["--reset-progress", "now", "--reset-progress", "now/scores"];
    setting.start(&[&["run", &config], &reset[..]].concat()).success(LIMIT);
    assert_eq!(decisions(), 0);
    assert_eq!(of_slow(&judged(&statistics)), published(slots.len()));
}
