//! ODIM_H5 behind the port of the operators.

use bytes::Bytes;
use squall_fields::{Frame, InputRef};
use squall_operators::ports::{DecodeError, FrameDecoder};

use super::read_bytes;
use crate::options::ReadOptions;

/// Media types under which ODIM_H5 is announced.
pub const CONTENT_TYPES: [&str; 5] = [
    "application/x-odim",
    "application/x-odim-h5",
    "application/x-odim-hdf5",
    "application/x-hdf5",
    "application/x-hdf",
];

/// Reads the frame of an ODIM_H5 payload.
#[derive(Clone, Debug, Default)]
pub struct OdimDecoder {
    /// What the source wants.
    pub options: ReadOptions,
}

impl OdimDecoder {
    /// A decoder for what the source wants.
    pub const fn new(options: ReadOptions) -> Self {
        Self { options }
    }
}

impl FrameDecoder for OdimDecoder {
    fn content_types(&self) -> &[&'static str] {
        &CONTENT_TYPES
    }

    fn decode(&self, payload: &Bytes, input: &InputRef) -> Result<Vec<Frame>, DecodeError> {
        Ok(vec![read_bytes(payload, &self.options, input.clone())?.frame])
    }
}
