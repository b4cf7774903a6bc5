//! ODIM_H5: the radar composites of European weather services.
//!
//! The specification leaves room that its producers use, and every variant of it occurs: geometry at
//! the root or in the data set, the quantity in the data or in the data set, texts of fixed or of
//! variable length, packing with or without `gain`, `offset`, `nodata` and `undetect`. [`read()`]
//! looks each thing up from the innermost group outwards; [`write`](mod@write) makes each variant.
//!
//! `nodata` (not looked at) is missing and becomes NaN; `undetect` (looked at, nothing seen) is *no
//! echo* and becomes 0. The slot is the composite's nominal time; the interval of a data set turns an
//! accumulation into a rate. A quality field that is broken costs the quality and not the frame.

mod attributes;
pub mod codec;
mod geometry;
pub mod read;
pub mod write;

pub use codec::OdimDecoder;
pub use read::{Odim, read, read_bytes};
pub use write::{OdimWriteOptions, Quantity, write_bytes};

#[cfg(test)]
mod variants;
