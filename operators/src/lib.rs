//! The dataflow of Squall, one operator a file.
//!
//! The files read in the order in which data passes through the program: [`source`] -> [`decode`] -> [`quality`] and
//! [`window`] -> [`infer`] -> [`publish`] ([`products`], [`encode`]) -> [`sink`]. Each operator is a pure core (a plain
//! struct, tested without timely) and a thin timely shell around it. What can wait is done on threads ([`offload`]),
//! never on a worker. Timely's time is *knowledge time* ([`knowledge`]), so
//! everything that the pipeline ever knew has one order and a replay of a log is the live run.
//!
//! The operators know neither Kafka nor files: they speak to the traits in [`ports`]. What stations report goes another way
//! ([`stations`]): a reading is small and is corrected later.
//!
//! A core is driven by hand as its operator drives it: time passes, then a frame comes.
//!
//! ```
//! use std::sync::Arc;
//! use ndarray::Array3;
//! use squall_fields::{Axis, Cadence, Frame, Grid, InputRef, KnowledgeTime, ValidTime, Variable};
//! use squall_operators::source::Origin;
//! use squall_operators::window::{Fresh, WindowBuffer, WindowConfig};
//!
//! let axis = |step: f64| Axis { first: 0.0, step, len: 8 };
//! let grid = Arc::new(Grid { proj: "+proj=utm +zone=35".into(), wkt: None, x: axis(1000.0), y: axis(-1000.0) });
//! let frame = |slot: i64| Arc::new(Frame {
//!     grid: grid.clone(),
//!     slot: ValidTime::from_unix_seconds(slot),
//!     variables: [Variable::RainRate].into(),
//!     values: Array3::zeros((1, 8, 8)),
//!     quality: None,
//!     input: InputRef { topic: "obs".into(), partition: 0, offset: slot / 300, digest: "".into() },
//! });
//! let known = |seconds: i64| KnowledgeTime::from_unix_ms(1000 * seconds);
//! let cadence = Cadence::every_seconds(300).expect("not zero");
//! // Two frames a window; one that is incomplete waits for three minutes.
//! let config = WindowConfig { frames: 2, cadence, patience_ms: 180_000, horizon_ms: 1_800_000 };
//! let mut windows = WindowBuffer::new(config);
//! let mut come = |slot: i64, at: i64| {
//!     let mut fired = windows.advance(known(at));
//!     let fresh = Fresh { frame: frame(slot), origin: Origin::default(), read_at_us: 0 };
//!     fired.extend(windows.push(known(at), vec![fresh]).0);
//!     fired.iter().map(|f| (f.window.issue_time.unix_seconds(), f.revision, f.window.mask())).collect::<Vec<_>>()
//! };
//! assert_eq!(come(300, 310), []);                           // the first frame completes nothing
//! assert_eq!(come(600, 620), [(600, 0, vec![true, true])]); // the second does, at once
//! // The frame of 900 is late. There is no forecast of a slot without its frame, and the next window waits for it.
//! assert_eq!(come(1200, 1210), []);
//! // Then it comes: two windows are complete.
//! assert_eq!(come(900, 1250), [(900, 0, vec![true, true]), (1200, 0, vec![true, true])]);
//! ```

pub mod control;
pub mod dead_letter;
pub mod decisions;
pub mod decode;
pub mod encode;
pub mod events;
pub mod infer;
pub mod kept;
pub mod knowledge;
pub mod local;
pub mod note;
pub mod offload;
pub mod order;
pub mod ports;
pub mod products;
pub mod progress;
pub mod publish;
pub mod quality;
pub mod retry;
pub mod sink;
pub mod source;
pub mod stations;
pub mod steering;
pub mod stream;
pub mod tile;
pub mod verify;
pub mod window;

/// Timely's time: a knowledge time in milliseconds since 1970, a multiple of [`squall_fields::time::TICK_MS`].
pub type Tick = u64;
