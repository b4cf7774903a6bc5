//! Probabilities of reaching a threshold.

use super::product::{InFile, LevelAxis, LevelSetting, Levels, PROBABILITIES_TOPIC, Product, Quantity, Source, Tiles};
use crate::tile::Packing;

/// The share of members at or above each threshold, 0 to 1, under the names of IMPROVER.
pub static PROBABILITIES: Product = Product {
    name: "probabilities",
    source: Source::Members(exceedance),
    quantity: Quantity::Number,
    levels: Some(Levels {
        setting: Some(LevelSetting { name: "thresholds", default: &[], between: None }),
        quantity: Quantity::Variable { cell_method: None },
        axis: LevelAxis {
            name: "threshold",
            whole: false,
            factor: 1.0,
            attributes: &[
                ("standard_name", "{standard_name}"),
                ("units", "{unit}"),
                ("spp__relative_to_threshold", "greater_than_or_equal_to"),
            ],
        },
    }),
    tiles: Some(Tiles { word: "probability", topic: &PROBABILITIES_TOPIC, packing: Packing::Share }),
    // Shares of 3 or 7 members are no multiples of a decimal step: they stay as they are.
    file: InFile {
        name: "probability_of_{standard_name}_above_threshold",
        long_name: "probability_of_{standard_name}_above_threshold",
        packed: false,
    },
};

fn exceedance(cell: &[f32], thresholds: &[f32], out: &mut [f32]) {
    for (threshold, out) in thresholds.iter().zip(out) {
        *out = cell.iter().filter(|v| *v >= threshold).count() as f32 / cell.len() as f32;
    }
}
