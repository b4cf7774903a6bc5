//! What has come and whose time is not over yet.

use std::collections::BTreeMap;

use timely::dataflow::operators::Capability;

use crate::Tick;

/// Items by their times, with permission to speak then.
pub(super) struct Due<T>(BTreeMap<Tick, (Capability<Tick>, Vec<T>)>);

impl<T> Default for Due<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Due<T> {
    /// Takes an item of a time, not before that of the message that brought it.
    pub(super) fn push(&mut self, capability: &Capability<Tick>, at: Tick, item: T) {
        let at = at.max(*capability.time());
        self.0.entry(at).or_insert_with(|| (capability.delayed(&at), Vec::new())).1.push(item);
    }

    /// The items of the oldest time, once nothing of it can come any more.
    pub(super) fn pop_before(&mut self, frontier: Option<Tick>) -> Option<(Capability<Tick>, Vec<T>)> {
        let first = self.0.first_entry()?;
        frontier.is_none_or(|frontier| *first.key() < frontier).then(|| first.remove())
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
