//! What makes a stream's forecasts, with settings of its own.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use squall_models::baselines::{Baseline, NAMES};
use squall_models::calibration::Calibration;
use squall_models::diffusion::Options;

use crate::config::fault::{Fault, Faults, one_of};
use crate::config::layers::{Kind, Layers};
use crate::config::model::ModelConfig;
use crate::config::section::Section;

/// Files that `squall model calibrate` writes.
const CALIBRATED: Kind = Kind { defaults: "", prefix: "SQUALL_CALIBRATED__" };

/// The model of a stream that runs on a device.
pub(super) fn model(section: &Section<'_>, device: Option<&str>) -> Option<ModelConfig> {
    let calibrated = section.optional_text("calibrated");
    let Some(calibrated) = calibrated else { return base(section, device) };
    if section.optional_text("name").or(section.optional_text("file")).is_some() {
        section.fault("calibrated", "names its model by itself: leave out name and file");
    }
    let watch = section.boolean("watch");
    section.finish();
    let Some(found) = section.context.existing(&calibrated) else {
        section.fault("calibrated", format!("there is no file {calibrated} here or beside the configuration"));
        return None;
    };
    match self::calibrated(&found, device?) {
        Ok(ModelConfig::Calibrated { calibrated, base, calibration, .. }) => {
            Some(ModelConfig::Calibrated { calibrated, watch, base, calibration })
        }
        Ok(model) => Some(model),
        Err(faults) => {
            faults.0.iter().for_each(|fault| section.fault("calibrated", fault.to_string()));
            None
        }
    }
}

/// The model that a file of `squall model calibrate` names, with what was fitted for it.
///
/// # Errors
/// The file cannot be read, or everything that is wrong with it.
pub(crate) fn calibrated(path: &Path, device: &str) -> Result<ModelConfig, Faults> {
    let unreadable = |error: std::io::Error| {
        let (place, message) = (path.display().to_string(), format!("cannot be read: {error}"));
        Faults(vec![Fault { place, setting: String::new(), message }])
    };
    let layers = Layers::from_file(path).map_err(unreadable)?;
    layers.read(&CALIBRATED, |context| {
        let root = context.root();
        let base = base(&root.section("model"), Some(device));
        let calibration: Option<Calibration> = root.optional_typed("calibration");
        root.finish();
        calibration.iter().flat_map(Calibration::faults).for_each(|fault| root.fault("calibration", fault));
        Some(ModelConfig::Calibrated {
            calibrated: path.to_owned(),
            watch: None,
            base: Box::new(base?),
            calibration: calibration.map(Arc::new),
        })
    })
}

/// A model by its name or by its weights.
fn base(section: &Section<'_>, device: Option<&str>) -> Option<ModelConfig> {
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
