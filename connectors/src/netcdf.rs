//! CF-NetCDF: gridded observations in, forecasts out.
//!
//! Reading goes from [`schema`] (what is in the file: axes, times, variables by their CF standard
//! names) over a plan for the wanted variables to [`read::Reader`], which reads one field at a time
//! and unpacks it ([`crate::gridded`]). The library and HDF5 share one process-wide lock: only reading holds it, unpacking
//! does not.
//!
//! Bytes from a message are opened in memory. A name that a message gives is never passed to the
//! library, which would open remote addresses.

mod attributes;
mod choice;
mod chunks;
mod classic;
pub mod codec;
pub mod create;
pub mod forecast;
pub mod forecast_read;
pub mod observations;
mod placement;
pub mod plan;
pub mod points;
pub mod read;
#[cfg(test)]
mod real_data;
#[cfg(test)]
pub(crate) mod round_trip;
pub mod schema;
pub mod stations;
mod times;
#[cfg(test)]
mod variants;

pub use codec::{NetcdfDecoder, NetcdfEncoder, NetcdfForecasts};
pub use create::{RowOrder, Storage, WriteOptions};
pub use forecast::forecast_bytes;
pub use forecast_read::{Stored, forecast_from_bytes, read_forecast};
pub use observations::{frame_bytes, write_frames};
pub use points::{Case, Points, read_points};
pub use read::Reader;
pub use stations::StationSeries;
