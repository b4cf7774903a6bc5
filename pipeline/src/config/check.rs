//! What must hold between settings, once each is readable by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fault::{quoted, suggestion};
use super::resolved::{Config, LogKind, SourceConfig};
use super::section::{Context, Section};

/// Whether a text is a legal Kafka topic: 1 to 249 of `A-Z a-z 0-9 . _ -`, and not `.` or `..`.
pub(super) fn is_topic(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=249).contains(&text.len()) && text.chars().all(legal) && text != "." && text != ".."
}

/// Whether a text can be part of topic names, file names and record keys.
pub(super) fn is_name(text: &str) -> bool {
    is_topic(text) && text.len() <= 64 && !text.starts_with(['.', '-'])
}

pub(super) fn ascending(section: &Section<'_>, key: &str, values: &[f32]) {
    if let Some(pair) = values.windows(2).find(|pair| pair[0] >= pair[1]) {
        section.fault(key, format!("expected ascending values, got {} before {}", pair[0], pair[1]));
    }
}

/// Checks one source by itself.
pub(super) fn source(section: &Section<'_>, source: &SourceConfig) {
    let [lowest, highest] = source.quality.range;
    if lowest >= highest {
        section.fault("quality.range", format!("expected [lowest, highest], got [{lowest}, {highest}]"));
    }
    if !(0.0..=1.0).contains(&source.quality.max_missing) {
        section.fault("quality.max_missing", format!("expected 0 to 1, got {}", source.quality.max_missing));
    }
    if source.quality.spikes.is_some_and(|spikes| spikes <= 0.0) {
        section.fault("quality.spikes", "expected a positive difference");
    }
    if !(source.z_relation.a > 0.0 && source.z_relation.b > 0.0) {
        section.fault("z_relation", "expected positive a and b");
    }
}

/// What was readable of a stream.
pub(super) struct StreamParts<'a> {
    pub(super) source: Option<&'a str>,
    pub(super) times: Option<(Duration, Duration)>,
}

/// Checks one stream, as far as it was readable.
pub(super) fn stream(section: &Section<'_>, parts: &StreamParts<'_>) {
    if let Some((patience, horizon)) = parts.times.filter(|(patience, horizon)| patience > horizon) {
        let (patience, horizon) = (super::format_duration(patience), super::format_duration(horizon));
        section.fault("patience", format!("must not exceed the horizon: got {patience}, the horizon is {horizon}"));
    }
    let sources = section.context.root().section("sources");
    let names = || sources.keys().into_iter();
    if let Some(source) = parts.source.filter(|source| !names().any(|name| name == *source)) {
        let near = suggestion(source, names());
        let near = if near.is_empty() { format!("; sources are {}", quoted(names())) } else { near };
        section.fault("source", format!("no source is named \"{source}\"{near}"));
    }
}

/// Checks what the parts of a configuration say about each other.
pub(super) fn whole(context: &Context<'_>, config: &Config) {
    for source in &config.sources {
        if source.max_record_bytes > config.runtime.max_bytes_in_flight {
            let setting = format!("sources.{}.max_record_bytes", source.name);
            context.fault(&setting, "must not exceed runtime.max_bytes_in_flight");
        }
    }
    if config.log.kind == LogKind::Kafka && config.log.bootstrap_servers.trim().is_empty() {
        context.fault("log", "bootstrap_servers is missing: expected bootstrap_servers = \"host:port\"");
    }
    topics(context, config);
}

/// A topic that Squall reads must not be one that it writes, and sources do not share one.
fn topics(context: &Context<'_>, config: &Config) {
    let mut read: BTreeMap<&str, &str> = BTreeMap::new();
    for source in &config.sources {
        if let Some(other) = read.insert(&source.topic, &source.name) {
            let setting = format!("sources.{}.topic", source.name);
            context.fault(&setting, format!("source \"{other}\" reads \"{}\" already", source.topic));
        }
    }
    let mut written = vec![
        ("topics.dead_letters".to_owned(), &config.topics.dead_letters),
        ("topics.progress".to_owned(), &config.topics.progress),
    ];
    for stream in &config.streams {
        let at = |kind: &str| format!("streams.{}.topics.{kind}", stream.name);
        written.push((at("index"), &stream.topics.index));
        written.extend(stream.topics.fields.iter().map(|(role, topic)| (at(role), topic)));
    }
    for (setting, topic) in &written {
        if let Some(source) = read.get(&***topic) {
            context.fault(setting, format!("source \"{source}\" reads \"{topic}\": it must not be written to"));
        }
    }
    if config.topics.dead_letters == config.topics.progress {
        context.fault("topics.progress", "must not be the dead-letter topic");
    }
}
