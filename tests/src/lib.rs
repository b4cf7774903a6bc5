//! What the end-to-end tests stand on: a real broker, the real binary, real or simulated rain.
//!
//! The tests see Squall as a user does: through its command line, its topics and its files. They read topics with a
//! plain librdkafka consumer and files with the netCDF library, not with Squall's connectors, so that a fault in those
//! is not hidden by the same fault on the other side. One Apache Kafka serves all tests of a binary; each test has topics
//! of its own, under its own prefix.

pub mod chaos;
pub mod files;
pub mod forecasts;
pub mod freeze;
pub mod kafka;
pub mod latency;
pub mod models;
pub mod program;
pub mod proxy;
pub mod rain;
pub mod replay;
pub mod setting;
pub mod topics;

pub use kafka::{Kafka, Seen, Sent};
pub use program::{Running, squall};
pub use proxy::Proxy;
pub use setting::Setting;
