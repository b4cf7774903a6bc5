//! What a stream must know to go on after a restart, as it is kept on the topic of progress.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use squall_fields::{Grid, IssueTime, KnowledgeTime, ValidTime};

use crate::infer::ladder::Step;
use crate::knowledge::Taken;
use crate::ports::PartitionId;

/// Where to read a partition from after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Topic and partition.
    #[serde(flatten)]
    pub partition: PartitionId,
    /// Offset to rewind to: the oldest record that an open window still holds.
    pub rewind: i64,
    /// Knowledge time that the partition had reached before the record there.
    pub knowledge: KnowledgeTime,
    /// What of that time lies before the record there.
    #[serde(default, skip_serializing_if = "Taken::is_nothing")]
    pub taken: Taken,
    /// The first offset that was not known before the frontier. What lies between `rewind` and `next` only refills
    /// windows; what lies at or behind `next` is known at the frontier or later.
    pub next: i64,
    /// Identity of the topic: one that is deleted and made again has another. `None` where the log does not tell, and in
    /// progress of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<Arc<str>>,
}

/// Something that the machine's clock decided: what is committed stays so, and a replay can decide it again in the same
/// way ([`crate::decisions`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Decision {
    /// A record did not count as known at its timestamp: it became visible after the wall clock had passed that, and took
    /// the frontier's time; or its producer's clock was ahead of the broker's.
    Late {
        /// Topic and partition of the record.
        #[serde(flatten)]
        partition: PartitionId,
        /// Its offset.
        offset: i64,
        /// When it counts as known.
        knowledge: KnowledgeTime,
    },
    /// For a publication deadline a window got less than its stream asks for.
    Degraded {
        /// Issue time of the window.
        issue_time: IssueTime,
        /// Its revision.
        revision: u32,
        /// What it got.
        to: Step,
        /// Whether that was chosen before the work began, and not because the deadline had passed.
        foreseen: bool,
    },
    /// A window was so old, with a newer one waiting behind it, that it was not forecast at all.
    Skipped {
        /// Issue time of the window.
        issue_time: IssueTime,
        /// Its revision.
        revision: u32,
    },
}

/// A window that has fired, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Its issue time.
    pub issue_time: IssueTime,
    /// The revision that fires next; 0 for a window that is open and has not fired.
    pub next_revision: u32,
}

/// What a stream knows besides the frames, which a restart reads again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamState {
    /// Grid that the first valid frame set.
    pub grid: Option<Grid>,
    /// Oldest slot seen.
    pub first_slot: Option<ValidTime>,
    /// Windows that may still fire or be revised, oldest first.
    pub windows: Vec<Issued>,
}

/// The version of the schema below, which this Squall writes, and the only one that it reads: a progress of another
/// would be misunderstood without a word. Records from before there was a version are of the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchemaVersion;

impl SchemaVersion {
    /// As it is written. To be raised whenever an older or a newer Squall would misread what is written.
    pub const CURRENT: u32 = 1;
}

impl Serialize for SchemaVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(Self::CURRENT)
    }
}

impl<'de> Deserialize<'de> for SchemaVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            Self::CURRENT => Ok(Self),
            other => Err(de::Error::custom(format!(
                "it has schema version {other}, this Squall reads version {}: run the Squall that wrote it",
                Self::CURRENT
            ))),
        }
    }
}

/// Who may commit to a ledger: whoever made the newest claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// How often the ledger has been opened.
    pub generation: u64,
    /// Who opened it last: differs between any two openings.
    pub owner: String,
    /// Batches committed since.
    pub commits: u64,
}

