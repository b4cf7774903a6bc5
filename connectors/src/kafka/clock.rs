//! The broker's clock, as the program's own transactions tell it.
//!
//! No request asks a broker for its time. But whoever writes to a topic with `LogAppendTime` is told the broker's stamp
//! in the answer. It was made after the record was handed over, and before the answer came. Each transaction ends with
//! the record of its progress, whose topic Squall creates so, and the first one, the claim, comes before anything is read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use squall_operators::source::ClockOffset;

/// What all ledgers of a log have learned of the broker's clock. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct BrokerClock(Arc<Mutex<ClockOffset>>);

impl BrokerClock {
    /// How far it is from the machine's.
    pub(super) fn offset(&self) -> ClockOffset {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record that was handed over at a time by the machine's clock was answered with the broker's stamp.
    pub(super) fn see(&self, handed_over_ms: i64, stamped: Stamped) {
        let mut offset = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        offset.see(stamped.timestamp_ms, handed_over_ms, stamped.answered_ms, Instant::now());
    }
}

/// The broker's stamp of a record that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamped {
    /// The number that the record was sent with.
    pub(super) number: usize,
    /// The broker's clock in milliseconds since 1970 when it appended the record.
    pub(super) timestamp_ms: i64,
    /// The machine's when the answer came.
    pub(super) answered_ms: i64,
}

/// The machine's clock in milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ledger_tells_all_readers() {
        let clock = BrokerClock::default();
        let of_reader = clock.clone();
        assert_eq!(of_reader.offset(), ClockOffset::default());
        clock.see(14_950, Stamped { number: 3, timestamp_ms: 10_000, answered_ms: 15_010 });
        assert_eq!((of_reader.offset().least_ms(), of_reader.offset().most_ms()), (-5_010, -4_950));
    }
}
