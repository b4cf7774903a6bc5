//! Weights files, and what a running instance says about the models that it uses.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use squall_pipeline::http::get_text;

use crate::rain::Rain;
use crate::setting::LIMIT;
use crate::{Running, squall};

/// The digest of a weights file, as `squall model inspect` prints it.
pub fn digest(folder: &Path, weights: &Path) -> String {
    let path = weights.display().to_string();
    let text = Running::start(folder, &squall(), &["model", "inspect", &path]).success(LIMIT);
    let digest = text.lines().find_map(|line| line.strip_prefix("digest")).expect("a digest");
    digest.trim().to_owned()
}

/// Trains a model that forecasts rain every 5 minutes from 2 frames for 3 leads, in a few steps and seconds.
pub fn small_model(folder: &Path) -> PathBuf {
    let storm = Rain::storm(folder, "training.nc", &["--frames", "8", "--size", "48x48", "--variables", "rain"]);
    let (storm, out) = (storm.file.display().to_string(), folder.join("training"));
    let mut text = include_str!("../../pipeline/tests/small-training.toml").to_owned();
    for (from, to) in [
        ("\"OUT\"", format!("\"{}\"", out.display())),
        ("\"STORM\"", format!("\"{storm}\"")),
        ("\"VALIDATION\"", format!("\"{storm}\"")),
        ("steps = 60", "steps = 2".to_owned()),
        ("every = 20", "every = 0".to_owned()),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, &to);
    }
    let config = folder.join("training.toml");
    fs::write(&config, text).expect("a configuration file");
    Running::start(folder, &squall(), &["train", &config.display().to_string()]).success(LIMIT);
    out.join("model.safetensors")
}

/// Puts a file under a path at once, as somebody who knows that it is read would.
pub fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).expect("a file");
    fs::rename(&beside, path).expect("a file in its place");
}

/// The lines that a program with `--log-format json` has logged.
pub fn log(output: &str) -> Vec<Value> {
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits until an instance that logs JSON says where its metrics are served.
pub fn address(running: &mut Running) -> String {
    let mut found = None;
    running.until_said(LIMIT, "it serves metrics", |output| {
        found = log(output).iter().find_map(|line| line["address"].as_str().map(str::to_owned));
        found.is_some()
    });
    found.expect("an address")
}

/// What an instance measures: the value of the metric of that name whose labels hold all of these.
pub fn metric(address: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let (code, text) = get_text(address, "/metrics").ok()?;
    assert_eq!(code, 200, "{text}");
    let has = |line: &str, (label, value): &(&str, &str)| line.contains(&format!("{label}=\"{value}\""));
    let mut lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let line = lines.find(|line| labels.iter().all(|label| has(line, label)))?;
    line.rsplit(' ').next()?.parse().ok()
}
