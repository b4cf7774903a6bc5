//! What a backtest says of a configuration is what a live run of the same log would have earned.

use std::collections::BTreeMap;

use serde_json::Value;
use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Sent, Setting, forecasts};

use crate::scores;

/// (lead, score, value, count).
type Row = (f64, String, f64, f64);

/// Each row of a report or of `squall verify`, in the order of leads.
fn rows(json: &Value) -> Vec<Row> {
    let row = |row: &Value| {
        let number = |key: &str| row[key].as_f64();
        Some((number("lead_minutes")?, row["score"].as_str()?.to_owned(), number("value")?, number("count")?))
    };
    let mut rows: Vec<_> = json["scores"].as_array().expect("a list of scores").iter().filter_map(row).collect();
    rows.sort_by(|a, b| (&a.1, a.0).partial_cmp(&(&b.1, b.0)).expect("leads are numbers"));
    rows
}

/// Each row of one of the models.
fn rows_of(json: &Value, model: &str) -> Vec<Row> {
    let mut json = json.clone();
    json["scores"].as_array_mut().expect("a list of scores").retain(|row| row["model"] == model);
    rows(&json)
}

/// What the scores are that backtests and `squall verify` are compared by.
const SCORES: [&str; 2] = ["--scores", "crps,spread-skill"];

/// What `squall verify` says of the files of published forecasts.
fn earned(setting: &Setting, published: &[forecasts::Published], observed: &str, model: &str) -> Vec<Row> {
    let files: Vec<String> = published.iter().map(|p| p.file().display().to_string()).collect();
    let mut verify = vec!["verify", "--format", "json", "--observation", observed, "--model", model, "--forecast"];
    verify.extend(files.iter().map(String::as_str));
    let said = setting.start(&[&verify[..], &SCORES].concat()).success(LIMIT);
    // The last window has leads beyond the end of the event, which is said before.
    let json = said.find("\n{").map_or(&*said, |at| &said[at..]);
    rows(&serde_json::from_str(json).expect("scores as JSON"))
}

/// The report of a backtest of a configuration over a file.
fn backtest(setting: &Setting, config: &str, input: &str, name: &str) -> Value {
    let report = setting.folder().join(name);
    let folder = report.display().to_string();
    let arguments = ["backtest", config, "--input", input, "--report", &folder];
    setting.start(&[&arguments[..], &SCORES].concat()).success(LIMIT);
    let text = std::fs::read(report.join("report.json")).expect("a report");
    serde_json::from_slice(&text).expect("a report as JSON")
}

fn is_same(live: &[Row], own: &[Row]) {
    assert_eq!(live.len(), own.len());
    for (live, own) in live.iter().zip(own) {
        assert_eq!((live.0, &live.1, live.3), (own.0, &own.1, own.3), "the same cases");
        assert!((live.2 - own.2).abs() < TOLERANCE, "{live:?} {own:?}");
    }
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
    let published = forecasts::published(&setting);
    assert_eq!(published.len(), 13, "a forecast for each full window");
    let live = earned(&setting, &published, &input, "rain");
    is_same(&live, &rows(&backtest(&setting, &config, &input, "report")));
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let other = setting.folder().join("other.toml");
    std::fs::write(&other, text.replace("name = \"rain\"", "name = \"other\"")).expect("a configuration");
    let other = rows(&backtest(&setting, &other.display().to_string(), &input, "other"));
    assert!(live.iter().zip(&other).any(|(live, other)| (live.2 - other.2).abs() > 3.0 * TOLERANCE), "{other:?}");
}

