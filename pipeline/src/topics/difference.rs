//! How a topic that exists differs from what a configuration needs.

use std::fmt;

use squall_operators::ports::{Retention, Timestamps, TopicInfo, TopicSpec};

use crate::config::{Config, format_bytes};

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Observations.
    Input,
    /// An index or packed fields.
    Output,
    /// Records that could not be used.
    DeadLetters,
    /// How far each stream has come.
    Progress,
}

impl Role {
    /// The role of a topic of a configuration.
    pub fn of(config: &Config, topic: &str) -> Self {
        if topic == &*config.topics.progress {
            Self::Progress
        } else if topic == &*config.topics.dead_letters {
            Self::DeadLetters
        } else if config.reads(topic) {
            Self::Input
        } else {
            Self::Output
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What is, what should be, and what follows.
    pub what: String,
    /// Whether Squall cannot work with it.
    pub is_fatal: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

const fn stamps(timestamps: Timestamps) -> &'static str {
    match timestamps {
        Timestamps::LogAppend => "LogAppendTime",
        Timestamps::Create => "CreateTime",
    }
}

const fn keeps(retention: Retention) -> &'static str {
    match retention {
        Retention::Broker => "deletes records by age or size",
        Retention::Forever => "keeps records for ever",
        Retention::Compact | Retention::CompactSoon => "is compacted",
    }
}

/// How soon a topic is compacted is told apart for itself.
const fn alike(retention: Retention) -> Retention {
    match retention {
        Retention::CompactSoon => Retention::Compact,
        other => other,
    }
}

/// What is said of an input whose batches the broker does not unpack.
pub(super) fn packed(spec: &TopicSpec, found: &TopicInfo) -> Option<String> {
    let needs = TopicInfo::UNPACKED;
    let codec = found.compression.as_deref().filter(|codec| spec.unpacked && *codec != needs)?;
    Some(format!("compression.type is {codec}, would be made with {needs}: what a batch unpacks to has no bound"))
}

/// Every difference between a topic as it is and as it should be. What the broker does not say is taken to be right.
pub fn differences(role: Role, spec: &TopicSpec, found: &TopicInfo) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut note = |is_fatal, what: String| differences.push(Difference { what, is_fatal });
    if found.partitions != spec.partitions {
        let (has, needs) = (found.partitions, spec.partitions);
        match role {
            Role::Progress => note(true, format!("has {has} partitions, must have {needs}")),
            _ => note(false, format!("has {has} partitions, would be made with {needs}")),
        }
    }
    if let Some(timestamps) = found.timestamps.filter(|found| role == Role::Input && *found != spec.timestamps) {
        let (has, needs) = (stamps(timestamps), stamps(spec.timestamps));
        note(false, format!("message.timestamp.type is {has}, this clock wants {needs}"));
    }
    if (role, spec.timestamps, found.timestamps) == (Role::Progress, Timestamps::LogAppend, Some(Timestamps::Create)) {
        let needs = "would be made with LogAppendTime, which tells the broker's clock";
        note(false, format!("message.timestamp.type is CreateTime, {needs}: this machine's counts in its place"));
    }
    if let Some(retention) = found.retention.filter(|found| alike(*found) != alike(spec.retention)) {
        match (role, alike(spec.retention)) {
            (Role::Progress, _) => {
                note(true, format!("{}, must be compacted only: progress would be lost", keeps(retention)))
            }
            (_, Retention::Compact | Retention::CompactSoon) => {
                note(false, format!("{}, would be made compacted", keeps(retention)))
            }
            (_, Retention::Forever) => {
                note(false, format!("{}: those of a replay are old when they come", keeps(retention)));
            }
            // Kept longer, or the newest of each key only: somebody's choice.
            (_, Retention::Broker) => {}
        }
    }
    if (spec.retention, found.retention) == (Retention::CompactSoon, Some(Retention::Compact)) {
        let needs = "would be made with segment.ms and max.compaction.lag.ms of ten minutes (600000)";
        note(false, format!("is compacted late, and every start reads all that was written until then: {needs}"));
    }
    if let Some(bytes) = found.max_record_bytes.filter(|bytes| *bytes < spec.max_record_bytes) {
        let (has, needs) = (format_bytes(bytes), format_bytes(spec.max_record_bytes));
        match role {
            Role::Output => note(true, format!("takes records up to {has}, must take {needs}")),
            Role::DeadLetters => note(false, format!("takes records up to {has}: less of bad records is kept")),
            Role::Input | Role::Progress => {
                note(false, format!("takes records up to {has}, would be made for {needs}"))
            }
        }
    }
    if let Some(what) = packed(spec, found) {
        note(false, what);
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(retention: Retention) -> TopicSpec {
        let (name, partitions, timestamps) = ("t".into(), 1, Timestamps::Create);
        TopicSpec { name, partitions, timestamps, retention, max_record_bytes: 1_000_000, unpacked: false }
    }

    fn found(partitions: i32, retention: Retention, max_record_bytes: u64) -> TopicInfo {
        let (retention, max_record_bytes) = (Some(retention), Some(max_record_bytes));
        let (name, timestamps, compression) = ("t".into(), Some(Timestamps::LogAppend), Some("producer".into()));
        TopicInfo { name, partitions, timestamps, max_record_bytes, retention, compression }
    }

    fn said(role: Role, spec: &TopicSpec, found: &TopicInfo) -> Vec<(bool, String)> {
        differences(role, spec, found).into_iter().map(|d| (d.is_fatal, d.what)).collect()
    }

    #[test]
    fn what_cannot_work_is_told_apart_from_what_is_only_different() {
        let progress = said(Role::Progress, &spec(Retention::Compact), &found(3, Retention::Broker, 1_100_000));
        assert_eq!(progress.iter().filter(|(is_fatal, _)| *is_fatal).count(), 2, "{progress:?}");
        let output = said(Role::Output, &spec(Retention::Broker), &found(3, Retention::Forever, 500_000));
        assert_eq!(output.iter().filter(|(is_fatal, _)| *is_fatal).count(), 1, "{output:?}");
        assert_eq!(output.len(), 2, "that it has more partitions is said: {output:?}");
        let input = said(Role::Input, &spec(Retention::Forever), &found(1, Retention::Broker, 900_000));
        assert!(input.len() == 3 && input.iter().all(|(is_fatal, _)| !is_fatal), "{input:?}");
        assert!(input[0].1.contains("LogAppendTime") && input[0].1.contains("CreateTime"), "{input:?}");
        let unknown =
            TopicInfo { timestamps: None, max_record_bytes: None, retention: None, ..found(1, Retention::Broker, 0) };
        assert_eq!(said(Role::Progress, &spec(Retention::CompactSoon), &unknown), []);
    }

    #[test]
    fn that_batches_stay_packed_is_said_of_what_others_write() {
        let input = TopicSpec { unpacked: true, ..spec(Retention::Compact) };
        let is = |codec: Option<&str>| {
            let compression = codec.map(str::to_owned);
            said(Role::Progress, &input, &TopicInfo { compression, ..found(1, Retention::Compact, 1_100_000) })
        };
        for codec in ["producer", "gzip"] {
            let said = is(Some(codec));
            assert!(matches!(&said[..], [(false, what)] if what.contains(codec)), "{said:?}");
        }
        assert_eq!(is(Some("uncompressed")), []);
        assert_eq!(is(None), []);
        let own = spec(Retention::Compact);
        assert_eq!(said(Role::Progress, &own, &found(1, Retention::Compact, 1_100_000)), []);
    }

    #[test]
    fn that_a_topic_of_progress_tells_nothing_of_the_brokers_clock_is_said() {
        let stamped = |timestamps| TopicInfo { timestamps, ..found(1, Retention::CompactSoon, 1_100_000) };
        let spec = TopicSpec { timestamps: Timestamps::LogAppend, ..spec(Retention::CompactSoon) };
        let of = |role, timestamps| said(role, &spec, &stamped(timestamps));
        let told = of(Role::Progress, Some(Timestamps::Create));
        assert!(matches!(&told[..], [(false, what)] if what.contains("broker's clock")), "{told:?}");
        assert_eq!(of(Role::Progress, Some(Timestamps::LogAppend)), []);
        assert_eq!(of(Role::Progress, None), []);
        assert_eq!(of(Role::Output, Some(Timestamps::Create)), []);
    }

    #[test]
    fn that_a_topic_is_compacted_late_is_said_where_every_start_reads_it() {
        let of = |spec_is, found_is| said(Role::Progress, &spec(spec_is), &found(1, found_is, 1_100_000));
        let late = of(Retention::CompactSoon, Retention::Compact);
        assert!(matches!(&late[..], [(false, what)] if what.contains("segment.ms")), "{late:?}");
        assert_eq!(of(Retention::CompactSoon, Retention::CompactSoon), []);
        assert_eq!(of(Retention::Compact, Retention::CompactSoon), []);
        assert!(of(Retention::CompactSoon, Retention::Forever)[0].0, "not compacted at all");
    }
}
