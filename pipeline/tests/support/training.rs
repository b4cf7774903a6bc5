//! What tests of trainings need: simulated storms, the program, and what a run leaves behind.

use std::path::Path;
use std::process::{Command, Output};

/// The program, in the root of the repository.
pub(crate) fn squall() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    command.current_dir(root).env_remove("RUST_LOG").env_remove("SQUALL_LOG_FORMAT");
    command
}

/// Exit code and what was printed on stderr.
pub(crate) fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Writes a simulated storm: rain on so many frames, on a grid such as `64x64`.
pub(crate) fn storm(path: &Path, frames: &str, size: &str, seed: &str) {
    let path = path.display().to_string();
    let arguments = ["simulate", "-o", &path, "--frames", frames, "--size", size, "--seed", seed];
    let made = squall().args(arguments).args(["--variables", "rain"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// The rows of a table, without its header.
pub(crate) fn rows(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().skip(1).map(str::to_owned).collect()
}

/// The numbers of a column of them.
pub(crate) fn column(rows: &[String], index: usize) -> Vec<f64> {
    rows.iter().filter_map(|row| row.split(',').nth(index)?.parse().ok()).collect()
}

/// What a weights file says about itself.
pub(crate) fn inspected(weights: &Path) -> serde_json::Value {
    let path = weights.display().to_string();
    let output = squall().args(["model", "inspect", "--json", &path]).output().unwrap();
    assert!(output.status.success(), "{path}: {:?}", told(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}