/// A part of a real event forecast by a stream for each model, in one run through Kafka and in one backtest.
fn of_four_models(name: &str, event: &str, from: &str) {
    let mut setting = Setting::new(name);
    let storm = ["--frames", "12", "--size", "64x64", "--variables", "rain"];
    let rain = Rain::part(setting.folder(), event, from, 12, 64, -1);
    let rain = rain.unwrap_or_else(|| Rain::storm(setting.folder(), event, &storm));
    let weights = squall_tests::program::root().join("models/weights/cogdpm-rain.safetensors");
    let weights = format!("file = \"{}\"", weights.display());
    let stream = |model: &str, members: usize| {
        format!("model = {{ {model} }}\nwindow_frames = 4\nleads = 12\nmembers = {members}\nthresholds = [1.0]\n")
    };
    let others =
        [("extrapolation", "name = \"extrapolation\"", 1), ("steps", "name = \"steps\"", 24), ("cogdpm", &weights, 2)];
    for (name, model, members) in others {
        let (stream, index) = (stream(model, members), setting.topic(&format!("{name}.index")));
        let topics = format!("topics = {{ index = \"{index}\" }}");
        setting.more += &format!("[[streams]]\nname = \"{name}\"\nsource = \"radar\"\n{stream}{topics}\n");
    }
    setting.stream = stream("name = \"persistence\"", 1);
    setting.publish(&rain.file);
    setting.run();
    let (config, input) = (setting.config(), rain.file.display().to_string());
    let text = std::fs::read_to_string(config).expect("a configuration");
    let mut streams = text.split("[[streams]]");
    let shared = streams.next().expect("what all share");
    for (model, stream) in ["rain", "extrapolation", "steps", "cogdpm"].into_iter().zip(streams) {
        let kind = if model == "rain" { "index".to_owned() } else { format!("{model}.index") };
        let published = forecasts::published_on(&setting.topic(&kind));
        let issue_times: Vec<_> = published.iter().map(|p| p.issue_time.clone()).collect();
        assert_eq!(issue_times, rain.full_windows(4), "{model}");
        let live = earned(&setting, &published, &input, model);
        // Eight leads lie within the event.
        assert!(live.iter().filter(|row| row.1.contains("crps")).count() >= 8, "{live:?}");
        // By itself: of several, a backtest scores the cells that all of them have.
        let alone = setting.folder().join(format!("{model}.toml"));
        std::fs::write(&alone, format!("{shared}[[streams]]{stream}")).expect("a configuration");
        let report = backtest(&setting, &alone.display().to_string(), &input, model);
        is_same(&live, &rows_of(&report, model));
    }
}

#[test]
fn four_models_earn_live_what_a_backtest_says_of_the_finnish_event() {
    of_four_models("finnish", "radar_fmi_20170509.nc", "2017-05-09T12:00");
}

