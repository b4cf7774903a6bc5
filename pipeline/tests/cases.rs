//! Real files, read right or refused: small files in situations that were reported to public projects, each through the
//! program as a person runs it. `tests/cases/README.md` says what stands for what.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;

/// A row of `tests/cases/expected.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    file: String,
    /// What the file is an example of.
    kind: String,
    /// Greatest value in mm/h.
    max: Option<f64>,
    /// Number of missing cells.
    missing: Option<usize>,
    /// Value of the north-western cell in mm/h.
    corner: Option<f64>,
    /// Longitude and latitude of the centre of the north-western cell.
    nw: Option<(f64, f64)>,
    /// Of the south-eastern cell.
    se: Option<(f64, f64)>,
    /// From column to column and from row to row, and in which unit.
    step: Option<(f64, f64, String)>,
    /// Whether latitude and longitude of each cell and the reference system are asked for.
    #[serde(default)]
    crs: bool,
    /// Whether the file must be refused.
    #[serde(default)]
    refused: bool,
    /// What the message of a refusal has, where one is as right.
    or_refused: Option<String>,
    /// What `squall inspect file` says.
    inspect: Option<String>,
    /// For a person.
    situation: String,
    right: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases")
}

fn squall(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
    command.env_remove("RUST_LOG").env_remove("SQUALL_LOG_FORMAT").args(arguments).output().unwrap()
}

/// The patterns of the table: words with `|` between them, `\b` for the beginning of a word.
fn has(pattern: &str, text: &str) -> bool {
    let text = text.to_lowercase();
    pattern.to_lowercase().split('|').any(|word| match word.strip_prefix(r"\b") {
        Some(word) => text.split(|c: char| !c.is_alphanumeric()).any(|found| found.starts_with(word)),
        None => text.contains(word),
    })
}

fn check(case: &Case) -> Result<(), String> {
    let place = tempfile::tempdir().unwrap();
    let (input, output) = (folder().join(&case.file), place.path().join("out"));
    let (input, output) = (input.display().to_string(), output.display().to_string());
    if let Some(pattern) = &case.inspect {
        let told = squall(&["inspect", "file", &input]);
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        if !told.status.success() || !has(pattern, &text) {
            return Err(format!("inspect does not say `{pattern}`: {text}{}", String::from_utf8_lossy(&told.stderr)));
        }
    }
    let config = folder().join("persist.toml").display().to_string();
    let at = "2016-09-28T14:10:00Z";
    let told = squall(&["forecast", &config, "--input", &input, "--at", at, "--output", &output]);
    let message = String::from_utf8_lossy(&told.stderr).into_owned();
    if told.status.success() {
        let path = String::from_utf8_lossy(&told.stdout).trim().to_owned();
        return if case.refused { Err("it was not refused".to_owned()) } else { values(case, Path::new(&path)) };
    }
    let is_right = case.refused || case.or_refused.as_ref().is_some_and(|pattern| has(pattern, &message));
    match (is_right, message.is_empty(), Path::new(&output).exists()) {
        (true, false, false) => Ok(()),
        (true, _, written) => Err(format!("refused with the message `{message}`, and a file: {written}")),
        (false, ..) => Err(format!("it was refused: {message}")),
    }
}

/// Compares what was written with what is right.
fn values(case: &Case, path: &Path) -> Result<(), String> {
    let file = netcdf::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let read = |name: &str| {
        let variable = file.variable(name).ok_or_else(|| format!("there is no {name}"))?;
        let number = |key: &str| match variable.attribute_value(key)?.ok()? {
            netcdf::AttributeValue::Float(value) => Some(f64::from(value)),
            netcdf::AttributeValue::Double(value) => Some(value),
            netcdf::AttributeValue::Short(value) => Some(f64::from(value)),
            netcdf::AttributeValue::Int(value) => Some(f64::from(value)),
            _ => None,
        };
        let (scale, offset) = (number("scale_factor").unwrap_or(1.0), number("add_offset").unwrap_or(0.0));
        let fill = number("_FillValue");
        let raw = variable.get_values::<f64, _>(..).map_err(|error| error.to_string())?;
        let unpack = |raw: f64| if Some(raw) == fill { f64::NAN } else { raw * scale + offset };
        let shape: Vec<usize> = variable.dimensions().iter().map(netcdf::Dimension::len).collect();
        Ok::<_, String>((raw.into_iter().map(unpack).collect::<Vec<f64>>(), shape))
    };
    let (rain, shape) = read("lwe_precipitation_rate")?;
    let mut faults = Vec::new();
    let mut expect = |what: &str, found: f64, expected: Option<f64>, tolerance: f64| {
        if let Some(expected) = expected.filter(|expected| (found - expected).abs() > tolerance || found.is_nan()) {
            faults.push(format!("{what} is {found}, not {expected}"));
        }
    };
    expect("max", rain.iter().copied().fold(f64::NAN, f64::max), case.max, 0.05);
    expect("missing", rain.iter().filter(|v| v.is_nan()).count() as f64, case.missing.map(|n| n as f64), 0.0);
    expect("corner", rain[0], case.corner, 0.05);
    if case.crs || case.nw.is_some() || case.se.is_some() {
        let (lat, lat_shape) = read("latitude")?;
        let (lon, lon_shape) = read("longitude")?;
        let field = &shape[shape.len() - 2..];
        // Of a grid in degrees the axes are enough.
        let is_field = lat_shape == field && lon_shape == field;
        if case.crs && !is_field {
            return Err(format!("latitude and longitude are {lat_shape:?} and {lon_shape:?}, not {field:?}"));
        }
        for (name, place, at) in [("NW", case.nw, 0), ("SE", case.se, usize::MAX)] {
            let cell = |values: &[f64]| values[at.min(values.len() - 1)];
            expect(&format!("longitude of {name}"), cell(&lon), place.map(|place| place.0), 0.002);
            expect(&format!("latitude of {name}"), cell(&lat), place.map(|place| place.1), 0.002);
        }
    }
    if let Some((dx, dy, unit)) = &case.step {
        let (x, y) = if unit == "m" { ("x", "y") } else { ("longitude", "latitude") };
        for (name, step) in [(x, dx), (y, dy)] {
            let (axis, _) = read(name)?;
            expect(&format!("step of {name}"), (axis[1] - axis[0]).abs(), Some(*step), 0.001 * step);
        }
    }
    if case.crs {
        let crs = file.variable("crs").ok_or("there is no crs")?;
        if crs.attribute("crs_wkt").is_none() && crs.attribute("proj4").is_none() {
            faults.push("the crs has neither crs_wkt nor a PROJ string".to_owned());
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

#[test]
fn every_file_is_read_right_or_refused() {
    let table = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&table).unwrap();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let fault = check(case).err()?;
            Some(format!(
                "{} ({}: {})\n  right: {}\n  found: {fault}",
                case.file, case.kind, case.situation, case.right
            ))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} files are read wrongly:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    // A file that is in the folder and not in the table would be tested by nobody.
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_data = [".nc", ".h5"].iter().any(|ending| name.ends_with(ending));
        assert!(!is_data || cases.iter().any(|case| case.file == name), "{name} is not in expected.json");
    }
}
