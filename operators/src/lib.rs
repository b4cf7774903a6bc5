//! The dataflow of Squall, one operator a file.
//!
//! A file reads in the order in which data passes through the program: [`source`] -> [`decode`] -> [`quality`] ->
//! [`window`] -> [`infer`] -> [`products`] and [`encode`] -> [`sink`]. Each operator is a pure core (a plain struct,
//! tested without timely) and a thin timely shell around it. Timely's time is *knowledge time* ([`knowledge`]), so
//! everything that the pipeline ever knew has one order and a replay of a log is the live run.
//!
//! The operators know neither Kafka nor files: they speak to the traits in [`ports`].

pub mod control;
pub mod dead_letter;
pub mod decode;
pub mod encode;
pub mod events;
pub mod failure;
pub mod infer;
pub mod knowledge;
pub mod local;
pub mod note;
pub mod order;
pub mod ports;
pub mod products;
pub mod progress;
pub mod publish;
pub mod quality;
pub mod sink;
pub mod source;
pub mod tile;
pub mod window;

/// Timely's time: a knowledge time in milliseconds since 1970, a multiple of [`squall_fields::time::TICK_MS`].
pub type Tick = u64;
