//! `squall demo`: a storm through the whole pipeline, while someone watches.

pub mod board;
pub mod event;
