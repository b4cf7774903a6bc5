//! The examples run and show what they promise.
//!
//! `cargo test` builds them beside this test, unless it is told to build this one test alone.

use std::path::PathBuf;
use std::process::Command;

fn run(name: &str) -> String {
    let here = std::env::current_exe().unwrap();
    let profile = here.ancestors().nth(2).expect("a test lies in PROFILE/deps");
    let path: PathBuf = profile.join("examples").join(name);
    assert!(path.exists(), "{} is not built: cargo build --release --examples -p squall-models", path.display());
    let output = Command::new(path).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The numbers of a line that are words of their own.
fn numbers(line: &str) -> Vec<f64> {
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn a_forecaster_of_ones_own_beats_persistence() {
    let text = run("own_forecaster");
    let rows: Vec<Vec<f64>> = text.lines().skip(2).map(numbers).collect();
    assert_eq!(rows.len(), 6, "{text}");
    for row in rows {
        let [.., own, still] = row[..] else { panic!("{text}") };
        assert!(own > still && own < 1.0 && still > 0.0, "{text}");
    }
}

#[test]
fn merged_sums_are_not_the_mean_of_scores() {
    let text = run("scores");
    let csi: Vec<f64> = text.lines().map(|line| *numbers(line).last().expect("a line ends with a CSI")).collect();
    let [morning, afternoon, day, mean] = csi[..] else { panic!("{text}") };
    assert!((mean - (morning + afternoon) / 2.0).abs() < 1e-3, "{text}");
    assert!((afternoon..=morning).contains(&day) && (day - mean).abs() > 0.01, "{text}");
}
