//! Numbers that need a network: its blocks, training, trajectories, solvers, and the autoencoder.

use std::collections::{BTreeMap, HashMap};

use squall_models::diffusion::process::step_tensor;
use squall_models::diffusion::sampler::Progress;
use squall_models::diffusion::{
    Condition, ConditionParts, Grid, Guidance, History, Method, NetworkDenoiser, Process, Sampler, SamplerConfig,
    SolverConfig,
};
use squall_models::network::config::{AUTOENCODER_PREFIX, UNET_PREFIX};
use squall_models::network::{Autoencoder, AutoencoderConfig, UNetConfig, VideoUNet, init};
use squall_models::weights::at;
use tch::{Device, Kind, Tensor, nn};

use super::fixture::{CHANNELS, Comparison};
use super::schedules::{grid, timesteps};
use super::{Size, order};

/// Of everything that the network is trained by.
const TRAINING: [&str; 3] = ["loss.", "grad.", "adamw1."];

/// A network filled by hash, with the store that holds it.
struct Filled<N> {
    store: nn::VarStore,
    network: N,
}

fn filled<N>(prefix: &str, make: impl Fn(&nn::Path) -> N) -> Filled<N> {
    let store = nn::VarStore::new(Device::Cpu);
    let network = make(&at(&store, prefix));
    init::fill_by_hash(&store);
    Filled { store, network }
}

/// Compares all that the fixture holds of the networks.
pub(crate) fn check(comparison: &mut Comparison<'_>, size: Size, process: &Process) {
    let solvers = comparison.names().any(|name| solver_of(name).is_some());
    if solvers || ["unet.", "tap.", "ddim."].iter().chain(&TRAINING).any(|prefix| comparison.wants(prefix)) {
        let config = if size == Size::Tiny { UNetConfig::tiny(CHANNELS) } else { UNetConfig::full(CHANNELS) };
        let unet = filled(UNET_PREFIX, |path| VideoUNet::new(path, &config));
        let network = Network { network: &unet.network, process, stride: config.stride() as i64 };
        if comparison.wants("unet.") || comparison.wants("tap.") {
            let result = tch::no_grad(|| network.forward(comparison));
            comparison.failed(&["unet.", "tap."], result);
        }
        comparison.group("ddim.", |comparison| network.trajectory(comparison));
        if solvers {
            network.solvers(comparison);
        }
        if TRAINING.iter().any(|prefix| comparison.wants(prefix)) {
            let result = network.training(&unet.store, comparison);
            comparison.failed(&TRAINING, result);
        }
    }
    comparison.group("vae.", |comparison| tch::no_grad(|| autoencoder(comparison, size)));
}

/// The video U-Net with the process that it belongs to.
struct Network<'a> {
    network: &'a VideoUNet,
    process: &'a Process,
    /// Rows and columns of a clip are multiples of this.
    stride: i64,
}

