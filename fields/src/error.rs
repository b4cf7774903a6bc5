//! What went wrong, in a word that decides what is done about it.

use serde::{Deserialize, Serialize};

/// Who can help with an error. Every error type of Squall says its kind and whether a retry can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The person who configured or called it: stops before anything starts.
    User,
    /// Whoever made the data: the record goes to dead letters and the stream goes on.
    Data,
    /// A device (GPU, disk) that is slow, full or broken.
    Device,
    /// The broker, the store, or the network to them.
    Broker,
    /// A defect in Squall.
    Internal,
}
