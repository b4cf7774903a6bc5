//! What is compared, and how closely.
//!
//! A fixture holds inputs and quantities. Each quantity is either compared or reported as one that could not be, with
//! the reason: nothing that a fixture holds is passed over.

mod fixture;
mod networks;
mod order;
mod schedules;

use std::str::FromStr;

use squall_models::diffusion::{Process, ProcessConfig};

pub(crate) use fixture::{Fixture, Outcome};

/// Which networks a fixture was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Tiny,
    Full,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tiny" => Ok(Self::Tiny),
            "full" => Ok(Self::Full),
            _ => Err(format!("--config {text}: tiny or full was expected")),
        }
    }
}

/// Compares all that a fixture holds with what networks of a size and a process of a ratio give.
pub(crate) fn check(fixture: &Fixture, size: Size, ratio: f64) -> Vec<Outcome> {
    let process = Process::new(ProcessConfig::of_ratio(ratio));
    let mut comparison = fixture.comparison();
    schedules::check(&mut comparison, ratio);
    comparison.group("op.", |comparison| schedules::operator(comparison, &process));
    networks::check(&mut comparison, size, &process);
    comparison.outcomes()
}
