//! What a backtest says of a configuration is what a live run of the same log would have earned.

use serde_json::Value;
use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Sent, Setting, forecasts};

/// (lead, score, value, count) of each row, in the order of leads.
fn rows(json: &Value) -> Vec<(f64, String, f64, f64)> {
    let row = |row: &Value| {
        let number = |key: &str| row[key].as_f64();
        Some((number("lead_minutes")?, row["score"].as_str()?.to_owned(), number("value")?, number("count")?))
    };
    let mut rows: Vec<_> = json["scores"].as_array().expect("a list of scores").iter().filter_map(row).collect();
    rows.sort_by(|a, b| (&a.1, a.0).partial_cmp(&(&b.1, b.0)).expect("leads are numbers"));
    rows
}

/// Files hold rain in steps of 0.01 mm/h; the error of a mean over thousands of cells is far below one.
const TOLERANCE: f64 = 3e-4;

#[test]
fn a_backtest_says_what_the_forecasts_earn_that_a_run_through_kafka_publishes() {
    let mut setting = Setting::new("backtest");
    // Members are drawn by chance: another seed is another score.
    setting.stream = setting.stream.replace("name = \"extrapolation\"", "name = \"steps\"").replace("= 3\nl", "= 4\nl");
    let rain = Rain::storm(setting.folder(), "rain.nc", &["--frames", "16", "--size", "64x64", "--variables", "rain"]);
    setting.publish(&rain.file);
    setting.run();
    let (config, input) = (setting.config(), rain.file.display().to_string());
    let files: Vec<String> = forecasts::published(&setting).iter().map(|p| p.file().display().to_string()).collect();
    assert_eq!(files.len(), 13, "a forecast for each full window");
    let scores = ["--scores", "crps,spread-skill"];
    let mut verify = vec!["verify", "--format", "json", "--observation", &input, "--model", "rain", "--forecast"];
    verify.extend(files.iter().map(String::as_str));
    let live = setting.start(&[&verify[..], &scores].concat()).success(LIMIT);
    // The last window has leads beyond the end of the event, which is said before.
    let json = live.find("\n{").map_or(&*live, |at| &live[at..]);
    let live = rows(&serde_json::from_str(json).expect("scores as JSON"));

    let backtest = |config: &str, name: &str| {
        let report = setting.folder().join(name);
        let folder = report.display().to_string();
        let arguments = ["backtest", config, "--input", &input, "--report", &folder];
        setting.start(&[&arguments[..], &scores].concat()).success(LIMIT);
        let text = std::fs::read(report.join("report.json")).expect("a report");
        rows(&serde_json::from_slice(&text).expect("a report as JSON"))
    };
    let own = backtest(&config, "report");
    assert_eq!(live.len(), own.len());
    for (live, own) in live.iter().zip(&own) {
        assert_eq!((live.0, &live.1, live.3), (own.0, &own.1, own.3), "the same cases");
        assert!((live.2 - own.2).abs() < TOLERANCE, "{live:?} {own:?}");
    }
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let other = setting.folder().join("other.toml");
    std::fs::write(&other, text.replace("name = \"rain\"", "name = \"other\"")).expect("a configuration");
    let other = backtest(&other.display().to_string(), "other");
    assert!(live.iter().zip(&other).any(|(live, other)| (live.2 - other.2).abs() > 3.0 * TOLERANCE), "{other:?}");
}

/// The report of a backtest of a configuration, as it lies there.
fn report(setting: &Setting, name: &str, arguments: &[&str]) -> String {
    let folder = setting.folder().join(name).display().to_string();
    let config = setting.config();
    let all = [&["backtest", &config, "--report", &folder, "--scores", "crps,csi"], arguments].concat();
    setting.start(&all).success(LIMIT);
    std::fs::read_to_string(setting.folder().join(name).join("report.json")).expect("a report")
}

