//! Diffusion models as forecasters: a weights file in, ensembles out.
//!
//! A member is a function of the model's digest, the stream, the issue time and its number. Its noise is addressed by
//! them and by position, batches have one fixed shape, and on a CPU hold one tile unless told otherwise; so a member
//! does not change with the size of the ensemble, with other requests or with a restart.

use std::path::Path;

use ndarray::{Array3, Array4, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use squall_fields::random::Philox;
use squall_fields::{Cadence, Ensemble, Variable};
use tch::Tensor;

use super::denoiser::{Condition, NetworkDenoiser};
use super::foresight;
use super::guidance::{Fields, Guidance, Undo};
use super::noise;
use super::process::Process;
use super::sampler::{Sample, Sampler, SamplerConfig};
use super::tiles::{Tiled, Tiling};
use crate::baselines::Steps;
use crate::device::{ComputeDevice, Precision};
use crate::weights::{Metadata, Model};
use crate::{Context, Coordinates, Forecaster, ModelError, ModelSpec, Prediction, Request};

mod conditioning;

use conditioning::{Prepared, Start};

/// How a model is run, as far as its file leaves it open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// `cpu`, `cuda`, `cuda:1`. Who runs the model says it, not who describes it: it is neither written nor read.
    #[serde(skip)]
    pub device: String,
    /// Type that the network computes in.
    pub precision: Precision,
    /// Sample otherwise than the file says. Part of the digest.
    pub sampler: Option<SamplerConfig>,
    /// Cover domains otherwise than the file says. Part of the digest.
    pub tiling: Option<Tiling>,
    /// Tiles that pass through the network together; 0 chooses 1 on a CPU and 8 on a GPU.
    pub batch: usize,
}

impl Default for Options {
    fn default() -> Self {
        let device = "cpu".to_owned();
        Self { device, precision: Precision::Auto, sampler: None, tiling: None, batch: 0 }
    }
}

/// Opens a weights file as a forecaster on the CPU.
///
/// # Errors
/// As [`DiffusionForecaster::open`].
pub fn open(path: &Path) -> Result<Box<dyn Forecaster>, ModelError> {
    Ok(Box::new(DiffusionForecaster::open(path, &Options::default())?))
}

/// A diffusion model, ready to forecast.
#[derive(Debug)]
pub struct DiffusionForecaster {
    model: Model,
    sampler: Sampler,
    tiling: Tiling,
    batch: usize,
    device: ComputeDevice,
    digest: String,
    /// Whether members of several requests share batches, where their domains have one shape.
    mixes: bool,
    /// Sides of domains that it will be asked about, as far as streams have said.
    expected: Vec<(usize, usize)>,
    warm: bool,
}

/// A request that is being sampled.
struct Open<'a> {
    request: &'a Request,
    /// Steps of the cadence, from 0, of each lead that is asked for.
    leads: Vec<usize>,
    prepared: Prepared,
    ensembles: Vec<Ensemble>,
    /// Sum over the members so far.
    precision: Option<Tensor>,
}

/// A request on its way.
enum Plan<'a> {
    Done(Result<Prediction, ModelError>),
    Sample(Box<Open<'a>>),
}

impl<'a> Plan<'a> {
    fn open(&self) -> Option<&Open<'a>> {
        match self {
            Self::Done(_) => None,
            Self::Sample(open) => Some(open),
        }
    }
}

/// One member of one request.
#[derive(Clone, Copy)]
struct Member {
    plan: usize,
    number: u32,
}

impl DiffusionForecaster {
    /// Opens a weights file on a device.
    ///
    /// # Errors
    /// [`ModelError::File`] if it is no model; [`ModelError::Device`] if there is no such device.
    pub fn open(path: &Path, options: &Options) -> Result<Self, ModelError> {
        let device = ComputeDevice::select(&options.device, options.precision)?;
        Ok(Self::new(Model::load(path, device)?, device, options))
    }

