//! What the documents say and the repository has: libraries, parameters, paths, links, targets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use squall_models::baselines::{ExtrapolationParams, LagrangianParams, NAMES, StepsParams};
use squall_pipeline::config::Layers;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every document, by its path from the root.
fn documents() -> Vec<String> {
    let folder = std::fs::read_dir(root().join("docs")).unwrap();
    let names = folder.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_string_lossy()));
    let mut all: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
    all.extend(["README.md", "CONTRIBUTING.md"].map(str::to_owned));
    all.sort();
    all
}

/// The first cells of the rows of a table that begins with a heading, their backticks taken off.
fn first_column(text: &str, heading: &str) -> BTreeSet<String> {
    let rows = text.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    let cells = rows.take_while(|line| line.starts_with('|')).filter_map(|row| row.split('|').nth(1));
    cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
}

/// What stands between backticks, in a line of a document.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn every_library_of_the_workspace_has_a_row_and_every_row_a_library() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let libraries = manifest["workspace"]["dependencies"].as_table().unwrap().keys();
    let libraries: BTreeSet<String> = libraries.filter(|name| !name.starts_with("squall-")).cloned().collect();
    assert_eq!(first_column(&read("docs/dependencies.md"), "| library |"), libraries);
}

#[test]
fn every_library_of_the_workspace_is_used_by_a_crate() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let crates = manifest["workspace"]["members"].as_array().unwrap();
    let used: BTreeSet<String> = crates
        .iter()
        .flat_map(|member| {
            let manifest: toml::Table = read(&format!("{}/Cargo.toml", member.as_str().unwrap())).parse().unwrap();
            let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
            let tables = tables.iter().filter_map(|table| manifest.get(*table)?.as_table());
            tables.flat_map(|table| table.keys().cloned()).collect::<Vec<_>>()
        })
        .collect();
    let libraries = manifest["workspace"]["dependencies"].as_table().unwrap();
    let unused: Vec<_> = libraries.keys().filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "in the workspace, and in no crate: {unused:?}");
}

#[test]
fn the_parameters_of_the_baselines_are_the_defaults() {
    let text = read("docs/baselines.md");
    let names: BTreeSet<String> = NAMES.map(str::to_owned).into();
    assert_eq!(first_column(&text, "| name |"), names);
    let block = text.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let written: ExtrapolationParams = toml::from_str(block).unwrap();
    assert_eq!(written, ExtrapolationParams::default());
    // All of them are there: nothing that is left out could be checked.
    let all = toml::Table::try_from(ExtrapolationParams::default()).unwrap();
    assert_eq!(keys(&block.parse().unwrap()), keys(&all));
    let growth = LagrangianParams::default().km_per_minute;
    assert!(text.contains(&format!("`km_per_minute = {growth:.1}`")), "{growth}");
}

/// The settings of a table and of the tables in it.
fn keys(table: &toml::Table) -> BTreeSet<String> {
    let below = |(key, value): (&String, &toml::Value)| match value.as_table() {
        Some(table) => keys(table).into_iter().map(|inner| format!("{key}.{inner}")).collect(),
        None => vec![key.clone()],
    };
    table.iter().flat_map(below).collect()
}

/// What nothing can be left out of.
const LEAST: &str = r#"
[[sources]]
name = "radar"
variables = ["rain_rate"]
cadence = "5 min"
[[streams]]
name = "rain"
source = "radar"
thresholds = [1.0]
model = { name = "extrapolation" }
"#;

/// Names and defaults of the table of settings after a line, where each name has a default of its own.
fn defaults(text: &str, line: &str) -> Vec<(String, String)> {
    let rows = text.lines().skip_while(|l| !l.starts_with(line)).skip_while(|l| !l.starts_with("| setting |")).skip(2);
    let mut found = Vec::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').collect();
        let (names, values): (Vec<&str>, Vec<&str>) = (codes(cells[1]).collect(), codes(cells[2]).collect());
        let parent = names[0].rsplit_once('.').map_or("", |(parent, _)| parent);
        let full = |name: &str| if name.starts_with('.') { format!("{parent}{name}") } else { name.to_owned() };
        if names.len() == values.len() {
            found.extend(names.into_iter().map(full).zip(values.into_iter().map(str::to_owned)));
        }
    }
    found
}

