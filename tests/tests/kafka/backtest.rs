//! What a backtest says of a configuration is what a live run of the same log would have earned.

use serde_json::Value;
use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Setting, forecasts};

/// (lead, score, value, count) of each row, in the order of leads.
fn rows(json: &Value) -> Vec<(f64, String, f64, f64)> {
    let row = |row: &Value| {
        let number = |key: &str| row[key].as_f64();
        Some((number("lead_minutes")?, row["score"].as_str()?.to_owned(), number("value")?, number("count")?))
    };
    let mut rows: Vec<_> = json["scores"].as_array().expect("a list of scores").iter().filter_map(row).collect();
    rows.sort_by(|a, b| (&a.1, a.0).partial_cmp(&(&b.1, b.0)).expect("leads are numbers"));
    rows
}

/// Files hold rain in steps of 0.01 mm/h; the error of a mean over thousands of cells is far below one.
const TOLERANCE: f64 = 3e-4;

#[test]
fn a_backtest_says_what_the_forecasts_earn_that_a_run_through_kafka_publishes() {
    let mut setting = Setting::new("backtest");
    // Members are drawn by chance: another seed is another score.
    setting.stream = setting.stream.replace("name = \"extrapolation\"", "name = \"steps\"").replace("= 3\nl", "= 4\nl");
    let rain = Rain::storm(setting.folder(), "rain.nc", &["--frames", "16", "--size", "64x64", "--variables", "rain"]);
    setting.publish(&rain.file);
    setting.run();
    let (config, input) = (setting.config(), rain.file.display().to_string());
    let files: Vec<String> = forecasts::published(&setting).iter().map(|p| p.file().display().to_string()).collect();
    assert_eq!(files.len(), 13, "a forecast for each full window");
    let scores = ["--scores", "crps,spread-skill"];
    let mut verify = vec!["verify", "--format", "json", "--observation", &input, "--model", "rain", "--forecast"];
    verify.extend(files.iter().map(String::as_str));
    let live = setting.start(&[&verify[..], &scores].concat()).success(LIMIT);
    // The last window has leads beyond the end of the event, which is said before.
    let json = live.find("\n{").map_or(&*live, |at| &live[at..]);
    let live = rows(&serde_json::from_str(json).expect("scores as JSON"));

    let backtest = |config: &str, name: &str| {
        let report = setting.folder().join(name);
        let folder = report.display().to_string();
        let arguments = ["backtest", config, "--input", &input, "--report", &folder];
        setting.start(&[&arguments[..], &scores].concat()).success(LIMIT);
        let text = std::fs::read(report.join("report.json")).expect("a report");
        rows(&serde_json::from_slice(&text).expect("a report as JSON"))
    };
    let own = backtest(&config, "report");
    assert_eq!(live.len(), own.len());
    for (live, own) in live.iter().zip(&own) {
        assert_eq!((live.0, &live.1, live.3), (own.0, &own.1, own.3), "the same cases");
        assert!((live.2 - own.2).abs() < TOLERANCE, "{live:?} {own:?}");
    }
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let other = setting.folder().join("other.toml");
    std::fs::write(&other, text.replace("name = \"rain\"", "name = \"other\"")).expect("a configuration");
    let other = backtest(&other.display().to_string(), "other");
    assert!(live.iter().zip(&other).any(|(live, other)| (live.2 - other.2).abs() > 3.0 * TOLERANCE), "{other:?}");
}
