//! Bytes into frames and reports of stations, and forecasts into bytes.

use bytes::Bytes;
use squall_fields::error::AnyError;
use squall_fields::{Cause, ErrorKind, Forecast, Frame, InputRef, StationReport};

use crate::products::ProductField;

/// Why bytes are not a frame, or not a report. Each is what the decoder said: what was expected, and what came.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not what their content type claims.
    #[error(transparent)]
    Malformed(Cause),
    /// They, or what they unpack to, are larger than is allowed.
    #[error(transparent)]
    TooLarge(Cause),
    /// They lack a variable that the source wants, or have it in a unit or shape that does not fit.
    #[error(transparent)]
    WrongVariables(Cause),
    /// The decoder did not survive them, or did not come to an end.
    #[error("the decoder broke on these bytes ({fate})")]
    Broke {
        /// How it ended.
        fate: String,
        /// What was noticed first.
        #[source]
        cause: Cause,
    },
}

impl DecodeError {
    /// Bytes that are not what they claim, for that reason.
    pub fn new(reason: impl Into<AnyError>) -> Self {
        Self::Malformed(Cause::new(reason))
    }

    /// Who can help: whoever made the record.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Data
    }

    /// Whether the same bytes may be decoded later: never.
    pub const fn is_retriable(&self) -> bool {
        false
    }
}

/// Turns bytes of one format into frames. Configured with what its source wants: variables, Z-R relation.
pub trait FrameDecoder: Send + Sync {
    /// Media types that it reads, such as `application/x-netcdf`.
    fn content_types(&self) -> &[&'static str];

    /// The frames in a payload, usually one, each with `input` as its origin.
    fn decode(&self, payload: &Bytes, input: &InputRef) -> Result<Vec<Frame>, DecodeError>;
}

/// The reports of a payload. One that is wrong does not keep the others from being used.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// Those that can be used, in the order of the payload, each with a reading at least.
    pub reports: Vec<StationReport>,
    /// Those that cannot: the place of each in the payload, from 0, and what is wrong with it.
    pub refused: Vec<(usize, DecodeError)>,
    /// Readings of quantities that Squall does not know.
    pub ignored: usize,
}

/// Turns bytes of one format into reports of stations.
pub trait ReportDecoder: Send + Sync {
    /// Media types that it reads, such as `application/json`.
    fn content_types(&self) -> &[&'static str];

    /// The reports in a payload, each with `input` as its origin. An error concerns all of it.
    fn decode(&self, payload: &Bytes, input: &InputRef) -> Result<Reports, DecodeError>;
}

/// Why a forecast could not be written as a file.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the forecast cannot be written as {format}")]
pub struct EncodeError {
    format: &'static str,
    kind: ErrorKind,
    #[source]
    cause: Cause,
}

impl EncodeError {
    /// An error of the encoder of a format, such as `NetCDF`.
    pub fn new(format: &'static str, kind: ErrorKind, cause: impl Into<AnyError>) -> Self {
        Self { format, kind, cause: Cause::new(cause) }
    }

    /// Who can help: whoever made the data where the format cannot hold them.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether it is worth while to try again: where a disk had no room for it.
    pub const fn is_retriable(&self) -> bool {
        matches!(self.kind, ErrorKind::Device)
    }
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

/// Reads the files that a [`ForecastEncoder`] wrote, as far as they hold the ensemble.
pub trait ForecastDecoder: Send + Sync {
    /// The forecast in a file; one without ensembles if the file has none.
    fn decode(&self, bytes: &[u8]) -> Result<Forecast, DecodeError>;
}
