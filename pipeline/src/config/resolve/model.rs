//! What makes a stream's forecasts, with settings of its own.

use serde::Deserialize;
use squall_models::baselines::{Baseline, NAMES};
use squall_models::diffusion::Options;

use crate::config::fault::one_of;
use crate::config::resolved::ModelConfig;
use crate::config::section::Section;

/// The model of a stream that runs on a device.
pub(super) fn model(section: &Section<'_>, device: Option<&str>) -> Option<ModelConfig> {
    let (name, file) = (section.optional_text("name"), section.optional_text("file"));
    match (name, file) {
        _ if !section.is_given() => {
            section.fault("", "expected { name = \"extrapolation\" } or { file = \"....safetensors\" }");
            None
        }
        (Some(name), None) => named(section, &name).map(ModelConfig::Named),
        (None, Some(file)) => trained(section, &file, device),
        (None, None) => {
            section.fault("", "expected name = \"...\" or file = \"...\"");
            None
        }
        (Some(_), Some(_)) => {
            section.fault("", "expected either a name or a file, got both");
            None
        }
    }
}

fn named(section: &Section<'_>, name: &str) -> Option<Baseline> {
    if !NAMES.contains(&name) {
        section.fault("name", one_of(name, NAMES.into_iter()));
        return None;
    }
    let baseline = section.rest(|settings| Baseline::read(name, settings))?;
    for (setting, reason) in baseline.faults() {
        section.fault(&setting, reason);
    }
    Some(baseline)
}

fn trained(section: &Section<'_>, file: &str, device: Option<&str>) -> Option<ModelConfig> {
    let watch = section.boolean("watch");
    let options = section.rest(|settings| Options::deserialize(settings));
    let Some(found) = section.context.existing(file) else {
        section.fault("file", format!("there is no file {file} here or beside the configuration"));
        return None;
    };
    Some(ModelConfig::File { file: found, watch, options: Options { device: device?.to_owned(), ..options? } })
}
