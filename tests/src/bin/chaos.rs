//! `make chaos`: KILLS disturbances (30), the event of INPUT (the Finnish one of 2016 under `SQUALL_DATA`, or a
//! simulated storm), drawn by SEED (1), streamed in within EVENT_SECONDS (60). The last line is the report as JSON; the
//! exit code is 0 only if consumers noticed nothing and, with 30 disturbances or more, each moment at which the program
//! is to be disturbed has come. How often each did is said on stderr.

use std::path::PathBuf;
use std::process::ExitCode;

use squall_tests::chaos::{Options, run};
use squall_tests::program::number;
use squall_tests::rain::Rain;

fn main() -> ExitCode {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let given = std::env::var_os("INPUT").filter(|path| !path.is_empty()).map(PathBuf::from);
    let input = given.unwrap_or_else(|| Rain::event(folder.path()).file);
    let kills = number("KILLS", 30);
    let options = Options { input, kills, seed: number("SEED", 1), seconds: number("EVENT_SECONDS", 60) };
    let report = run(&options);
    eprintln!("moments: {}", report.moments());
    if report.lacks_a_moment() {
        eprintln!("a moment never came: nothing is known of it");
    }
    println!("{report}");
    if report.is_clean() && !report.lacks_a_moment() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
