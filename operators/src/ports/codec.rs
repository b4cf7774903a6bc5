//! Bytes into frames, and forecasts into bytes.

use bytes::Bytes;
use squall_fields::{Forecast, Frame, InputRef};

use crate::products::ProductField;

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct DecodeError {
    /// What was expected and what came, for a person.
    pub reason: String,
}

impl DecodeError {
    /// An error with that reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Turns bytes of one format into frames. Configured with what its source wants: variables, Z-R relation.
pub trait FrameDecoder: Send + Sync {
    /// Media types that it reads, such as `application/x-netcdf`.
    fn content_types(&self) -> &[&'static str];

    /// The frames in a payload, usually one, each with `input` as its origin.
    fn decode(&self, payload: &Bytes, input: &InputRef) -> Result<Vec<Frame>, DecodeError>;
}

/// Why a forecast could not be written as a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct EncodeError {
    /// What failed, for a person.
    pub reason: String,
}

/// Writes a forecast as a file. The same forecast and products give the same bytes.
pub trait ForecastEncoder: Send + Sync {
    /// Media type of the file, such as `application/x-netcdf`.
    fn content_type(&self) -> &'static str;

    /// Ending of the file's name, without a dot, such as `nc`.
    fn extension(&self) -> &'static str;

    /// The file, which holds these products and no others.
    fn encode(&self, forecast: &Forecast, products: &[ProductField<'_>]) -> Result<Vec<u8>, EncodeError>;
}
