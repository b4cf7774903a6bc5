//! An archive published at full speed and run: one forecast for each slot with a full window, none twice, and each equal
//! to the last bit to what `squall forecast` makes of the file for that time.

use std::collections::BTreeSet;

use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Setting, files, forecasts};

fn check(setting: &Setting, rain: &Rain, every: usize) {
    setting.publish(&rain.file);
    setting.run();
    let published = forecasts::published(setting);
    let issue_times: Vec<_> = published.iter().map(|p| p.issue_time.clone()).collect();
    assert_eq!(issue_times, rain.full_windows(3), "one forecast for each full window, none twice");
    assert!(published.iter().all(|p| p.revision == 0 && !p.degraded()));

    let unique: BTreeSet<_> = published.iter().map(forecasts::Published::file).collect();
    assert_eq!(unique.len(), published.len(), "each has a file of its own");
    for one in published.iter().step_by(every) {
        let output = setting.folder().join(one.issue_time.replace(':', ""));
        let (config, input) = (setting.config(), rain.file.display().to_string());
        let arguments = ["forecast", &config, "--input", &input, "--at", &one.issue_time, "--output"];
        let output_text = output.display().to_string();
        setting.start(&[&arguments[..], &[&output_text]].concat()).success(LIMIT);
        let alone = files::below(&output, "nc");
        assert_eq!(alone.len(), 1, "{alone:?}");
        assert_eq!(files::difference(&one.file(), &alone[0]), Vec::<String>::new(), "{}", one.issue_time);
    }
}

#[test]
fn a_small_event_gives_one_forecast_a_slot_equal_to_the_files() {
    let setting = Setting::new("small-event");
    let rain = Rain::small(setting.folder(), 16);
    check(&setting, &rain, 1);
}

#[test]
fn the_finnish_event_gives_one_forecast_a_slot_equal_to_the_files() {
    let Some(rain) = Rain::finnish() else {
        eprintln!("SQUALL_DATA is not set: skipped");
        return;
    };
    let mut setting = Setting::new("finnish-event");
    setting.stream = setting.stream.replace("leads = 3", "leads = 2").replace("members = 4", "members = 2");
    check(&setting, &rain, 6);
}