impl Network<'_> {
    fn forward(&self, comparison: &mut Comparison<'_>) -> Result<(), String> {
        let x = comparison.clip("unet.x_t", self.stride)?;
        let steps = step_tensor(&comparison.steps("unet.t", &x)?, Device::Cpu);
        let condition = condition(comparison, &["unet.cond", "cond"], &x)?;
        let eps = self.network.forward_tapped(&condition.join(&x), &steps, &mut |name, value| {
            comparison.compare(&format!("tap.{name}"), 1e-5, value);
        });
        comparison.compare("unet.eps", 1e-5, &folded(&eps));
        Ok(())
    }

    /// Samples with one solver from noise in y-space.
    fn sample(
        &self,
        noise: &Tensor,
        condition: &Condition,
        solver: SolverConfig,
        observe: &mut dyn FnMut(&Progress),
    ) -> Tensor {
        let config = SamplerConfig { solver, guidance: Guidance::None, mean: false };
        let sampler = Sampler { process: self.process.clone(), config };
        let denoiser = NetworkDenoiser { network: self.network, process: self.process };
        sampler.sample_observed(&denoiser, condition, noise, observe).frames
    }

    /// DDIM with as many steps as the fixture shows.
    fn trajectory(&self, comparison: &mut Comparison<'_>) -> Result<(), String> {
        let shown = ["ddim.timesteps", "ddim.traj_x", "ddim.traj_pred_x0"];
        let shown = shown.iter().find_map(|name| comparison.get(name)?.size().first().copied());
        let count = shown.map_or(50, |n| n.max(0) as usize);
        let grid = grid(count).ok_or_else(|| format!("{count} steps of DDIM; 1 to 500 were expected"))?;
        comparison.compare("ddim.timesteps", 0.0, &timesteps(&grid));
        if !["x_T", "out", "traj_x", "traj_pred_x0"].iter().any(|n| comparison.get(&format!("ddim.{n}")).is_some()) {
            return Ok(());
        }
        let noise = comparison.clip("ddim.x_T_iid", self.stride)?;
        let first = self.process.schedule.at(grid[count - 1]);
        comparison.compare("ddim.x_T", 1e-6, &folded(&self.process.to_network(&noise, &first)));
        if !["out", "traj_x", "traj_pred_x0"].iter().any(|n| comparison.get(&format!("ddim.{n}")).is_some()) {
            return Ok(());
        }
        let condition = condition(comparison, &["ddim.cond", "unet.cond", "cond"], &noise)?;
        let (mut states, mut cleans) = (Vec::new(), Vec::new());
        let solver = SolverConfig { method: Method::Ddim, grid: Grid::UniformT, steps: count };
        let out = self.sample(&noise, &condition, solver, &mut |p| {
            states.push(folded(&self.process.to_network(p.y, &p.at)));
            // The reference shows the clean frames through the operator of the next instant.
            cleans.push(folded(&self.process.to_network(p.clean, &p.at)));
        });
        comparison.compare("ddim.traj_x", 5e-5, &Tensor::stack(&states, 0));
        comparison.compare("ddim.traj_pred_x0", 5e-5, &Tensor::stack(&cleans, 0));
        comparison.compare("ddim.out", 5e-5, &folded(&out));
        Ok(())
    }

    /// Quantities named `METHOD[_]STEPS.y0`.
    fn solvers(&self, comparison: &mut Comparison<'_>) {
        let inputs = || {
            let noise = comparison.clip("y_T", self.stride)?;
            let condition = condition(comparison, &["cond", "unet.cond"], &noise)?;
            Ok((noise, condition))
        };
        let inputs: Result<(Tensor, Condition), String> = inputs();
        for (name, (method, steps)) in comparison.names().filter_map(|name| Some((name, solver_of(name)?))) {
            match &inputs {
                Ok((noise, condition)) => {
                    let solver = SolverConfig { method, grid: Grid::UniformT, steps };
                    let y = self.sample(noise, condition, solver, &mut |_| ());
                    comparison.compare(name, 5e-5, &folded(&y));
                }
                Err(reason) => comparison.cannot(name, reason),
            }
        }
    }

    fn training(&self, store: &nn::VarStore, comparison: &mut Comparison<'_>) -> Result<(), String> {
        let x = comparison.clip("loss.x_start", self.stride)?;
        let e = comparison.clip_like("loss.noise", &x)?;
        let k = comparison.steps("loss.t", &x)?;
        let noised = self.process.noised(&x, &e, &k);
        comparison.compare("loss.noise_ema", 1e-6, &folded(&noised.noise));
        comparison.compare("loss.x_noisy", 1e-6, &folded(&noised.x));
        let condition = condition(comparison, &["loss.cond", "unet.cond", "cond"], &x)?;
        let output = self.network.forward(&condition.join(&noised.x), &step_tensor(&k, Device::Cpu));
        let loss = output.mse_loss(&noised.target, tch::Reduction::Mean);
        comparison.compare("loss.value", 1e-5, &loss);
        if comparison.wants("grad.") || comparison.wants("adamw1.") || comparison.get("loss.grad_norms_f64").is_some() {
            loss.backward();
            let variables = store.variables();
            gradients(comparison, &variables);
            one_update(comparison, store, &variables);
        }
        Ok(())
    }
}

/// The clean history and the masks that go with a clip.
fn condition(comparison: &Comparison<'_>, names: &[&str], clip: &Tensor) -> Result<Condition, String> {
    let history = comparison.history(names, clip)?;
    let frames = clip.size()[1];
    Ok(ConditionParts { history: &history, frames, first_guess: None, extra: None, seen: History::Frames }.assemble())
}

/// The name that the reference gives to a parameter of the network.
fn short(name: &str) -> &str {
    name.trim_start_matches(UNET_PREFIX).trim_start_matches('.')
}

