//! The binary as a person meets it: what it prints, where it says so, and its exit codes.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn squall() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
    command.current_dir(root()).env_remove("RUST_LOG").env_remove("SQUALL_LOG_FORMAT");
    command
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(arguments: &[&str]) -> Output {
    squall().args(arguments).output().unwrap()
}

/// Exit code, stdout, stderr.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A small storm in a file.
fn storm(folder: &Path) -> String {
    let path = folder.join("storm.nc").display().to_string();
    let made = run(&["simulate", "--output", &path, "--frames", "5", "--size", "48x64", "--seed", "4"]);
    assert!(made.status.success(), "{made:?}");
    path
}

#[test]
fn help_teaches() {
    let (code, help, _) = told(&run(&["--help"]));
    assert_eq!(code, Some(0));
    for word in ["squall demo", "run", "forecast", "publish", "inspect", "simulate", "completions", "Exit codes"] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
    let (code, help, _) = told(&run(&["publish", "--help"]));
    assert!(code == Some(0) && help.contains("Examples:") && help.contains("--shuffle-within"), "{help}");
    let (code, version, _) = told(&run(&["--version"]));
    assert_eq!((code, version), (Some(0), format!("squall {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for arguments in [
        &[][..],
        &["forecats"],
        &["publish"],
        &["publish", "x.nc", "--config", "c", "--speed", "fast"],
        &["publish", "x.nc", "--config", "c", "--stations", "t", "--source", "s"],
        &["publish", "x.nc", "--config", "c", "--partitions", "3"],
    ] {
        let (code, _, errors) = told(&run(arguments));
        assert!(code == Some(2) && !errors.is_empty(), "{arguments:?}: {code:?}\n{errors}");
    }
    let (code, _, errors) = told(&run(&["run", "no/such.toml"]));
    assert_eq!(code, Some(2));
    assert!(errors.starts_with("error: cannot read the configuration no/such.toml"), "{errors}");
}

#[test]
fn faults_of_a_configuration_are_one_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faulty.toml");
    std::fs::write(&path, "[runtime]\nworkers = 0\nclok = \"log\"\n").unwrap();
    let (code, _, errors) = told(&run(&["inspect", "config", &path.display().to_string()]));
    let errors = errors.replace(&path.display().to_string(), "faulty.toml");
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(errors, @r##"
faulty.toml:1: sources: at least one is needed: expected [[sources]]
faulty.toml:1: streams: at least one is needed: expected [[streams]]
faulty.toml:2: runtime.workers: expected a whole number from 1 to 256, got 0
faulty.toml:3: runtime.clok: there is no such setting; did you mean "clock"?
error: 4 faults in the configuration
"##);
}

#[test]
fn completions_complete() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = told(&run(&["completions", shell]));
        assert!(code == Some(0) && script.contains("frontiers"), "{shell}");
    }
}

#[test]
fn a_file_of_stations_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gauges.nc");
    let mut file = netcdf::create(&path).unwrap();
    file.add_dimension("station", 2).unwrap();
    file.add_dimension("time", 3).unwrap();
    let mut add = |name: &str, dimensions: &[&str], values: &[f64], attributes: &[(&str, &str)]| {
        let mut variable = file.add_variable::<f64>(name, dimensions).unwrap();
        for (name, value) in attributes {
            variable.put_attribute(name, *value).unwrap();
        }
        variable.put_values(values, ..).unwrap();
    };
    add("time", &["time"], &[0.0, 10.0, 20.0], &[("units", "minutes since 2020-01-01 00:00:00")]);
    add("latitude", &["station"], &[57.0, 58.0], &[("units", "degrees_north")]);
    add("longitude", &["station"], &[12.0, 13.0], &[("units", "degrees_east")]);
    let wind = [("standard_name", "wind_speed"), ("units", "m s-1")];
    add("wind", &["station", "time"], &[1.0, 2.0, f64::NAN, 4.0, 5.0, f64::NAN], &wind);
    drop(file);
    let path = path.display().to_string();
    let (code, text, errors) = told(&run(&["inspect", "file", &path]));
    assert_eq!(code, Some(0), "{errors}");
    insta::assert_snapshot!(text.replace(&path, "gauges.nc"), @"
gauges.nc
  stations 2, the place of 2 is known
  names    stations have no identifiers: they are numbered from 0
  slots    3, 2020-01-01T00:00:00Z to 2020-01-01T00:20:00Z, every 10 min
  values
    quantity                                           missing    lowest      mean   highest
    wind_speed (m s-1)                                   33.3%      1.00     3.000      5.00
");
}

