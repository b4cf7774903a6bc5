//! A wind from a source of its own moves rain whose motion cannot be seen, on a real broker.

use std::collections::BTreeMap;
use std::path::Path;

use squall_tests::rain::{Rain, rfc3339};
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Sent, Setting, forecasts};

use crate::processes::start;

const FRAMES: usize = 120;
/// How long after its slot a wind is known.
const LATE_MS: i64 = 90_000;

/// A setting whose stream sees no motion, since no rain is heavy enough for it; `steered` by a wind, with a companion.
fn setting(name: &str, steered: bool) -> Setting {
    let mut setting = Setting::new(name);
    setting.stream = setting.stream.replace(
        "model = { name = \"extrapolation\" }",
        "model = { name = \"extrapolation\", motion = { threshold_mm_h = 500.0 } }",
    );
    let [wind, scores, statistics] = ["wind", "scores", "statistics"].map(|kind| setting.topic(kind));
    let steering = if steered { "[streams.inputs.steering]\nsource = \"wind\"\n" } else { "" };
    setting.more = format!(
        "[streams.companions.other]\nmembers = 2\ntopics = {{}}\n\
         model = {{ name = \"extrapolation\", motion = {{ threshold_mm_h = 400.0 }} }}\n\
         [streams.verification]\nscores = [\"crps\"]\n\
         topics = {{ scores = \"{scores}\", statistics = \"{statistics}\" }}\n{steering}\
         [[sources]]\nname = \"wind\"\ntopic = \"{wind}\"\ncadence = \"5 min\"\n\
         variables = [\"eastward_wind\", \"northward_wind\"]\n"
    );
    setting
}

/// Frames of a simulated storm as `squall publish` writes them, each known so long after its slot.
fn storm(folder: &Path, source: &str, variables: &str, after_ms: i64) -> (Rain, Vec<Sent>) {
    let of = ["--frames", &FRAMES.to_string(), "--size", "48x48", "--seed", "1", "--variables", variables];
    let rain = Rain::storm(folder, &format!("{source}.nc"), &of);
    let from = setting(&format!("steering-{source}"), true);
    let (file, config) = (rain.file.display().to_string(), from.config());
    from.start(&["publish", &file, "--config", &config, "--source", source, "--speed", "max"]).success(LIMIT);
    let seen = Kafka::shared().read(&from.topic(if source == "radar" { "observations" } else { source }));
    assert_eq!(seen.len(), FRAMES);
    let known = |frame: usize| rain.slots[frame] * 1000 + after_ms;
    let sent = seen.iter().enumerate().map(|(frame, seen)| Sent::again(seen, 0, known(frame))).collect();
    (rain, sent)
}

