//! Going on from a checkpoint: what of a configuration may have changed since.
//!
//! How long and how fast a run learns may change. What shapes the network and its data must not: another network does
//! not fit the weights, and other data silently taken from the checkpoint would not be what the file asks for.

use std::path::Path;

use serde_json::Value;
use squall_models::ModelSpec;
use squall_models::training::{Checkpoint, Task, TrainingConfig};

use crate::commands::Usage;

/// Numbers that went through text may differ in their last digit.
const ROUNDING: f64 = 1e-12;

/// The task with which a run goes on: the checkpoint's, with the steps, optimizer and average that are asked for, and
/// with what it says of its use alone: name, grid spacing, tiles and sampler.
///
/// # Errors
/// Anything else differs; every difference is named.
pub fn task(asked: &Task, checkpoint: &Checkpoint, path: &Path) -> anyhow::Result<Task> {
    let mut task = checkpoint.task.clone();
    let (steps, optimizer) = (asked.training.steps, asked.training.optimizer.clone());
    task.training = TrainingConfig { steps, optimizer, ema: asked.training.ema, ..task.training };
    let ModelSpec { name, spacing_m, tiling, sampler, .. } = asked.model.clone();
    task.model = ModelSpec { name, spacing_m, tiling, sampler, ..task.model };
    let mut wanted = asked.clone();
    if let (Some(wanted), Some(fitted)) = (&mut wanted.model.residual, &task.model.residual)
        && wanted.factor.is_empty()
    {
        wanted.factor.clone_from(&fitted.factor);
    }
    if let (Some(wanted), Some(fitted)) = (&mut wanted.model.autoencoder, &task.model.autoencoder)
        && wanted.scale == 0.0
    {
        wanted.scale = fitted.scale;
    }
    let mut found = Vec::new();
    for (name, wanted, kept) in [
        ("model", serde_json::to_value(&wanted.model)?, serde_json::to_value(&task.model)?),
        ("training", serde_json::to_value(&wanted.training)?, serde_json::to_value(&task.training)?),
    ] {
        differences(name, &wanted, &kept, &mut found);
    }
    if checkpoint.step > steps {
        found.push(format!("training.steps is {steps}, the checkpoint has done {}", checkpoint.step));
    }
    let planned = checkpoint.task.training.steps;
    if task.training.domains.is_some() && steps != planned {
        // They are shares of the steps; parted anew, heads would lose what they have learnt.
        found.push(format!("training.steps is {steps}, training.domains parted heads for {planned}"));
    }
    if (task.model.predictor.is_some() || task.model.autoencoder.is_some()) && steps != planned {
        found.push(format!("training.steps is {steps}, its stages are shares of {planned}"));
    }
    if task.training.distill.is_some() && task.model.sampler.solver != checkpoint.task.model.sampler.solver {
        found.push("model.sampler.solver has other steps than those that training.distill teaches".to_owned());
    }
    if found.is_empty() {
        return Ok(task);
    }
    Err(Usage(format!("{} is the checkpoint of another run: {}", path.display(), found.join("; "))).into())
}

/// What is trained from the weights of another model sees residuals in that model's units, unless it has some of its own.
pub fn take_scale(model: &mut ModelSpec, start: &ModelSpec) {
    if let (Some(residual), Some(known)) = (&mut model.residual, &start.residual)
        && residual.factor.is_empty()
    {
        residual.factor.clone_from(&known.factor);
    }
    if let (Some(autoencoder), Some(known)) = (&mut model.autoencoder, &start.autoencoder)
        && autoencoder.scale == 0.0
    {
        autoencoder.scale = known.scale;
    }
}

/// Where two values differ, one sentence each.
fn differences(name: &str, asked: &Value, kept: &Value, found: &mut Vec<String>) {
    match (asked, kept) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            let value = |map: &serde_json::Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or(Value::Null);
            names.for_each(|key| differences(&format!("{name}.{key}"), &value(a, key), &value(b, key), found));
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| differences(&format!("{name}[{i}]"), a, b, found));
        }
        (Value::Number(a), Value::Number(b)) if near(a.as_f64(), b.as_f64()) => {}
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{name} is {a}, the checkpoint has {b}")),
    }
}

fn near(a: Option<f64>, b: Option<f64>) -> bool {
    a.zip(b).is_some_and(|(a, b)| (a - b).abs() <= ROUNDING * a.abs().max(b.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_named_and_rounding_is_none() {
        let kept = serde_json::json!({"crop": {"size": 32, "floor": 0.02}, "mult": [1, 2], "residual": null, "x": 1});
        let mut asked = kept.clone();
        asked["crop"]["floor"] = 0.020_000_000_000_000_004.into();
        let told = |asked: &Value| {
            let mut found = Vec::new();
            differences("training", asked, &kept, &mut found);
            found
        };
        assert_eq!(told(&asked), Vec::<String>::new());
        asked["crop"]["size"] = 64.into();
        asked["mult"] = serde_json::json!([1, 2, 2]);
        asked["residual"] = "local".into();
        assert_eq!(
            told(&asked),
            [
                "training.crop.size is 64, the checkpoint has 32",
                "training.mult is [1,2,2], the checkpoint has [1,2]",
                "training.residual is \"local\", the checkpoint has null",
            ]
        );
    }
}
