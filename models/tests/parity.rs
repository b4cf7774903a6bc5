//! Every quantity of every reference fixture, within its tolerance.
//!
//! Fixtures are large and not part of the repository: `SQUALL_FIXTURES` names the folder that holds them.

#[path = "../examples/parity/checks.rs"]
mod checks;
#[path = "../examples/parity/order.rs"]
mod order;

use checks::{Fixture, Outcome, Size};

fn check(file: &str, least: usize) {
    let Ok(folder) = std::env::var("SQUALL_FIXTURES") else {
        eprintln!("SQUALL_FIXTURES is not set: skipped");
        return;
    };
    let outcomes = Fixture::load(&format!("{folder}/{file}"), Size::Tiny, 0.5).unwrap().check();
    assert!(outcomes.len() >= least, "only {} quantities were compared", outcomes.len());
    let bad: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !Outcome::ok(outcome))
        .map(|o| format!("{}: {:.2e} > {:.0e}", o.name, o.difference, o.tolerance))
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn schedules() {
    check("schedules.safetensors", 25);
}

#[test]
fn networks_training_and_trajectory() {
    check("tiny.safetensors", 600);
}

#[test]
fn solvers() {
    check("samplers_tiny.safetensors", 14);
}
