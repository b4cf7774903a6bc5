//! What must hold between settings, once each is readable by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::fault::{quoted, suggestion};
use squall_models::ModelError;
use squall_operators::infer::ladder::Rung;

use super::model::ModelConfig;
use super::resolved::{LogConfig, LogKind, RuntimeConfig, SourceConfig, StreamConfig, TopicsConfig};
use super::section::Section;

/// Whether a text is a legal Kafka topic: 1 to 249 of `A-Z a-z 0-9 . _ -`, and not `.` or `..`.
pub(super) fn is_topic(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=249).contains(&text.len()) && text.chars().all(legal) && text != "." && text != ".."
}

/// Whether a text can be part of topic names, file names and record keys.
pub(super) fn is_name(text: &str) -> bool {
    is_topic(text) && text.len() <= 64 && !text.starts_with(['.', '-'])
}

/// Whether a text is a device: `cpu` or `cuda`, either with an index.
pub(crate) fn is_device(text: &str) -> bool {
    let (kind, index) = text.split_once(':').unwrap_or((text, "0"));
    ["cpu", "cuda"].contains(&kind) && index.parse::<u16>().is_ok()
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

/// Most windows of a stream that may be open at once. Each takes 45 bytes of the stream's progress, which is one record
/// of a megabyte at most: decisions and positions have the rest.
pub(super) const MAX_WINDOWS: u64 = 5_000;

/// What was readable of a stream.
pub(super) struct StreamParts<'a> {
    pub(super) source: Option<&'a str>,
    pub(super) times: Option<(Duration, Duration)>,
    /// The source itself, and how many of its frames make a window.
    pub(super) windows: Option<(&'a SourceConfig, u64)>,
}

/// Checks one stream, as far as it was readable.
pub(super) fn stream(section: &Section<'_>, parts: &StreamParts<'_>) {
    if let Some((patience, horizon)) = parts.times.filter(|(patience, horizon)| patience > horizon) {
        let (patience, horizon) = (super::format_duration(patience), super::format_duration(horizon));
        section.fault("patience", format!("must not exceed the horizon: got {patience}, the horizon is {horizon}"));
    }
    if let Some(((_, horizon), (source, frames))) = parts.times.zip(parts.windows) {
        open_windows(section, horizon, source, frames);
    }
    let sources = section.context.root().section("sources");
    let names = || sources.keys().into_iter();
    if let Some(source) = parts.source.filter(|source| !names().any(|name| name == *source)) {
        let near = suggestion(source, names());
        let near = if near.is_empty() { format!("; sources are {}", quoted(names())) } else { near };
        section.fault("source", format!("no source is named \"{source}\"{near}"));
    }
}

/// Windows are open from those that the newest frame is part of, which may come before its time, back to the horizon.
fn open_windows(section: &Section<'_>, horizon: Duration, source: &SourceConfig, frames: u64) {
    let cadence = Duration::from_secs(source.cadence.step_seconds().unsigned_abs());
    let open = horizon.saturating_add(source.future_tolerance).as_millis().div_ceil(cadence.as_millis());
    let open = open.saturating_add(frames.into());
    if open > u128::from(MAX_WINDOWS) {
        let cadence = super::format_duration(cadence);
        let fault = format!(
            "with one every {cadence}, {open} windows could be open at once, and a progress record has room for \
             {MAX_WINDOWS}: expected a shorter horizon, or a future_tolerance of the source that is shorter"
        );
        section.fault("horizon", fault);
    }
}

/// Whether a model can do what its stream asks, as far as its name tells. What weights can do is told by their file.
pub(super) fn fit(section: &Section<'_>, stream: &StreamConfig) {
    in_time(section, stream);
    let ModelConfig::Named(baseline) = stream.model.base() else { return };
    let model = baseline.clone().build();
    if let Err(ModelError::DoesNotFit { reasons, .. }) = model.check(&stream.context()) {
        for reason in reasons {
            section.fault("model", format!("{} {reason}", model.name()));
        }
    }
}

/// Whether something can answer by the deadline, and each step on the way there is one that the stream can take.
fn in_time(section: &Section<'_>, stream: &StreamConfig) {
    let stand_ins = stream.stand_ins();
    if stream.deadline.is_some() && stand_ins.is_empty() {
        section.fault("deadline", "no other model fits the stream, so that nothing could answer when it passes");
    }
    if stream.deadline.is_none() && !stream.degrade.is_empty() {
        section.fault("degrade", "needs a deadline");
    }
    for rung in &stream.degrade {
        let name = rung.name();
        match (rung.stand_in(), stream.model.base()) {
            (Some(stand_in), _) if !stand_ins.contains_key(&stand_in) => {
                section.fault("degrade", format!("\"{name}\" is the stream's own model, or does not fit the stream"));
            }
            (None, ModelConfig::Named(model)) if *rung == Rung::Steps => {
                section.fault("degrade", format!("\"{name}\": {} has no solver steps", model.name()));
            }
            _ => {}
        }
    }
}

/// A log outside the process must be told where it is.
pub(super) fn log(section: &Section<'_>, log: &LogConfig) {
    if log.kind == LogKind::Kafka && log.bootstrap_servers.trim().is_empty() {
        section.fault("", "bootstrap_servers is missing: expected bootstrap_servers = \"host:port\"");
    }
}

/// No record may be larger than all that may be in flight.
pub(super) fn sizes(root: &Section<'_>, sources: &[Arc<SourceConfig>], runtime: Option<&RuntimeConfig>) {
    let most = runtime.map_or(u64::MAX, |runtime| runtime.max_bytes_in_flight);
    for source in sources.iter().filter(|source| source.max_record_bytes > most) {
        let setting = format!("sources.{}.max_record_bytes", source.name);
        root.fault(&setting, "must not exceed runtime.max_bytes_in_flight");
    }
}

/// A topic that Squall reads must not be one that it writes, and sources do not share one. A stream's topics count
/// even where the stream has other faults.
pub(super) fn topics(root: &Section<'_>, sources: &[Arc<SourceConfig>], common: Option<&TopicsConfig>) {
    let mut read: BTreeMap<&str, &str> = BTreeMap::new();
    for source in sources {
        if let Some(other) = read.insert(&source.topic, &source.name) {
            let setting = format!("sources.{}.topic", source.name);
            root.fault(&setting, format!("source \"{other}\" reads \"{}\" already", source.topic));
        }
    }
    let streams = root.section("streams");
    let of_stream = |name| {
        let stream = streams.section(name);
        let companions = stream.section("companions");
        let of_companions = companions.keys().into_iter().map(|name| companions.section(name)).collect::<Vec<_>>();
        of_companions.into_iter().chain([stream.section("verification"), stream])
    };
    let of_streams = streams.keys().into_iter().flat_map(of_stream).map(|table| table.section("topics"));
    for table in std::iter::once(root.section("topics")).chain(of_streams) {
        for key in table.keys() {
            let Some(topic) = table.optional_text(key) else { continue };
            if let Some(source) = read.get(&*topic) {
                table.fault(key, format!("source \"{source}\" reads \"{topic}\": it must not be written to"));
            }
        }
    }
    if common.is_some_and(|common| common.dead_letters == common.progress) {
        root.fault("topics.progress", "must not be the dead-letter topic");
    }
}
