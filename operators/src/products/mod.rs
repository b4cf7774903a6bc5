//! What is made of a forecast: its ensemble, mean, quantiles, exceedance probabilities, precision.
//!
//! Every product is a [`Product`], a constant in a file of its own that says its name, its levels, its unit, how it is
//! computed, how it is packed and where it goes, and what it is called in a file. [`ALL`] lists them, and everything
//! else goes through that list: the names and defaults of a configuration, the topics, the tiles, the index record,
//! the file of a forecast and its reader.
//!
//! Every number is exact in the sense that it depends on the members of its cell alone, in member order: not on
//! threads, tiles or the order in which cells are visited. A member that is missing at a cell is left out there; a
//! cell without any member is missing (NaN).
//!
//! # How to add a product
//!
//! 1. A file beside this one, such as `spread.rs`, with a `pub static SPREAD: Product` and the function that computes
//!    it from the members of one cell ([`Source::Members`], or [`Source::Sorted`] if it needs them ascending). Levels
//!    of its own are a [`LevelSetting`]: its name becomes a setting of a stream. A topic of its own is a
//!    [`TopicRole`]: its name becomes a setting under a stream's `topics`.
//! 2. A line in [`ALL`].
//! 3. A row in the tables of `docs/formats.md`. A test reads them and compares them with what a run publishes, both
//!    ways: it fails until the row is there, and right.
//!
//! Streams that name no `products` publish it from then on; its unit test stands in its file.

mod cells;
mod ensemble;
mod mean;
mod precision;
mod probabilities;
mod product;
mod quantiles;

use ndarray::{CowArray, Ix4};
use squall_fields::{Ensemble, Forecast, Variable};

pub use ensemble::ENSEMBLE;
pub use mean::MEAN;
pub use precision::PRECISION;
pub use probabilities::PROBABILITIES;
pub use product::*;
pub use quantiles::QUANTILES;

/// Every product, in the order of a file and of the records.
pub static ALL: [&Product; 5] = [&ENSEMBLE, &PROBABILITIES, &QUANTILES, &MEAN, &PRECISION];

/// The settings that list levels, each once.
pub fn settings() -> Vec<&'static LevelSetting> {
    once(ALL.iter().filter_map(|product| product.setting()))
}

/// The topics that products go to, each once.
pub fn topics() -> Vec<&'static TopicRole> {
    once(ALL.iter().filter_map(|product| Some(product.tiles.as_ref()?.topic)))
}

fn once<T: PartialEq>(all: impl Iterator<Item = &'static T>) -> Vec<&'static T> {
    all.fold(Vec::new(), |mut found, next| {
        if !found.contains(&next) {
            found.push(next);
        }
        found
    })
}

/// The level of a product that has one plane only.
const ONE_PLANE: [f32; 1] = [0.0];

/// Which products a stream publishes, at which levels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProductsConfig {
    wanted: Vec<(&'static Product, Vec<f32>)>,
}

impl ProductsConfig {
    /// These products, each at the levels that its setting lists. One whose setting lists none is left out.
    pub fn new(
        products: impl IntoIterator<Item = &'static Product>,
        levels: impl Fn(&LevelSetting) -> Vec<f32>,
    ) -> Self {
        let asked: Vec<_> = products.into_iter().collect();
        let listed = ALL.into_iter().filter(|product| asked.contains(product));
        let wanted = listed.map(|product| (product, product.setting().map_or_else(|| ONE_PLANE.to_vec(), &levels)));
        Self { wanted: wanted.filter(|(_, levels)| !levels.is_empty()).collect() }
    }

    /// The levels of a setting; none if no product that has them is wanted.
    pub fn levels(&self, setting: &LevelSetting) -> &[f32] {
        let found = self.wanted.iter().find(|(product, _)| product.setting() == Some(setting));
        found.map_or(&[], |(_, levels)| levels)
    }

    /// The topics that the wanted products go to, each once.
    pub fn topics(&self) -> Vec<&'static TopicRole> {
        once(self.wanted.iter().filter_map(|(product, _)| Some(product.tiles.as_ref()?.topic)))
    }
}

