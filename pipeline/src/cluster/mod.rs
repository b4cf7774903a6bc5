//! Several processes as one: how they find each other, what they tell each other, and how all end when one does.
//!
//! A stream is at home in one process, which has its windows, its model and its ledger; its partitions are read by the
//! workers of all. Frames travel between the workers over timely's channels. Beside these, each two processes have a
//! connection for words (`peers`): what a ledger has committed, before anything is read; that a stream stops, fails or is
//! over; and a sign of life each second, so that one that dies, hangs or is cut off is noticed. The others end then, with
//! an exit code of their own: nothing is lost, since the next start goes on from what is committed.
//!
//! Nobody is asked who they are: the addresses belong on a network of their own.

mod hosts;
mod link;
mod mesh;
pub(crate) mod peers;

pub use self::hosts::Hosts;
pub(crate) use self::link::Link;
pub(crate) use self::mesh::{Identity, Mesh};
pub(crate) use self::peers::{Opened, Peers};

use squall_fields::{ErrorKind, Failure};

#[cfg(test)]
pub(crate) use self::mesh::tests;

/// A failure because of another process.
fn peer_failure(what: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Peer, what)
}
