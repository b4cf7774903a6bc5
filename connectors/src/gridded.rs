//! What gridded files have in common, whatever their format: how numbers are packed and which of them are missing,
//! in which unit axes are, over which interval an amount was gathered, and what was assumed of all that.
//!
//! [`netcdf`](crate::netcdf) and [`odim`](crate::odim) find the words in their files; what the words mean is decided
//! here, once. Whatever has to be decided is written down in [`Notes`], which `squall inspect file` shows: a wrong
//! guess is then seen by a person, and not by its forecasts.

pub mod axes;
pub mod corners;
pub mod interval;
pub mod notes;
pub mod number;
pub mod packing;
pub mod unpack;

pub use interval::Interval;
pub use notes::{Note, Notes};
pub use number::{Attribute, NumberType};
pub use packing::Packing;
