//! What `squall verify` prints is what scoringrules, properscoring, scores and pysteps say of the same files. No broker
//! is needed.

use std::path::Path;

use squall_tests::program::{python, root};
use squall_tests::setting::LIMIT;
use squall_tests::{Running, squall};

/// Archives that the script reads beside the fields that it draws.
const ARCHIVES: [&str; 2] = ["ens_meps_wind10m_20190217.nc", "radar_mch_20150515.nc"];

#[test]
fn scores_are_those_of_other_programs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = root().join("tests/python/cross_check.py").display().to_string();
    let (squall, work) = (squall().display().to_string(), folder.path().join("work").display().to_string());
    let data = std::env::var("SQUALL_DATA").ok();
    let data = data.filter(|data| ARCHIVES.iter().all(|name| Path::new(data).join(name).exists()));
    let mut arguments = vec![script.as_str(), &squall, &work];
    match &data {
        Some(data) => arguments.push(data),
        None => eprintln!("SQUALL_DATA holds no {}: drawn fields alone are scored", ARCHIVES.join(", ")),
    }
    let said = Running::start(folder.path(), &python(), &arguments).success(LIMIT);
    println!("{said}");
    assert!(said.contains("No number differs."), "{said}");
    let compared = |of: &str| said.lines().any(|line| line.starts_with(of));
    assert!(compared("crps (properscoring)") && compared("fss (scores)"), "{said}");
    let curves = ["reliability (pysteps)", "roc_x (scores)", "roc_y (pysteps)", "economic_value (scores)"];
    for program in [&curves[..], &["ranks (scores)"]].concat() {
        assert!(compared(program), "{program}: {said}");
    }
    assert_eq!(compared("fss (published)"), data.is_some(), "{said}");
}
