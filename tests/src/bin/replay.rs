//! `make replay`: how fast an archive is replayed through a real broker with persistence, and what scoring it in the
//! stream costs. INPUT=FILE.nc (the Finnish event of 2016), LEADS (12), PRODUCTS (mean). A line of JSON for each run.

use std::path::PathBuf;

use squall_tests::program::number;
use squall_tests::rain::Rain;
use squall_tests::replay::{Replay, measure};

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rain = match std::env::var_os("INPUT").filter(|file| !file.is_empty()) {
        Some(file) => Rain::open(&PathBuf::from(file)),
        None => Rain::finnish().unwrap_or_else(|| {
            let like_it = ["--frames", "40", "--size", "1226x760", "--variables", "rain"];
            Rain::storm(folder.path(), "storm.nc", &like_it)
        }),
    };
    let leads = number("LEADS", 12);
    for (products, scores) in [("mean", None), ("ensemble", None), ("ensemble", Some("mae")), ("ensemble", Some(""))] {
        println!("{}", measure(&rain, Replay { leads, products, scores }));
    }
}
