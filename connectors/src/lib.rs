//! The outside world: implementations of the ports that the operators declare.
//!
//! Files ([`netcdf`], [`odim`], what they share in [`gridded`], [`archive`]), the object store ([`store`]), and logs. What comes from
//! outside is never trusted: sizes are bounded before anything is allocated, a name in a message is
//! never handed to a library as a path, and whatever is wrong becomes an error that says what was
//! expected, what came and where.

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
pub mod store;