    /// From a model that is loaded.
    pub fn new(model: Model, device: ComputeDevice, options: &Options) -> Self {
        let spec = &model.metadata.spec;
        let process = Process::new(spec.process).with_target(spec.target);
        let config = options.sampler.clone().unwrap_or_else(|| spec.sampler.clone());
        let batch = match options.batch {
            0 if device.device.is_cuda() => 8,
            0 => 1,
            batch => batch,
        };
        let digest = match (&options.sampler, options.tiling) {
            (None, None) => model.digest.clone(),
            otherwise => {
                let text = serde_json::to_string(&otherwise).expect("numbers and names have a JSON form");
                hex::encode(Sha256::new().chain_update(&model.digest).chain_update(text).finalize())
            }
        };
        // Members that start from those of another model are of both.
        let digest = match spec.first_guess.is_of_members() {
            true => hex::encode(Sha256::new().chain_update(digest).chain_update(Steps::default().digest()).finalize()),
            false => digest,
        };
        let tiling = options.tiling.unwrap_or(spec.tiling);
        let mixes = device.device.is_cuda();
        let (sampler, expected) = (Sampler { process, config }, Vec::new());
        Self { sampler, tiling, batch, device, digest, model, mixes, expected, warm: false }
    }

    /// What its file says about it.
    pub fn metadata(&self) -> &Metadata {
        &self.model.metadata
    }

    fn spec(&self) -> &ModelSpec {
        &self.model.metadata.spec
    }

    /// The tiles of a domain.
    fn tiles(&self, (rows, columns): (usize, usize)) -> Tiling {
        self.tiling.fitted(rows, columns, self.spec().stride())
    }