/// How far a ledger has come; committed in one transaction with the records that it speaks of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Version of this schema.
    #[serde(default)]
    pub schema: SchemaVersion,
    /// Who committed it. The ledger writes it.
    #[serde(default)]
    pub claim: Claim,
    /// The settings of source and windows that the rest rests on, by name.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Everything that was known before this time is committed.
    pub frontier: KnowledgeTime,
    /// One for each input partition.
    pub positions: Vec<Position>,
    /// Decisions on records at or behind the rewind offsets: those that a restart meets again.
    pub decisions: Vec<Decision>,
    /// Whether there are more than these: a record has its limits. The records of decisions have them all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_decisions: bool,
    /// Digests of the models that the stream used last.
    pub model_digests: Vec<String>,
    /// The rest of the state.
    pub state: StreamState,
    /// Squall's version.
    pub version: String,
}

/// Settings that were not recorded from the beginning: progress that lacks them is good with whatever they are now.
pub const RECORDED_LATER: [&str; 6] = [
    "source.future_tolerance",
    "source.quality.max_missing",
    "source.quality.range",
    "source.quality.spikes",
    "source.quality.stale",
    "source.z_relation",
];

impl Progress {
    /// What is different in the settings that a start has, in words; nothing for a stream that never committed. A setting
    /// that was [recorded later](RECORDED_LATER) than the progress was made is not held against it.
    pub fn differences(&self, settings: &BTreeMap<String, String>) -> Vec<String> {
        if self.settings.is_empty() {
            return Vec::new();
        }
        let names: BTreeSet<&String> = self.settings.keys().chain(settings.keys()).collect();
        let told = |found: Option<&String>| found.map_or("not set".to_owned(), Clone::clone);
        let was_recorded = |name: &str| self.settings.contains_key(name) || !RECORDED_LATER.contains(&name);
        let names = names.into_iter().filter(|name| was_recorded(name));
        let differs = names.filter(|name| self.settings.get(*name) != settings.get(*name));
        differs
            .map(|name| format!("{name} was {}, is {}", told(self.settings.get(name)), told(settings.get(name))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_which_settings_differ() {
        let settings = |frames: &str| {
            [("source.topic", "obs"), ("window_frames", frames)].map(|(n, v)| (n.into(), v.into())).into()
        };
        let progress = Progress { settings: settings("3"), ..Default::default() };
        assert!(progress.differences(&settings("3")).is_empty());
        assert_eq!(progress.differences(&settings("4")), ["window_frames was 3, is 4"]);
        assert!(Progress::default().differences(&settings("4")).is_empty(), "it never committed");
    }

    #[test]
    fn a_setting_that_was_not_recorded_then_may_be_anything_and_one_that_was_may_not() {
        let settings = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let (frames, relation) = (("window_frames", "3"), ("source.z_relation", "200 R^1.6"));
        let before = Progress { settings: settings(&[frames]), ..Default::default() };
        assert!(before.differences(&settings(&[frames, relation])).is_empty());
        let other = ("source.z_relation", "223 R^1.53");
        let after = Progress { settings: settings(&[frames, relation]), ..Default::default() };
        let differences = after.differences(&settings(&[frames, other]));
        assert_eq!(differences, ["source.z_relation was 200 R^1.6, is 223 R^1.53"]);
        assert_eq!(after.differences(&settings(&[frames])), ["source.z_relation was 200 R^1.6, is not set"]);
        let new = ("verification.fss_border", "interior");
        assert_eq!(before.differences(&settings(&[frames, new])), ["verification.fss_border was not set, is interior"]);
    }

    #[test]
    fn a_progress_of_another_schema_is_refused() {
        let mut json = serde_json::to_value(Progress::default()).unwrap();
        assert_eq!(json["schema"], SchemaVersion::CURRENT);
        assert!(serde_json::from_value::<Progress>(json.clone()).is_ok());
        json["schema"] = (SchemaVersion::CURRENT + 1).into();
        let error = serde_json::from_value::<Progress>(json.clone()).unwrap_err().to_string();
        assert!(error.contains("schema version 2, this Squall reads version 1"), "{error}");
        json.as_object_mut().unwrap().remove("schema");
        assert!(serde_json::from_value::<Progress>(json).is_ok(), "written before there was a version");
    }
}
