//! The mean of the members.

use super::product::{InFile, Product, QUANTILES_TOPIC, Quantity, Source, Tiles};
use crate::tile::Packing;

/// The mean of the members, in the variable's unit.
pub static MEAN: Product = Product {
    name: "mean",
    source: Source::Members(mean),
    quantity: Quantity::Variable { cell_method: Some("realization: mean") },
    levels: None,
    tiles: Some(Tiles { word: "mean", topic: &QUANTILES_TOPIC, packing: Packing::HUNDREDTHS }),
    file: InFile { name: "{standard_name}_mean", long_name: "mean of {variable}", packed: true },
};

/// Added up in member order, in double precision: the same to the last bit wherever it is computed.
fn mean(cell: &[f32], _: &[f32], out: &mut [f32]) {
    out[0] = (cell.iter().map(|v| f64::from(*v)).sum::<f64>() / cell.len() as f64) as f32;
}
