//! Compares everything that the diffusion models compute with a fixture of reference numbers.
//!
//! `parity FIXTURE.safetensors --config tiny|full --ratio R` fills every parameter from a hash of its name, computes
//! each quantity that the fixture holds and prints one JSON line for each:
//! `{"name", "max_relative_difference", "tolerance", "ok"}`. Exits with 1 if any is not within its tolerance.

mod checks;
mod order;

use std::process::ExitCode;

use checks::{Fixture, Outcome, Size};

const USAGE: &str = "usage: parity FIXTURE.safetensors --config tiny|full --ratio R";

fn main() -> ExitCode {
    match arguments().and_then(|(path, size, ratio)| Fixture::load(&path, size, ratio)) {
        Ok(fixture) => report(&fixture.check()),
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
    }
}

fn report(outcomes: &[Outcome]) -> ExitCode {
    for outcome in outcomes {
        let line = serde_json::json!({
            "name": outcome.name,
            "max_relative_difference": outcome.difference,
            "tolerance": outcome.tolerance,
            "ok": outcome.ok(),
        });
        println!("{line}");
    }
    if !outcomes.is_empty() && outcomes.iter().all(Outcome::ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Result<(String, Size, f64), String> {
    let (mut path, mut size, mut ratio) = (None, Size::Tiny, 0.5);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value; {USAGE}"));
        match argument.as_str() {
            "--config" => size = value()?.parse()?,
            "--ratio" => {
                let text = value()?;
                ratio = text.parse().map_err(|e| format!("--ratio {text}: {e}"))?;
            }
            _ if argument.starts_with("--") => return Err(format!("unknown option {argument}; {USAGE}")),
            _ => path = Some(argument),
        }
    }
    Ok((path.ok_or(USAGE)?, size, ratio))
}
