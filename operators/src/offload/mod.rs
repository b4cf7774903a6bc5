//! Work that can wait, kept off the timely workers.
//!
//! A worker steps every operator of every stream: one that waits for a disk, a broker, a device or a helper process
//! would hold up all of them. So whatever can wait is handed to a thread, in one way for all: decoding, inference,
//! publishing and committing. A [`Service`] is the thread and its bounded queue; a [`Desk`] is the operator's side,
//! which hands work over without ever blocking and keeps for each piece of work what must not be let go before its
//! answer is there, such as the capability that holds its time.
//!
//! What holds whatever happens:
//! - every piece of work that was handed over is answered exactly once, or cancelled. A thread that dies answers what
//!   it had and what waits for it with [`Lost`], so that no capability is held for the dead;
//! - a piece of work that is no longer wanted lets go of its request at once, even while its thread hangs;
//! - the queue is bounded: what does not fit is given back;
//! - a thread that panics fails every stream that uses it, with what it said ([`Health`]).
//!
//! ```
//! use squall_operators::offload::{Desk, Service};
//! let squares = Service::each("squares", 4, |n: u64| n * n)?;
//! let mut desk: Desk<u64, u64, &str> = Desk::new(squares, None);
//! desk.submit(7, "what is kept for the answer");
//! let (kept, answer) = desk.wait().expect("one piece of work is under way");
//! assert_eq!((kept, answer.ok()), ("what is kept for the answer", Some(49)));
//! # Ok::<(), std::io::Error>(())
//! ```

mod aside;
mod desk;
mod health;
mod service;

use std::io;

use squall_fields::{ErrorKind, Failure};

pub use self::aside::Aside;
pub use self::desk::{Desk, Refused};
pub use self::health::Health;
pub use self::service::{Inbox, Reply, Service, TellError, Work};

/// The thread that had a piece of work is gone, and the work with it.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Lost(Failure);

impl Lost {
    /// A thread that takes nothing more.
    fn over(thread: &str) -> Self {
        Self(Failure::new(ErrorKind::Internal, format!("the thread {thread} is over")))
    }

    /// There never was a thread.
    fn no_thread(error: io::Error) -> Self {
        Self(Failure::new(ErrorKind::Device, "the system gives no thread").because(error))
    }
}

impl From<Lost> for Failure {
    fn from(Lost(failure): Lost) -> Self {
        failure
    }
}

#[cfg(test)]
mod tests;