    /// Rows and columns of the tiles that the network will see: those of domains that it knows of, and a whole one.
    fn tile_sizes(&self) -> Vec<(usize, usize)> {
        let cell = self.model.autoencoder.as_ref().map_or(1, |autoencoder| autoencoder.config().stride());
        let cells = |(rows, columns): &(usize, usize)| (rows.div_ceil(cell), columns.div_ceil(cell));
        let mut sizes: Vec<_> = self.expected.iter().map(|shape| self.tiles(cells(shape)).tile).collect();
        sizes.push(self.tiling.tile);
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Passes zeros through the networks as a forecast would, in tiles of that size.
    fn pass(&self, (rows, columns): (usize, usize)) {
        let (spec, config, device) = (self.spec(), &self.sampler.config, self.device.device);
        let zeros = |samples: usize, channels: i64| {
            let size = [samples as i64, spec.diffused() as i64, channels, rows as i64, columns as i64];
            Tensor::zeros(size, (tch::Kind::Float, device))
        };
        if let Some(predictor) = &self.model.predictor {
            let channels = zeros(self.batch, predictor.config().in_channels);
            let _ = foresight::of(predictor, &Condition { channels });
        }
        // A guided step asks with and without the condition at once.
        let pairs = matches!(config.guidance, Guidance::Precision(_)).then_some(2 * self.batch);
        for samples in [self.batch].into_iter().chain(pairs).filter(|_| !config.mean) {
            let steps = super::process::step_tensor(&vec![981; samples], device);
            let _ = self.model.network.forward(&zeros(samples, spec.network.in_channels), &steps);
        }
    }

    /// Answers requests together.
    fn answer(&self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        let mut plans: Vec<Plan<'_>> = requests.iter().map(|request| self.plan(request)).collect();
        let mut work: Vec<Member> = Vec::new();
        for (index, plan) in plans.iter().enumerate() {
            if let Plan::Sample(open) = plan {
                work.extend((0..open.request.members as u32).map(|number| Member { plan: index, number }));
            }
        }
        let domain = |member: &Member| plans[member.plan].open().map(|open| (open.prepared.domain, open.request.steps));
        work.sort_by_key(domain);
        // On a CPU with several threads a sample's last bits depend on its place in the batch. There each request has
        // batches of its own, so that a member always has the same place.
        let together = |a: &Member, b: &Member| if self.mixes { domain(a) == domain(b) } else { a.plan == b.plan };
        let groups: Vec<&[Member]> = work.chunk_by(together).flat_map(|c| c.chunks(self.batch)).collect();
        for group in groups {
            let start =
                |member: &Member| Some(self.start(&plans[member.plan].open()?.prepared, member.number as usize));
            let starts: Vec<Start> = group.iter().filter_map(start).collect();
            let sample = self.sample(&plans, group, &starts);
            for (i, (member, start)) in group.iter().zip(&starts).enumerate() {
                if let Plan::Sample(open) = &mut plans[member.plan] {
                    self.keep(open, start, &sample.at(i as i64), member.number as usize);
                }
            }
        }
        plans.into_iter().map(|plan| self.finish(plan)).collect()
    }

    /// What must be sampled for a request, if anything.
    fn plan<'a>(&self, request: &'a Request) -> Plan<'a> {
        let open = || {
            let leads = self.lead_indices(request)?;
            let frames = self.frames(&request.window)?;
            if self.is_dry(&frames) {
                return Ok(Plan::Done(Ok(self.dry(&frames, leads.len(), request.members))));
            }
            let prepared = self.prepare(request, frames)?;
            let ensembles = self.empty(&prepared, leads.len(), request.members);
            Ok(Plan::Sample(Box::new(Open { request, leads, prepared, ensembles, precision: None })))
        };
        open().unwrap_or_else(|error| Plan::Done(Err(error)))
    }

    /// Takes one member's sample.
    fn keep(&self, open: &mut Open<'_>, start: &Start, sample: &Sample, member: usize) {
        let values = self.physical(&open.prepared, start, &sample.frames).get(0);
        self.write(&open.prepared, &values, &open.leads, &mut open.ensembles, member);
        // Summed member by member, so that grouping does not change the order.
        if let Some(map) = sample.precision.as_ref().map(|p| p.get(0)) {
            open.precision = Some(match open.precision.take() {
                Some(sum) => sum + map,
                None => map,
            });
        }
    }

    fn finish(&self, plan: Plan<'_>) -> Result<Prediction, ModelError> {
        match plan {
            Plan::Done(answer) => answer,
            Plan::Sample(open) => {
                let Open { request, leads, prepared, ensembles, precision } = *open;
                let precision =
                    precision.map(|sum| self.precision_map(&prepared, sum / request.members as f64, &leads));
                Ok(Prediction { ensembles, precision })
            }
        }
    }

    /// Samples members whose domains have one shape and whose requests ask for as many steps.
    fn sample(&self, plans: &[Plan<'_>], members: &[Member], starts: &[Start]) -> Sample {
        let spec = self.spec();
        let mut sampler = self.sampler.clone();
        if let Some(steps) = plans[members[0].plan].open().and_then(|open| open.request.steps) {
            sampler.config.solver.steps = sampler.config.solver.steps.min(steps.max(1));
        }
        let one = members.iter().all(|member| member.plan == members[0].plan) && !spec.first_guess.is_of_members();
        let condition = if one {
            starts[0].condition.repeated(members.len() as i64)
        } else {
            let channels: Vec<&Tensor> = starts.iter().map(|start| &start.condition.channels).collect();
            Condition { channels: Tensor::cat(&channels, 0) }
        };
        if let (true, Some(predictor)) = (sampler.config.mean, &self.spec().predictor) {
            // What it says stands last.
            let said = foresight::channels(predictor);
            let from = condition.channels.size()[2] - said;
            let frames = foresight::mean(predictor, &condition.channels.narrow(2, from, said));
            return Sample { frames, precision: None };
        }
        let channels = spec.network.out_channels as usize;
        let noise_of = |member: &Member| {
            let Open { request, prepared, .. } = plans[member.plan].open()?;
            let issue_time = request.window.issue_time;
            let random = Philox::of_member(&self.digest, &request.stream, issue_time, member.number, "noise");
            let (rows, columns) = prepared.domain;
            let size = Philox::of_member(&self.digest, &request.stream, issue_time, member.number, "noise-factor");
            let factor = self.sampler.process.noise_factor(&size, 0);
            let noise = noise::field_on(&random, [spec.diffused(), channels, rows, columns], self.device.device);
            let noise = if factor == 1.0 { noise } else { noise * factor };
            Some((noise, prepared.domain))
        };
        let (noise, domains): (Vec<Tensor>, Vec<_>) = members.iter().filter_map(noise_of).unzip();
        let noise = Tensor::stack(&noise, 0);
        let denoiser = NetworkDenoiser { network: &self.model.network, process: &sampler.process };
        let denoiser = Tiled::new(denoiser, self.tiles(domains[0]), self.batch);
        sampler.sample_fields(&denoiser, &condition, &noise, &self.fields(plans, members, starts))
    }

    /// How the clips of members are read as forecasts.
    fn fields(&self, plans: &[Plan<'_>], members: &[Member], starts: &[Start]) -> Fields {
        let prepared: Vec<&Prepared> =
            members.iter().filter_map(|member| Some(&plans[member.plan].open()?.prepared)).collect();
        let stack = |of: &dyn Fn(&Prepared, &Start) -> Option<Tensor>| {
            let parts: Option<Vec<Tensor>> = prepared.iter().zip(starts).map(|(p, start)| of(p, start)).collect();
            parts.map(|parts| Tensor::cat(&parts, 0))
        };
        let padded =
            |prepared: &Prepared, start: &Start| start.guess.as_ref().map(|guess| prepared.pad(guess, f64::NAN));
        let undo = self.spec().residual.as_ref().zip(stack(&padded));
        Fields {
            past: self.spec().past() as i64,
            undo: undo.map(|(residual, guess)| Undo::new(residual, &guess)),
            known: stack(&|prepared, _| Some(prepared.known.shallow_clone())),
        }
    }

    /// Transformed future frames `[member, lead, channel, y, x]` of the request's own cells, on the CPU.
    fn physical(&self, prepared: &Prepared, start: &Start, frames: &Tensor) -> Tensor {
        let spec = self.spec();
        let future = frames.narrow(1, spec.past() as i64, spec.leads as i64);
        let future = self.space().decode(&future);
        let future = future.narrow(3, 0, prepared.rows as i64).narrow(4, 0, prepared.columns as i64);
        let values = match (&spec.residual, &start.guess) {
            (Some(residual), Some(guess)) => residual.inverse(&future, guess),
            _ => future,
        };
        values.to_device(tch::Device::Cpu)
    }

    fn empty(&self, prepared: &Prepared, leads: usize, members: usize) -> Vec<Ensemble> {
        let shape = (members, leads, prepared.rows, prepared.columns);
        let of = |variable: &Variable| Ensemble { variable: *variable, values: Array4::zeros(shape) };
        self.spec().variables.iter().map(of).collect()
    }

    /// Writes one member's transformed frames `[lead, channel, y, x]` in the units of the variables.
    fn write(&self, prepared: &Prepared, frames: &Tensor, leads: &[usize], ensembles: &mut [Ensemble], member: usize) {
        for (channel, (ensemble, transform)) in ensembles.iter_mut().zip(&self.spec().transforms).enumerate() {
            let mut out = ensemble.values.index_axis_mut(Axis(0), member);
            for (mut plane, lead) in out.outer_iter_mut().zip(leads) {
                let field = frames.get(*lead as i64).get(channel as i64).contiguous();
                let cells = plane.as_slice_mut().expect("a plane of an array in standard order");
                field.copy_data(cells, cells.len());
                cells.par_iter_mut().zip(&prepared.missing).for_each(|(v, missing)| {
                    *v = if *missing { f32::NAN } else { transform.inverse(*v) };
                });
            }
        }
    }

    /// `[lead, y, x]` of the domain to that of the request's cells.
    fn precision_map(&self, prepared: &Prepared, map: Tensor, leads: &[usize]) -> Array3<f32> {
        let map = self.space().spread(&map);
        let map = map.narrow(1, 0, prepared.rows as i64).narrow(2, 0, prepared.columns as i64);
        let mut out = Array3::zeros((leads.len(), prepared.rows, prepared.columns));
        for (mut plane, lead) in out.outer_iter_mut().zip(leads) {
            let field = map.get(*lead as i64).to_device(tch::Device::Cpu).contiguous();
            let cells = plane.as_slice_mut().expect("a plane of an array in standard order");
            field.copy_data(cells, cells.len());
            cells.iter_mut().zip(&prepared.missing).filter(|(_, m)| **m).for_each(|(v, _)| *v = f32::NAN);
        }
        out
    }
}

impl Forecaster for DiffusionForecaster {
    fn name(&self) -> &str {
        &self.spec().name
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn coordinates(&self) -> Coordinates {
        let spec = self.spec();
        Coordinates {
            variables: vec![spec.inputs()],
            cadence: Cadence::every_seconds(spec.cadence_seconds),
            spacing_m: Some(spec.spacing_m),
            context_frames: spec.context,
            max_leads: Some(spec.leads),
            min_shape: (1, 1),
            max_members: None,
        }
    }

    fn device(&self) -> String {
        self.device.describe()
    }

    fn repeats_members(&self) -> bool {
        self.sampler.config.mean && !self.spec().first_guess.is_of_members()
    }

    fn steps(&self) -> Option<usize> {
        // A mean is asked for once.
        (!self.sampler.config.mean).then_some(self.sampler.config.solver.steps)
    }

    fn prepare_for(&mut self, context: &Context) {
        self.expected.extend(context.grid.as_ref().map(|grid| grid.shape()));
    }

    /// Passes zeros through the networks once for each shape of tile, so that the first request does not wait for kernels to be
    /// chosen.
    fn warm_up(&mut self) {
        if std::mem::replace(&mut self.warm, true) {
            return;
        }
        tch::no_grad(|| self.tile_sizes().into_iter().for_each(|tile| self.pass(tile)));
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        // Of this thread alone, hence here: the caller may run on any.
        tch::no_grad(|| self.answer(requests))
    }
}

#[cfg(test)]
mod tests;
