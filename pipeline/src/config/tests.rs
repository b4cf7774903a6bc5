//! What a person reads when a configuration is wrong, and what a right one means.

use squall_connectors::kafka::Property;
use squall_fields::{IssueTime, Quantity};
use squall_models::baselines::Baseline;
use squall_models::scores::{Border, Operator};
use squall_operators::products::{ENSEMBLE, MEAN, PROBABILITIES};
use squall_operators::progress::{Issued, Progress, RECORDED_LATER};

use super::check::MAX_WINDOWS;
use super::{Config, Faults, Layers, LogKind, ModelConfig};
use crate::graph::{progress_settings, verification_settings};

const RIGHT: &str = r#"
name = "here"

[log]
kind = "kafka"
bootstrap_servers = "127.0.0.1:9092"
[log.properties]
security.protocol = "sasl_ssl"
"sasl.password" = "hunter2"

[[sources]]
name = "radar"
variables = ["rain_rate"]
cadence = "5 min"

[[sources]]
name = "arpege-wind"
topic = "obs.wind.v1"
variables = ["eastward_wind", "northward_wind"]
cadence = "1 h"

[[streams]]
name = "rain"
source = "radar"
model = { name = "extrapolation", motion = { corners = 500 } }
thresholds = [0.1, 1, 5.0]

[[streams]]
name = "a-wind"
source = "arpege-wind"
model = { name = "persistence" }
members = 1
products = ["mean", "ensemble"]
"#;

fn right() -> Layers {
    Layers::from_text("right.toml", RIGHT)
}

