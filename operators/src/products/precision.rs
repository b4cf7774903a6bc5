//! The precision map of a guided model.

use ndarray::Axis;
use squall_fields::Forecast;

use super::product::{InFile, Product, QUANTILES_TOPIC, Quantity, Source, Tiles};
use crate::tile::Packing;

/// The precision weight of a guided diffusion model, one for all variables.
pub static PRECISION: Product = Product {
    name: "precision",
    source: Source::Forecast(|forecast: &Forecast| Some(forecast.precision.as_ref()?.view().insert_axis(Axis(0)))),
    quantity: Quantity::Number,
    levels: None,
    tiles: Some(Tiles { word: "precision", topic: &QUANTILES_TOPIC, packing: Packing::Steps { scale: 0.001 } }),
    file: InFile { name: "precision", long_name: "precision weight of the guided diffusion model", packed: false },
};
