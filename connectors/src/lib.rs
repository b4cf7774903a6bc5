//! The outside world: implementations of the ports that the operators declare.
//!
//! Files ([`netcdf`], [`odim`], what they share in [`gridded`], [`archive`]), reports of stations ([`station`]), the object store ([`store`]), and logs. What comes from
//! outside is never trusted: sizes are bounded before anything is allocated, a name in a message is
//! never handed to a library as a path, and whatever is wrong becomes an error that says what was
//! expected, what came and where.
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use ndarray::Array3;
//! use squall_connectors::netcdf::{NetcdfDecoder, WriteOptions, frame_bytes};
//! use squall_connectors::options::ReadOptions;
//! use squall_fields::{Axis, Frame, Grid, InputRef, ValidTime, Variable};
//! use squall_operators::ports::FrameDecoder;
//!
//! let axis = |step: f64| Axis { first: 500.0, step, len: 8 };
//! let proj = "+proj=laea +lat_0=60 +lon_0=25 +ellps=WGS84 +units=m".into();
//! let frame = Frame {
//!     grid: Arc::new(Grid { proj, wkt: None, x: axis(1000.0), y: axis(-1000.0) }),
//!     slot: ValidTime::from_unix_seconds(1_475_064_000),
//!     variables: [Variable::RainRate].into(),
//!     values: Array3::from_shape_fn((1, 8, 8), |(_, y, x)| if (y, x) == (2, 3) { f32::NAN } else { 1.5 }),
//!     quality: None,
//!     input: InputRef { topic: "obs".into(), partition: 0, offset: 41, digest: "".into() },
//! };
//! let bytes = Bytes::from(frame_bytes(&frame, &WriteOptions::default())?);
//!
//! // A decoder is set up with what its source wants; what comes is that, or an error.
//! let decoder = NetcdfDecoder::new(ReadOptions::of(&[Variable::RainRate]));
//! let read = decoder.decode(&bytes, &frame.input)?.remove(0);
//! assert_eq!((read.slot, read.input.offset), (frame.slot, 41));
//! assert!(read.values[[0, 2, 3]].is_nan() && (read.values[[0, 0, 0]] - 1.5).abs() < 0.01);
//! let error = decoder.decode(&bytes.slice(..200), &frame.input).unwrap_err();
//! assert!(!error.is_retriable());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod claims;
mod hdf5;
#[cfg(test)]
mod hostile;

pub mod archive;
pub mod error;
pub mod gridded;
pub mod isolate;
pub mod kafka;
pub mod memory;
pub mod netcdf;
pub mod odim;
pub mod options;
pub mod progress;
pub mod station;
pub mod store;
