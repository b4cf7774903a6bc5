//! A weights file opened: forecasts of series.

use std::path::Path;

use ndarray::Array2;
use squall_fields::random::Philox;
use squall_fields::{IssueTime, Quantity};
use tch::{Device, Kind, Tensor};

use super::spec::least_value;
use super::{InPainting, Mlp, Scale, SeriesMetadata, SeriesSpec, file};
use crate::ModelError;
use crate::diffusion::{Instant, Process, ProcessConfig};

/// Samples that pass through the network together.
const TOGETHER: usize = 4096;

/// What is known of a series, and who asks.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// Name of the place, by which the noise of its members is drawn.
    pub place: &'a str,
    /// When the newest value was valid.
    pub issue_time: IssueTime,
    /// `context` values, the newest last, in the unit of the quantity; NaN where missing, which is filled in, too.
    pub past: &'a [f32],
}

/// A model of series on a device.
#[derive(Debug)]
pub struct SeriesModel {
    /// What its file says about itself.
    pub metadata: SeriesMetadata,
    /// SHA-256 of the file, in hex.
    pub digest: String,
    /// How it is sampled: at first as the file says.
    pub sampler: InPainting,
    network: Mlp,
    process: Process,
    device: Device,
}

/// How series of a model are noised.
pub(super) fn process(spec: &SeriesSpec) -> Process {
    Process::new(ProcessConfig::Plain {}).with_target(spec.target)
}

impl SeriesModel {
    /// Opens a file on a device.
    ///
    /// # Errors
    /// [`ModelError::File`] if it cannot be read or is no model of series.
    pub fn open(path: &Path, device: Device) -> Result<Self, ModelError> {
        let (metadata, digest, network) = file::load(path, device)?;
        let (process, sampler) = (process(&metadata.spec), metadata.spec.sampler);
        Ok(Self { metadata, digest, sampler, network, process, device })
    }

    /// Members `[member, lead]` of the future of each series, of the quantity that they are of. A member depends on its number, the
    /// place, the issue time and what is known alone.
    ///
    /// # Panics
    /// If a past has not `context` values.
    pub fn forecast(&self, prompts: &[Prompt<'_>], quantity: Quantity, members: usize) -> Vec<Array2<f32>> {
        let together = (TOGETHER / members.max(1)).max(1);
        prompts.chunks(together).flat_map(|part| self.forecast_part(part, quantity, members)).collect()
    }

    fn forecast_part(&self, prompts: &[Prompt<'_>], quantity: Quantity, members: usize) -> Vec<Array2<f32>> {
        let SeriesSpec { context, leads, least_scale, .. } = self.metadata.spec;
        let scales: Vec<Scale> = prompts.iter().map(|prompt| Scale::of(prompt.past, least_scale)).collect();
        let (mut known, mut randoms) = (Vec::new(), Vec::new());
        for (prompt, scale) in prompts.iter().zip(&scales) {
            assert_eq!(prompt.past.len(), context, "as many values as the model has seen");
            for member in 0..members as u32 {
                known.extend(prompt.past.iter().map(|value| scale.apply(*value)));
                known.extend(std::iter::repeat_n(f32::NAN, leads));
                randoms.push(Philox::of_member(&self.digest, prompt.place, prompt.issue_time, member, "series"));
            }
        }
        let shape = [randoms.len() as i64, (context + leads) as i64];
        let known = Tensor::from_slice(&known).reshape(shape).to_device(self.device);
        let noise = |x: &Tensor, at: &Instant| self.noise(x, at);
        let samples = self.sampler.sample(&self.process, &noise, &known, &randoms);
        let future = samples.narrow(1, context as i64, leads as i64).to_device(Device::Cpu).contiguous();
        let mut values = vec![0f32; randoms.len() * leads];
        let count = values.len();
        future.copy_data(&mut values, count);
        let least = least_value(quantity).unwrap_or(f32::NEG_INFINITY);
        let of_prompt = |(place, scale): (usize, &Scale)| {
            Array2::from_shape_fn((members, leads), |(member, lead)| {
                scale.undo(values[(place * members + member) * leads + lead]).max(least)
            })
        };
        scales.iter().enumerate().map(of_prompt).collect()
    }

    /// The noise of states `[sample, time]` at an instant.
    fn noise(&self, x: &Tensor, at: &Instant) -> Tensor {
        let step = at.step.unwrap_or(0) as i64;
        let steps = Tensor::full([x.size()[0]], step, (Kind::Int64, x.device()));
        self.process.noise_of(self.network.forward(x, &steps), x, at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use squall_fields::Chain;
    use tch::nn;

    use super::*;
    use crate::diffusion::Target;
    use crate::network::init;
    use crate::series::MlpConfig;
    use crate::weights;

    fn spec() -> SeriesSpec {
        SeriesSpec {
            name: "test".to_owned(),
            quantity: Quantity::WindSpeed,
            cadence_seconds: 3600,
            context: 6,
            leads: 3,
            least_scale: 0.5,
            network: MlpConfig { width: 16, layers: 1 },
            target: Target::Velocity,
            sampler: InPainting { steps: 10, repeats: 2 },
        }
    }

    fn saved(path: &Path) -> SeriesMetadata {
        let store = nn::VarStore::new(Device::Cpu);
        let spec = spec();
        Mlp::new(&store.root(), spec.length(), spec.network);
        init::initialise(&store, 3);
        let tensors: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
        let training_data = vec!["a from b".to_owned()];
        let metadata =
            SeriesMetadata { spec, training_data, training: "10 steps".to_owned(), code_version: String::new() };
        file::save(path, &metadata, &tensors).unwrap();
        metadata
    }

    #[test]
    fn a_model_comes_back_and_forecasts_each_series_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("series.safetensors");
        let metadata = saved(&path);
        let model = SeriesModel::open(&path, Device::Cpu).unwrap();
        assert_eq!((&model.metadata.spec, &model.metadata.training_data), (&metadata.spec, &metadata.training_data));
        assert_eq!(model.digest.len(), 64);
        let pasts = [[1.0f32, 2.0, 0.5, 1.5, 0.0, 0.2], [10.0, 12.0, f32::NAN, 15.0, 11.0, 9.0]];
        let prompt = |place, past| Prompt { place, issue_time: IssueTime::from_unix_seconds(0), past };
        let both = model.forecast(&[prompt("a", &pasts[0]), prompt("b", &pasts[1])], Quantity::WindSpeed, 4);
        assert_eq!((both.len(), both[0].dim()), (2, (4, 3)));
        assert!(both.iter().flatten().all(|value| value.is_finite() && *value >= 0.0), "no speed is negative");
        let alone = model.forecast(&[prompt("b", &pasts[1])], Quantity::WindSpeed, 7).remove(0);
        let apart = both[1].iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(apart < 1e-2, "{apart}");
        let east = model.forecast(&[prompt("a", &pasts[0])], Quantity::EastwardWind, 64).remove(0);
        assert!(east.iter().any(|value| *value < 0.0), "a component may be");
    }

    #[test]
    fn the_two_kinds_of_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("series.safetensors");
        saved(&path);
        let error = weights::describe(&path).unwrap_err();
        assert!(
            Chain(&error).to_string().contains("a model of series at places (squall series forecast)"),
            "{}",
            Chain(&error)
        );
        let of_fields = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/dydiff-wind.safetensors");
        let error = SeriesModel::open(&of_fields, Device::Cpu).unwrap_err();
        assert!(Chain(&error).to_string().contains("a model of fields"), "{}", Chain(&error));
    }
}