#[test]
fn four_models_earn_live_what_a_backtest_says_of_the_swiss_event() {
    of_four_models("swiss", "radar_mch_20150515.nc", "2015-05-15T16:30");
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

#[test]
fn a_companion_earns_live_to_the_last_bit_what_a_backtest_of_the_topic_says_of_it() {
    let mut setting = crate::scores::verified("backtest-companion");
    // Persistence has a value everywhere: what STEPS has none of counts for neither, live and in a backtest.
    setting.stream = setting.stream.replace("extrapolation", "persistence");
    setting.more = setting.more.replace("persistence", "steps").replace("members = 1", "members = 3");
    let storm = ["--frames", "14", "--size", "64x64", "--variables", "rain"];
    let rain = Rain::storm(setting.folder(), "radar.nc", &storm);
    setting.publish(&rain.file);
    setting.run();
    let report = setting.folder().join("report");
    let (config, folder) = (setting.config(), report.display().to_string());
    setting.start(&["backtest", &config, "--report", &folder]).success(LIMIT);
    let text = std::fs::read(report.join("report.json")).expect("a report");
    let json: Value = serde_json::from_slice(&text).expect("a report as JSON");
    let models: Vec<_> = json["models"].as_array().expect("models").iter().map(|model| model["name"].clone()).collect();
    assert_eq!(models, ["rain/steps", "rain"]);
    let of = |json: &Value| json.as_str().map_or_else(|| json.to_string(), str::to_owned);
    let mut live = crate::scores::region(&setting, "domain");
    live.retain(|(contestant, ..), _| contestant == "steps");
    let rows = json["scores"].as_array().expect("a list of scores");
    let own = rows.iter().filter(|row| row["model"] == "rain/steps" && row["event"] == "all").filter_map(|row| {
        let lead = row["lead_minutes"].as_f64()? as u64;
        let key = ("steps".to_owned(), lead, of(&row["score"]), of(&row["threshold"]));
        Some((key, (row["value"].as_f64()?, row["count"].as_f64()?)))
    });
    let own: std::collections::BTreeMap<_, _> = own.collect();
    // CRPS and its fair one, three errors, two of ranks, and two tables, at three leads.
    assert!(live.len() >= 3 * 7, "{live:?}");
    assert_eq!(own, live);
}

/// (contestant, lead in minutes, score, threshold) -> (value, count) in a region.
type Scores = BTreeMap<(String, u64, String, String), (f64, f64)>;

/// What a backtest of the configuration says of its companion STEPS over all events in some regions, and its notes.
fn of_steps(setting: &Setting, name: &str, regions: [&str; 2], more: &[&str]) -> ([Scores; 2], String) {
    let (report, config) = (setting.folder().join(name), setting.config());
    let folder = report.display().to_string();
    setting.start(&[&["backtest", &config, "--report", &folder], more].concat()).success(LIMIT);
    let text = std::fs::read(report.join("report.json")).expect("a report");
    let json: Value = serde_json::from_slice(&text).expect("a report as JSON");
    let of = |json: &Value| json.as_str().map_or_else(|| json.to_string(), str::to_owned);
    let scores = regions.map(|region| {
        let rows = json["scores"].as_array().expect("a list of scores").iter();
        let rows = rows.filter(|row| row["model"] == "rain/steps" && row["event"] == "all" && row["region"] == region);
        let one = |row: &Value| {
            let lead = row["lead_minutes"].as_f64()? as u64;
            let key = ("steps".to_owned(), lead, of(&row["score"]), of(&row["threshold"]));
            Some((key, (row["value"].as_f64()?, row["count"].as_f64()?)))
        };
        rows.filter_map(one).collect::<Scores>()
    });
    (scores, json["notes"].to_string())
}

#[test]
fn another_truth_and_stations_give_a_backtest_of_topics_the_scores_that_they_give_a_run() {
    let mut setting = scores::verified("backtest-truth");
    // Persistence has a value everywhere: what STEPS has none of counts for neither, live and in a backtest.
    setting.stream = setting.stream.replace("extrapolation", "persistence");
    setting.more = setting.more.replace("persistence", "steps").replace("members = 1", "members = 3");
    let (adjusted, stations) = (setting.topic("adjusted"), setting.topic("stations"));
    setting.more += &format!(
        "[streams.inputs]\ntruth = \"adjusted\"\n[streams.inputs.stations]\ntopic = \"{stations}\"\n\
         [[sources]]\nname = \"adjusted\"\ntopic = \"{adjusted}\"\nvariables = [\"rain_rate\"]\ncadence = \"5 min\"\n"
    );
    let size = ["--frames", "14", "--size", "64x64"];
    let (rain, records) = scores::storm(setting.folder(), "1", &size);
    let (truth, others) = scores::storm(setting.folder(), "2", &size);
    scores::write(&setting, 1, &records);
    Kafka::shared().create(&adjusted, 1);
    Kafka::shared().write(&adjusted, &others);
    // One station, whose reading of one time is corrected later.
    let place = scores::centre(&rain, 64);
    let says = |slot: i64, mm_h: f64, known_ms: i64| {
        scores::sent(vec![scores::report("centre", place, &squall_tests::rain::rfc3339(slot), mm_h)], known_ms)
    };
    let mut reports: Vec<Sent> = rain.slots.iter().map(|slot| says(*slot, 2.0, slot * 1000 + 2000)).collect();
    reports.push(says(rain.slots[8], 0.0, rain.slots[13] * 1000 + 3000));
    Kafka::shared().create(&stations, 1);
    Kafka::shared().write(&stations, &reports);
    setting.run();

    let regions = ["domain", "stations"];
    let live = regions.map(|region| {
        let mut live = scores::region(&setting, region);
        live.retain(|(contestant, ..), _| contestant == "steps");
        live
    });
    // CRPS and its fair one, and three errors, at three leads: the others need events.
    assert!(live.iter().all(|scores| scores.len() >= 3 * 5), "{live:?}");
    let (of_topics, notes) = of_steps(&setting, "topics", regions, &[]);
    assert_eq!(of_topics, live, "to the last bit");
    assert!(notes.contains("compared with adjusted") && notes.contains("stations"), "{notes}");
    // Twelve windows, of which each lead has one less in the event.
    let of = |all: &Scores, score: &str, lead: u64| {
        let key = ("steps".to_owned(), lead, score.to_owned(), "null".to_owned());
        *all.get(&key).unwrap_or_else(|| panic!("no {key:?} in {all:?}"))
    };
    assert_eq!([5, 10, 15].map(|lead| of(&live[1], "bias", lead).1), [11.0, 10.0, 9.0]);

    // The files of that truth say the same of the whole grid, and those of the radar itself say something else.
    let [file, truth] = [&rain.file, &truth.file].map(|file| file.display().to_string());
    let of_files = |name: &str, truth: &str| {
        let more = ["--input", &file, "--delay", "1 s", "--truth", truth];
        let ([domain, at_stations], notes) = of_steps(&setting, name, regions, &more);
        assert!(at_stations.is_empty(), "the reports of a topic are not those of files: {notes}");
        domain
    };
    assert_eq!(of_files("same", &truth), live[0]);
    let (own, other) = (of(&of_files("own", &file), "mae", 5), of(&live[0], "mae", 5));
    assert!(own.0 < 0.9 * other.0, "{own:?} {other:?}");
}