fn is_default(found: &toml::Value, written: &str) -> bool {
    match found {
        toml::Value::String(text) => text == &written.replace("NAME", "radar"),
        toml::Value::Boolean(value) => written.parse() == Ok(*value),
        toml::Value::Integer(value) => written.parse() == Ok(*value),
        // Parameters are single precision.
        toml::Value::Float(value) => written.parse() == Ok(*value as f32),
        toml::Value::Table(table) => {
            let written: toml::Table = format!("it = {written}").parse().unwrap();
            let written = written["it"].as_table().unwrap();
            let is_same = |(key, value): (&String, &toml::Value)| is_default(&table[key], &value.to_string());
            written.len() == table.len() && written.iter().all(is_same)
        }
        _ => false,
    }
}

#[test]
fn the_defaults_of_the_settings_are_those_of_the_tables() {
    let text = read("docs/operations.md");
    let config = Layers::from_text("least.toml", LEAST).load().unwrap_or_else(|faults| panic!("{faults}"));
    let config: toml::Table = config.to_toml().parse().unwrap();
    let of = |list: &str| config[list][0].as_table().unwrap();
    let mut model = toml::Table::try_from(ExtrapolationParams::default()).unwrap();
    model.insert("km_per_minute".into(), LagrangianParams::default().km_per_minute.into());
    for (name, value) in toml::Table::try_from(StepsParams::default()).unwrap() {
        model.entry(name).or_insert(value);
    }
    let tables = [
        ("## Configuration", &config),
        ("Each `[[sources]]`", of("sources")),
        ("Each `[[streams]]`", of("streams")),
        ("The `model` of a stream that is given by name", &model),
    ];
    for (line, table) in tables {
        let defaults = defaults(&text, line);
        assert!(defaults.len() >= 5, "{line}: {defaults:?}");
        for (name, written) in defaults {
            let mut parts = name.split('.');
            let first = parts.next().and_then(|part| table.get(part));
            let found = parts.try_fold(first, |value, part| Some(value?.get(part))).flatten();
            let found = found.unwrap_or_else(|| panic!("{name} has no default, and {written} in the table"));
            assert!(is_default(found, &written), "{name} is {found}, and {written} in the table");
        }
    }
}

/// Whether a path in a document stands for one that there is, and not for an output or a thing of the user's.
fn is_ours(code: &str) -> bool {
    let folders =
        ["fields/", "models/", "operators/", "connectors/", "pipeline/", "tests/", "configs/", "docs/", ".ci/"];
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    folders.iter().any(|folder| code.starts_with(folder)) && code.chars().all(plain) && !code.ends_with("...")
}

#[test]
fn every_path_that_is_named_exists() {
    let mut count = 0;
    for name in documents() {
        let text = read(&name);
        for code in codes(&text).filter(|code| is_ours(code)) {
            assert!(root().join(code).exists(), "{name} names {code}");
            count += 1;
        }
    }
    assert!(count > 40, "{count} paths");
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    let mut count = 0;
    for name in documents() {
        let text = read(&name);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let path = target.split('#').next().unwrap_or_default();
            let folder = root().join(&name);
            assert!(folder.parent().unwrap().join(path).exists(), "{name} links to {target}");
            count += 1;
        }
    }
    assert!(count > 10, "{count} links");
}

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = read("Makefile");
    let targets: BTreeSet<&str> =
        makefile.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    let mut count = 0;
    for name in documents() {
        let text = read(&name);
        let shown = text.lines().filter_map(|line| line.strip_prefix("    "));
        for target in codes(&text).chain(shown).filter_map(|code| code.strip_prefix("make ")) {
            let target = target.split(' ').next().unwrap_or_default();
            assert!(targets.contains(target), "{name} names make {target}");
            count += 1;
        }
    }
    assert!(count > 5, "{count} targets");
}
