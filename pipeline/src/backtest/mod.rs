//! Models against each other over the events of an archive.
//!
//! The forecasts are those of a stream, through its pure cores ([`crate::once`]): what a live run of the same frames would have
//! published, bit for bit. All models forecast the same issue times and are judged on the same cells; a lead counts only if its
//! valid time lay ahead when the forecast could be published. Of a topic everything is known when the timestamps of its records
//! say, and a window is forecast as it fired first; so it is of a file whose frames come late by chance. What is kept of a
//! forecast are its [`Statistics`], exact sums, so that the result depends on no order: events and parts of them may run beside
//! each other, and a run that was killed goes on.
//!
//! [`Statistics`]: squall_models::scores::Statistics

mod arrived;
pub mod contestants;
pub mod engine;
pub mod event;
pub mod judge;
pub mod judged;
pub mod outcome;
pub mod report;
pub mod state;
pub mod topic;
pub mod truth;
pub mod verdict;

pub use contestants::Contestants;
pub use engine::{Engine, Options};
pub use event::{Event, Input};
pub use judge::Areas;
pub use outcome::Outcome;
pub use topic::TopicEvent;
pub use truth::Truth;
