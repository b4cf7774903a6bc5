//! Whether the log still has what a stream wants to read.
//!
//! A position is an offset, and an offset means nothing by itself: a topic that was deleted and made again begins anew,
//! retention deletes records that nobody has read, and a broker that lost its disk ends earlier than it did. A reader
//! that took what is there instead would lose observations without a word. So each position is held against the
//! topic's identity, its beginning and its end.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::knowledge::Taken;
use crate::ports::{LogError, LogReader, PartitionId};
use crate::progress::{Position, Progress};

/// What to do about a position that the log does not have any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLost {
    /// Stop, and say what is lost.
    #[default]
    Stop,
    /// Go on from what is there, and count it.
    Continue,
}

/// What the log does not have any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// The topic is not the one that was read.
    #[error("topic {} was deleted and made again (its id was {was}, and is {is}): what it held is gone, of partition \
             {} from offset {next} on unread", partition.topic, partition.partition)]
    Remade {
        /// Which partition.
        partition: PartitionId,
        /// Id of the topic that was read.
        was: Arc<str>,
        /// Id of the topic that is there.
        is: Arc<str>,
        /// First offset that was not read.
        next: i64,
    },
    /// The topic is gone.
    #[error("topic {} was deleted; partition {} was read up to offset {next}", partition.topic, partition.partition)]
    Deleted {
        /// Which partition.
        partition: PartitionId,
        /// First offset that was not read.
        next: i64,
    },
    /// The partition ends before the position.
    #[error("{partition} ends at offset {end} and was read up to {next}: it was cut back, and offsets {end} to {} of \
             before are gone", next - 1)]
    CutBack {
        /// Which partition.
        partition: PartitionId,
        /// First offset that was not read.
        next: i64,
        /// Where the partition ends.
        end: i64,
    },
    /// Records were deleted before they were read.
    #[error("{partition} begins at offset {begin} and was read up to {next}: offsets {next} to {} are gone unread",
            begin - 1)]
    Unread {
        /// Which partition.
        partition: PartitionId,
        /// First offset that was not read.
        next: i64,
        /// Where the partition begins.
        begin: i64,
    },
    /// Records were deleted that open windows still hold.
    #[error("{partition} begins at offset {begin}: offsets {rewind} to {} are gone, whose frames open windows need",
            begin - 1)]
    Refill {
        /// Which partition.
        partition: PartitionId,
        /// The oldest record that a window holds.
        rewind: i64,
        /// Where the partition begins.
        begin: i64,
    },
}

impl Loss {
    /// Which partition.
    pub fn partition(&self) -> &PartitionId {
        match self {
            Self::Remade { partition, .. }
            | Self::Deleted { partition, .. }
            | Self::CutBack { partition, .. }
            | Self::Unread { partition, .. }
            | Self::Refill { partition, .. } => partition,
        }
    }

    /// Name in metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Remade { .. } => "remade",
            Self::Deleted { .. } => "deleted",
            Self::CutBack { .. } => "cut-back",
            Self::Unread { .. } => "unread",
            Self::Refill { .. } => "refill",
        }
    }
}

/// What to do about a loss, for whoever reads the error.
pub(crate) struct Advice;

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "bring the records back, or go on without them by on_lost_position = \"continue\" of the source \
             (--set 'sources.NAME.on_lost_position=continue' for one start)",
        )
    }
}

/// A partition as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct There {
    /// Identity of its topic, if the log tells.
    pub topic_id: Option<Arc<str>>,
    /// Offset of its oldest record.
    pub begin: i64,
    /// Offset behind its newest record.
    pub end: i64,
}

impl There {
    /// Asks for it.
    ///
    /// # Errors
    /// The broker does not answer; there is no such topic.
    pub fn ask(log: &mut dyn LogReader, partition: &PartitionId) -> Result<Self, LogError> {
        let topic_id = log.topic_id(&partition.topic)?;
        let (begin, end) = (log.begin_offset(partition)?, log.end_offset(partition)?);
        Ok(Self { topic_id, begin, end })
    }
}

