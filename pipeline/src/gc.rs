//! What of a store nobody needs any more: files that no record points at, and forecasts that are too old.
//!
//! A file is written before the record that points at it is committed, so a file without a record may be one that was
//! lost on the way, or one whose record is still on the way. It is an orphan only if no record can come any more: it is
//! older than a safety age, *and* the stream has committed what was known so much later that the forecast's window is
//! not revised any more, however long the broker was away meanwhile.

mod index;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use squall_connectors::store::Stored;
use squall_fields::IssueTime;

pub use self::index::{Index, IndexError, MAX_RECORD_BYTES, Pointer, for_each_record, read};

/// What is to be kept.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The folders of the streams, each with how long after their issue time its forecasts are made.
    pub streams: BTreeMap<String, Duration>,
    /// A file that is younger is no orphan yet.
    pub older_than: Duration,
    /// How old forecasts may get, by their issue time; `None` keeps them all.
    pub keep: Option<Duration>,
}

/// What a file of the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// A record points at it.
    Kept,
    /// No record does, and one may yet.
    Young,
    /// Not a forecast of a stream of the configuration.
    Foreign,
    /// No record points at it, and none will.
    Orphan,
    /// A write left it that did not come to its end.
    Temporary,
    /// A record points at it, and the forecast is older than is kept.
    Expired,
}

impl Fate {
    /// Every one, in the order in which they are reported.
    pub const ALL: [Self; 6] = [Self::Kept, Self::Young, Self::Foreign, Self::Orphan, Self::Temporary, Self::Expired];

    /// Whether the file is removed.
    pub const fn is_removed(self) -> bool {
        matches!(self, Self::Orphan | Self::Temporary | Self::Expired)
    }

    /// What is said of it.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Kept => "in use",
            Self::Young => "may be on their way",
            Self::Foreign => "of other streams, or no forecasts",
            Self::Orphan => "orphans",
            Self::Temporary => "unfinished writes",
            Self::Expired => "older than is kept",
        }
    }
}

/// What becomes of a store.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Every file, and what it is.
    pub files: Vec<(Stored, Fate)>,
    /// Records that point at files that are removed for their age, and must be gone before them.
    pub tombstones: Vec<Pointer>,
}

impl Plan {
    /// Number and bytes of the files of a kind.
    pub fn count(&self, fate: Fate) -> (usize, u64) {
        let of = self.files.iter().filter(|(_, found)| *found == fate);
        of.fold((0, 0), |(count, bytes), (file, _)| (count + 1, bytes + file.bytes))
    }
}

/// The name of a forecast's file: stream, issue time, and the rest.
fn parse(name: &str) -> Option<(&str, IssueTime)> {
    let mut parts = name.split('/');
    let (stream, time, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let part = |range| time.get(range);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0..4)?,
        part(4..6)?,
        part(6..8)?,
        time.get(8..9).filter(|t| *t == "T").and(part(9..11))?,
        part(11..13)?,
        part(13..15)?
    );
    (time.len() == 16).then(|| Some((stream, IssueTime::parse_rfc3339(&text)?))).flatten()
}

/// Decides what becomes of each file. The files must have been listed before the index was read, so that every file
/// that was committed in between is seen in it.
pub fn plan(files: Vec<Stored>, index: &Index, rules: &Rules, now: SystemTime) -> Plan {
    let pointed: BTreeSet<&str> = index.pointers.iter().map(|pointer| pointer.file.as_str()).collect();
    let is_old = |file: &Stored| now.duration_since(file.written).is_ok_and(|age| age > rules.older_than);
    let is_expired = |time: IssueTime| {
        let oldest = rules.keep.and_then(|keep| now.checked_sub(keep)?.duration_since(UNIX_EPOCH).ok());
        oldest.is_some_and(|oldest| time.unix_seconds() < oldest.as_secs() as i64)
    };
    // The stream has committed all that was known until then.
    let is_over = |stream: &str, time: IssueTime| {
        let (Some(after), Some(known)) = (rules.streams.get(stream), index.newest_known_ms.get(stream)) else {
            return false;
        };
        // One second for the tick that knowledge times are rounded to.
        time.unix_seconds() * 1000 + after.as_millis() as i64 + 1000 < *known
    };
    let fate = |file: &Stored| {
        let Some((stream, time)) = parse(&file.name).filter(|(stream, _)| rules.streams.contains_key(*stream)) else {
            return Fate::Foreign;
        };
        match pointed.contains(file.name.as_str()) {
            _ if file.temporary => {
                if is_old(file) {
                    Fate::Temporary
                } else {
                    Fate::Young
                }
            }
            true if is_expired(time) => Fate::Expired,
            true => Fate::Kept,
            false if is_old(file) && is_over(stream, time) => Fate::Orphan,
            false => Fate::Young,
        }
    };
    let files: Vec<_> = files.into_iter().map(|file| (file.clone(), fate(&file))).collect();
    let expired: BTreeSet<&str> =
        files.iter().filter(|(_, fate)| *fate == Fate::Expired).map(|(file, _)| file.name.as_str()).collect();
    let mut keys = BTreeSet::new();
    let tombstones = index.pointers.iter().filter(|pointer| expired.contains(pointer.file.as_str()));
    let tombstones = tombstones.filter(|pointer| keys.insert((&pointer.partition, &pointer.key))).cloned().collect();
    Plan { files, tombstones }
}

#[cfg(test)]
mod tests;