/// A product of a forecast: computed, taken from the model, or read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct ProductField<'a> {
    /// Which product.
    pub product: &'static Product,
    /// Of which variable; `None` for one of all variables together.
    pub variable: Option<Variable>,
    /// Thresholds in the variable's unit, quantiles, members; `[0]` where there is one plane only.
    pub levels: Vec<f32>,
    /// `[level, lead, y, x]`, NaN where missing.
    pub values: CowArray<'a, f32, Ix4>,
}

/// The products of a forecast: for each variable what is wanted, in the order of [`ALL`], then what the model gave of
/// all variables together.
pub fn products<'a>(forecast: &'a Forecast, config: &ProductsConfig) -> Vec<ProductField<'a>> {
    let mut fields: Vec<_> = forecast.ensembles.iter().flat_map(|ensemble| of_ensemble(ensemble, config)).collect();
    let given = |product: &&'static Product| match product.source {
        Source::Forecast(values) => {
            let (variable, levels, values) = (None, ONE_PLANE.to_vec(), values(forecast)?.into());
            Some(ProductField { product, variable, levels, values })
        }
        _ => None,
    };
    fields.extend(ALL.iter().filter_map(given));
    fields
}

/// The products of one variable, computed in one pass on all cores.
///
/// ```
/// use ndarray::Array4;
/// use squall_fields::{Ensemble, Variable};
/// use squall_operators::products::{MEAN, PROBABILITIES, Product, ProductsConfig, QUANTILES, of_ensemble};
/// let values = Array4::from_shape_vec((4, 1, 1, 1), vec![0.0, 1.0, 2.0, 5.0]).unwrap();
/// let ensemble = Ensemble { variable: Variable::RainRate, values };
/// let level = |name: &str| if name == "thresholds" { vec![1.0] } else { vec![0.5] };
/// let config = ProductsConfig::new([&MEAN, &QUANTILES, &PROBABILITIES], |setting| level(setting.name));
/// let fields = of_ensemble(&ensemble, &config);
/// let value = |product: &Product| fields.iter().find(|field| field.product == product).unwrap().values[[0, 0, 0, 0]];
/// assert_eq!((value(&PROBABILITIES), value(&QUANTILES), value(&MEAN)), (0.75, 1.5, 2.0));
/// ```
pub fn of_ensemble<'a>(ensemble: &'a Ensemble, config: &ProductsConfig) -> Vec<ProductField<'a>> {
    if ensemble.members() == 0 {
        return Vec::new();
    }
    let steps: Vec<_> =
        config.wanted.iter().filter_map(|(product, levels)| cells::Step::of(product.source, levels)).collect();
    let mut computed = cells::compute(ensemble.values.view(), &steps).into_iter();
    let field = |(product, levels): &(&'static Product, Vec<f32>)| {
        let (levels, values) = match product.source {
            Source::Ensemble(given) => {
                let values = given(ensemble);
                ((0..values.dim().0).map(|level| level as f32).collect(), values.into())
            }
            Source::Members(_) | Source::Sorted(_) => {
                (levels.clone(), computed.next().expect("one for each step").into())
            }
            Source::Forecast(_) => return None,
        };
        Some(ProductField { product, variable: Some(ensemble.variable), levels, values })
    };
    config.wanted.iter().filter_map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array4;
    use proptest::prelude::*;

    fn ensemble(members: usize, values: &[f32]) -> Ensemble {
        let cells = values.len() / members;
        let values = Array4::from_shape_vec((members, 1, 1, cells), values[..members * cells].to_vec()).unwrap();
        Ensemble { variable: Variable::RainRate, values }
    }

    fn all() -> ProductsConfig {
        let levels =
            |setting: &LevelSetting| if setting.name == "quantiles" { [0.1, 0.5, 0.9] } else { [0.1, 1.0, 5.0] };
        ProductsConfig::new(ALL, |setting| levels(setting).to_vec())
    }

    fn values<'f, 'a>(fields: &'f [ProductField<'a>], product: &Product) -> &'f CowArray<'a, f32, Ix4> {
        &fields.iter().find(|field| field.product == product).unwrap().values
    }

    #[test]
    fn missing_members_are_left_out_and_missing_cells_stay_missing() {
        let gaps = ensemble(2, &[1.0, f32::NAN, 3.0, f32::NAN]);
        let fields = of_ensemble(&gaps, &all());
        assert_eq!(values(&fields, &MEAN)[[0, 0, 0, 0]], 2.0);
        assert!([&MEAN, &QUANTILES, &PROBABILITIES].iter().all(|p| values(&fields, p)[[0, 0, 0, 1]].is_nan()));
        let one = ensemble(2, &[1.0, 2.0, f32::NAN, 4.0]);
        let fields = of_ensemble(&one, &all());
        assert_eq!(values(&fields, &MEAN).iter().collect::<Vec<_>>(), [&1.0, &3.0]);
        assert_eq!(values(&fields, &PROBABILITIES)[[1, 0, 0, 0]], 1.0);
    }

    #[test]
    fn nothing_is_computed_that_is_not_wanted() {
        let some = ensemble(2, &[1.0, 2.0]);
        assert!(of_ensemble(&some, &ProductsConfig::default()).is_empty());
        let config = ProductsConfig::new([&QUANTILES, &MEAN], |_| Vec::new());
        let names: Vec<_> = of_ensemble(&some, &config).iter().map(|field| field.product.name).collect();
        assert_eq!(names, ["mean"], "quantiles at no level are none");
    }

    #[test]
    fn names_settings_and_words_tell_products_apart() {
        let distinct = |words: Vec<&str>| {
            let unique: std::collections::BTreeSet<_> = words.iter().collect();
            assert_eq!(unique.len(), words.len(), "{words:?}");
        };
        distinct(ALL.iter().map(|product| product.name).collect());
        distinct(ALL.iter().map(|product| product.file.name).collect());
        distinct(ALL.iter().filter_map(|product| product.tiles.as_ref()).map(|tiles| tiles.word).collect());
        distinct(topics().iter().map(|topic| topic.setting).collect());
        distinct(settings().iter().map(|setting| setting.name).collect());
    }

    proptest! {
        #[test]
        fn quantiles_are_ordered_and_probabilities_fall(given in prop::collection::vec(0f32..20.0, 5..40)) {
            let ensemble = ensemble(5, &given);
            let fields = of_ensemble(&ensemble, &all());
            let (mean, q, e) = (values(&fields, &MEAN), values(&fields, &QUANTILES), values(&fields, &PROBABILITIES));
            let cells = ensemble.values.dim().3;
            for cell in 0..cells {
                prop_assert!(q[[0, 0, 0, cell]] <= q[[1, 0, 0, cell]] && q[[1, 0, 0, cell]] <= q[[2, 0, 0, cell]]);
                prop_assert!(e[[0, 0, 0, cell]] >= e[[1, 0, 0, cell]] && e[[1, 0, 0, cell]] >= e[[2, 0, 0, cell]]);
                let mut members: Vec<f32> = ensemble.values.iter().skip(cell).step_by(cells).copied().collect();
                prop_assert_eq!(e[[1, 0, 0, cell]], members.iter().filter(|v| **v >= 1.0).count() as f32 / 5.0);
                let sum: f64 = members.iter().map(|v| f64::from(*v)).sum();
                prop_assert_eq!(mean[[0, 0, 0, cell]], (sum / 5.0) as f32);
                members.sort_by(f32::total_cmp);
                prop_assert_eq!(q[[1, 0, 0, cell]], members[2]);
            }
        }

        #[test]
        fn a_product_is_the_same_alone_and_beside_others(given in prop::collection::vec(
            prop_oneof![3 => 0f32..20.0, 2 => Just(0.0), 1 => Just(-0.0), 1 => Just(f32::NAN)], 6..60)) {
            let ensemble = ensemble(6, &given);
            let together = of_ensemble(&ensemble, &all());
            for product in [&MEAN, &QUANTILES, &PROBABILITIES] {
                let alone = of_ensemble(&ensemble, &ProductsConfig::new([product], |s| all().levels(s).to_vec()));
                let bits = |fields| values(fields, product).iter().map(|v: &f32| v.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&together), bits(&alone), "{:?}", product);
            }
        }
    }
}
