//! Every quantity of every reference fixture, within its tolerance.
//!
//! The published fixtures are large and not part of the repository: `SQUALL_FIXTURES` names the folder that holds them.
//! Two small ones, made with PyTorch from the description of the networks, are: plain diffusion (ratio 0) and the full
//! configuration.

#[path = "../examples/parity/compare/mod.rs"]
mod compare;

use std::collections::BTreeMap;
use std::path::Path;

use compare::{Fixture, Outcome, Size, check};
use tch::{Device, Kind, Tensor};

fn all_within_tolerance(path: &str, size: Size, ratio: f64, least: usize) {
    let outcomes = check(&Fixture::load(path).unwrap(), size, ratio);
    assert!(outcomes.len() >= least, "only {} quantities were compared", outcomes.len());
    let bad: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !Outcome::ok(outcome))
        .map(|o| format!("{}: {:.2e} > {:.0e} {:?}", o.name, o.difference, o.tolerance, o.problem))
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

fn published(file: &str, least: usize) {
    match std::env::var("SQUALL_FIXTURES") {
        Ok(folder) => all_within_tolerance(&format!("{folder}/{file}"), Size::Tiny, 0.5, least),
        Err(_) => eprintln!("SQUALL_FIXTURES is not set: skipped"),
    }
}

#[test]
fn schedules() {
    published("schedules.safetensors", 25);
}

#[test]
fn networks_training_and_trajectory() {
    published("tiny.safetensors", 600);
}

#[test]
fn solvers() {
    published("samplers_tiny.safetensors", 14);
}

/// A fixture that is part of the repository.
fn own(file: &str, size: Size, ratio: f64, least: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file);
    all_within_tolerance(&path.display().to_string(), size, ratio, least);
}

/// Other frame counts, batch and crop than the published fixtures have.
#[test]
fn plain_diffusion_on_other_shapes() {
    own("parity_ratio0.safetensors", Size::Tiny, 0.0, 25);
}

/// The published size: outputs, the norm of each of 1,424 gradients, one update, the autoencoder.
#[test]
fn full_configuration() {
    own("parity_full.safetensors", Size::Full, 0.5, 10);
}

/// What a fixture of these tensors gives: the reason why each quantity that failed could not be compared.
fn problems(tensors: &[(&str, Tensor)]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fixture.safetensors");
    Tensor::write_safetensors(tensors, &path).unwrap();
    let outcomes = check(&Fixture::load(&path.display().to_string()).unwrap(), Size::Tiny, 0.5);
    outcomes.into_iter().filter(|o| !o.ok()).map(|o| (o.name, o.problem.unwrap_or_default())).collect()
}

fn zeros(size: &[i64]) -> Tensor {
    Tensor::zeros(size, (Kind::Float, Device::Cpu))
}

#[test]
fn what_cannot_be_compared_is_told_with_its_reason() {
    let step = || Tensor::from_slice(&[3i64]);
    let clip = || zeros(&[1, 9, 4, 4]);
    let problem = |name: &str, part: &str, tensors: &[(&str, Tensor)]| {
        let problems = problems(tensors);
        assert!(problems.get(name).is_some_and(|p| p.contains(part)), "{name}, {part}: {problems:?}");
    };
    problem("speed.of_light", "no quantity that is known", &[("speed.of_light", step())]);
    problem(
        "unet.entropy",
        "no quantity that is known",
        &[("unet.entropy", step()), ("unet.x_t", clip()), ("unet.t", step()), ("unet.cond", zeros(&[1, 3, 4, 4]))],
    );
    let eps = ("unet.eps", clip());
    problem("unet.eps", "unet.x_t is needed", &[eps]);
    problem(
        "unet.eps",
        "unet.cond or cond is needed",
        &[("unet.eps", clip()), ("unet.x_t", clip()), ("unet.t", step())],
    );
    let with = |x: Tensor, t: Tensor, cond: Tensor, eps: Tensor| {
        [("unet.eps", eps), ("unet.x_t", x), ("unet.t", t), ("unet.cond", cond)]
    };
    let past = || zeros(&[1, 3, 4, 4]);
    problem("unet.eps", "multiples of 2", &with(zeros(&[1, 9, 5, 4]), step(), past(), clip()));
    problem("unet.eps", "frames * 3", &with(zeros(&[1, 8, 4, 4]), step(), past(), clip()));
    problem("unet.eps", "unet.t has 2 values", &with(clip(), Tensor::from_slice(&[1i64, 2]), past(), clip()));
    problem("unet.eps", "holds 1000", &with(clip(), Tensor::from_slice(&[1000i64]), past(), clip()));
    problem("unet.eps", "no history of a clip", &with(clip(), step(), zeros(&[1, 12, 4, 4]), clip()));
    problem("unet.eps", "its shape in the fixture", &with(clip(), step(), past(), past()));
    problem("vae.moments", "vae.x is needed", &[("vae.moments", clip())]);
    problem("vae.moments", "in multiples of 2", &[("vae.moments", clip()), ("vae.x", zeros(&[1, 2, 3, 4]))]);
    problem(
        "grad.out.2.bias",
        "loss.noise as",
        &[("grad.out.2.bias", zeros(&[3])), ("loss.x_start", clip()), ("loss.noise", past())],
    );
    problem("ddim7.y0", "y_T is needed", &[("ddim7.y0", clip())]);
    problem("warp7.y0", "no quantity that is known", &[("warp7.y0", clip())]);
    problem("op.emas", "op.t is needed", &[("op.emas", clip()), ("op.x", clip())]);
    problem("ddim.out", "0 steps", &[("ddim.out", clip()), ("ddim.traj_x", zeros(&[0, 3]))]);
}

#[test]
fn what_is_no_fixture_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fixture.safetensors");
    let text = path.display().to_string();
    assert!(Fixture::load(&text).err().unwrap().contains("fixture.safetensors"));
    std::fs::write(&path, b"not safetensors").unwrap();
    assert!(Fixture::load(&text).is_err());
    Tensor::write_safetensors(&[("unet.x_t", zeros(&[1, 3, 2, 2]))], &path).unwrap();
    let error = Fixture::load(&text).err().unwrap();
    assert!(error.contains("holds nothing to compare with, only: unet.x_t"), "{error}");
}
