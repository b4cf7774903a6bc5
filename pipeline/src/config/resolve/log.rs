//! The log and what is passed on to its client.

use std::collections::BTreeMap;

use figment::value::Value;
use squall_connectors::kafka::{Property, PropertyError};

use crate::config::fault::suggestion;
use crate::config::file::join;
use crate::config::resolved::{LogConfig, LogKind};
use crate::config::section::Section;

pub(super) fn log(section: &Section<'_>) -> Option<LogConfig> {
    let kind = section.choice("kind", &[("kafka", LogKind::Kafka), ("memory", LogKind::Memory)]);
    let bootstrap_servers = section.text("bootstrap_servers");
    let create_topics = section.boolean("create_topics");
    let transaction_timeout = section.duration("transaction_timeout");
    if transaction_timeout.is_some_and(|timeout| timeout.as_secs() < 1) {
        section.fault("transaction_timeout", "expected at least 1 s");
    }
    let properties = properties(&section.section("properties"));
    section.finish();
    Some(LogConfig {
        kind: kind?,
        bootstrap_servers: bootstrap_servers?,
        create_topics: create_topics?,
        transaction_timeout: transaction_timeout?,
        properties,
    })
}

/// What Squall itself says to the client library.
const OURS: [&str; 5] = ["bootstrap.servers", "transactional.id", "isolation.level", "enable.auto.commit", "group.id"];

/// Settings of the client library that are often written, for a hint.
const COMMON: [&str; 14] = [
    "security.protocol",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
    "enable.ssl.certificate.verification",
    "broker.address.family",
    "compression.type",
    "linger.ms",
    "socket.timeout.ms",
    "debug",
];

/// Settings of the client library, each as the library takes it; dotted keys of TOML are joined again.
fn properties(section: &Section<'_>) -> BTreeMap<String, Property> {
    let mut properties = BTreeMap::new();
    for key in section.keys() {
        if let Some(value) = section.get(key) {
            flatten(section, key, value, &mut properties);
        }
    }
    for (key, property) in &properties {
        match property.check(key) {
            _ if OURS.contains(&key.as_str()) => section.fault(key, "is set by Squall itself"),
            Ok(()) => {}
            Err(PropertyError::Unknown) => {
                section.fault(key, format!("{}{}", PropertyError::Unknown, suggestion(key, COMMON)));
            }
            Err(error) => section.fault(key, error.to_string()),
        }
    }
    properties
}

fn flatten(section: &Section<'_>, key: &str, value: &Value, properties: &mut BTreeMap<String, Property>) {
    let text = match value {
        Value::Dict(_, values) => {
            values.iter().for_each(|(inner, value)| flatten(section, &join(key, inner), value, properties));
            return;
        }
        Value::String(_, text) => text.clone(),
        Value::Bool(_, flag) => flag.to_string(),
        other => match serde_json::to_value(other) {
            Ok(serde_json::Value::Number(number)) => number.to_string(),
            _ => return section.fault(key, "expected text, a number, true or false"),
        },
    };
    properties.insert(key.to_owned(), Property::new(key, text));
}