#[test]
fn a_file_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let storm = storm(folder.path());
    let (code, text, errors) = told(&run(&["inspect", "file", &storm]));
    assert_eq!(code, Some(0), "{errors}");
    insta::assert_snapshot!(text.replace(&storm, "storm.nc"), @r##"
storm.nc
  grid     48 x 64 cells of 1000 x 1000, id ccf972f635391919
           +proj=laea +lat_0=60 +lon_0=25 +x_0=0 +y_0=0 +ellps=WGS84 +units=m
  packing  lwe_precipitation_rate: i16, value = stored x 0.009999999776482582 + 0, missing: -32768
  crs      by the PROJ string `proj4` of crs
  axes     x in metres, by its attribute units = "m"
  axes     y in metres, by its attribute units = "m"
  slots    5, 2016-09-28T12:00:00Z to 2016-09-28T12:20:00Z, every 5 min
  values
    variable                  slot                     missing    lowest      mean   highest
    rain_rate (mm h-1)        2016-09-28T12:00:00Z        1.2%      0.00     0.476     11.38
    rain_rate (mm h-1)        2016-09-28T12:10:00Z        1.2%      0.00     0.404     16.95
    rain_rate (mm h-1)        2016-09-28T12:20:00Z        1.2%      0.00     0.574     20.37
"##);
    let (code, _, errors) = told(&run(&["inspect", "file", "Cargo.toml"]));
    assert!(code == Some(3) && errors.starts_with("error: cannot read Cargo.toml\n  because: "), "{errors}");
}

#[test]
fn a_forecast_from_a_file_is_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let storm = storm(folder.path());
    let forecast = |output: &str| {
        let output = folder.path().join(output).display().to_string();
        let at = "2016-09-28T12:15:00Z";
        run(&["forecast", "configs/demo.toml", "--input", &storm, "--at", at, "--output", &output, "--map"])
    };
    let (code, first, errors) = told(&forecast("one"));
    assert_eq!(code, Some(0), "{errors}");
    let paths: Vec<&Path> = first.lines().map(Path::new).collect();
    assert!(paths.len() == 2 && paths.iter().all(|path| path.is_file()), "{first}");
    assert!(paths[0].ends_with(paths[0].strip_prefix(folder.path().join("one")).unwrap()));
    let (_, second, _) = told(&forecast("two"));
    // The name holds the digest of the bytes.
    assert_eq!(second.replace("/two/", "/one/"), first);
    let wrong = ["--at", "2016-09-28T12:17:00Z", "--output", "out"];
    let (code, _, errors) =
        told(&squall().args(["forecast", "configs/demo.toml", "-i", &storm]).args(wrong).output().unwrap());
    assert!(code == Some(2) && errors.contains("not a slot of source radar, every 300 s"), "{errors}");
}

#[test]
fn a_running_instance_answers_and_ends_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("store.url={}", folder.path().display());
    let settings = ["runtime.clock=wall", "runtime.until_marker=false", "metrics.listen=127.0.0.1:0", &store];
    let mut command = squall();
    command.args(["run", "configs/demo.toml", "--log-format", "json"]).args(settings.iter().flat_map(|s| ["--set", s]));
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut field = |name: &str| {
        lines.find_map(|line| {
            let json: serde_json::Value = serde_json::from_str(&line).unwrap();
            json.get(name).map(|value| value.as_str().unwrap_or_default().to_owned())
        })
    };
    let address = field("address").expect("it says where metrics are served");
    let (code, frontiers, errors) = told(&run(&["inspect", "frontiers", "--address", &address]));
    assert!(code == Some(0) && frontiers.starts_with("stream rain\n"), "{frontiers}{errors}");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let (code, _, errors) = told(&run(&["inspect", "frontiers", "--address", &address]));
    assert!(code == Some(1) && errors.contains("no instance answers"), "{errors}");
}

#[test]
fn publishing_into_memory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, errors) = told(&run(&["publish", &storm(folder.path()), "--config", "configs/demo.toml"]));
    assert!(code == Some(2) && errors.contains("log.kind is \"memory\""), "{errors}");
}

#[test]
fn the_exit_code_says_who_can_help() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("a.nc"), b"It will rain.").unwrap();
    std::fs::write(file("in-the-way"), b"a file").unwrap();
    let (code, _, errors) = told(&run(&["inspect", "file", &file("none.nc")]));
    assert!(code == Some(2) && errors.contains("none.nc") && errors.contains("because: "), "{code:?} {errors}");
    let (code, _, errors) = told(&run(&["inspect", "file", &file("a.nc")]));
    assert!(code == Some(3) && errors.contains("expected NetCDF"), "{code:?} {errors}");
    let storm = storm(folder.path());
    let output = file("in-the-way/out");
    let (code, _, errors) = told(&run(&["forecast", "configs/demo.toml", "-i", &storm, "-o", &output]));
    assert!(code == Some(2) && errors.contains("in-the-way"), "{code:?} {errors}");
    // A disk that takes nothing more: no file may grow, and the signal that says so is ignored.
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" simulate -o \"$1\" --frames 1 --size 8x8";
    let mut full = Command::new("sh");
    full.args(["-c", script, env!("CARGO_BIN_EXE_squall"), &file("b.nc")]);
    let (code, _, errors) = told(&full.output().unwrap());
    assert!(code == Some(4) && errors.contains("b.nc"), "{code:?} {errors}");
}

