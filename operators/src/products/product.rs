//! What a product says of itself.

use std::fmt;

use ndarray::ArrayView4;
use squall_fields::{Ensemble, Forecast, Variable};

use crate::tile::Packing;

/// A topic of packed fields, as a stream names it.
#[derive(Debug, PartialEq, Eq)]
pub struct TopicRole {
    /// Its setting under a stream's `topics`, and its key in the index record.
    pub setting: &'static str,
    /// The topic where a stream names none.
    pub default: &'static str,
}

/// The topic of exceedance probabilities.
pub static PROBABILITIES_TOPIC: TopicRole = TopicRole { setting: "probabilities", default: "fcst.prob.v1" };
/// The topic of everything else that is packed.
pub static QUANTILES_TOPIC: TopicRole = TopicRole { setting: "quantiles", default: "fcst.quantile.v1" };

/// Something that is made of a forecast; every one there is stands in [`ALL`](super::ALL).
///
/// Two products are equal if they have the same name.
pub struct Product {
    /// Name in a configuration and in the documentation, such as `quantiles`.
    pub name: &'static str,
    /// Where its values come from.
    pub source: Source,
    /// What its values are.
    pub quantity: Quantity,
    /// What tells its planes apart; `None`: there is one plane.
    pub levels: Option<Levels>,
    /// How it is published in packed tiles; `None`: it is not.
    pub tiles: Option<Tiles>,
    /// How it lies in the file of a forecast.
    pub file: InFile,
}

/// Members of a cell, levels, and one place for each level. Of members that are all the same it says what it says of one of them.
pub type Compute = fn(&[f32], &[f32], &mut [f32]);

/// Where the values of a product come from.
#[derive(Clone, Copy)]
pub enum Source {
    /// Computed for each cell from those of its members that are there, at least one, in member order.
    Members(Compute),
    /// The same, members ascending.
    Sorted(Compute),
    /// Of each variable, as the model gave it: `[level, lead, y, x]`.
    Ensemble(for<'a> fn(&'a Ensemble) -> ArrayView4<'a, f32>),
    /// Of all variables together, `[level, lead, y, x]`, where the model gave it. It comes with the forecast and
    /// needs no asking.
    Forecast(for<'a> fn(&'a Forecast) -> Option<ArrayView4<'a, f32>>),
}

/// What the values of a product are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// The forecast variable itself, in its unit.
    Variable {
        /// What was done to it beyond its own, as CF's `cell_methods` say it.
        cell_method: Option<&'static str>,
    },
    /// A number without unit.
    Number,
}

impl Quantity {
    /// The unit of the values, as UDUNITS writes it.
    pub fn unit(self, variable: Option<Variable>) -> &'static str {
        match (self, variable) {
            (Self::Variable { .. }, Some(variable)) => variable.unit().symbol(),
            _ => "1",
        }
    }
}

/// What tells the planes of a product apart.
pub struct Levels {
    /// The setting of a stream that lists them; `None`: they are the members, from 0.
    pub setting: Option<LevelSetting>,
    /// What they are.
    pub quantity: Quantity,
    /// Their coordinate in a file.
    pub axis: LevelAxis,
}

/// A setting of a stream that lists levels, ascending.
#[derive(Debug, PartialEq)]
pub struct LevelSetting {
    /// Its name, also in the index record.
    pub name: &'static str,
    /// What it is where a stream gives none.
    pub default: &'static [f32],
    /// Levels lie between these two, both excluded.
    pub between: Option<(f32, f32)>,
}

/// The coordinate of a product's levels in a CF file.
pub struct LevelAxis {
    /// Name of dimension and coordinate; of a second one that differs, `NAME_1`.
    pub name: &'static str,
    /// Whether the levels are whole numbers.
    pub whole: bool,
    /// In the file a level is so many times what it is elsewhere: 100 for percent.
    pub factor: f64,
    /// Attributes, their values as [`fill`] takes them.
    pub attributes: &'static [(&'static str, &'static str)],
}

/// How a product is published in tiles.
pub struct Tiles {
    /// What it is called in a tile's header and key, such as `quantile`.
    pub word: &'static str,
    /// Where it goes.
    pub topic: &'static TopicRole,
    /// How its values become integers.
    pub packing: Packing,
}

/// How a product lies in a file.
pub struct InFile {
    /// Name of the variable, as [`fill`] takes it.
    pub name: &'static str,
    /// What a person reads, as [`fill`] takes it.
    pub long_name: &'static str,
    /// Whether it may be packed as the ensemble is; otherwise it is 32-bit floating point.
    pub packed: bool,
}

impl Product {
    /// Whether a stream has it only if it asks.
    pub const fn is_asked_for(&self) -> bool {
        !matches!(self.source, Source::Forecast(_))
    }

    /// Whether it is computed from the members of each cell.
    pub const fn is_computed(&self) -> bool {
        matches!(self.source, Source::Members(_) | Source::Sorted(_))
    }

    /// The setting that lists its levels.
    pub fn setting(&self) -> Option<&LevelSetting> {
        self.levels.as_ref()?.setting.as_ref()
    }

    /// Name of its variable in a file.
    pub fn name_in_file(&self, variable: Option<Variable>) -> String {
        fill(self.file.name, variable)
    }
}

/// A text of a product with its `{standard_name}` (as CF has it), `{variable}` (in words) and `{unit}` filled in.
pub fn fill(text: &str, variable: Option<Variable>) -> String {
    let Some(variable) = variable else { return text.to_owned() };
    let words = variable.name().replace('_', " ");
    let text = text.replace("{standard_name}", variable.standard_name());
    text.replace("{variable}", &words).replace("{unit}", variable.unit().symbol())
}

impl PartialEq for Product {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Product {}

impl fmt::Debug for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
