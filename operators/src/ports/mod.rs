//! What the operators read from and write to, as traits.
//!
//! The dataflow knows neither Kafka nor files. It reads records from a *log* (partitions of records with
//! offsets and timestamps), writes its results through a *ledger* (records and progress, all or nothing), keeps
//! large fields in a *store*, and turns bytes into frames and forecasts into bytes through codecs. The crate
//! `squall-connectors` implements each port, for Kafka and, as the twin that tests run on, in memory.

mod codec;
mod ledger;
mod log;
mod store;

pub use self::codec::{
    DecodeError, EncodeError, ForecastDecoder, ForecastEncoder, FrameDecoder, ReportDecoder, Reports,
};
pub use self::ledger::{Ledger, LedgerError, Opening};
pub use self::log::{
    Connect, END_OF_LOG_HEADER, Headers, LogError, LogReader, LogWriter, Newest, Outgoing, PartitionId, Record,
    Retention, Timestamps, TopicInfo, TopicSpec,
};
pub use self::store::{FieldStore, Kept, Scratch, StoreError};
