//! Checkpoints as they were written before the model had a description of its own: one flat object with how the model is
//! trained and a part of what it is, the dynamical operator's share under `ratio`. They are read and never written.

use serde_json::{Map, Value};

use super::config::Task;
use crate::ModelSpec;
use crate::diffusion::{MissingGuess, ProcessConfig};

/// What such a checkpoint calls its format.
pub(super) const FORMAT: &str = "squall-checkpoint-1";

/// Of the model, what such a checkpoint says under the name that [`ModelSpec`] has for it.
const OF_MODEL: [&str; 7] = ["context", "leads", "transforms", "first_guess", "residual", "target", "network"];

/// The task of such a checkpoint; what it does not say of the model is that of `asked`.
pub(super) fn task(text: &str, asked: &ModelSpec) -> Result<Task, serde_json::Error> {
    let mut training: Map<String, Value> = serde_json::from_str(text)?;
    let ratio = training.remove("ratio").map_or(Ok(0.0), serde_json::from_value)?;
    let mut model: Map<String, Value> = serde_json::from_value(serde_json::to_value(asked)?)?;
    model.extend(OF_MODEL.iter().filter_map(|key| training.remove_entry(*key)));
    model.insert("process".to_owned(), serde_json::to_value(ProcessConfig::of_ratio(ratio))?);
    // What there was no other choice of, whatever is asked for now.
    model.insert("missing_guess".to_owned(), serde_json::to_value(MissingGuess::Zero)?);
    model.insert("extra".to_owned(), Value::Array(Vec::new()));
    let (model, training) = (serde_json::from_value(model.into())?, serde_json::from_value(training.into())?);
    Ok(Task { model, training })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_checkpoint_says_what_it_knew_and_the_rest_is_what_is_asked_for() {
        let asked: ModelSpec = serde_json::from_value(serde_json::json!({
            "name": "asked", "variables": ["eastward_wind"], "transforms": [{"scale": {"by": 10.0}}],
            "cadence_seconds": 3600, "spacing_m": [1000.0, 2000.0], "context": 9, "leads": 9,
            "tiling": {"tile": [32, 32], "overlap": 8}, "missing_guess": "masked", "extra": [{"lead_time": {}}],
            "network": {"in_channels": 4, "out_channels": 1, "channels": 64, "mult": [1], "res_blocks": 1,
                "attention": [], "heads": 2}
        }))
        .unwrap();
        let text = r#"{"seed": 2, "steps": 1500, "batch": 4, "accumulate": 1, "precision": "bf16", "context": 4, "leads": 8,
            "transforms": [{"scale": {"by": 30.0}}], "first_guess": "persistence",
            "residual": {"factor": [0.1], "local": null, "limit": 8.0}, "ratio": 0.5, "target": "velocity",
            "condition_dropout": 0.0, "ema": 0.995, "augment": false,
            "network": {"in_channels": 4, "out_channels": 1, "channels": 32, "mult": [1, 2], "res_blocks": 1,
                "attention": [], "heads": 4, "patch": 4}}"#;
        let Task { model, training } = task(text, &asked).unwrap();
        assert_eq!((training.seed, training.steps, training.ema), (2, 1500, 0.995));
        assert_eq!((model.context, model.leads, model.network.channels), (4, 8, 32));
        assert_eq!(model.process, ProcessConfig::Dynamical { ratio: 0.5 });
        assert_eq!((model.missing_guess, model.extra.len()), (MissingGuess::Zero, 0));
        assert_eq!(model.residual.map(|r| r.factor), Some(vec![0.1]));
        assert_eq!((model.name.as_str(), model.cadence_seconds, model.tiling), ("asked", 3600, asked.tiling));
        assert!(task(&text.replace("seed", "sied"), &asked).unwrap_err().to_string().contains("sied"));
    }
}
