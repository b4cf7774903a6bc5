//! One struct for each thing that happens inside, whose `emit` gives the log line and the metrics at one place, so
//! that no metric is forgotten.

mod commits;
mod inference;
mod reading;
mod verification;
mod windows;

pub use self::commits::{Claiming, Committed, ForecastPublished, RecordRefused, StopGivesUp};
pub use self::inference::{
    BatchAnswered, DeadlineForeseen, DeadlineMissed, DeviceState, ForecastLost, ModelFailed, ModelLoaded,
    ModelNotLoaded, ModelTakenUp, ModelWarmedUp,
};
pub use self::reading::{
    BrokerClock, BrokerTrouble, Lag, NewPartition, PositionLost, RecordLate, RecordRead, TimestampDoubted,
};
pub use self::verification::{NotJudged, ReadingsJudged, Scored, ScratchHeld, Stands};
pub use self::windows::{FrameAccepted, FrameTooLate, RecordRejected, WindowFired, WindowSkipped};
