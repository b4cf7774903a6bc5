//! When the frames of an archive arrive.
//!
//! A replay must know nothing before the live run would have. So each frame gets a time of arrival: its valid
//! time plus a delay, fixed or drawn per frame by a counter-based generator, so that it does not depend on
//! which frames are replayed or in what order.

use serde::{Deserialize, Serialize};
use squall_fields::random::Philox;
use squall_fields::{KnowledgeTime, ValidTime};

/// Valid time plus a delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Arrival {
    /// Least delay in seconds.
    pub delay_seconds: f64,
    /// On top of that, less than this, in seconds, drawn evenly for each frame. Beyond the cadence it
    /// makes frames overtake each other.
    pub jitter_seconds: f64,
    /// Key of what is drawn.
    pub seed: u64,
}

impl Arrival {
    /// The same delay for every frame.
    ///
    /// ```
    /// use squall_connectors::archive::Arrival;
    /// use squall_fields::ValidTime;
    /// assert_eq!(Arrival::after_seconds(90.0).at_ms(ValidTime::from_unix_seconds(300)), 390_000);
    /// ```
    pub const fn after_seconds(delay_seconds: f64) -> Self {
        Self { delay_seconds, jitter_seconds: 0.0, seed: 0 }
    }

    /// Arrival of the frame of a slot in milliseconds since 1970.
    pub fn at_ms(&self, slot: ValidTime) -> i64 {
        let drawn = Philox::new(self.seed, 0x6172_7269_7661_6c00).uniform(slot.unix_seconds() as u64);
        let delay = self.delay_seconds + drawn * self.jitter_seconds;
        slot.unix_seconds().saturating_mul(1000).saturating_add((delay * 1000.0) as i64)
    }

    /// The same as knowledge time, rounded down to a tick.
    pub fn knowledge_time(&self, slot: ValidTime) -> KnowledgeTime {
        KnowledgeTime::from_unix_ms(self.at_ms(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_per_frame_whatever_else_is_replayed() {
        let arrival = Arrival { delay_seconds: 60.0, jitter_seconds: 900.0, seed: 5 };
        let slots: Vec<ValidTime> = (0..200).map(|i| ValidTime::from_unix_seconds(300 * i)).collect();
        let delays: Vec<i64> = slots.iter().map(|s| arrival.at_ms(*s) - 1000 * s.unix_seconds()).collect();
        assert!(delays.iter().all(|d| (60_000..960_000).contains(d)));
        let mean = delays.iter().sum::<i64>() / 200;
        assert!((440_000..580_000).contains(&mean), "{mean}");
        assert!(slots.windows(2).any(|pair| arrival.at_ms(pair[0]) > arrival.at_ms(pair[1])), "some overtake");
        assert_eq!(arrival.at_ms(slots[7]), 1000 * slots[7].unix_seconds() + delays[7]);
        let other = Arrival { seed: 6, ..arrival };
        assert!(slots.iter().any(|s| other.at_ms(*s) != arrival.at_ms(*s)));
    }
}
