//! Puts what arrives from several partitions and workers into the one order of the log.
//!
//! Messages of one timely time reach an operator in any interleaving of partitions. A stateful operator that acted
//! on arrival would depend on it. This buffer gives items out only once no earlier one can arrive any more, sorted
//! by knowledge time, then partition, then offset: a function of the log alone.

use std::collections::BTreeMap;

use squall_fields::KnowledgeTime;
use timely::progress::frontier::MutableAntichain;

use crate::Tick;
use crate::ports::PartitionId;

/// Place of a record in the order of the log: knowledge time, partition, offset.
pub type LogOrder = (KnowledgeTime, PartitionId, i64);

/// Holds items until their time is over.
///
/// ```
/// use squall_fields::KnowledgeTime;
/// use squall_operators::order::Reorder;
/// use squall_operators::ports::PartitionId;
/// let mut buffer = Reorder::default();
/// let at = KnowledgeTime::from_unix_ms;
/// buffer.push(100, (at(100), PartitionId::new("obs", 1), 7), "second");
/// buffer.push(100, (at(100), PartitionId::new("obs", 0), 9), "first");
/// buffer.push(150, (at(150), PartitionId::new("obs", 0), 10), "not yet");
/// let out: Vec<_> = std::iter::from_fn(|| buffer.pop_before(Some(150))).map(|(_, item)| item).collect();
/// assert_eq!(out, ["first", "second"]);
/// ```
#[derive(Debug)]
pub struct Reorder<T, K = LogOrder> {
    items: BTreeMap<(Tick, K), T>,
}

impl<T, K> Default for Reorder<T, K> {
    fn default() -> Self {
        Self { items: BTreeMap::new() }
    }
}

impl<T, K: Ord> Reorder<T, K> {
    /// Holds an item that came at a timely time. That is its knowledge time, except for a record that is read
    /// again after a restart: it comes at the recovered frontier, before everything new that is known then.
    pub fn push(&mut self, time: Tick, place: K, item: T) {
        self.items.insert((time, place), item);
    }

    /// The first item that came before `frontier`; with no frontier left, the first item.
    pub fn pop_before(&mut self, frontier: Option<Tick>) -> Option<(K, T)> {
        let (time, _) = self.items.first_key_value()?.0;
        if frontier.is_some_and(|f| *time >= f) {
            return None;
        }
        self.items.pop_first().map(|((_, place), item)| (place, item))
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.items.clear();
    }
}

/// The one element of a frontier of totally ordered times; `None` when nothing can come any more.
pub fn frontier_of(frontier: &MutableAntichain<Tick>) -> Option<Tick> {
    frontier.frontier().first().copied()
}
