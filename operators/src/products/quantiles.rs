//! Quantiles over the members.

use super::product::{InFile, LevelAxis, LevelSetting, Levels, Product, QUANTILES_TOPIC, Quantity, Source, Tiles};
use crate::tile::Packing;

/// Quantiles over the members, in the variable's unit; percentiles in a file, as IMPROVER has them.
pub static QUANTILES: Product = Product {
    name: "quantiles",
    source: Source::Sorted(quantiles),
    quantity: Quantity::Variable { cell_method: None },
    levels: Some(Levels {
        setting: Some(LevelSetting { name: "quantiles", default: &[0.1, 0.5, 0.9], between: Some((0.0, 1.0)) }),
        quantity: Quantity::Number,
        axis: LevelAxis {
            name: "percentile",
            whole: false,
            factor: 100.0,
            attributes: &[("long_name", "percentile"), ("units", "%")],
        },
    }),
    tiles: Some(Tiles { word: "quantile", topic: &QUANTILES_TOPIC, packing: Packing::HUNDREDTHS }),
    file: InFile { name: "{standard_name}_percentiles", long_name: "percentiles of {variable}", packed: true },
};

/// Linear interpolation between order statistics (type 7 of Hyndman and Fan, 1996).
fn quantiles(cell: &[f32], levels: &[f32], out: &mut [f32]) {
    for (level, out) in levels.iter().zip(out) {
        let position = f64::from(level.clamp(0.0, 1.0)) * (cell.len() - 1) as f64;
        // It is not negative, so that what is cut off is its fraction.
        let at = position as usize;
        let fraction = position - at as f64;
        let (low, high) = (cell[at], cell[at + usize::from(fraction > 0.0)]);
        *out = (f64::from(low) + fraction * (f64::from(high) - f64::from(low))) as f32;
    }
}
