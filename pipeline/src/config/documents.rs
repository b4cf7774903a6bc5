//! The tables of settings in `docs/` against the settings that are read: none without a row, no row without a setting.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use super::Layers;
use super::context::Context;
use super::layers::{Kind, STREAMS};
use super::resolve;
use crate::{series, training};

/// Gives every table that is optional, so that its settings are asked for, and every kind of model.
const STREAMING: &str = r#"
[metrics]
listen = "127.0.0.1:0"
[[sources]]
name = "radar"
variables = ["rain_rate"]
cadence = "5 min"
grid = { proj = "+proj=utm +zone=35", x = { first = 0, step = 1, len = 16 }, y = { first = 0, step = -1, len = 16 } }
[[sources]]
name = "adjusted"
variables = ["rain_rate"]
cadence = "5 min"
[[sources]]
name = "wind"
variables = ["eastward_wind", "northward_wind"]
cadence = "3 h"
[[streams]]
name = "a"
source = "radar"
thresholds = [1.0]
[streams.model]
name = "extrapolation"
motion = {}
[streams.model.perturbation]
parallel = { factor = 1, exponent = 1, offset = 1 }
perpendicular = { factor = 1, exponent = 1, offset = 1 }
[streams.companions.NAME]
model = { name = "persistence" }
[streams.inputs]
truth = "adjusted"
[streams.inputs.stations]
topic = "stations"
quality = { wind_speed = { possible = [0, 80], buddy = { radius_m = 1, least_neighbours = 1, most = 1, spreads = 1 } } }
[streams.inputs.steering]
source = "wind"
[streams.verification]
regions = { NAME = [0, 50, 10, 60] }
topics = { scores = "scores" }
[[streams]]
name = "b"
source = "radar"
thresholds = [1.0]
model = { name = "lagrangian-probability" }
[[streams]]
name = "steps"
source = "radar"
thresholds = [1.0]
model = { name = "steps" }
[[streams]]
name = "damped"
source = "wind"
thresholds = [1.0]
model = { name = "damped-persistence" }
[[streams]]
name = "c"
source = "radar"
thresholds = [1.0]
[streams.model]
file = "Cargo.toml"
tiling = { tile = [32, 32], overlap = 8 }
[streams.model.sampler]
solver = { method = "ddim", grid = "uniform-t", steps = 2 }
guidance = { precision = {} }
"#;

/// Every setting that is asked for, without the names of sources and streams and the places in lists.
fn asked<T>(text: &str, kind: &Kind, read: impl FnOnce(&Context<'_>) -> Option<T>) -> BTreeSet<String> {
    let settings = RefCell::new(Vec::new());
    // Beside the configurations of the folder, so that the files that they name are found.
    let name = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/x.toml");
    let read = Layers::from_text(name, text).read(kind, |context| {
        let read = read(context);
        *settings.borrow_mut() = context.settings();
        read
    });
    if let Err(faults) = read {
        panic!("{faults}");
    }
    let settings = settings.into_inner().into_iter().filter(|(table, _)| table != "sources" && table != "streams");
    settings.map(|(table, key)| plain(&table, &key)).collect()
}

fn plain(table: &str, key: &str) -> String {
    let mut parts: Vec<&str> = table.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect();
    if ["sources", "streams"].contains(&parts[0]) {
        parts.remove(1);
    }
    parts.push(key);
    parts.retain(|part| !part.is_empty());
    parts.join(".")
}

/// The settings that the tables of a page name in their first column. A line before a table that names `[[streams]]`
/// or the `model` says where they belong; `.b` after `a.a` is `a.b`.
fn documented(page: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let (mut found, mut within, mut in_table) = (BTreeSet::new(), "", false);
    for line in text.lines() {
        let Some(row) = line.strip_prefix('|') else {
            in_table = false;
            for (words, table) in
                [("`[[sources]]`", "sources."), ("`[[streams]]`", "streams."), ("The `model`", "streams.model.")]
            {
                within = if line.contains(words) { table } else { within };
            }
            continue;
        };
        let first = row.split(" | ").next().unwrap_or(row).trim();
        if !in_table {
            in_table = first == "setting";
            continue;
        }
        let mut parent = String::new();
        for name in first.split('`').skip(1).step_by(2) {
            let name = name.strip_prefix('.').map_or_else(|| name.to_owned(), |name| format!("{parent}{name}"));
            parent = name.rsplit_once('.').map_or_else(String::new, |(parent, _)| format!("{parent}."));
            found.insert(format!("{within}{}", name.strip_suffix(".*").unwrap_or(&name)));
        }
    }
    found
}

fn compare(page: &str, asked: &BTreeSet<String>) {
    let documented = documented(page);
    let above = |setting: &str| {
        let ends = setting.match_indices('.').map(|(end, _)| end).chain([setting.len()]);
        ends.map(|end| setting[..end].to_owned()).collect::<Vec<_>>()
    };
    let is_table =
        |setting: &str| asked.iter().any(|other| other.strip_prefix(setting).is_some_and(|r| r.starts_with('.')));
    let has_row = |setting: &str| above(setting).iter().any(|path| documented.contains(path));
    let missing: Vec<_> = asked.iter().filter(|setting| !is_table(setting) && !has_row(setting)).collect();
    assert!(missing.is_empty(), "settings without a row in docs/{page}: {missing:?}");
    let is_setting = |row: &str| asked.contains(row) || is_table(row);
    let invented: Vec<_> = documented.iter().filter(|row| !is_setting(row)).collect();
    assert!(invented.is_empty(), "docs/{page} describes settings that there are not: {invented:?}");
}

#[test]
fn every_setting_of_a_stream_has_a_row_and_every_row_a_setting() {
    compare("operations.md", &asked(STREAMING, &STREAMS, resolve::config));
}

#[test]
fn every_setting_of_a_training_has_a_row_and_every_row_a_setting() {
    let text = include_str!("../../../configs/train-cogdpm-rain.toml");
    compare("models.md", &asked(text, &training::read::TRAINING, training::read::run));
}

#[test]
fn every_setting_of_a_training_on_series_has_a_row_and_every_row_a_setting() {
    let text = include_str!("../../../configs/train-gpd-wind.toml");
    compare("series.md", &asked(text, &series::read::SERIES, series::read::run));
}
