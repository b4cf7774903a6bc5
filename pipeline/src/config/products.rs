//! What a stream publishes and where: as the list of products has it, name by name and setting by setting.

use std::collections::BTreeMap;
use std::sync::Arc;

use figment::value::{Dict, Value};
use serde::{Serialize, Serializer};
use squall_operators::products::{self, LevelSetting, Product, ProductsConfig};

use super::check;
use super::section::Section;

/// Products of a stream, and their levels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamProducts {
    /// What is written and published.
    #[serde(rename = "products", serialize_with = "as_names")]
    pub wanted: Vec<&'static Product>,
    /// Levels by the name of their [setting](LevelSetting), ascending; all settings are there.
    #[serde(flatten)]
    pub levels: BTreeMap<&'static str, Vec<f32>>,
}

/// Topics of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamTopics {
    /// One JSON record for each forecast.
    pub index: Arc<str>,
    /// Packed fields, by the setting of their [role](products::TopicRole); all roles are there.
    #[serde(flatten)]
    pub fields: BTreeMap<&'static str, Arc<str>>,
}

impl StreamTopics {
    /// The topic of a setting.
    pub(super) fn named(&self, setting: &str) -> Option<&str> {
        let topic = if setting == "index" { Some(&self.index) } else { self.fields.get(setting) };
        topic.map(|topic| &**topic)
    }
}

impl StreamProducts {
    /// Whether a product is wanted.
    pub fn wants(&self, product: &Product) -> bool {
        self.wanted.contains(&product)
    }

    /// The levels of a product, wanted or not; none if it has no setting for them.
    pub fn levels_of(&self, product: &Product) -> &[f32] {
        product.setting().and_then(|setting| self.levels.get(setting.name)).map_or(&[], Vec::as_slice)
    }

    /// What is made of a forecast.
    pub fn to_make(&self) -> ProductsConfig {
        ProductsConfig::new(self.wanted.iter().copied(), |setting| self.levels[setting.name].clone())
    }
}

/// Lays the products' own defaults under a stream's.
pub(super) fn add_defaults(stream: &mut Dict) {
    let names: Vec<&str> = asked_for().map(|product| product.name).collect();
    stream.insert("products".to_owned(), names.into());
    for setting in products::settings() {
        stream.insert(setting.name.to_owned(), setting.default.to_vec().into());
    }
    if let Some(Value::Dict(_, topics)) = stream.get_mut("topics") {
        topics.extend(products::topics().into_iter().map(|role| (role.setting.to_owned(), role.default.into())));
    }
}

fn asked_for() -> impl Iterator<Item = &'static Product> {
    products::ALL.into_iter().filter(|product| product.is_asked_for())
}

pub(super) fn products(section: &Section<'_>) -> Option<StreamProducts> {
    let levels = products::settings().into_iter().map(|setting| Some((setting.name, levels(section, setting)?)));
    let levels: Vec<_> = levels.collect();
    let wanted = wanted(section)?;
    let levels: BTreeMap<_, _> = levels.into_iter().collect::<Option<_>>()?;
    let products = StreamProducts { wanted, levels };
    for product in &products.wanted {
        if let Some(setting) = product.setting().filter(|setting| products.levels[setting.name].is_empty()) {
            let (name, key) = (product.name, setting.name);
            section.fault(key, format!("{name} are among the products: expected {key} = [...]"));
        }
    }
    Some(products)
}

fn levels(section: &Section<'_>, setting: &LevelSetting) -> Option<Vec<f32>> {
    let levels = section.numbers(setting.name)?;
    check::ascending(section, setting.name, &levels);
    if let Some((lowest, highest)) = setting.between
        && let Some(outside) = levels.iter().find(|level| !(lowest < **level && **level < highest))
    {
        section.fault(setting.name, format!("expected values between {lowest} and {highest}, got {outside}"));
    }
    Some(levels)
}

fn wanted(section: &Section<'_>) -> Option<Vec<&'static Product>> {
    let choices: Vec<_> = asked_for().map(|product| (product.name, product)).collect();
    let texts = section.texts("products")?;
    let chosen: Vec<_> = texts.iter().map(|text| section.chosen("products", text, &choices)).collect();
    let mut wanted = chosen.into_iter().collect::<Option<Vec<_>>>()?;
    wanted.sort_unstable_by_key(|product| choices.iter().position(|(name, _)| *name == product.name));
    wanted.dedup();
    if wanted.is_empty() {
        section.fault("products", "expected at least one product");
    }
    Some(wanted)
}

/// The topics of a stream; `topic` reads one.
pub(super) fn topics(
    section: &Section<'_>,
    topic: impl Fn(&Section<'_>, &str) -> Option<Arc<str>>,
) -> Option<StreamTopics> {
    let index = topic(section, "index");
    let fields = products::topics().into_iter().map(|role| Some((role.setting, topic(section, role.setting)?)));
    let fields: Vec<_> = fields.collect();
    section.finish();
    Some(StreamTopics { index: index?, fields: fields.into_iter().collect::<Option<_>>()? })
}

fn as_names<S: Serializer>(products: &[&'static Product], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(products.iter().map(|product| product.name))
}
