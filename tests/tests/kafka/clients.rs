//! Independent clients: librdkafka for Python, xarray, a CF checker, and the consumer of the documentation.

use squall_tests::program::{python, root};
use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Running, Setting, files};

/// Runs a script of the repository in the Python of the tests; what it prints.
pub(crate) fn script(setting: &Setting, path: &str, arguments: &[&str]) -> String {
    let script = root().join(path).display().to_string();
    Running::start(setting.folder(), &python(), &[&[script.as_str()], arguments].concat()).success(LIMIT)
}

#[test]
fn others_read_every_topic_and_every_file() {
    let setting = Setting::new("clients");
    let rain = Rain::small(setting.folder(), 8);
    setting.publish(&rain.file);
    setting.run();
    let forecasts = rain.full_windows(3).len();
    let (address, store) = (Kafka::shared().address(), setting.store().display().to_string());

    let found = script(&setting, "tests/python/read_everything.py", &[address, setting.prefix(), &store]);
    let found: serde_json::Value = serde_json::from_str(found.lines().last().expect("a line")).expect("JSON");
    assert_eq!(found["topics"]["index"], forecasts);
    assert_eq!(found["files"], forecasts);
    assert_eq!(found["topics"]["probabilities"], forecasts * 3, "three leads, one tile each");
    assert_eq!(found["products"], serde_json::json!(["mean", "probability", "quantile"]));

    let netcdf = files::below(&setting.store(), "nc");
    let mut arguments = vec!["--test=cf:1.11", "--criteria=normal", "--format=text"];
    let paths: Vec<_> = netcdf.iter().take(2).map(|path| path.display().to_string()).collect();
    arguments.extend(paths.iter().map(String::as_str));
    let report =
        Running::start(setting.folder(), &python().with_file_name("compliance-checker"), &arguments).success(LIMIT);
    assert!(report.contains("All tests passed!"), "{report}");

    let picture = setting.folder().join("probability.png").display().to_string();
    let said = script(&setting, "docs/consumer.py", &[address, &setting.topic("probabilities"), &picture]);
    assert!(said.contains("mean probability"), "{said}");
    let image = std::fs::read(&picture).expect("a picture");
    assert!(image.starts_with(b"\x89PNG") && image.len() > 5_000);
}
