//! CF-NetCDF behind the ports of the operators.

use bytes::Bytes;
use squall_fields::{Cause, Forecast, Frame, InputRef};
use squall_operators::ports::{DecodeError, EncodeError, ForecastDecoder, ForecastEncoder, FrameDecoder};
use squall_operators::products::ProductField;

use super::{Reader, WriteOptions, forecast_bytes, forecast_from_bytes};
use crate::error::FileError;
use crate::options::{Limits, ReadOptions};

/// Media types under which CF-NetCDF is announced.
pub const CONTENT_TYPES: [&str; 3] = ["application/x-netcdf", "application/netcdf", "application/x-netcdf4"];

/// Reads the frames of a CF-NetCDF payload.
#[derive(Clone, Debug, Default)]
pub struct NetcdfDecoder {
    /// What the source wants.
    pub options: ReadOptions,
}

impl NetcdfDecoder {
    /// A decoder for what the source wants.
    pub const fn new(options: ReadOptions) -> Self {
        Self { options }
    }
}

impl From<FileError> for DecodeError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::TooLarge { .. } => Self::TooLarge(Cause::new(error)),
            FileError::NoVariable { .. } | FileError::Unit { .. } => Self::WrongVariables(Cause::new(error)),
            _ => Self::new(error),
        }
    }
}

impl FrameDecoder for NetcdfDecoder {
    fn content_types(&self) -> &[&'static str] {
        &CONTENT_TYPES
    }

    fn decode(&self, payload: &Bytes, input: &InputRef) -> Result<Vec<Frame>, DecodeError> {
        let reader = Reader::from_bytes(payload, &self.options)?;
        // A record holds a frame or a few; a bound keeps a small file from filling the memory with many.
        let (cells, limit) = (reader.grid().cells().saturating_mul(reader.len()), self.options.limits.max_cells);
        if cells > limit {
            let (got, limit) = (cells as u64, limit as u64);
            return Err(FileError::TooLarge { what: "number of cells in all fields", got, limit }.into());
        }
        (0..reader.len()).map(|index| Ok(reader.frame_of(index, input.clone())?)).collect()
    }
}

/// Writes forecasts as CF-NetCDF.
#[derive(Clone, Debug, Default)]
pub struct NetcdfEncoder {
    /// How files are written.
    pub options: WriteOptions,
}

impl NetcdfEncoder {
    /// An encoder.
    pub const fn new(options: WriteOptions) -> Self {
        Self { options }
    }
}

/// Reads what [`NetcdfEncoder`] wrote.
#[derive(Clone, Debug, Default)]
pub struct NetcdfForecasts {
    /// How large a file may be.
    pub limits: Limits,
}

impl ForecastDecoder for NetcdfForecasts {
    fn decode(&self, bytes: &[u8]) -> Result<Forecast, DecodeError> {
        Ok(forecast_from_bytes(bytes, &self.limits)?.forecast)
    }
}

impl ForecastEncoder for NetcdfEncoder {
    fn content_type(&self) -> &'static str {
        CONTENT_TYPES[0]
    }

    fn extension(&self) -> &'static str {
        "nc"
    }

    fn encode(&self, forecast: &Forecast, products: &[ProductField<'_>]) -> Result<Vec<u8>, EncodeError> {
        forecast_bytes(forecast, products, &self.options)
            .map_err(|error| EncodeError::new("NetCDF", error.kind(), error))
    }
}
