//! Commits what a stream has to say, exactly once.
//!
//! All that a stream produces meets on one worker, which owns the stream's ledger. Whenever the frontier has passed
//! something worth saying, one transaction holds the records *and* a progress record: the frontier, where to rewind
//! each partition to, and the small state that frames alone cannot restore. A restart reads the newest progress,
//! rewinds, refills its windows without firing any, and goes on: nothing is lost and nothing is said twice.
//!
//! Committing takes a round trip to the broker, so it happens on a thread ([`crate::offload`]); the operator holds the output's time back
//! until the broker has answered, and the probe behind it is what sources look at.

mod core;
mod operator;

pub use self::core::{Batch, Sent, SinkCore};
pub use self::operator::{SinkConfig, sink};
