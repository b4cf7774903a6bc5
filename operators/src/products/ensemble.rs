//! The members themselves.

use squall_fields::Ensemble;

use super::product::{InFile, LevelAxis, Levels, Product, Quantity, Source};

/// The ensemble as the model gave it: in the file only, since its size is that of everything else together.
pub static ENSEMBLE: Product = Product {
    name: "ensemble",
    source: Source::Ensemble(|ensemble: &Ensemble| ensemble.values.view()),
    quantity: Quantity::Variable { cell_method: None },
    levels: Some(Levels {
        setting: None,
        quantity: Quantity::Number,
        axis: LevelAxis {
            name: "realization",
            whole: true,
            factor: 1.0,
            attributes: &[("standard_name", "realization"), ("units", "1")],
        },
    }),
    tiles: None,
    file: InFile { name: "{standard_name}", long_name: "nowcast {variable}", packed: true },
};