#[test]
fn each_window_takes_the_wind_that_was_known_whatever_crashes_stops_workers_processes_and_partitions() {
    let source = Setting::new("steering");
    let (rain, frames) = storm(source.folder(), "radar", "rain", 1000);
    let (_, mut winds) = storm(source.folder(), "wind", "wind", LATE_MS);
    // The tenth record is no wind.
    winds.insert(9, Sent { value: b"no file".to_vec(), ..winds[9].clone() });
    let run = |name: &str, (workers, processes, partitions): (usize, usize, i32), ends: &[bool], steered: bool| {
        let mut setting = setting(name, steered);
        (setting.workers, setting.partitions) = (workers, partitions);
        let spread = |(i, sent): (usize, &Sent)| Sent { partition: i as i32 % partitions, ..sent.clone() };
        let (observations, wind) = (setting.topic("observations"), setting.topic("wind"));
        Kafka::shared().create(&observations, partitions);
        Kafka::shared().write(&observations, &frames.iter().enumerate().map(spread).collect::<Vec<_>>());
        Kafka::shared().create(&wind, 1);
        Kafka::shared().write(&wind, &winds);
        setting.run_with_ends("index", 2, 10, ends);
        if processes > 1 {
            start(&setting, processes, &[]).into_iter().for_each(|process| drop(process.success(LIMIT)));
        } else {
            setting.run();
        }
        if ends.is_empty() && processes == 1 {
            let (again, live) = (earned_by(&setting, true), earned_by(&setting, false));
            assert!(!live.is_empty() && again.len() == live.len(), "{again:?} {live:?}");
            for ((lead, again), (of, live)) in again.iter().zip(&live) {
                let same = lead == of && again.1 == live.1 && (again.0 - live.0).abs() < 3e-4;
                assert!(same, "{name}: a backtest has the wind, too: {again:?} {live:?} at {lead}, {of}");
            }
        }
        let forecasts = ["index".to_owned(), "index.other".to_owned()].map(|kind| {
            let published = forecasts::published_on(&setting.topic(&kind));
            published.iter().map(|p| (p.issue_time.clone(), p.revision, wind_of(p, &wind))).collect::<Vec<_>>()
        });
        let tiles = ["probabilities", "probabilities.other"].map(|kind| forecasts::consolidated(&setting.topic(kind)));
        let dead = Kafka::shared().read(&setting.topic("dead-letters"));
        let dead: Vec<_> = dead.iter().map(|letter| letter.header("dead-letter-topic") == wind).collect();
        (forecasts, tiles, dead)
    };
    let undisturbed = run("steering-undisturbed", (1, 1, 1), &[], true);
    // A wind is known 90 s after its slot, the frame of a window 1 s: what a window takes is one slot older. The record
    // that is no wind lies between the tenth wind and those before it.
    let offset = |issue: usize| issue as i64 - 1 + i64::from(issue > 9);
    let expected: Vec<_> = (2..FRAMES).map(|issue| (rfc3339(rain.slots[issue]), 0, Some(offset(issue)))).collect();
    assert_eq!(undisturbed.0, [expected.clone(), expected.clone()]);
    assert_eq!(undisturbed.2, [true], "the wind's dead letter, once");
    let still = run("steering-none", (1, 1, 1), &[], false);
    let without: Vec<_> =
        expected.iter().map(|(issue_time, revision, _)| (issue_time.clone(), *revision, None)).collect();
    assert_eq!(still.0, [without.clone(), without]);
    let is_moved = |of: &[BTreeMap<String, Vec<u8>>; 2], i: usize| of[i] != still.1[i];
    assert!(is_moved(&undisturbed.1, 0) && is_moved(&undisturbed.1, 1), "the wind moves the rain");
    let disturbed = run("steering-disturbed", (2, 1, 3), &[true, false, true], true);
    let spread = run("steering-processes", (1, 2, 3), &[], true);
    for other in [disturbed, spread] {
        assert_eq!(undisturbed.0, other.0);
        assert!(undisturbed.1 == other.1, "the same forecasts");
        assert_eq!(undisturbed.2, other.2);
    }
}

/// What the stream's forecasts earn by lead, and of how many cells: those that a backtest of the topics makes, or those that
/// were published.
fn earned_by(setting: &Setting, backtest: bool) -> BTreeMap<String, (f64, f64)> {
    let (config, report) = (setting.config(), setting.folder().join("report"));
    let folder = report.display().to_string();
    let json = if backtest {
        // The companion has no value where other cells flow in, and models beside each other are judged where all have one.
        let alone = ["--scores", "crps", "--without-companions"];
        setting.start(&[&["backtest", &config, "--report", &folder][..], &alone].concat()).success(LIMIT);
        std::fs::read_to_string(report.join("report.json")).expect("a report")
    } else {
        let arguments = [
            "verify", "--config", &config, "--stream", "rain", "--scores", "crps", "--model", "rain", "--format",
            "json",
        ];
        let said = setting.start(&arguments).success(LIMIT);
        said.find("\n{").map_or(said.clone(), |at| said[at..].to_owned())
    };
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let rows = json["scores"].as_array().expect("scores").iter();
    let row = |row: &serde_json::Value| {
        let value = row["value"].as_f64().expect("a number");
        (row["lead_minutes"].to_string(), (value, row["count"].as_f64().expect("a count")))
    };
    rows.filter(|row| {
        row["model"] == "rain" && row["score"] == "crps" && matches!(row["region"].as_str(), None | Some("domain"))
    })
    .map(row)
    .collect()
}

/// The offset of the wind that a forecast names among its inputs.
fn wind_of(published: &forecasts::Published, topic: &str) -> Option<i64> {
    let inputs = &published.json["properties"]["squall"]["provenance"]["inputs"];
    let of_wind = |input: &&serde_json::Value| input["topic"] == topic;
    inputs.as_array().expect("inputs").iter().find(of_wind).and_then(|input| input["offset"].as_i64())
}
