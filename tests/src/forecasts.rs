//! Forecasts as they lie on the topics: read, consolidated, compared.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::{Kafka, Seen, Setting};

/// One index record.
#[derive(Clone, Debug)]
pub struct Published {
    /// Issue time, RFC 3339.
    pub issue_time: String,
    /// Revision.
    pub revision: u64,
    /// The whole JSON.
    pub json: Value,
}

impl Published {
    fn parse(record: &Seen) -> Self {
        let json: Value = serde_json::from_slice(&record.value).expect("an index record is JSON");
        let squall = &json["properties"]["squall"];
        let issue_time = squall["issue_time"].as_str().expect("an issue time").to_owned();
        let revision = squall["revision"].as_u64().expect("a revision");
        Self { issue_time, revision, json }
    }

    /// The file that the record points at.
    pub fn file(&self) -> PathBuf {
        let href = self.json["links"][0]["href"].as_str().expect("a link");
        PathBuf::from(href.strip_prefix("file://").unwrap_or(href))
    }

    /// Whether each slot of the window was present, oldest first.
    pub fn mask(&self) -> Vec<bool> {
        let mask = &self.json["properties"]["squall"]["provenance"]["window_mask"];
        mask.as_array().expect("a window mask").iter().map(|present| present == true).collect()
    }

    /// Digest of the model that made it.
    pub fn model_digest(&self) -> &str {
        self.json["properties"]["squall"]["model_digest"].as_str().expect("a digest")
    }

    /// Why it is less than it should be, as JSON.
    pub fn reasons(&self) -> String {
        self.json["properties"]["squall"]["provenance"]["degraded"].to_string()
    }

    /// Whether the forecast says that it is less than it should be.
    pub fn degraded(&self) -> bool {
        self.json["properties"]["squall"]["degraded"] == true
    }
}

/// Every index record of a test's stream, ordered by issue time and revision.
pub fn published(setting: &Setting) -> Vec<Published> {
    published_on(&setting.topic("index"))
}

/// Every index record of a topic, ordered by issue time and revision.
pub fn published_on(topic: &str) -> Vec<Published> {
    published_by(Kafka::shared(), topic)
}

/// Every index record of a topic of a broker, ordered by issue time and revision.
pub fn published_by(kafka: &Kafka, topic: &str) -> Vec<Published> {
    let mut all: Vec<_> = kafka.read(topic).iter().map(Published::parse).collect();
    all.sort_by(|a, b| (&a.issue_time, a.revision).cmp(&(&b.issue_time, b.revision)));
    all
}

/// The newest revision of each forecast's tiles: key to the part of the value that holds the packed numbers.
///
/// The header in front of them names no partition, worker or run, so it is compared as well.
pub fn consolidated(topic: &str) -> BTreeMap<String, Vec<u8>> {
    let mut newest: BTreeMap<String, (u64, Vec<u8>)> = BTreeMap::new();
    for record in Kafka::shared().read(topic) {
        let key = String::from_utf8_lossy(&record.key).into_owned();
        let revision: u64 = record.header("revision").parse().expect("a revision");
        let entry = newest.entry(key).or_default();
        if revision >= entry.0 {
            *entry = (revision, record.value);
        }
    }
    newest.into_iter().map(|(key, (_, value))| (key, value)).collect()
}
