//! From what was written to what it means.

mod log;
mod model;
mod source;
mod stream;

pub(crate) use model::calibrated;

use std::sync::Arc;

use super::check;
use super::context::Context;
use super::resolved::{Clock, Config, MetricsConfig, RuntimeConfig, SourceConfig, StoreConfig, TopicsConfig};
use super::section::Section;

pub(super) fn config(context: &Context<'_>) -> Option<Config> {
    let section = &context.root();
    let name = name(section);
    let log = log::log(&section.section("log"));
    let store = store(&section.section("store"));
    let runtime = runtime(&section.section("runtime"));
    let metrics = metrics(&section.section("metrics"));
    let topics = topics(&section.section("topics"));
    let sources = each(section, "sources", |table, name| source::source(table, name).map(Arc::new));
    let readable: Vec<Arc<SourceConfig>> = sources.iter().flatten().cloned().collect();
    let streams = each(section, "streams", |table, name| stream::stream(table, name, &readable));
    section.finish();
    if let Some(log) = &log {
        check::log(&section.section("log"), log);
    }
    check::sizes(section, &readable, runtime.as_ref());
    check::topics(section, &readable, topics.as_ref());
    Some(Config {
        name: name?,
        log: log?,
        store: store?,
        runtime: runtime?,
        metrics: metrics?,
        topics: topics?,
        sources: all(sources)?,
        streams: all(streams)?,
    })
}

/// Every table of a named list; one fault does not hide those of the next table.
fn each<T>(parent: &Section<'_>, list: &str, read: impl Fn(&Section<'_>, &str) -> Option<T>) -> Vec<Option<T>> {
    let section = parent.section(list);
    let names = section.keys();
    if names.is_empty() {
        parent.fault(list, format!("at least one is needed: expected [[{list}]]"));
    }
    names.into_iter().map(|name| read(&section.section(name), name)).collect()
}

fn all<T>(entries: Vec<Option<T>>) -> Option<Vec<T>> {
    entries.into_iter().collect()
}

fn name(section: &Section<'_>) -> Option<Arc<str>> {
    let text = section.text("name")?;
    check_name(section, &text)
}

fn check_name(section: &Section<'_>, text: &str) -> Option<Arc<str>> {
    if check::is_name(text) {
        return Some(text.into());
    }
    section.fault("name", format!("expected 1 to 64 of A-Z a-z 0-9 . _ -, got \"{text}\""));
    None
}

fn store(section: &Section<'_>) -> Option<StoreConfig> {
    let (url, reads, scratch) = (section.text("url"), section.texts("reads"), section.optional_text("scratch"));
    section.finish();
    if let Some(scratch) = scratch.as_deref().filter(|text| text.is_empty() || text.contains("://")) {
        section.fault("scratch", format!("expected a folder, got \"{scratch}\""));
    }
    let (url, reads) = (url?, reads?);
    for (key, url) in std::iter::once(("url", &url)).chain(reads.iter().map(|url| ("reads", url))) {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        if url.is_empty() || scheme.is_some_and(|scheme| !["file", "s3"].contains(&scheme)) {
            section.fault(key, format!("expected a folder, file://... or s3://..., got \"{url}\""));
        }
    }
    Some(StoreConfig { url, reads, scratch: scratch.map(Into::into) })
}

fn runtime(section: &Section<'_>) -> Option<RuntimeConfig> {
    let workers = section.count("workers", 1..=256);
    let clock = section.choice("clock", &[("wall", Clock::Wall), ("log", Clock::Log)]);
    let until_marker = section.boolean("until_marker");
    let max_bytes_in_flight = section.bytes("max_bytes_in_flight");
    section.finish();
    if clock == Some(Clock::Wall) && until_marker == Some(true) {
        section.fault("until_marker", "needs clock = \"log\"");
    }
    Some(RuntimeConfig {
        workers: workers? as usize,
        clock: clock?,
        until_marker: until_marker?,
        max_bytes_in_flight: max_bytes_in_flight?,
    })
}

fn metrics(section: &Section<'_>) -> Option<Option<MetricsConfig>> {
    if !section.is_given() {
        return Some(None);
    }
    let listen = section.text("listen");
    section.finish();
    let listen = listen?;
    match listen.parse() {
        Ok(listen) => Some(Some(MetricsConfig { listen })),
        Err(_) => {
            section.fault("listen", format!("expected address:port such as \"127.0.0.1:9600\", got \"{listen}\""));
            None
        }
    }
}

fn topics(section: &Section<'_>) -> Option<TopicsConfig> {
    let (dead_letters, progress) = (topic(section, "dead_letters", ""), topic(section, "progress", ""));
    section.finish();
    Some(TopicsConfig { dead_letters: dead_letters?, progress: progress? })
}

/// A topic; `{name}` in it stands for the name of its source.
fn topic(section: &Section<'_>, key: &str, name: &str) -> Option<Arc<str>> {
    let topic = section.text(key)?.replace("{name}", name);
    if check::is_topic(&topic) {
        return Some(topic.into());
    }
    section.fault(key, format!("\"{topic}\" is not a topic name: use A-Z a-z 0-9 . _ -"));
    None
}

/// A topic that has a name where nothing is said.
fn topic_or(section: &Section<'_>, key: &str, default: &str) -> Option<Arc<str>> {
    match section.optional_text(key) {
        Some(_) => topic(section, key, ""),
        None => Some(default.into()),
    }
}

fn own_name(section: &Section<'_>, name: &str) -> Option<Arc<str>> {
    if let Some(other) = section.optional_text("name").filter(|other| other != name) {
        section.fault("name", format!("the table is called \"{name}\", got \"{other}\""));
    }
    check_name(section, name)
}
