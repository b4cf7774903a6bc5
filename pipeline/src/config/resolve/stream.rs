//! A stream: what goes out.

use std::sync::Arc;

use super::model::model;
use super::{own_name, topic};
use crate::config::check;
use crate::config::resolved::{Product, SourceConfig, StreamConfig, StreamTopics};
use crate::config::section::Section;

/// A stream; one whose source has faults of its own is read to its end, for its other faults.
pub(super) fn stream(section: &Section<'_>, name: &str, sources: &[Arc<SourceConfig>]) -> Option<StreamConfig> {
    let own = own_name(section, name);
    let source = section.text("source");
    let window_frames = section.count("window_frames", 1..=1000);
    let (patience, horizon) = (section.duration("patience"), section.duration("horizon"));
    let (leads, members) = (section.count("leads", 1..=1000), section.count("members", 1..=10_000));
    let device = section.device("device");
    let model = model(&section.section("model"), device.as_deref());
    let deadline = section.optional_duration("deadline");
    let (thresholds, quantiles) = (section.numbers("thresholds"), section.numbers("quantiles"));
    let products = products(section);
    let topics = stream_topics(&section.section("topics"));
    section.finish();
    let parts = check::StreamParts {
        source: source.as_deref(),
        times: patience.zip(horizon),
        thresholds: thresholds.as_deref(),
        quantiles: quantiles.as_deref(),
        products: products.as_deref().unwrap_or_default(),
    };
    check::stream(section, &parts);
    let stream = StreamConfig {
        name: own?,
        source: sources.iter().find(|known| source.as_deref() == Some(&known.name))?.clone(),
        window_frames: window_frames? as usize,
        patience: patience?,
        horizon: horizon?,
        leads: leads? as usize,
        members: members? as usize,
        model: model?,
        device: device?,
        deadline,
        thresholds: thresholds?,
        quantiles: quantiles?,
        products: products?,
        topics: topics?,
    };
    check::fit(section, &stream);
    Some(stream)
}

fn products(section: &Section<'_>) -> Option<Vec<Product>> {
    let choices = Product::ALL.map(|product| (product.name(), product));
    let texts = section.texts("products")?;
    let products: Vec<_> = texts.iter().map(|text| section.chosen("products", text, &choices)).collect();
    let mut products: Vec<Product> = products.into_iter().collect::<Option<_>>()?;
    products.sort_unstable();
    products.dedup();
    if products.is_empty() {
        section.fault("products", "expected at least one product");
    }
    Some(products)
}

fn stream_topics(section: &Section<'_>) -> Option<StreamTopics> {
    let topic = |key| topic(section, key, "");
    let (index, probabilities, quantiles) = (topic("index"), topic("probabilities"), topic("quantiles"));
    section.finish();
    Some(StreamTopics { index: index?, probabilities: probabilities?, quantiles: quantiles? })
}
