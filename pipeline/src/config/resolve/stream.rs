//! A stream: what goes out.

use std::sync::Arc;

use squall_operators::infer::ladder::Rung;
use squall_operators::products::{ENSEMBLE, PROBABILITIES};

use super::model::model;
use super::{own_name, topic, topic_or};
use crate::config::resolved::{SourceConfig, StreamConfig};
use crate::config::section::Section;
use crate::config::verification::{Defaults, RolesConfig, companions, roles, verification};
use crate::config::{check, products};

/// A stream; one whose source has faults of its own is read to its end, for its other faults.
pub(super) fn stream(section: &Section<'_>, name: &str, sources: &[Arc<SourceConfig>]) -> Option<StreamConfig> {
    let own = own_name(section, name);
    let source = section.text("source");
    let window_frames = section.count("window_frames", 1..=1000);
    let (patience, horizon) = (section.duration("patience"), section.duration("horizon"));
    let (leads, members) = (section.count("leads", 1..=1000), section.count("members", 1..=10_000));
    let device = section.device("device");
    let own_model = model(&section.section("model"), device.as_deref());
    let deadline = section.optional_duration("deadline");
    let degrade = rungs(section);
    let (min_steps, min_members) = (section.count("min_steps", 1..=1000), section.count("min_members", 1..=10_000));
    let skip_older_than = section.optional_duration("skip_older_than");
    let products = products::products(section);
    let topics = products::topics(&section.section("topics"), |section, key| topic(section, key, ""));
    let companions = companions(&section.section("companions"), (members, topics.as_ref()), model, topic_or);
    let known = sources.iter().find(|known| source.as_deref() == Some(&known.name));
    let inputs = roles(&section.section("inputs"), sources, known, topic_or);
    let verification = products.as_ref().zip(horizon).and_then(|(products, horizon)| {
        let variables = known.map_or(&[][..], |source| &source.variables);
        let defaults = Defaults { variables, thresholds: products.levels_of(&PROBABILITIES), horizon };
        let table = section.section("verification");
        let is_wanted = companions.as_ref().is_some_and(|companions| !companions.is_empty())
            || inputs.as_ref().is_some_and(RolesConfig::has_truth);
        let is_given = table.is_given() || is_wanted;
        let verification = verification(&table, is_wanted, &defaults, topic_or);
        if is_given && !products.wants(&ENSEMBLE) {
            section
                .fault("products", "what is verified is read from the files: expected \"ensemble\" among the products");
        }
        verification
    });
    section.finish();
    let windows = known.map(|source| &**source).zip(window_frames);
    let parts = check::StreamParts { source: source.as_deref(), times: patience.zip(horizon), windows };
    check::stream(section, &parts);
    let stream = StreamConfig {
        name: own?,
        source: sources.iter().find(|known| source.as_deref() == Some(&known.name))?.clone(),
        window_frames: window_frames? as usize,
        patience: patience?,
        horizon: horizon?,
        leads: leads? as usize,
        members: members? as usize,
        model: own_model?,
        device: device?,
        deadline,
        degrade: degrade?,
        min_steps: min_steps? as usize,
        min_members: min_members? as usize,
        skip_older_than,
        products: products?,
        companions: companions?,
        verification: verification?,
        inputs: inputs?,
        topics: topics?,
    };
    check::fit(section, &stream);
    for (name, companion) in &stream.companions {
        check::fit(&section.section("companions").section(name), &stream.of_companion(name, companion));
    }
    Some(stream)
}

/// What is given up to keep a deadline, nothing of it twice.
fn rungs(section: &Section<'_>) -> Option<Vec<Rung>> {
    let names = section.texts("degrade")?;
    if let Some(twice) = (1..names.len()).find(|i| names[..*i].contains(&names[*i])) {
        section.fault("degrade", format!("\"{}\" is given twice", names[twice]));
    }
    let choices = Rung::ALL.map(|rung| (rung.name(), rung));
    names.iter().map(|name| section.chosen("degrade", name, &choices)).collect()
}
