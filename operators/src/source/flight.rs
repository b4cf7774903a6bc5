//! How much is under way.

use std::collections::BTreeMap;

use crate::Tick;

/// Bytes of the records that were read and whose results are not yet committed.
#[derive(Debug, Default)]
pub(super) struct Flight {
    by_time: BTreeMap<Tick, u64>,
    bytes: u64,
}

impl Flight {
    /// Records of a time were read.
    pub(super) fn add(&mut self, time: Tick, bytes: u64) {
        *self.by_time.entry(time).or_default() += bytes;
        self.bytes += bytes;
    }

    /// Everything before a frontier is committed.
    pub(super) fn land(&mut self, committed: Option<Tick>) {
        while let Some(first) = self.by_time.first_entry() {
            if committed.is_some_and(|c| *first.key() >= c) {
                break;
            }
            self.bytes -= first.remove();
        }
    }

    /// Bytes under way.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_land_when_they_are_committed() {
        let mut flight = Flight::default();
        flight.add(100, 7);
        flight.add(150, 5);
        flight.land(Some(100));
        assert_eq!(flight.bytes, 12);
        flight.land(Some(150));
        assert_eq!(flight.bytes, 5);
        flight.land(None);
        assert_eq!(flight.bytes, 0);
    }
}