fn faults(text: &str) -> Vec<String> {
    match Layers::from_text("x.toml", text).load() {
        Ok(_) => Vec::new(),
        Err(Faults(faults)) => faults.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn defaults_are_laid_under_each_table() {
    let config = right().load().unwrap();
    assert_eq!(&*config.sources[0].topic, "obs.radar.v1");
    assert_eq!(config.sources[0].quality.range, [0.0, 500.0]);
    assert_eq!(config.sources[1].quality.range, [-120.0, 120.0]);
    assert_eq!(config.streams[0].products.levels_of(&PROBABILITIES), [0.1, 1.0, 5.0]);
    assert_eq!(config.streams[1].products.wanted, [&ENSEMBLE, &MEAN]);
    assert_eq!(config.streams[0].members, 8);
    assert_eq!(config.log.kind, LogKind::Kafka);
    assert!(std::sync::Arc::ptr_eq(&config.streams[1].source, &config.sources[1]));
    let ModelConfig::Named(Baseline::Extrapolation(settings)) = &config.streams[0].model else {
        panic!("{:?}", config.streams[0].model)
    };
    assert_eq!((settings.motion.corners, settings.motion.window), (500, 50));
}

#[test]
fn later_layers_win_setting_by_setting() {
    let environment = [
        ("SQUALL__STREAMS__A_WIND__LEADS", "3"),
        ("SQUALL__LOG__PROPERTIES__SASL_PASSWORD", "0x7_5"),
        ("SQUALL__RUNTIME__WORKERS", "2"),
        ("PATH", "/bin"),
    ];
    let layers = right()
        .environment(environment.map(|(key, value)| (key.to_owned(), value.to_owned())))
        .set("runtime.workers=4")
        .set("log.properties.ssl.ca.location=/etc/ca.pem")
        .set("streams.rain.patience=90 s");
    let config = layers.load().unwrap();
    assert_eq!(config.runtime.workers, 4);
    assert_eq!((config.streams[0].leads, config.streams[1].leads), (12, 3));
    assert_eq!(config.streams[0].patience.as_secs(), 90);
    let is = |name: &str, value: &str| assert_eq!(config.log.properties[name], Property::new(name, value), "{name}");
    is("sasl.password", "0x7_5");
    is("security.protocol", "sasl_ssl");
    is("ssl.ca.location", "/etc/ca.pem");
}

#[test]
fn what_is_printed_loads_to_the_same() {
    let config = right().load().unwrap();
    let printed = config.to_toml();
    assert!(!printed.contains("hunter2"), "{printed}");
    let mut again: Config =
        Layers::from_text("printed.toml", &printed).load().unwrap_or_else(|f| panic!("{f}\n{printed}"));
    assert_eq!(again.log.properties["sasl.password"], Property::new("sasl.password", "***"));
    again.log.properties.clone_from(&config.log.properties);
    assert_eq!(again, config);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn what_waits_on_disk_lies_beside_what_is_stored_unless_another_folder_is_given() {
    let of = |url: &str, more: &[&str]| {
        let layers = more.iter().fold(right().set(format!("store.url={url}")), |layers, set| layers.set(*set));
        let config = layers.load().unwrap();
        let again: Config = Layers::from_text("printed.toml", &config.to_toml()).load().unwrap();
        assert_eq!(again.store, config.store);
        config.store.scratch_folder()
    };
    assert_eq!(of("out/fields", &[]), std::path::Path::new("out/fields/.scratch"));
    assert_eq!(of("file:///srv/fields", &[]), std::path::Path::new("/srv/fields/.scratch"));
    assert_eq!(of("s3://bucket/fields", &[]), std::env::temp_dir());
    assert_eq!(of("out/fields", &["store.scratch=/var/tmp"]), std::path::Path::new("/var/tmp"));
    let text = format!("{RIGHT}\n[store]\nscratch = \"s3://bucket\"\n");
    let line = text.lines().count();
    assert_eq!(faults(&text), [format!("x.toml:{line}: store.scratch: expected a folder, got \"s3://bucket\"")]);
}

#[test]
fn every_fault_is_reported_at_once_with_its_line() {
    let text = r#"
nam = "here"
[runtime]
workers = 0
clock = "sundial"
max_bytes_in_flight = "much"
[[sources]]
name = "radar"
variables = ["rain_rat"]
cadence = 5
[[sources]]
name = "radar"
[[streams]]
name = "rain"
source = "radar"
patience = "1 h"
thresholds = [1.0, 0.1]
quantiles = [0.5, 1.5]
model = { name = "extrapolaton" }
device = "gpu"
[[streams]]
source = "radar"
[streams.topics]
index = "a topic"
"#;
    insta::assert_snapshot!(faults(text).join("\n"), @r#"
x.toml:2: nam: there is no such setting; did you mean "name"?
x.toml:4: runtime.workers: expected a whole number from 1 to 256, got 0
x.toml:5: runtime.clock: expected one of "wall", "log", got "sundial"
x.toml:6: runtime.max_bytes_in_flight: expected a size such as "64 MiB", got "much"
x.toml:9: sources.radar.variables: expected one of "rain_rate", "reflectivity", "precipitation_amount", "eastward_wind", "northward_wind", "x_wind", "y_wind", "wind_speed", got "rain_rat"; did you mean "rain_rate"?
x.toml:10: sources.radar.cadence: expected a duration such as "5 min", got 5
x.toml:11: sources.radar: the name is given twice; the first is in line 7
x.toml:16: streams.rain.patience: must not exceed the horizon: got 1 h, the horizon is 30 min
x.toml:17: streams.rain.thresholds: expected ascending values, got 1 before 0.1
x.toml:18: streams.rain.quantiles: expected values between 0 and 1, got 1.5
x.toml:19: streams.rain.model.name: expected one of "persistence", "damped-persistence", "extrapolation", "lagrangian-probability", "steps", got "extrapolaton"; did you mean "extrapolation"?
x.toml:20: streams.rain.device: expected "cpu", "cpu:N", "cuda" or "cuda:N", got "gpu"
x.toml:21: streams.?: name is missing: expected name = "..."
"#);
}

#[test]
fn what_settings_say_about_each_other_is_checked() {
    let text = r#"
[log]
kind = "kafka"
[[sources]]
name = "radar"
topic = "one"
variables = ["rain_rate"]
cadence = "5 min"
max_record_bytes = "1 GiB"
[[sources]]
name = "wind"
topic = "one"
variables = ["x_wind", "x_wind"]
cadence = "5 min"
[[streams]]
name = "rain"
source = "rada"
patience = "1 h"
quantiles = [0.5, 0.1]
model = { name = "persistence" }
topics = { index = "one" }
"#;
    insta::assert_snapshot!(faults(text).join("\n"), @r#"
x.toml:2: log: bootstrap_servers is missing: expected bootstrap_servers = "host:port"
x.toml:9: sources.radar.max_record_bytes: must not exceed runtime.max_bytes_in_flight
x.toml:12: sources.wind.topic: source "radar" reads "one" already
x.toml:13: sources.wind.variables: "x_wind" is given twice
x.toml:15: streams.rain.thresholds: probabilities are among the products: expected thresholds = [...]
x.toml:17: streams.rain.source: no source is named "rada"; did you mean "radar"?
x.toml:18: streams.rain.patience: must not exceed the horizon: got 1 h, the horizon is 30 min
x.toml:19: streams.rain.quantiles: expected ascending values, got 0.5 before 0.1
x.toml:21: streams.rain.topics.index: source "wind" reads "one": it must not be written to
"#);
}

#[test]
fn settings_of_a_model_are_checked_like_all_others() {
    let model = |settings: &str| {
        let text = format!(
            "[[sources]]\nname = \"radar\"\nvariables = [\"rain_rate\"]\ncadence = \"5 min\"\n\
             [[streams]]\nname = \"rain\"\nsource = \"radar\"\nthresholds = [1.0]\n{settings}"
        );
        let said: Vec<String> = faults(&text);
        said.iter().map(|fault| fault.replace("streams.rain.model", "MODEL")).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(
        model("model = { name = \"extrapolation\", seed = 7 }"),
        @r#"x.toml:9: MODEL.seed: there is no such setting; there are "calibrated", "file", "motion", "name", "perturbation", "steering_wind_factor""#
    );
    insta::assert_snapshot!(
        model("members = 1\nmodel = { name = \"persistence\", watch = true }"),
        @r#"x.toml:10: MODEL.watch: there is no such setting; there are "calibrated", "file", "name""#
    );
    insta::assert_snapshot!(
        model("model = { name = \"extrapolation\" }\nwindow_frames = 1"),
        @"x.toml:9: MODEL: extrapolation needs 2 frames, the window has 1"
    );
    let many = "[streams.model]\nname = \"lagrangian-probability\"\nkm_per_minut = 2\nsteering_wind_factor = \"2\"\n\
                [streams.model.motion]\ncorners = -1\nwindow = 2.5\nlevels = true\nqality = 0.1\n";
    insta::assert_snapshot!(model(many), @r#"
x.toml:11: MODEL.km_per_minut: there is no such setting; did you mean "km_per_minute"?
x.toml:12: MODEL.steering_wind_factor: expected a finite number, got "2"
x.toml:14: MODEL.motion.corners: expected a whole number of at least 0, got -1
x.toml:15: MODEL.motion.window: expected a whole number of at least 0, got 2.5
x.toml:16: MODEL.motion.levels: expected a whole number of at least 0, got true
x.toml:17: MODEL.motion.qality: there is no such setting; did you mean "quality"?
"#);
    let ranges = "[streams.model]\nname = \"extrapolation\"\nmotion.window = 1\nmotion.levels = 9\n\
                  perturbation.parallel = { factor = 1.0 }\n";
    insta::assert_snapshot!(model(ranges), @r#"
x.toml:13: MODEL.perturbation.parallel: exponent is missing
x.toml:13: MODEL.perturbation.parallel: offset is missing
"#);
    let ranges = "[streams.model]\nname = \"extrapolation\"\nmotion.window = 1\nmotion.levels = 9\n";
    insta::assert_snapshot!(model(ranges), @r#"
x.toml:11: MODEL.motion.window: must be from 4 to 256 cells
x.toml:12: MODEL.motion.levels: must be from 1 to 8
"#);
    let file = "[streams.model]\nfile = \"no.safetensors\"\ndevice = \"cuda\"\nprecision = \"f64\"\n\
                tiling = { tile = [64], overlap = 8 }\n[streams.model.sampler]\nsolver = { method = { ghvb = \"two\" }, \
                grid = \"uniform-t\" }\nguidance = { precision = { strenght = 1.0, queue = -1 } }\n";
    insta::assert_snapshot!(model(file), @r#"
x.toml:10: MODEL.file: there is no file no.safetensors here or beside the configuration
x.toml:11: MODEL.device: there is no such setting; there are "batch", "calibrated", "file", "name", "precision", "sampler", "tiling", "watch"
x.toml:12: MODEL.precision: expected one of "auto", "f32", "bf16", got "f64"
x.toml:13: MODEL.tiling.tile: expected a list of 2, got [64]
x.toml:15: MODEL.sampler.solver.method.ghvb: expected a finite number, got "two"
x.toml:15: MODEL.sampler.solver: steps is missing
x.toml:16: MODEL.sampler.guidance.precision.strenght: there is no such setting; did you mean "strength"?
x.toml:16: MODEL.sampler.guidance.precision.queue: expected a whole number of at least 0, got -1
"#);
}

/// A rain stream with more lines, at the end of its table and behind it.
fn verified(own: &str, tables: &str) -> String {
    RIGHT.replace("thresholds = [0.1, 1, 5.0]\n", &format!("thresholds = [0.1, 1, 5.0]\n{own}\n{tables}\n"))
}

#[test]
fn a_verification_has_scores_by_what_there_is_and_loads_as_it_is_printed() {
    let load = |text: &str| Layers::from_text("x.toml", text).load().unwrap();
    assert!(load(RIGHT).streams.iter().all(|stream| stream.verification.is_none()));
    let tables = "[streams.companions.still]\nmodel = { name = \"persistence\" }\n\
                  [streams.companions.next]\nmodel = { name = \"steps\" }\ndevice = \"cpu:3\"\nmembers = 4\n\
                  topics = { index = \"next.index\" }\n[streams.inputs.steering]\nsource = \"arpege-wind\"\n[streams.inputs.stations]\n                  quality = { wind_speed = { possible = [0, 80] } }\n[streams.verification]\nscales = [3]\nfss_border = \"interior\"\nregions = { north = [5, 60, 30, 70] }";
    let config = load(&verified("", tables));
    let stream = config.stream("rain").unwrap();
    let verification = stream.verification.clone().unwrap();
    assert_eq!(verification.scores, ["crps", "mae", "spread-skill", "rank", "csi", "fss", "probability"]);
    let fss = verification.settings().fss;
    assert_eq!((fss.border, fss.operator), (Border::Interior, Operator::AtLeast));
    assert_eq!((verification.thresholds, verification.horizon), (vec![0.1, 1.0, 5.0], stream.horizon));
    assert_eq!((stream.companions["still"].members, &*stream.companions["next"].device), (8, "cpu:3"));
    let next = stream.of_companion("next", &stream.companions["next"]);
    assert_eq!((&*next.name, next.members, next.verification), ("rain/next", 4, None));
    assert_eq!(stream.companions["still"].topics, None);
    let topic = |setting: &str| next.topics.fields[setting].to_string();
    assert_eq!((&*next.topics.index, topic("quantiles")), ("next.index", "fcst.quantile.v1.next".to_owned()));
    assert_eq!(stream.baselines().len(), 2);
    assert_eq!(&*stream.inputs.stations.as_ref().unwrap().topic, "obs.stations.v1");
    let limits = &stream.inputs.stations.as_ref().unwrap().quality;
    assert_eq!((limits[&Quantity::WindSpeed].possible, limits[&Quantity::WindSpeed].usual), ((0.0, 80.0), None));
    assert!(limits[&Quantity::RainRate].buddy.is_some());
    let mut again = load(&config.to_toml());
    again.log.properties.clone_from(&config.log.properties);
    assert_eq!(again, config);
}

#[test]
fn the_usual_fractions_skill_score_has_the_progress_of_before_and_another_has_its_own() {
    let settings = |more: &str| {
        let text = verified("", &format!("[streams.verification]\nscales = [3]\n{more}"));
        let config = Layers::from_text("x.toml", &text).load().unwrap();
        let stream = config.stream("rain").unwrap();
        verification_settings(stream, stream.verification.as_ref().unwrap())
    };
    let usual = settings("");
    assert!(usual.keys().all(|name| !name.contains("fss")), "{usual:?}");
    assert_eq!(settings("fss_border = \"no-event\"\nfss_operator = \"at-least\""), usual);
    let mut other = settings("fss_border = \"interior\"\nfss_operator = \"above\"");
    assert_eq!(other.remove("verification.fss_border").as_deref(), Some("interior"));
    assert_eq!(other.remove("verification.fss_operator").as_deref(), Some("above"));
    assert_eq!(other, usual);
}

#[test]
fn progress_rests_on_what_windows_hold_and_on_times_to_the_millisecond() {
    let settings = |source: &str, stream: &str| {
        let of_radar = |line: &str, more: &str| (line.to_owned(), format!("{line}{more}\n"));
        let (from, to) = of_radar("[[sources]]\nname = \"radar\"\n", source);
        let text = RIGHT.replace(&from, &to);
        let (from, to) = of_radar("source = \"radar\"\n", stream);
        let text = text.replace(&from, &to);
        progress_settings(Layers::from_text("x.toml", &text).load().unwrap().stream("rain").unwrap())
    };
    let usual = settings("", "");
    let progress = Progress { settings: usual.clone(), ..Default::default() };
    let lines: Vec<_> = usual.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
horizon = 1800 s
patience = 180 s
source.cadence = 300 s
source.future_tolerance = 600 s
source.grid = of the first frame
source.quality.max_missing = 1
source.quality.range = 0 to 500
source.quality.spikes = none
source.quality.stale = none
source.topic = obs.radar.v1
source.variables = lwe_precipitation_rate
source.z_relation = 200 R^1.6
window_frames = 4
"#);
    for (source, stream, difference) in [
        ("", "patience = \"200 ms\"", "patience was 180 s, is 200 ms"),
        ("", "horizon = \"1800900 ms\"", "horizon was 1800 s, is 1800900 ms"),
        ("future_tolerance = \"1 h\"", "", "source.future_tolerance was 600 s, is 3600 s"),
        ("z_relation = { a = 223.0, b = 1.53 }", "", "source.z_relation was 200 R^1.6, is 223 R^1.53"),
        ("quality.range = [0.1, 300.0]", "", "source.quality.range was 0 to 500, is 0.1 to 300"),
        ("quality.max_missing = 0.9", "", "source.quality.max_missing was 1, is 0.9"),
        ("quality.spikes = 20.0", "", "source.quality.spikes was none, is 20"),
        ("quality.stale = 3", "", "source.quality.stale was none, is 3"),
    ] {
        assert_eq!(progress.differences(&settings(source, stream)), [difference]);
    }
    // What was committed before these were recorded is good.
    let mut before = progress;
    before.settings.retain(|name, _| !RECORDED_LATER.contains(&name.as_str()));
    assert_eq!(before.settings.len(), usual.len() - RECORDED_LATER.len(), "each of them is a setting");
    assert!(before.differences(&settings("quality.max_missing = 0.9", "")).is_empty());
    assert_eq!(before.differences(&settings("", "window_frames = 3")), ["window_frames was 4, is 3"]);
}

#[test]
fn more_open_windows_than_a_progress_record_has_room_for_are_refused() {
    let said = |lines: &str, tolerance: &str| {
        let text = format!(
            "[[sources]]\nname = \"radar\"\nvariables = [\"rain_rate\"]\ncadence = \"5 min\"\n{tolerance}\n\
             [[streams]]\nname = \"rain\"\nsource = \"radar\"\nthresholds = [1.0]\n\
             model = {{ name = \"extrapolation\" }}\n{lines}\n"
        );
        faults(&text).join("\n")
    };
    // 4996 slots of the horizon and of ten minutes of tolerance, and the 4 frames of a window.
    assert_eq!(said("horizon = \"1498200 s\"", ""), "");
    insta::assert_snapshot!(
        said("horizon = \"1498201 s\"", ""),
        @"x.toml:11: streams.rain.horizon: with one every 5 min, 5001 windows could be open at once, and a progress record has room for 5000: expected a shorter horizon, or a future_tolerance of the source that is shorter"
    );
    assert!(said("horizon = \"1498200 s\"", "future_tolerance = \"11 min\"").contains("5001 windows"));
    assert!(said("horizon = \"1498200 s\"\nwindow_frames = 5", "").contains("5001 windows"));
    assert!(said("horizon = \"9000000 days\"", "").contains("horizon: with one every 5 min"));

    let time = |n: u64| IssueTime::from_unix_seconds(1_900_000_000 + n as i64);
    let issued = |n| Issued { issue_time: time(n), next_revision: 99 };
    let mut progress = Progress::default();
    let empty = serde_json::to_vec(&progress).unwrap().len();
    progress.state.windows = (0..MAX_WINDOWS).map(issued).collect();
    let room = 1_000_000 / 4;
    assert!(serde_json::to_vec(&progress).unwrap().len() - empty < room, "they take a quarter of a record at most");
}

#[test]
fn what_cannot_be_verified_is_refused_all_at_once() {
    let tables = "[streams.inputs]\ntruth = \"arpege-wind\"\nsteering = { source = \"SOURCE\" }\n\
                  stations = { quality = { wind_speed = { possible = [2, 1] }, wind = { possible = [0, 1] } } }\n[streams.companions.published]\n\
                  model = { name = \"extrapolation\" }\n[streams.verification]\nscores = [\"crsp\"]\nscales = [1.5]\nfss_border = \"out\"\n\
                  behind_after = \"90 min\"\nhorizon = \"1 min\"\nregions = { stations = [0, 1, 2] }";
    let found = ["nowhere", "radar"].map(|source| verified("products = [\"mean\"]", &tables.replace("SOURCE", source)));
    let found = found.map(|text| faults(&text).join("\n")).concat();
    for fault in [
        "inputs.truth: has another cadence, or other variables",
        "inputs.steering.source: expected one of",
        "inputs.stations.quality.wind_speed: possible: expected a least and a greatest value, got 2 to 1",
        "inputs.stations.quality.wind: expected one of",
        "inputs.steering.source: is the stream's own source",
        "companions.published: expected",
        "verification.scores: expected one of",
        "verification.scales: expected whole numbers",
        "verification.fss_border: expected one of \"no-event\", \"interior\", got \"out\"",
        "verification.behind_after: expected whole hours",
        "verification.horizon: must not be shorter",
        "regions.stations: expected [west, south, east, north]",
        "not \"domain\" or \"stations\"",
        "products: what is verified is read from the files",
    ] {
        assert!(found.contains(fault), "{fault}: {found}");
    }
}

#[test]
fn a_deadline_needs_something_that_answers_and_steps_that_can_be_taken() {
    let said = |variables: &str, stream: &str| {
        let text = format!(
            "[[sources]]\nname = \"s\"\nvariables = [{variables}]\ncadence = \"5 min\"\n\
             [[streams]]\nname = \"s\"\nsource = \"s\"\nthresholds = [1.0]\n{stream}"
        );
        faults(&text).join("\n")
    };
    let (rain, wind) = ("\"rain_rate\"", "\"eastward_wind\", \"northward_wind\"");
    let persistence = "deadline = \"1 s\"\nmodel = { name = \"persistence\" }\n";
    insta::assert_snapshot!(
        said(wind, persistence),
        @"x.toml:9: streams.s.deadline: no other model fits the stream, so that nothing could answer when it passes"
    );
    assert!(said(rain, persistence).is_empty(), "extrapolation answers");
    let model = "model = { name = \"lagrangian-probability\" }\n";
    insta::assert_snapshot!(
        said(rain, &format!("{model}degrade = [\"steps\", \"members\", \"member\"]\n")),
        @r#"x.toml:10: streams.s.degrade: expected one of "steps", "members", "extrapolation", "persistence", got "member"; did you mean "members"?"#
    );
    insta::assert_snapshot!(
        said(rain, &format!("{model}degrade = [\"steps\", \"members\", \"members\"]\n")),
        @r#"
x.toml:10: streams.s.degrade: "members" is given twice
x.toml:10: streams.s.degrade: needs a deadline
x.toml:10: streams.s.degrade: "steps": lagrangian-probability has no solver steps
"#
    );
    let extrapolation = "deadline = \"1 s\"\nmodel = { name = \"extrapolation\" }\n";
    insta::assert_snapshot!(
        said(rain, &format!("{extrapolation}degrade = [\"extrapolation\", \"persistence\"]\n")),
        @r#"x.toml:11: streams.s.degrade: "extrapolation" is the stream's own model, or does not fit the stream"#
    );
}

#[test]
fn a_setting_of_the_client_that_it_does_not_know_is_refused_without_its_value() {
    let text = "[log.properties]\nsasl.passwrd = \"hunter2\"\nlinger.ms = \"soon\"\ngroup.id = \"mine\"\n\
                debug = [1]\n";
    let told = faults(text).join("\n");
    assert!(!told.contains("hunter2"), "{told}");
    insta::assert_snapshot!(told, @r#"
x.toml:1: sources: at least one is needed: expected [[sources]]
x.toml:1: streams: at least one is needed: expected [[streams]]
x.toml:2: log.properties.sasl.passwrd: librdkafka has no such setting; did you mean "sasl.password"?
x.toml:3: log.properties.linger.ms: librdkafka does not take this value: Invalid value for configuration property "queue.buffering.max.ms"
x.toml:4: log.properties.group.id: is set by Squall itself
x.toml:5: log.properties.debug: expected text, a number, true or false
"#);
}

#[test]
fn a_syntax_error_has_its_line() {
    insta::assert_snapshot!(faults("name = \"a\"\n[log\nkind = 1").join("\n"), @"x.toml:2: unclosed table, expected `]`");
}

#[test]
fn a_fault_names_the_variable_or_flag_that_made_it() {
    let layers = right()
        .environment([("SQUALL__RUNTIME__WORKERS".into(), "many".into())])
        .set("streams.rain.lead=3")
        .set("nonsense");
    insta::assert_snapshot!(layers.load().unwrap_err(), @r#"
--set nonsense: expected path=value, such as streams.rain.leads=6
SQUALL__RUNTIME__WORKERS: runtime.workers: expected a whole number from 1 to 256, got "many"
--set streams.rain.lead: streams.rain.lead: there is no such setting; did you mean "leads"?
"#);
}

#[test]
fn an_empty_file_says_what_is_needed() {
    insta::assert_snapshot!(faults("").join("\n"), @r#"
x.toml:1: sources: at least one is needed: expected [[sources]]
x.toml:1: streams: at least one is needed: expected [[streams]]
"#);
}