/// What is lost of a position, if anything, given the partition as it is.
///
/// ```
/// use squall_fields::KnowledgeTime;
/// use squall_operators::ports::PartitionId;
/// use squall_operators::progress::Position;
/// use squall_operators::source::positions::{There, lost};
/// let position = Position {
///     partition: PartitionId::new("obs", 0),
///     rewind: 4,
///     knowledge: KnowledgeTime::default(),
///     taken: Default::default(),
///     next: 7,
///     topic_id: None,
/// };
/// assert_eq!(lost(&position, &There { topic_id: None, begin: 4, end: 7 }), None);
/// assert_eq!(lost(&position, &There { topic_id: None, begin: 8, end: 9 }).unwrap().name(), "unread");
/// ```
pub fn lost(position: &Position, there: &There) -> Option<Loss> {
    let Position { partition, rewind, next, topic_id, .. } = position;
    let partition = partition.clone();
    let (rewind, next, begin, end) = (*rewind, *next, there.begin, there.end);
    if let (Some(was), Some(is)) = (topic_id, &there.topic_id)
        && was != is
    {
        return Some(Loss::Remade { partition, was: was.clone(), is: is.clone(), next });
    }
    if next > end {
        return Some(Loss::CutBack { partition, next, end });
    }
    if next < begin {
        return Some(Loss::Unread { partition, next, begin });
    }
    (rewind < begin).then_some(Loss::Refill { partition, rewind, begin })
}

/// The progress with which a stream goes on from what is there: a topic that was made again is read from its beginning,
/// as a new one; the state of the windows stays. Gives what was lost, too.
///
/// # Errors
/// The broker does not answer.
pub fn adjust(progress: &mut Progress, log: &mut dyn LogReader) -> Result<Vec<Loss>, LogError> {
    let mut losses = Vec::new();
    let mut kept = Vec::new();
    for mut position in std::mem::take(&mut progress.positions) {
        let there = There::ask(log, &position.partition)?;
        let loss = lost(&position, &there);
        position.topic_id = there.topic_id;
        match &loss {
            Some(Loss::Remade { .. } | Loss::Deleted { .. }) => {}
            Some(Loss::CutBack { end, .. }) => kept.push(moved(position, *end)),
            Some(Loss::Unread { begin, .. }) => kept.push(moved(position, *begin)),
            Some(Loss::Refill { begin, .. }) => kept.push(Position { rewind: *begin, ..position }),
            None => kept.push(position),
        }
        losses.extend(loss);
    }
    progress.positions = kept;
    Ok(losses)
}

fn moved(position: Position, to: i64) -> Position {
    Position { rewind: to, next: to, taken: Taken::default(), ..position }
}

#[cfg(test)]
mod tests {
    use squall_fields::KnowledgeTime;

    use super::*;

    fn position(rewind: i64, next: i64, topic_id: Option<&str>) -> Position {
        let (partition, knowledge) = (PartitionId::new("obs", 1), KnowledgeTime::default());
        Position { partition, rewind, knowledge, taken: Taken::default(), next, topic_id: topic_id.map(Into::into) }
    }

    fn said(position: &Position, id: Option<&str>, begin: i64, end: i64) -> String {
        let there = There { topic_id: id.map(Into::into), begin, end };
        lost(position, &there).map_or_else(String::new, |loss| loss.to_string())
    }

    #[test]
    fn each_loss_says_which_offsets_are_gone() {
        let at = position(10, 15, Some("a"));
        assert_eq!(said(&at, Some("a"), 10, 15), "");
        assert_eq!(said(&at, Some("a"), 0, 99), "");
        assert!(said(&at, Some("b"), 0, 99).contains("made again (its id was a, and is b)"));
        assert!(said(&at, Some("a"), 0, 12).contains("offsets 12 to 14 of before are gone"));
        assert!(said(&at, Some("a"), 20, 30).contains("offsets 15 to 19 are gone unread"));
        assert!(said(&at, Some("a"), 12, 30).contains("offsets 10 to 11 are gone, whose frames open windows need"));
    }

    #[test]
    fn a_position_of_before_there_were_ids_is_held_against_offsets_alone() {
        assert_eq!(said(&position(0, 5, None), Some("b"), 0, 5), "");
        assert_eq!(said(&position(0, 5, Some("a")), None, 0, 5), "");
    }
}
