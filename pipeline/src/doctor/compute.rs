//! Where networks compute: which libtorch, and for each device how fast it is and whether it gives what the CPU gives.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use squall_fields::{Chain, ErrorKind, Frame, Variable, Window};
use squall_models::device::{ComputeDevice, Precision};
use squall_models::diffusion::{DiffusionForecaster, Options};
use squall_models::simulate::StormSettings;
use squall_models::{Forecaster, ModelError, Request, weights};
use tch::{Cuda, Kind, Tensor};

use super::Finding;
use crate::commands::simulate::frames;
use crate::config::Config;
use crate::demo::compare::shipped_weights;

/// Side of the matrices that are multiplied.
const MATRIX: i64 = 1024;
/// Side of the field that the shipped network forecasts.
const SIDE: usize = 64;
/// Solver steps of that forecast.
const STEPS: usize = 2;
/// What two devices may differ by, as a share of the size of the forecast: bf16 has three digits, and steps add up.
const PARITY: f64 = 0.1;

pub(super) fn findings(config: Option<&Config>) -> Vec<Finding> {
    let mut findings = vec![libtorch()];
    for name in names(config) {
        findings.push(device(&name));
    }
    findings
}

/// The devices that streams name, and what is there without being named.
fn names(config: Option<&Config>) -> BTreeSet<String> {
    let mut names = BTreeSet::from(["cpu".to_owned()]);
    for stream in config.into_iter().flat_map(|config| &config.streams) {
        let companions = stream.companions.values().map(|companion| &companion.device);
        // Another thread of the CPU is the same device.
        let own = std::iter::once(&stream.device).chain(companions).filter(|name| !name.starts_with("cpu"));
        names.extend(own.map(|name| name.to_string()));
    }
    if ComputeDevice::select("cuda", Precision::F32).is_ok() {
        names.extend((0..Cuda::device_count()).map(|index| format!("cuda:{index}")));
    }
    names
}

/// Which library computes, and where it was loaded from.
fn libtorch() -> Finding {
    // It is loaded only once something computes.
    let _ = Tensor::from(1.0f32) + 1.0;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let of = |path: &&Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libtorch_cpu.so"));
    let Some(library) = path.into_iter().find(of) else {
        return Finding::note("libtorch", "is loaded from a place that cannot be read here");
    };
    let version = library.ancestors().nth(2).map(|folder| folder.join("build-version"));
    let version = version.and_then(|file| std::fs::read_to_string(file).ok());
    let version = version.map_or_else(|| "version unknown".to_owned(), |text| text.trim().to_owned());
    Finding::ok("libtorch", format!("{version} from {}", library.display()))
}

fn device(name: &str) -> Finding {
    let part = format!("device {name}");
    let chosen = match ComputeDevice::select(name, Precision::Auto) {
        Ok(chosen) => chosen,
        Err(error) => return Finding::failed(&part, error.kind(), Chain(&error).to_string()),
    };
    let speed = format!("{}; {:.0} GFLOP/s of matrices in f32", chosen.describe(), multiplied(chosen));
    let Some(path) = shipped_weights() else {
        return Finding::note(&part, format!("{speed}; no shipped weights are found to try a network with"));
    };
    match network(name, &path) {
        Ok((steps, difference)) => {
            let found = format!(
                "{speed}; {steps:.2} network steps/s on {SIDE} x {SIDE} cells; differs from f32 on the CPU by {:.2} %",
                100.0 * difference
            );
            if difference > PARITY {
                return Finding::failed(&part, ErrorKind::Device, format!("{found}: more than rounding explains"));
            }
            Finding::ok(&part, found)
        }
        Err(error) => Finding::failed(&part, error.kind(), format!("{speed}; {}", Chain(&error))),
    }
}

/// Speed of a product of matrices.
fn multiplied(chosen: ComputeDevice) -> f64 {
    let matrix = Tensor::ones([MATRIX, MATRIX], (Kind::Float, chosen.device));
    let once = || f64::try_from(matrix.matmul(&matrix).sum(Kind::Float)).unwrap_or(f64::NAN);
    once();
    let started = Instant::now();
    let rounds = 3;
    (0..rounds).for_each(|_| drop(once().to_string()));
    f64::from(rounds) * 2.0 * (MATRIX as f64).powi(3) / started.elapsed().as_secs_f64() / 1e9
}

/// Steps a second of the shipped network on a device, and how much what it forecasts differs from the CPU's in f32.
fn network(name: &str, path: &Path) -> Result<(f64, f64), ModelError> {
    let request = request(path)?;
    let ask = |device: &str, precision: Precision| {
        let options = Options { device: device.to_owned(), precision, ..Options::default() };
        let mut model = DiffusionForecaster::open(path, &options)?;
        model.warm_up();
        let started = Instant::now();
        let answer = model.forecast(std::slice::from_ref(&request)).pop();
        let seconds = started.elapsed().as_secs_f64();
        let none = || ModelError::Answer { model: model.name().to_owned(), reason: "gave no answer".to_owned() };
        let field = answer.ok_or_else(none)??.ensembles.into_iter().next().ok_or_else(none)?.values;
        Ok::<_, ModelError>((field, seconds))
    };
    let (own, seconds) = ask(name, Precision::Auto)?;
    let (cpu, _) = ask("cpu", Precision::F32)?;
    let squares = |of: &dyn Fn(f32, f32) -> f32| -> f64 {
        let pairs = own.iter().zip(&cpu).filter(|(a, b)| a.is_finite() && b.is_finite());
        pairs.map(|(a, b)| f64::from(of(*a, *b)).powi(2)).sum()
    };
    let (difference, size) = (squares(&|a, b| a - b), squares(&|_, b| b));
    Ok((STEPS as f64 / seconds, (difference / size.max(f64::MIN_POSITIVE)).sqrt()))
}

/// A storm that the shipped network is asked to forecast.
fn request(path: &Path) -> Result<Request, ModelError> {
    let spec = weights::describe(path)?.metadata.spec;
    let settings = StormSettings { rows: SIDE, columns: SIDE, ..StormSettings::default() };
    let cadence = settings.cadence;
    let storm: Vec<Arc<Frame>> =
        frames(settings, spec.context, &[Variable::RainRate]).into_iter().map(Arc::new).collect();
    let newest = storm.last().map(|frame| frame.slot);
    let none = || ModelError::file(path.display().to_string(), "it looks at no frame");
    let issue_time = newest.ok_or_else(none)?.into();
    let frames = storm.into_iter().map(Some).collect();
    let window = Window { issue_time, cadence, frames, steering: None };
    let (leads, steps) = (cadence.leads(spec.leads), Some(STEPS));
    Ok(Request { stream: "doctor".into(), window: Arc::new(window), leads, members: 1, steps })
}
