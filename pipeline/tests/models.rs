//! Models on streams that they were not made for: refused at the start with every reason where the configuration says
//! enough, and answered for by the fallback, with the reason, where only the first frame tells.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use squall_connectors::memory::MemoryLog;
use squall_fields::{ValidTime, Variable};
use squall_models::simulate::StormSettings;
use squall_operators::ports::Connect;
use squall_pipeline::commands::simulate::frames;
use squall_pipeline::config::Layers;
use squall_pipeline::publish::{Arrivals, Format, end_of_log, record};
use squall_pipeline::runtime::Runtime;
use squall_pipeline::{connect, topics};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Exit code, stdout, stderr of the program.
fn squall(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
    command.current_dir(root()).env_remove("RUST_LOG").env_remove("SQUALL_LOG_FORMAT");
    let output = command.args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A configuration with the rain model on a source; `more` streams follow.
fn config(folder: &Path, source: &str, more: &str) -> String {
    let weights = root().join("models/weights/cogdpm-rain.safetensors").canonicalize().unwrap();
    let text = format!(
        "name = \"t\"\n[log]\nkind = \"memory\"\n[store]\nurl = \"{}\"\n[runtime]\nclock = \"log\"\nuntil_marker = true\n\
         [[sources]]\nname = \"radar\"\n{source}\n\
         [[streams]]\nname = \"rain\"\nsource = \"radar\"\nwindow_frames = 4\nleads = 3\nmembers = 2\n\
         products = [\"ensemble\"]\nmodel = {{ file = \"{}\" }}\n{more}",
        folder.join("store").display(),
        weights.display()
    );
    let path = folder.join("squall.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

const RAIN: &str = "variables = [\"rain_rate\"]\ncadence = \"5 min\"";

#[test]
fn a_stream_that_a_model_was_not_made_for_is_refused_with_every_reason() {
    let folder = tempfile::tempdir().unwrap();
    let axis = |name: &str, step: f64| format!("{name} = {{ first = 0.0, step = {step}, len = 64 }}");
    let source = format!(
        "variables = [\"eastward_wind\", \"northward_wind\"]\ncadence = \"10 min\"\n\
         [sources.grid]\nproj = \"+proj=utm +zone=35 +ellps=WGS84 +units=m\"\n{}\n{}\n",
        axis("x", 250.0),
        axis("y", -250.0)
    );
    let second = |model: &str| {
        format!(
            "[[streams]]\nname = \"second\"\nsource = \"radar\"\nproducts = [\"ensemble\"]\n\
             model = {{ {model} }}\ntopics = {{ index = \"second\" }}\n"
        )
    };
    let weights = root().join("models/weights/cogdpm-rain.safetensors").canonicalize().unwrap();
    let same = second(&format!("file = \"{}\"", weights.display()));
    let (code, _, errors) = squall(&["run", &config(folder.path(), &source, &same)]);
    assert_eq!(code, Some(2), "{errors}");
    for part in [
        "error: model cogdpm-rain does not fit stream rain: ",
        "takes variables rain_rate, the stream has eastward_wind, northward_wind",
        "was made for a cadence of 300 s, the stream has 600 s",
        "was made for cells of 900 to 2000 m, the grid has 250 m",
        "error: model cogdpm-rain does not fit stream second: ",
    ] {
        assert!(errors.contains(part), "{part} is not in\n{errors}");
    }
    // What needs no weights is told by the configuration alone.
    let named = config(folder.path(), &source, &second("name = \"extrapolation\""));
    let (code, _, errors) = squall(&["inspect", "config", &named]);
    let fault = "streams.second.model: extrapolation takes variables rain_rate or reflectivity";
    assert!(code == Some(2) && errors.contains(fault), "{code:?} {errors}");
}

#[test]
fn a_grid_that_only_the_first_frame_tells_is_the_fallbacks() {
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), RAIN, "");
    let config = Layers::from_file(Path::new(&path)).unwrap().load().unwrap();
    let (source, stream) = (&config.sources[0], &config.streams[0]);
    let start = ValidTime::from_unix_seconds(1_475_064_000);
    let settings =
        StormSettings { rows: 64, columns: 72, spacing_m: 250.0, cadence: source.cadence, start, ..Default::default() };
    let frames = frames(settings, 5, &[Variable::RainRate]);

    let log = MemoryLog::new();
    topics::ensure(&config, &log).unwrap();
    let mut writer = log.writer().unwrap();
    for frame in &frames {
        let arrival = Arrivals::default().of(frame.slot);
        writer.send(record(&config, source, frame, arrival, Some(0), Format::Netcdf).unwrap()).unwrap();
    }
    writer.send(end_of_log(source, 0, Arrivals::default().of(frames[4].slot))).unwrap();
    writer.flush(Duration::from_secs(10)).unwrap();
    Runtime::start(&config, Arc::new(log.clone()), connect::store(&config).unwrap()).unwrap().join().unwrap();

    let mut reader = log.reader(1 << 30).unwrap();
    let partition = reader.partitions(&stream.topics.index).unwrap().remove(0);
    let end = reader.end_offset(&partition).unwrap();
    reader.assign(&[(partition.clone(), 0)]).unwrap();
    let mut index = Vec::new();
    while reader.position(&partition).unwrap() < end {
        index.extend(reader.poll(Duration::from_millis(100)).unwrap());
    }
    assert_eq!(index.len(), 2, "one forecast for each full window");
    for one in &index {
        let json: serde_json::Value = serde_json::from_slice(one.value.as_deref().expect("a value")).unwrap();
        let squall = &json["properties"]["squall"];
        assert_eq!((&squall["degraded"], &squall["model"]), (&true.into(), &"extrapolation".into()), "{squall}");
        let reasons = squall["provenance"]["degraded"].to_string();
        assert!(
            reasons.contains("model cogdpm-rain was made for cells of 900 to 2000 m, the grid has 250 m"),
            "{reasons}"
        );
    }
}

#[test]
fn a_forecast_from_a_file_of_another_grid_says_what_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (path, storm) = (config(folder.path(), RAIN, ""), folder.path().join("storm.nc").display().to_string());
    let size = ["--frames", "4", "--size", "64x64", "--spacing", "0.25", "--variables", "rain"];
    assert_eq!(squall(&[&["simulate", "-o", &storm], &size[..]].concat()).0, Some(0));
    let out = folder.path().join("out").display().to_string();
    let (code, file, said) = squall(&["forecast", &path, "--input", &storm, "--output", &out]);
    assert!(code == Some(0) && Path::new(file.trim()).is_file(), "{said}");
    assert!(said.contains("less than it should be") && said.contains("the grid has 250 m"), "{said}");
}
