//! `squall verify` of topics says what it says of the same files.

use serde_json::Value;
use squall_tests::forecasts::{Published, published};
use squall_tests::rain::{Rain, rfc3339};
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Sent, Setting};

/// The scores that a command prints as JSON, whatever it says before.
fn scores(setting: &Setting, arguments: &[&str]) -> Value {
    let said = setting.start(&[&["verify", "--format", "json"], arguments].concat()).success(LIMIT);
    let json = said.find("\n{").map_or(&*said, |at| &said[at..]);
    serde_json::from_str(json).expect("scores as JSON")
}

/// A stream beside that of the setting, with the same index.
fn beside(setting: &Setting) -> String {
    let topic = |kind| setting.topic(kind);
    format!(
        "[[streams]]\nname = \"other\"\nsource = \"radar\"\nwindow_frames = 2\nleads = 2\nmembers = 1\nthresholds = [1.0]\n\
         model = {{ name = \"persistence\" }}\n\
         topics = {{ index = \"{}\", probabilities = \"{}\", quantiles = \"{}\" }}\n",
        topic("index"),
        topic("probabilities"),
        topic("quantiles")
    )
}

#[test]
fn the_scores_of_a_streams_topics_are_those_of_its_files() {
    let mut setting = Setting::new("verify");
    setting.more = beside(&setting);
    setting.partitions = 2;
    let small = ["--size", "48x48", "--variables", "rain", "--seed", "1"];
    let rain = Rain::storm(setting.folder(), "storm.nc", &[&small[..], &["--frames", "14"]].concat());
    // A frame of another storm, which comes last and replaces what was known of its slot.
    let start = rfc3339(rain.slots[9]);
    let other = [&small[..4], &["--seed", "2", "--frames", "1", "--start", &start]].concat();
    let correction = Rain::storm(setting.folder(), "correction.nc", &other);
    let published_as = |rain: &Rain| Setting::new("verify-source").published(&rain.file);
    let seen = published_as(&rain);
    let known = |frame: usize| rain.slots[frame] * 1000 + 1000;
    let mut records: Vec<_> =
        seen.iter().enumerate().map(|(i, seen)| Sent::again(seen, i as i32 % 2, known(i))).collect();
    records.push(Sent::again(&published_as(&correction)[0], 0, known(13) + 1000));
    let topic = setting.topic("observations");
    Kafka::shared().create(&topic, 2);
    Kafka::shared().write(&topic, &records);
    setting.run();

    let mut newest: Vec<Published> = Vec::new();
    for forecast in published(&setting) {
        if forecast.json["properties"]["squall"]["stream"] != "rain" {
            continue;
        }
        newest.retain(|other| other.issue_time != forecast.issue_time);
        newest.push(forecast);
    }
    assert!(newest.len() == 12 && newest.iter().any(|forecast| forecast.revision > 0), "forecasts were revised");
    let config = setting.config();
    let (first, storm) = (correction.file.display().to_string(), rain.file.display().to_string());
    let of_files = |forecasts: &[Published]| {
        let files: Vec<String> = forecasts.iter().map(|forecast| forecast.file().display().to_string()).collect();
        // A slot that several files have is taken from the first.
        let mut arguments = vec!["--observation", &first, &storm, "--forecast"];
        arguments.extend(files.iter().map(String::as_str));
        scores(&setting, &arguments)
    };
    let of_topics = scores(&setting, &["--config", &config, "--stream", "rain"]);
    assert_eq!(of_topics, of_files(&newest), "to the last bit");
    assert!(of_topics["scores"].as_array().expect("a list").len() > 100);
    let uncorrected: Vec<String> = newest.iter().map(|forecast| forecast.file().display().to_string()).collect();
    let mut arguments = vec!["--observation", &storm, "--forecast"];
    arguments.extend(uncorrected.iter().map(String::as_str));
    assert_ne!(of_topics, scores(&setting, &arguments), "the correction makes a difference");

    let (from, until) = (newest[3].issue_time.clone(), newest[5].issue_time.clone());
    let some = scores(&setting, &["--config", &config, "--stream", "rain", "--from", &from, "--until", &until]);
    assert_eq!(some, of_files(&newest[3..=5]));

    // A file that is not what was published is left out, and said.
    std::fs::write(newest[3].file(), b"no forecast").expect("a file of the store");
    let arguments = ["verify", "--config", &config, "--stream", "rain", "--from", &from, "--until", &until];
    let said = setting.start(&[&arguments[..], &["--format", "csv"]].concat()).success(LIMIT);
    assert!(said.contains("is not the file that was published"), "{said}");
    let said = setting.start(&["verify", "--config", &config]).failure(2, LIMIT);
    assert!(said.contains("choose one of rain, other"), "{said}");
    let late = ["verify", "--config", &config, "--stream", "rain", "--from", "2030-01-01T00:00:00Z"];
    assert!(setting.start(&late).failure(1, LIMIT).contains("no forecast of stream rain"));
}