#[test]
fn settings_and_a_broker_that_is_away_are_told_apart() {
    let kafka = ["--set", "log.kind=kafka", "--set", "log.bootstrap_servers=127.0.0.1:1"];
    let topics = |more: &[&str]| {
        told(&squall().args(["inspect", "topics", "configs/radar.toml"]).args(kafka).args(more).output().unwrap())
    };
    let (code, _, errors) = topics(&["--set", "log.properties.no-such-property=1"]);
    assert!(code == Some(2) && errors.contains("no-such-property"), "{code:?} {errors}");
    let (code, _, errors) = topics(&[]);
    assert!(code == Some(5) && errors.contains("error: the broker is away or busy"), "{code:?} {errors}");
}

/// Neither what is printed, nor the most talkative log, nor an error tells a secret, wherever it was given.
#[test]
fn secrets_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret.toml").display().to_string();
    let text = r#"
        name = "secret"
        [log]
        kind = "kafka"
        bootstrap_servers = "127.0.0.1:1"
        [log.properties]
        security.protocol = "sasl_plaintext"
        sasl.mechanism = "PLAIN"
        sasl.username = "squall"
        sasl.password = "hunter2-of-the-file"
        debug = "all"
        [[sources]]
        name = "radar"
        variables = ["rain_rate"]
        cadence = "5 min"
        [[streams]]
        name = "rain"
        source = "radar"
        model = { name = "extrapolation" }
        thresholds = [1.0]
    "#;
    std::fs::write(&path, text).unwrap();
    let said = |arguments: &[&str]| {
        let mut command = squall();
        command.args(arguments).env("SQUALL__LOG__PROPERTIES__SSL_KEY_PASSWORD", "hunter2-of-the-environment");
        let (code, out, errors) = told(&command.output().unwrap());
        let said = out + &errors;
        assert!(!said.contains("hunter2"), "{arguments:?}:\n{said}");
        (code, said)
    };
    let (code, printed) = said(&["inspect", "config", &path]);
    assert_eq!(code, Some(0), "{printed}");
    for line in ["\"sasl.password\" = \"***\"", "\"ssl.key.password\" = \"***\"", "\"sasl.username\" = \"squall\""] {
        assert!(printed.contains(line), "{printed}");
    }
    // No broker is there: the client says all that it does, and then that it cannot connect.
    let (code, logged) = said(&["inspect", "topics", &path, "-vvv"]);
    assert_eq!(code, Some(5), "{logged}");
    assert!(logged.contains("TRACE rdkafka") && logged.contains("error: "), "{logged}");
    let faulty = folder.path().join("faulty.toml").display().to_string();
    std::fs::write(&faulty, text.replace("hunter2-of-the-file", "hunter2\\u0000")).unwrap();
    for (path, flag, reason) in [
        (&faulty, "name=x", "librdkafka does not take this value"),
        (&path, "log.properties.sasl.passwrd=hunter2-of-a-flag", "did you mean \"sasl.password\"?"),
        (&path, "log.properties.sasl.password:hunter2-of-a-flag", "expected path=value"),
    ] {
        let (code, refused) = said(&["inspect", "config", path, "--set", flag]);
        assert!(code == Some(2) && refused.contains(reason), "{flag}: {refused}");
    }
}

/// What `squall doctor --format json` found of a part: its status, and what.
fn found(json: &serde_json::Value, part: &str) -> (String, String) {
    let findings = json["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["part"] == part);
    let finding = finding.unwrap_or_else(|| panic!("no {part} in {json:#}"));
    (finding["status"].as_str().unwrap().to_owned(), finding["found"].as_str().unwrap().to_owned())
}

#[test]
fn a_doctor_finds_a_healthy_machine_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let set = ["--set", "log.kind=memory", "--set", &format!("store.url={}", store.display())];
    let (code, text, errors) = told(&run(&[&["doctor", "configs/demo.toml"][..], &set].concat()));
    assert_eq!(code, Some(0), "{text}{errors}");
    for part in ["ok       configuration", "ok       libtorch", "network steps/s", "ok       store", "skipped  broker"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 0, "nothing is left behind");
    let (code, text, _) = told(&run(&["doctor", "--format", "json"]));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["healthy"]), (Some(0), &serde_json::json!(true)));
    assert_eq!(found(&json, "store").0, "skipped");
}

#[test]
fn a_doctor_names_all_that_is_wrong_and_the_first_of_it_decides_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "no folder").unwrap();
    let store = format!("store.url={}", folder.path().join("file/store").display());
    // A port that nobody listens on: taken, and given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let servers = format!("log.bootstrap_servers=127.0.0.1:{port}");
    let sick = ["--set", "log.kind=kafka", "--set", &servers, "--set", &store, "--format", "json"];
    let (code, text, errors) = told(&run(&[&["doctor", "configs/demo.toml"][..], &sick].concat()));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["healthy"]), (Some(5), &serde_json::json!(false)), "{json:#}");
    assert!(errors.contains("parts do not work: broker, store"), "{errors}");
    assert!(found(&json, "broker").1.contains(&port.to_string()));
    assert_eq!((found(&json, "topics").0.as_str(), found(&json, "store").0.as_str()), ("skipped", "failed"));

    let (code, text, _) = told(&run(&["doctor", "configs/demo.toml", "--set", "runtime.workers=0"]));
    assert!(code == Some(2) && text.contains("failed   configuration") && text.contains("runtime.workers"), "{text}");
}
