//! The dataflow of Squall, one operator a file.

pub mod ports;