fn gradients(comparison: &mut Comparison<'_>, variables: &HashMap<String, Tensor>) {
    let gradients: BTreeMap<&str, Tensor> = variables.iter().map(|(n, v)| (short(n), v.grad())).collect();
    let mut names: Vec<&str> = gradients.keys().copied().collect();
    names.sort_by_key(|name| order::key(name));
    let norms = names.iter().map(|name| gradients[name].to_kind(Kind::Double).norm().double_value(&[]));
    comparison.compare("loss.grad_norms_f64", 5e-4, &Tensor::from_slice(&norms.collect::<Vec<f64>>()));
    // A bias before the normalisation of its own channel has no gradient but rounding errors, about 1e-7 of the
    // largest gradient; so what is below a thousandth of the largest is compared with that thousandth.
    let largest = gradients.values().map(|g| g.abs().max().double_value(&[])).fold(0.0, f64::max);
    for (name, gradient) in &gradients {
        comparison.compare_above(&format!("grad.{name}"), 5e-4, gradient, 1e-3 * largest);
    }
}

/// One step of AdamW with the published settings, from the gradients at hand.
fn one_update(comparison: &mut Comparison<'_>, store: &nn::VarStore, variables: &HashMap<String, Tensor>) {
    use tch::nn::OptimizerConfig;
    if !comparison.wants("adamw1.") {
        return;
    }
    let settings = nn::AdamW { beta1: 0.9, beta2: 0.999, wd: 0.01, eps: 1e-8, amsgrad: false };
    let Ok(mut optimiser) = settings.build(store, 1e-4) else { return };
    optimiser.step();
    for (name, value) in variables {
        comparison.compare(&format!("adamw1.{}", short(name)), 1e-5, value);
    }
}

fn autoencoder(comparison: &mut Comparison<'_>, size: Size) -> Result<(), String> {
    let config = if size == Size::Tiny { AutoencoderConfig::tiny() } else { AutoencoderConfig::full() };
    let vae = filled(AUTOENCODER_PREFIX, |path| Autoencoder::new(path, &config)).network;
    let z = config.latent_channels;
    let images = |name: &str, channels: i64, stride: i64| {
        let Some(x) = comparison.get(name) else { return Ok(None) };
        let fits = |s: &[i64]| matches!(s, [n, c, h, w] if *n > 0 && *c == channels && [h, w].iter().all(|l| **l > 0 && **l % stride == 0));
        if fits(&x.size()) {
            return Ok(Some(x.to_kind(Kind::Float)));
        }
        let found = x.size();
        Err(format!("{name} has the shape {found:?}; [n, {channels}, y, x] in multiples of {stride} was expected"))
    };
    let x = images("vae.x", config.in_channels, config.stride() as i64)?;
    let (mode, latent) = (images("vae.mode", z, 1)?, images("vae.latent_scaled", z, 1)?);
    match x {
        Some(x) => {
            let moments = vae.moments(&x);
            comparison.compare("vae.moments", 1e-5, &moments);
            comparison.compare("vae.mode", 1e-5, &moments.narrow(1, 0, z));
            comparison.compare("vae.latent_scaled", 1e-5, &vae.encode(&x));
        }
        None if ["moments", "mode", "latent_scaled"].iter().any(|n| comparison.get(&format!("vae.{n}")).is_some()) => {
            comparison.failed(&["vae."], Err("vae.x is needed, which the fixture lacks".to_owned()));
        }
        None => {}
    }
    if let Some(mode) = mode {
        comparison.compare("vae.dec", 1e-5, &vae.decode_unscaled(&mode));
    }
    if let Some(latent) = latent {
        comparison.compare("vae.dec_from_scaled", 1e-5, &vae.decode(&latent));
    }
    Ok(())
}

/// The solver and its number of evaluations in a name such as `ddim10.y0` or `ghvb1.8_20.y0`.
fn solver_of(name: &str) -> Option<(Method, usize)> {
    let name = name.strip_suffix(".y0")?;
    let split = name.rfind(|c: char| !c.is_ascii_digit())? + 1;
    let steps = name[split..].parse().ok().filter(|steps| grid(*steps).is_some())?;
    let method = match name[..split].trim_end_matches('_') {
        "ddim" => Method::Ddim,
        // The reference ends with an update of first order if there are fewer than ten updates.
        "dpmpp2m" if steps <= 10 => Method::Dpm2mSteady,
        "dpmpp2m" => Method::Dpm2m,
        "evodiff" => Method::Evodiff,
        heavy => Method::Ghvb(heavy.strip_prefix("ghvb")?.parse().ok().filter(|order| (0.05..=4.0).contains(order))?),
    };
    Some((method, steps))
}

/// `[sample, frame, c, y, x]` as `[sample, frame * c, y, x]`.
fn folded(x: &Tensor) -> Tensor {
    x.flatten(1, 2)
}
