//! Compares everything that the diffusion models compute with a fixture of reference numbers.
//!
//! `parity FIXTURE.safetensors --config tiny|full --ratio R` fills every parameter from a hash of its name, computes
//! each quantity that the fixture holds and prints one JSON line for each:
//! `{"name", "max_relative_difference", "tolerance", "ok"}`. Exits with 1 if any is not within its tolerance or could
//! not be compared, which standard error then explains; with 2 if there is nothing to compare.

mod compare;

use std::process::ExitCode;

use compare::{Fixture, Outcome, Size};

const USAGE: &str = "usage: parity FIXTURE.safetensors --config tiny|full --ratio R";

/// What was asked for.
struct Arguments {
    path: String,
    size: Size,
    ratio: f64,
}

fn main() -> ExitCode {
    let checked = arguments().and_then(|arguments| {
        let fixture = Fixture::load(&arguments.path)?;
        Ok(compare::check(&fixture, arguments.size, arguments.ratio))
    });
    match checked {
        Ok(outcomes) => report(&outcomes),
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
        if let Some(problem) = &outcome.problem {
            eprintln!("{} could not be compared: {problem}", outcome.name);
        }
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.ok()).count();
    if failed > 0 {
        eprintln!("{failed} of {} quantities failed", outcomes.len());
    }
    if failed == 0 && !outcomes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Result<Arguments, String> {
    let (mut path, mut size, mut ratio) = (None, Size::Tiny, 0.5);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value; {USAGE}"));
        match argument.as_str() {
            "--config" => size = value()?.parse()?,
            "--ratio" => {
                let text = value()?;
                let number = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
                ratio = number.ok_or_else(|| format!("--ratio {text}: a number from 0 to 1 was expected"))?;
            }
            _ if argument.starts_with("--") => return Err(format!("unknown option {argument}; {USAGE}")),
            _ if path.is_some() => return Err(format!("one fixture was expected, {argument} is another; {USAGE}")),
            _ => path = Some(argument),
        }
    }
    Ok(Arguments { path: path.ok_or(USAGE)?, size, ratio })
}
