//! Forecasts are scored as they come true, on a real broker.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use squall_tests::rain::{Rain, rfc3339};
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Seen, Sent, Setting, forecasts, models};

use crate::clients::script;
use crate::processes::start;

/// A setting whose stream is verified, with persistence beside it, which is published, too.
pub(crate) fn verified(name: &str) -> Setting {
    let mut setting = Setting::new(name);
    let (scores, statistics) = (setting.topic("scores"), setting.topic("statistics"));
    setting.more = format!(
        "[streams.companions.persistence]\nmodel = {{ name = \"persistence\" }}\nmembers = 1\ntopics = {{}}\n\
         [streams.verification]\nscores = [\"crps\", \"mae\", \"csi\", \"rank\"]\nthresholds = [0.1, 1.0]\n\
         topics = {{ scores = \"{scores}\", statistics = \"{statistics}\" }}\n"
    );
    setting
}

pub(crate) fn write(setting: &Setting, partitions: i32, records: &[Sent]) {
    let topic = setting.topic("observations");
    Kafka::shared().create(&topic, partitions);
    Kafka::shared().write(&topic, records);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The newest record of each key that is not taken back.
fn newest(records: &[Seen]) -> BTreeMap<String, Value> {
    let entry = |record: &Seen| (text(&record.key), serde_json::from_slice(&record.value).unwrap_or_default());
    let mut newest: BTreeMap<String, Value> = records.iter().map(entry).collect();
    newest.retain(|_, json| !json.is_null());
    newest
}

/// (contestant, lead in minutes, score, threshold) -> (value, count) of all time and the whole domain.
fn overall(setting: &Setting) -> BTreeMap<(String, u64, String, String), (f64, f64)> {
    region(setting, "domain")
}

/// The same of a region.
pub(crate) fn region(setting: &Setting, region: &str) -> BTreeMap<(String, u64, String, String), (f64, f64)> {
    let mut all = BTreeMap::new();
    for json in newest(&Kafka::shared().read(&setting.topic("scores"))).values() {
        if json["window"]["name"] != "all" || json["region"] != region {
            continue;
        }
        for row in json["scores"].as_array().expect("a list") {
            let Some(value) = row["value"].as_f64() else { continue };
            let of = |json: &Value| json.as_str().map_or_else(|| json.to_string(), str::to_owned);
            let lead = json["lead_minutes"].as_f64().expect("a lead") as u64;
            let key = (of(&json["contestant"]), lead, of(&row["score"]), of(&row["threshold"]));
            all.insert(key, (value, row["count"].as_f64().expect("a count")));
        }
    }
    all
}

/// Frames of a simulated storm as `squall publish` writes them, each known one second after its slot.
pub(crate) fn storm(folder: &Path, seed: &str, arguments: &[&str]) -> (Rain, Vec<Sent>) {
    let name = format!("storm-{seed}.nc");
    let rain = Rain::storm(folder, &name, &[&["--seed", seed, "--variables", "rain"], arguments].concat());
    let seen = Setting::new("scores-source").published(&rain.file);
    let known = |frame: usize| rain.slots[frame] * 1000 + 1000;
    let sent = seen.iter().enumerate().map(|(frame, seen)| Sent::again(seen, 0, known(frame))).collect();
    (rain, sent)
}

const SMALL: [&str; 4] = ["--frames", "14", "--size", "48x48"];

/// The scores of rain, by the names that they are asked for.
const OF_RAIN: &str = "crps,mae,csi,rank";

/// Compares what was scored with what `squall verify` says of the files and of what was observed, with more arguments for
/// it: so many numbers at least, in each of the regions.
fn is_scored_like_its_files(setting: &Setting, observed: &[PathBuf], more: &[&str], at_least: &[(&str, usize)]) {
    // Of a forecast that was revised, the newest revision counts.
    let published = forecasts::published(setting);
    let files: BTreeMap<&str, String> =
        published.iter().map(|p| (p.issue_time.as_str(), p.file().display().to_string())).collect();
    assert_eq!(files.len(), 12);
    let observed: Vec<String> = observed.iter().map(|path| path.display().to_string()).collect();
    let mut arguments = vec!["verify", "--format", "json", "--model", "published", "--thresholds", "0.1,1"];
    arguments.extend(more.iter().copied());
    arguments.push("--observation");
    arguments.extend(observed.iter().map(String::as_str));
    arguments.push("--forecast");
    arguments.extend(files.values().map(String::as_str));
    let said = setting.start(&arguments).success(LIMIT);
    let json: Value = serde_json::from_str(said.find("\n{").map_or(&*said, |at| &said[at..])).expect("scores as JSON");
    let rows = json["scores"].as_array().expect("a list");
    for (name, at_least) in at_least {
        let live = region(setting, name);
        let mut compared = 0;
        for row in rows.iter().filter(|row| row["region"] == *name) {
            let Some(value) = row["value"].as_f64() else { continue };
            let of = |json: &Value| json.as_str().map_or_else(|| json.to_string(), str::to_owned);
            let lead = row["lead_minutes"].as_f64().expect("a lead") as u64;
            let key = ("published".to_owned(), lead, of(&row["score"]), of(&row["threshold"]));
            let count = row["count"].as_f64().expect("a count");
            assert_eq!(live.get(&key), Some(&(value, count)), "{name}: {key:?}");
            compared += 1;
        }
        assert!(compared >= *at_least, "{name}: {compared} numbers were compared");
        let persistence: BTreeSet<_> = live.keys().filter(|key| key.0 == "persistence").map(|key| key.1).collect();
        assert_eq!(persistence, BTreeSet::from([5, 10, 15]), "{name}: the companion is scored, too");
    }
    let regions: BTreeSet<&str> = rows.iter().filter_map(|row| row["region"].as_str()).collect();
    assert_eq!(regions, at_least.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>());
}

#[test]
fn what_a_stream_scores_is_what_its_files_score_afterwards() {
    let mut setting = verified("scores-batch");
    // The northern half of the grid, whose middle is at 60 degrees.
    setting.more += "regions = { north = [20, 60, 30, 66] }\n";
    let (rain, records) = storm(setting.folder(), "1", &SMALL);
    write(&setting, 1, &records);
    setting.run();
    let more = ["--scores", OF_RAIN, "--region", "north=20,60,30,66"];
    is_scored_like_its_files(&setting, &[rain.file], &more, &[("domain", 31), ("north", 15)]);
    let whole = overall(&setting);
    for (key, (_, count)) in region(&setting, "north") {
        assert!(0.0 < count && count < whole[&key].1, "{key:?}: {count}");
    }
    // The companion is published beside it, on topics of its own.
    let beside = forecasts::published_on(&companion(&setting, "index"));
    let issue_times = |all: &[forecasts::Published]| all.iter().map(|p| p.issue_time.clone()).collect::<Vec<_>>();
    assert_eq!(issue_times(&beside), issue_times(&forecasts::published(&setting)));
    for forecast in beside {
        let squall = &forecast.json["properties"]["squall"];
        assert_eq!((&squall["stream"], &squall["members"]), (&"rain/persistence".into(), &1.into()));
        assert!(forecast.file().is_file(), "{}", forecast.file().display());
    }
}

/// A topic of the companion.
fn companion(setting: &Setting, kind: &str) -> String {
    format!("{}.persistence", setting.topic(kind))
}

#[test]
fn a_wind_and_its_companion_are_scored_as_vectors_and_compared_by_the_energy_score() {
    let mut setting = verified("scores-wind");
    setting.stream = "model = { name = \"damped-persistence\" }\nwindow_frames = 3\nleads = 3\nmembers = 4\n\
                      horizon = \"5 min\"\nthresholds = [5.0, 10.0]\n"
        .to_owned();
    setting.more = setting.more.replace("[\"crps\", \"mae\", \"csi\", \"rank\"]", "[\"energy\", \"vector\"]");
    let config = setting.config();
    let text = std::fs::read_to_string(&config).expect("the configuration");
    let text = text.replace("variables = [\"rain_rate\"]", "variables = [\"eastward_wind\", \"northward_wind\"]");
    std::fs::write(&config, text).expect("a file");
    let wind = Rain::storm(setting.folder(), "wind.nc", &[&SMALL[..], &["--variables", "wind"]].concat());
    let file = wind.file.display().to_string();
    let publish = ["publish", &file, "--config", &config, "--delay", "1 s", "--speed", "max"];
    setting.start(&publish).success(LIMIT);
    setting.start(&["run", &config]).success(LIMIT);
    // Two energy scores and the error of the mean vector, at three leads.
    let observed = [wind.file.clone()];
    is_scored_like_its_files(&setting, &observed, &["--scores", "energy,vector"], &[("domain", 3 * 3)]);
    let all = newest(&Kafka::shared().read(&setting.topic("scores")));
    assert!(all.values().all(|json| json["variable"] == "wind"), "{:?}", all.keys());
    // The first hour is closed five minutes after its end.
    let skill = &all["rain|skill|persistence|wind|domain"];
    assert!(skill["score"] == "energy" && skill["window"]["from"] == rfc3339(wind.slots[0]), "{skill}");
    let of = |name: &str| skill[name].as_f64().expect("a number");
    assert!(of("published") > 0.0 && of("skill") == 1.0 - of("published") / of("of_baseline"), "{skill}");
}

/// The RMSE of what was published, 5 minutes ahead, over the whole domain and a window: as a metric, and in the newest
/// record.
fn rmse(setting: &Setting, address: &str, window: &str) -> (Option<f64>, Option<f64>) {
    let labels = [
        ("stream", "rain"),
        ("contestant", "published"),
        ("region", "domain"),
        ("window", window),
        ("lead_minutes", "5"),
        ("score", "rmse"),
    ];
    let all = newest(&Kafka::shared().read(&setting.topic("scores")));
    let is_asked_for = |json: &&Value| {
        let is_same = |name: &str, value: &str| json[name] == value;
        let is_of_it = is_same("contestant", "published") && is_same("region", "domain");
        is_of_it && json["window"]["name"] == window && json["lead_minutes"] == 5.0
    };
    let from = |json: &&Value| json["window"]["from"].as_str().map(str::to_owned);
    let record = all.values().filter(is_asked_for).max_by_key(from);
    let rows = record.and_then(|json| json["scores"].as_array()).into_iter().flatten();
    let value = rows.filter(|row| row["score"] == "rmse").find_map(|row| row["value"].as_f64());
    (models::metric(address, "squall_score", &labels), value)
}

#[test]
fn a_model_that_is_worse_than_its_baseline_is_behind_after_so_many_hours_and_says_so() {
    let mut setting = verified("scores-behind");
    setting.stream = setting.stream.replace("extrapolation", "persistence") + "horizon = \"5 min\"\n";
    setting.more = setting.more.replace("persistence", "extrapolation") + "behind_after = \"2 h\"\n";
    let (_, records) = storm(setting.folder(), "1", &["--frames", "27", "--size", "48x48"]);
    // Until ten minutes after the first hour, and the second.
    let (first, second) = records.split_at(15);
    write(&setting, 1, first);
    let (config, more) = (setting.config(), ["runtime.until_marker=true", "metrics.listen=127.0.0.1:0"]);
    let arguments = ["run", &config, "--set", more[0], "--set", more[1], "--log-format", "json"];
    let mut running = setting.start(&arguments);
    let address = models::address(&mut running);
    let labels = [("stream", "rain"), ("baseline", "extrapolation")];
    let are = |address: &str, hours: f64, behind: f64| {
        let names = ["squall_hours_behind_baseline", "squall_behind_baseline"];
        names.map(|name| models::metric(address, name, &labels)) == [Some(hours), Some(behind)]
    };
    running.until(LIMIT, "an hour is closed, which is too few", || are(&address, 1.0, 0.0));
    Kafka::shared().write(&setting.topic("observations"), second);
    running.until(LIMIT, "two hours in a row are too many", || are(&address, 2.0, 1.0));
    assert!(models::metric(&address, "squall_skill", &labels).is_some_and(|skill| skill < 0.0));
    let scores = setting.topic("scores");
    let skill = || newest(&Kafka::shared().read(&scores)).remove("rain|skill|extrapolation|rain_rate|domain");
    running.until(LIMIT, "and so says the record", || skill().is_some_and(|json| json["is_behind"] == true));
    let json = skill().expect("a record");
    let of = |name: &str| json[name].as_f64().expect("a number");
    assert_eq!((of("hours_behind"), json["score"].as_str()), (2.0, Some("crps")), "{json}");
    assert!(of("published") > of("of_baseline") && of("skill") < 0.0, "{json}");
    // The metrics of all windows are what the topic says.
    let are_shown = |address: &str| {
        ["1h", "24h", "all"].into_iter().all(|window| {
            let both = rmse(&setting, address, window);
            matches!(both, (Some(metric), Some(record)) if (metric - record).abs() <= 1e-12 * record)
        })
    };
    running.until(LIMIT, "the metrics are what the topic says", || are_shown(&address));
    assert_ne!(rmse(&setting, &address, "1h").0, rmse(&setting, &address, "all").0, "of one hour, and of all three");
    running.terminate();
    running.success(LIMIT);
    // Started again, with nothing new to read, it says so still.
    let mut running = setting.start(&arguments);
    let address = models::address(&mut running);
    running.until(LIMIT, "what was known is told again", || are(&address, 2.0, 1.0));
    running.until(LIMIT, "and so are the scores", || are_shown(&address));
    running.terminate();
    running.success(LIMIT);
}

#[test]
fn another_source_can_be_the_truth_and_keeps_its_own_dead_letters() {
    let mut setting = verified("scores-truth");
    let (_, records) = storm(setting.folder(), "1", &SMALL);
    let (adjusted, mut others) = storm(setting.folder(), "2", &SMALL);
    let topic = setting.topic("adjusted");
    setting.more += &format!(
        "[streams.inputs]\ntruth = \"adjusted\"\n\
         [[sources]]\nname = \"adjusted\"\ntopic = \"{topic}\"\nvariables = [\"rain_rate\"]\ncadence = \"5 min\"\n"
    );
    write(&setting, 1, &records);
    others.push(Sent { value: b"no file".to_vec(), ..others[13].clone() });
    Kafka::shared().create(&topic, 1);
    Kafka::shared().write(&topic, &others);
    setting.run();
    is_scored_like_its_files(&setting, &[adjusted.file], &["--scores", OF_RAIN], &[("domain", 31)]);
    let dead = Kafka::shared().read(&setting.topic("dead-letters"));
    assert_eq!(dead.iter().map(|letter| letter.header("dead-letter-topic")).collect::<Vec<_>>(), [topic]);
}

/// (contestant, lead in minutes, valid time) of a record of raw statistics.
type Subject = (String, u64, String);

fn statistics(setting: &Setting, region: &str) -> BTreeMap<Subject, Value> {
    let newest = newest(&Kafka::shared().read(&setting.topic("statistics")));
    let subject = |json: Value| {
        let of = |key: &str| json[key].as_str().expect("text").to_owned();
        let lead = json["lead_minutes"].as_f64().expect("a lead") as u64;
        ((of("contestant"), lead, of("valid_time")), json["sums"].clone())
    };
    newest.into_values().filter(|json| json["region"] == region).map(subject).collect()
}

/// What a client finds that knows the documentation and nothing else: by topic, the keys of the newest records, each with a
/// digest of what the record says but for when that became known.
fn found_by_others(setting: &Setting) -> BTreeMap<String, BTreeMap<String, String>> {
    let (address, store) = (Kafka::shared().address(), setting.store().display().to_string());
    let said = script(setting, "tests/python/read_everything.py", &[address, setting.prefix(), &store]);
    let found: Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    serde_json::from_value(found["newest"].clone()).expect("digests by key")
}

/// Contestant, lead in minutes, and the rest of a key: a valid time, or the name of a window and its beginning.
fn subject(key: &str) -> (String, u64, String) {
    let parts: Vec<&str> = key.splitn(7, '|').collect();
    let lead = parts[5].parse::<u64>().expect("a lead in seconds") / 60;
    (parts[1].to_owned(), lead, parts[6].to_owned())
}

#[test]
fn a_corrected_frame_changes_exactly_what_rested_on_it() {
    let setting = verified("scores-correction");
    let (rain, records) = storm(setting.folder(), "1", &SMALL);
    let other = storm(setting.folder(), "2", &SMALL).1;
    write(&setting, 1, &records);
    setting.run();
    let before = statistics(&setting, "domain");
    let all_before = overall(&setting);
    let others_before = found_by_others(&setting);
    // A frame again, as it was in another storm, known after all others.
    let wrong = 9;
    let correction = Sent { timestamp_ms: records[13].timestamp_ms + 1000, ..other[wrong].clone() };
    Kafka::shared().write(&setting.topic("observations"), &[correction]);
    setting.run();
    let after = statistics(&setting, "domain");
    // Compared with it, or forecast from a window of three frames that has it.
    let mut expected = BTreeSet::new();
    for contestant in ["published", "persistence"] {
        for issue in 2..14 {
            for lead in 1..=3 {
                let valid = issue + lead;
                let frames = if contestant == "persistence" { 1 } else { 3 };
                let is_made_of_it = (wrong..wrong + frames).contains(&issue);
                if valid < 14 && (valid == wrong || is_made_of_it) {
                    expected.insert((contestant.to_owned(), 5 * lead as u64, rfc3339(rain.slots[valid])));
                }
            }
        }
    }
    let changed: BTreeSet<_> =
        before.iter().filter(|(key, sums)| after.get(*key) != Some(*sums)).map(|(key, _)| key.clone()).collect();
    assert_eq!(changed, expected);
    assert_ne!(all_before, overall(&setting));
    // A client that is none of ours sees the same, and of the scores those of the hours, the day and all time that hold it.
    let others_after = found_by_others(&setting);
    let changed = |kind: &str| -> BTreeSet<Subject> {
        let (before, after) = (&others_before[kind], &others_after[kind]);
        // A wrong frame among right ones may move all rain away: then nothing is left to compare.
        assert!(after.keys().all(|key| before.contains_key(key)), "{kind}: nothing comes");
        before.iter().filter(|(key, digest)| after.get(*key) != Some(*digest)).map(|(key, _)| subject(key)).collect()
    };
    assert_eq!(changed("statistics"), expected);
    let windows = |(contestant, lead, valid): &Subject| {
        let (hour, day) = (format!("1h|{}:00:00Z", &valid[..13]), format!("24h|{}T00:00:00Z", &valid[..10]));
        [hour, day, "all".to_owned()].map(|window| (contestant.clone(), *lead, window))
    };
    let all_windows: BTreeSet<Subject> = expected.iter().flat_map(windows).collect();
    assert_eq!(changed("scores"), all_windows);
    // And it is what the revised files score against what is known now.
    let known = |(frame, sent): (usize, &Sent)| {
        let value = if frame == wrong { &other[wrong].value } else { &sent.value };
        let path = setting.folder().join(format!("frame-{frame}.nc"));
        std::fs::write(&path, value).expect("a file");
        path
    };
    let known: Vec<PathBuf> = records.iter().enumerate().map(known).collect();
    is_scored_like_its_files(&setting, &known, &["--scores", OF_RAIN], &[("domain", 31)]);
}

/// A report of one station at one time.
pub(crate) fn report(station: &str, place: (f64, f64), time: &str, mm_h: f64) -> Value {
    serde_json::json!({
        "station": {"id": station, "latitude": place.0, "longitude": place.1},
        "time": time,
        "readings": [{"standard_name": "rainfall_rate", "value": mm_h, "units": "mm h-1", "period_seconds": 60}],
    })
}

fn unpacked(file: &netcdf::File, name: &str, at: usize) -> f64 {
    let variable = file.variable(name).expect("a variable");
    let scale = match variable.attribute_value("scale_factor") {
        Some(Ok(netcdf::AttributeValue::Double(scale))) => scale,
        other => panic!("scale of {name}: {other:?}"),
    };
    scale * f64::from(variable.get_values::<i32, _>(..).expect("its values")[at])
}

/// Latitude and longitude of the middle of a square grid.
pub(crate) fn centre(rain: &Rain, side: usize) -> (f64, f64) {
    let file = squall_tests::files::open(&rain.file);
    let middle = side / 2 * side + side / 2;
    (unpacked(&file, "latitude", middle), unpacked(&file, "longitude", middle))
}

/// A record of reports that are known at a time.
pub(crate) fn sent(reports: Vec<Value>, known_ms: i64) -> Sent {
    Sent {
        partition: 0,
        timestamp_ms: known_ms,
        key: Vec::new(),
        headers: vec![("content-type".to_owned(), b"application/json".to_vec())],
        value: serde_json::to_vec(&reports).expect("JSON"),
    }
}

#[test]
fn stations_are_truth_at_their_places_and_a_corrected_reading_takes_back_its_own() {
    let mut setting = verified("scores-stations");
    let (rain, records) = storm(setting.folder(), "1", &SMALL);
    let topic = setting.topic("stations");
    setting.more += &format!("[streams.inputs.stations]\ntopic = \"{topic}\"\n");
    write(&setting, 1, &records);
    let place = centre(&rain, 48);
    // One station at the centre, which says 150 mm/h, more than any forecast, and one far away from the grid.
    let of = |slot: i64, mm_h: f64| {
        let time = rfc3339(slot);
        vec![report("centre", place, &time, mm_h), report("elsewhere", (place.0 - 40.0, place.1), &time, 1.0)]
    };
    let reports: Vec<_> = rain.slots.iter().map(|slot| sent(of(*slot, 150.0), slot * 1000 + 2000)).collect();
    Kafka::shared().create(&topic, 1);
    Kafka::shared().write(&topic, &reports);
    setting.run();
    let at_stations = |setting: &Setting| statistics(setting, "stations");
    let before = at_stations(&setting);
    // 12 forecasts of three leads; the last ones reach beyond the last slot.
    assert_eq!(before.len(), 2 * (11 + 10 + 9));
    assert!(before.values().all(|sums| sums[0]["count"] == 1.0), "the other station is not on the grid");
    let bias = |setting: &Setting| {
        let of = |(key, value): (&(String, u64, String, String), &(f64, f64))| {
            (key.0 == "published" && key.2 == "bias").then_some((key.1, *value))
        };
        region(setting, "stations").iter().filter_map(of).collect::<Vec<_>>()
    };
    assert!(bias(&setting).iter().all(|(_, (bias, _))| (-150.0..-100.0).contains(bias)), "{:?}", bias(&setting));
    // The reading of one time is corrected.
    let slot = rain.slots[8];
    let correction = sent(vec![report("centre", place, &rfc3339(slot), 0.0)], rain.slots[13] * 1000 + 3000);
    Kafka::shared().write(&topic, &[correction]);
    let fields = statistics(&setting, "domain");
    setting.run();
    let after = at_stations(&setting);
    let changed: BTreeSet<_> =
        before.iter().filter(|(key, sums)| after.get(*key) != Some(*sums)).map(|(key, _)| key.2.clone()).collect();
    assert_eq!(changed, BTreeSet::from([rfc3339(slot)]));
    assert_eq!(fields, statistics(&setting, "domain"), "what was compared with frames stays");
    // The topics say the same afterwards.
    let config = setting.config();
    let arguments = ["verify", "--config", &config, "--stream", "rain", "--scores", "mae", "--format", "json"];
    let said = setting.start(&arguments).success(LIMIT);
    let json: Value = serde_json::from_str(said.find("\n{").map_or(&*said, |at| &said[at..])).expect("scores as JSON");
    let rows = json["scores"].as_array().expect("a list").iter();
    let rows = rows.filter(|row| row["region"] == "stations" && row["score"] == "bias");
    let number = |row: &Value, name: &str| row[name].as_f64().expect("a number");
    let afterwards: Vec<_> =
        rows.map(|row| (number(row, "lead_minutes") as u64, (number(row, "value"), number(row, "count")))).collect();
    assert_eq!(afterwards, bias(&setting));
    // And whoever asks can see what is thought of each reading.
    let inspect = ["inspect", "stations", "--config", &config, "--stream", "rain", "--format", "json"];
    let said = setting.start(&inspect).success(LIMIT);
    let json: Value =
        serde_json::from_str(said.find("{\n").map_or(&*said, |at| &said[at..])).expect("readings as JSON");
    let readings = json["readings"].as_array().expect("a list");
    assert_eq!(readings.len(), 2 * rain.slots.len());
    assert!(readings.iter().all(|reading| reading["verdict"] == "good" && reading["flags"]["range"] == "good"));
    let corrected: Vec<_> = readings.iter().filter(|reading| reading["value"] == 0.0).collect();
    assert_eq!(corrected.len(), 1);
    assert_eq!((&corrected[0]["station"]["id"], &corrected[0]["time"]), (&"centre".into(), &rfc3339(slot).into()));
}

#[test]
fn with_other_scores_a_verification_begins_anew_if_it_is_told_to() {
    let mut setting = verified("scores-reset");
    let (_, records) = storm(setting.folder(), "1", &["--frames", "26", "--size", "48x48"]);
    write(&setting, 1, &records);
    setting.run();
    let kept = |setting: &Setting| {
        let progress = newest(&Kafka::shared().read(&setting.topic("progress")));
        progress.keys().filter(|key| key.contains("/rain/sums/")).count()
    };
    assert_eq!(kept(&setting), 2 * 3, "an hour is closed");
    setting.more = setting.more.replace("thresholds = [0.1, 1.0]", "thresholds = [0.5]");
    let config = setting.config();
    let said = setting.start(&["run", &config]).failure(2, LIMIT);
    assert!(said.contains("verification.thresholds was 0.1 1, is 0.5"), "{said}");
    setting.start(&["run", &config, "--reset-progress", "rain/scores"]).success(LIMIT);
    assert_eq!(kept(&setting), 0, "what was summed by other scores is forgotten");
    assert_eq!(forecasts::published(&setting).len(), 24, "the stream itself went on");
}

#[test]
fn crashes_stops_workers_processes_and_partitions_change_no_score_and_no_forecast_of_a_companion() {
    let source = Setting::new("scores-crash");
    let (rain, records) = storm(source.folder(), "1", &["--frames", "150", "--size", "192x192"]);
    let place = centre(&rain, 192);
    let at_place = |slot: &i64| sent(vec![report("centre", place, &rfc3339(*slot), 2.0)], slot * 1000 + 2000);
    let reports: Vec<_> = rain.slots.iter().map(at_place).collect();
    let run = |name: &str, workers: usize, processes: usize, partitions: i32, ends: &[bool]| {
        let mut setting = verified(name);
        (setting.workers, setting.partitions) = (workers, partitions);
        let spread = |(i, sent): (usize, &Sent)| Sent { partition: i as i32 % partitions, ..sent.clone() };
        write(&setting, partitions, &records.iter().enumerate().map(spread).collect::<Vec<_>>());
        let stations = setting.topic("stations");
        setting.more += &format!("[streams.inputs.stations]\ntopic = \"{stations}\"\n");
        Kafka::shared().create(&stations, 1);
        Kafka::shared().write(&stations, &reports);
        setting.run_with_ends("statistics", 1, 60, ends);
        if processes > 1 {
            start(&setting, processes, &[]).into_iter().for_each(|process| drop(process.success(LIMIT)));
        } else {
            setting.run();
        }
        let records = |kind: &str| {
            let read = Kafka::shared().read(&setting.topic(kind));
            let mut all: Vec<_> = read.iter().map(|r| (text(&r.key), text(&r.value))).collect();
            all.sort();
            all
        };
        let beside = forecasts::published_on(&companion(&setting, "index"));
        let beside: Vec<_> = beside.iter().map(|p| (p.issue_time.clone(), p.revision)).collect();
        (
            records("statistics"),
            records("scores"),
            beside,
            forecasts::consolidated(&companion(&setting, "probabilities")),
        )
    };
    let undisturbed = run("scores-undisturbed", 1, 1, 1, &[]);
    assert!(undisturbed.0.len() > 100);
    assert!(undisturbed.0.iter().any(|(key, _)| key.contains("stations")), "{}", undisturbed.0[0].0);
    assert_eq!((undisturbed.2.len(), undisturbed.3.len()), (148, 148 * 3));
    let disturbed = run("scores-disturbed", 2, 1, 3, &[true, false, true]);
    let spread = run("scores-processes", 1, 2, 3, &[]);
    let differences = |a: &[(String, String)], b: &[(String, String)]| {
        a.iter().zip(b).find(|(a, b)| a != b).map(|(a, b)| format!("{a:?}\n{b:?}"))
    };
    for other in [&disturbed, &spread] {
        assert_eq!((undisturbed.0.len(), undisturbed.1.len()), (other.0.len(), other.1.len()));
        assert_eq!(differences(&undisturbed.0, &other.0), None);
        assert_eq!(differences(&undisturbed.1, &other.1), None);
        assert_eq!(undisturbed.2, other.2, "each forecast of the companion once");
        assert!(undisturbed.3 == other.3, "and the same");
    }
}
