//! `squall topics create`: topics as a configuration needs them, and how those that exist differ.

use squall_tests::setting::LIMIT;
use squall_tests::topics::Topics;
use squall_tests::{Kafka, Setting};

#[test]
fn missing_topics_are_created_and_unusable_ones_are_named() {
    let mut setting = Setting::new("topics");
    setting.clock = "wall";
    setting.partitions = 3;
    let config = setting.config();
    let create = || setting.start(&["topics", "create", &config, "--set", "log.create_topics=false"]);
    let said = create().success(LIMIT);
    assert_eq!(said.lines().filter(|line| line.starts_with("created  ")).count(), 6, "{said}");
    let said = create().success(LIMIT);
    assert_eq!(said.lines().filter(|line| line.starts_with("exists   ")).count(), 6, "{said}");
    let topics = setting.start(&["inspect", "topics", &config]).success(LIMIT);
    let observations = topics.lines().find(|line| line.contains("observations")).expect("its line");
    assert!(observations.contains("stamped by the broker"), "{topics}");
    assert_eq!(topics.matches("  partition ").count(), 8, "{topics}");

    let other = Setting::new("topics-other");
    for (kind, partitions) in [("progress", 3), ("index", 2), ("observations", 1)] {
        Kafka::shared().create(&other.topic(kind), partitions);
    }
    let said = other.start(&["topics", "create", &other.config()]).failure(2, LIMIT);
    let line = |kind: &str| said.lines().find(|line| line.contains(&other.topic(kind))).expect("its line");
    let progress = line("progress");
    assert!(progress.starts_with("unusable ") && progress.contains("3 partitions, must have 1"), "{said}");
    assert!(progress.contains("must be compacted"), "{said}");
    assert!(line("index").starts_with("differs  ") && line("index").contains("would be made compacted"), "{said}");
    let observations = line("observations");
    assert!(observations.starts_with("differs  ") && observations.contains("compression.type is producer"), "{said}");
    assert!(line("dead-letters").starts_with("created  "), "{said}");
    assert!(said.contains("error: 1 topic cannot be used"), "{said}");
}

#[test]
fn observations_whose_batches_stay_packed_are_named_also_at_the_start() {
    for (codec, is_named) in [("producer", true), ("gzip", true), ("uncompressed", false)] {
        let mut setting = Setting::new("topics-packed");
        setting.clock = "wall";
        let (config, observations) = (setting.config(), setting.topic("observations"));
        let settings = [("compression.type", codec), ("message.timestamp.type", "LogAppendTime")];
        Topics::of(setting.address()).create(&observations, 1, &settings);
        let told = format!("compression.type is {codec}");
        let said = setting.start(&["topics", "create", &config]).success(LIMIT);
        let line = said.lines().find(|line| line.contains(&observations)).expect("its line");
        let word = if is_named { "differs  " } else { "exists   " };
        assert!(line.starts_with(word) && line.contains(&told) == is_named, "{said}");
        let mut running = setting.start(&["run", &config]);
        running.until_said(LIMIT, "running", |said| said.contains("running"));
        running.terminate();
        let said = running.success(LIMIT);
        assert_eq!(said.matches(&told).count(), usize::from(is_named), "{said}");
    }
}

#[test]
fn a_topic_of_progress_that_is_compacted_after_days_is_named_also_at_the_start() {
    let setting = Setting::new("topics-late");
    let (config, progress) = (setting.config(), setting.topic("progress"));
    Topics::of(setting.address()).create(&progress, 1, &[("cleanup.policy", "compact")]);
    let said = setting.start(&["topics", "create", &config]).success(LIMIT);
    let line = said.lines().find(|line| line.contains(&progress)).expect("its line");
    assert!(line.starts_with("differs  ") && line.contains("segment.ms"), "{said}");
    let is_named = |line: &str| line.contains(&progress) && line.contains("segment.ms");
    let mut running = setting.start(&["run", &config]);
    running.until_said(LIMIT, "a warning", |said| said.lines().any(is_named));
}