#[test]
fn a_backtest_of_a_topic_is_that_of_files_with_the_same_arrivals() {
    let setting = Setting::new("backtest-topic");
    // An event goes by the name of its file, or of its source.
    let storm = ["--frames", "14", "--size", "48x56", "--variables", "rain"];
    let rain = Rain::storm(setting.folder(), "radar.nc", &storm);
    let (config, file) = (setting.config(), rain.file.display().to_string());
    let delay = ["--delay", "6 min"];
    let publish = ["publish", &file, "--config", &config, "--speed", "max"];
    setting.start(&[&publish[..], &delay].concat()).success(LIMIT);
    let more = ["--side", "40", "--every", "2"];
    let of_topic = report(&setting, "topic", &more);
    let of_files = report(&setting, "files", &[&["--input", &file], &delay[..], &more].concat());
    assert_eq!(of_topic, of_files, "to the byte");
    assert!(of_topic.contains("known 6 min after its valid time"), "{of_topic}");
    let leads: Vec<f64> = rows(&serde_json::from_str(&of_topic).expect("JSON")).iter().map(|row| row.0).collect();
    assert!(!leads.is_empty() && leads.iter().all(|lead| *lead >= 10.0), "what has passed is no forecast: {leads:?}");
    // What was done is not done again, unless the topic has more.
    let lines = || std::fs::read_to_string(setting.folder().join("topic/state/radar.jsonl")).expect("a state");
    let before = lines();
    assert_eq!((report(&setting, "topic", &more), lines()), (of_topic.clone(), before.clone()));
    let last = Kafka::shared().read(&setting.topic("observations")).pop().expect("a record");
    let again = Sent::again(&last, 0, last.timestamp_ms + 1000);
    let other = Setting::new("backtest-other");
    let start = squall_tests::rain::rfc3339(rain.slots[13] + 300);
    let next = Rain::storm(other.folder(), "other.nc", &[&storm[2..], &["--frames", "1", "--start", &start]].concat());
    let seen = other.published(&next.file);
    Kafka::shared()
        .write(&setting.topic("observations"), &[again, Sent::again(&seen[0], 0, last.timestamp_ms + 300_000)]);
    let longer = report(&setting, "topic", &more);
    assert_ne!(lines(), before);
    assert_ne!(longer, of_topic);
    let late = setting.start(&["backtest", &config, "--report", "unused", "--delay", "1 min"]);
    assert!(late.failure(2, LIMIT).contains("--input"));
}

#[test]
fn a_backtest_of_a_topic_forecasts_what_was_published_first_when_a_frame_was_late() {
    let setting = Setting::new("backtest-late");
    let rain = Rain::storm(setting.folder(), "radar.nc", &["--frames", "16", "--size", "64x64", "--variables", "rain"]);
    let seen = Setting::new("backtest-source").published(&rain.file);
    let late = 8;
    let known = |frame: usize| rain.slots[frame] * 1000 + if frame == late { 720_000 } else { 1000 };
    let mut records: Vec<_> = seen.iter().enumerate().map(|(i, seen)| Sent::again(seen, 0, known(i))).collect();
    records.sort_by_key(|record| record.timestamp_ms);
    Kafka::shared().create(&setting.topic("observations"), 1);
    Kafka::shared().write(&setting.topic("observations"), &records);
    setting.run();
    let all = forecasts::published(&setting);
    let first: Vec<_> = all.iter().filter(|forecast| forecast.revision == 0).collect();
    assert!(first.len() == 14 && all.len() > 14, "a window that lacked the frame was revised");
    let of_files = |without: Option<&str>| {
        let there = first.iter().filter(|forecast| without.is_none_or(|time| forecast.issue_time != time));
        let files: Vec<String> = there.map(|forecast| forecast.file().display().to_string()).collect();
        let observed = rain.file.display().to_string();
        let mut arguments = vec!["verify", "--format", "json", "--observation", &observed, "--scores", "crps"];
        arguments.push("--forecast");
        arguments.extend(files.iter().map(String::as_str));
        let said = setting.start(&arguments).success(LIMIT);
        let json = said.find("\n{").map_or(&*said, |at| &said[at..]);
        rows(&serde_json::from_str(json).expect("scores as JSON"))
    };
    let json = report(&setting, "topic", &[]);
    assert!(json.contains("12 min at most"), "{json}");
    let own = rows(&serde_json::from_str(&json).expect("a report as JSON"));
    let time = squall_tests::rain::rfc3339(rain.slots[late]);
    // Of the forecast that waited for the frame two leads had passed.
    let (whole, without) = (of_files(None), of_files(Some(&time)));
    let mut compared = 0;
    for row in own.iter().filter(|row| row.1 == "crps") {
        let among = if row.0 > 12.0 { &whole } else { &without };
        let live = among.iter().find(|live| (live.0, &live.1) == (row.0, &row.1)).expect("the same lead");
        assert_eq!(live.3, row.3, "the same cases at {}", row.0);
        assert!((live.2 - row.2).abs() < TOLERANCE, "{live:?} {row:?}");
        compared += 1;
    }
    assert_eq!(compared, 3);
    assert_ne!(whole[0].3, without[0].3);
}

#[test]
fn a_backtest_of_files_whose_frames_overtake_each_other_is_that_of_the_topic_that_they_fill() {
    let setting = Setting::new("backtest-jitter");
    let storm = ["--frames", "16", "--size", "48x56", "--variables", "rain"];
    let rain = Rain::storm(setting.folder(), "radar.nc", &storm);
    let (config, file) = (setting.config(), rain.file.display().to_string());
    let publish = ["publish", &file, "--config", &config, "--speed", "max", "--delay", "1 min", "--seed", "3"];
    setting.start(&[&publish[..], &["--shuffle-within", "8 min"]].concat()).success(LIMIT);
    let late = ["--input", &file, "--delay", "1 min", "--jitter", "8 min", "--seed", "3"];
    assert_eq!(report(&setting, "topic", &[]), report(&setting, "files", &late), "to the byte");
}
