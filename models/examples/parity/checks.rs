//! What is compared, and how closely.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use squall_models::diffusion::process::step_tensor;
use squall_models::diffusion::sampler::Progress;
use squall_models::diffusion::{
    Condition, ConditionParts, Grid, Guidance, Method, NetworkDenoiser, Process, Sampler, SamplerConfig, Schedule,
    SolverConfig, operator,
};
use squall_models::network::config::{AUTOENCODER_PREFIX, UNET_PREFIX};
use squall_models::network::{Autoencoder, AutoencoderConfig, UNetConfig, VideoUNet, init};
use tch::{Device, Kind, Tensor, nn};

use super::order;

/// One quantity compared.
pub(crate) struct Outcome {
    /// Its name in the fixture.
    pub(crate) name: String,
    /// Largest absolute difference over largest absolute reference; infinite if shapes differ.
    pub(crate) difference: f64,
    /// Most that is allowed.
    pub(crate) tolerance: f64,
}

impl Outcome {
    /// Whether it is within its tolerance.
    pub(crate) fn ok(&self) -> bool {
        self.difference <= self.tolerance
    }
}

/// Which networks a fixture was made with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Tiny,
    Full,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tiny" => Ok(Self::Tiny),
            "full" => Ok(Self::Full),
            _ => Err(format!("--config {text}: tiny or full was expected")),
        }
    }
}

/// Reference numbers, and the networks to compare with them.
pub(crate) struct Fixture {
    reference: BTreeMap<String, Tensor>,
    size: Size,
    process: Process,
}

/// A network filled by hash, with the store that holds it.
struct Filled<N> {
    store: nn::VarStore,
    network: N,
}

impl Fixture {
    /// Reads a file of named tensors.
    pub(crate) fn load(path: &str, size: Size, ratio: f64) -> Result<Self, String> {
        let tensors = Tensor::read_safetensors(path).map_err(|e| format!("{path}: {e}"))?;
        Ok(Self { reference: tensors.into_iter().collect(), size, process: Process::new(ratio) })
    }

    /// Compares all that the fixture holds.
    pub(crate) fn check(&self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        self.schedules(&mut outcomes);
        self.operator(&mut outcomes);
        if self.any(&["unet.", "tap.", "loss.", "grad.", "adamw1.", "ddim."]) || self.reference.contains_key("y_T") {
            let unet = self.unet();
            tch::no_grad(|| self.forward(&unet, &mut outcomes));
            self.trajectory(&unet.network, &mut outcomes);
            self.solvers(&unet.network, &mut outcomes);
            self.training(unet, &mut outcomes);
        }
        if self.any(&["vae."]) {
            tch::no_grad(|| self.autoencoder(&mut outcomes));
        }
        outcomes
    }

    fn any(&self, prefixes: &[&str]) -> bool {
        self.reference.keys().any(|name| prefixes.iter().any(|p| name.starts_with(p)))
    }

    /// Adds the outcome of a quantity, if the fixture holds it.
    fn compare(&self, outcomes: &mut Vec<Outcome>, name: &str, tolerance: f64, value: &Tensor) {
        if let Some(reference) = self.reference.get(name) {
            let difference = relative_difference(value, reference, f64::MIN_POSITIVE);
            outcomes.push(Outcome { name: name.to_owned(), difference, tolerance });
        }
    }

    fn schedules(&self, outcomes: &mut Vec<Outcome>) {
        let official: Vec<usize> = (0..50).map(|i| 1 + 20 * i).collect();
        let grid: Vec<i64> = official.iter().map(|k| *k as i64).collect();
        for name in ["ddim50_timesteps", "ddim.timesteps"] {
            self.compare(outcomes, name, 0.0, &Tensor::from_slice(&grid));
        }
        let at = |values: &[f64]| official.iter().map(|k| values[*k]).collect::<Vec<_>>();
        // Before the first step lies the clean end.
        let before = |values: &[f64]| {
            let before = official.iter().map(|k| if *k > 20 { values[k - 20] } else { 1.0 });
            before.collect::<Vec<_>>()
        };
        let plain = Schedule::cosine(0.0);
        let mut each = |name: &str, values: &[f64]| self.compare(outcomes, name, 1e-6, &Tensor::from_slice(values));
        each("betas_f64", &plain.beta);
        each("alphas_cumprod_f64", &plain.alpha_bar);
        each("ddim50_alphas", &at(&plain.alpha_bar));
        each("ddim50_alphas_prev", &before(&plain.alpha_bar));
        for name in self.reference.keys() {
            let Some((prefix, ratio)) = name.rsplit_once('_') else { continue };
            let Ok(ratio) = ratio.parse() else { continue };
            let schedule = Schedule::cosine(ratio);
            match prefix {
                "gammas_f64" => each(name, &schedule.gamma),
                "thetas_cumprod_f64" => each(name, &schedule.g),
                "ddim50_thetas" => each(name, &at(&schedule.g)),
                "ddim50_thetas_prev" => each(name, &before(&schedule.g)),
                _ => {}
            }
        }
    }

    fn operator(&self, outcomes: &mut Vec<Outcome>) {
        let (Some(x), Some(t)) = (self.reference.get("op.x"), self.reference.get("op.t")) else { return };
        let g: Vec<f64> = steps(t).iter().map(|k| self.process.schedule.at(*k).g).collect();
        let x = self.frames(x);
        let smooth = operator::apply_each(&x, &g);
        self.compare(outcomes, "op.emas", 1e-6, &folded(&smooth));
        self.compare(outcomes, "op.reverse", 1e-6, &folded(&operator::invert_each(&x, &g)));
    }

    fn unet(&self) -> Filled<VideoUNet> {
        let config = if self.size == Size::Tiny { UNetConfig::tiny(3) } else { UNetConfig::full(3) };
        filled(UNET_PREFIX, |path| VideoUNet::new(path, &config))
    }

    /// `[sample, frame * 3, y, x]` as `[sample, frame, 3, y, x]`.
    fn frames(&self, x: &Tensor) -> Tensor {
        let (b, tc, h, w) = x.size4().unwrap_or_default();
        x.reshape([b, tc / 3, 3, h, w])
    }

    /// The fixture's condition for a clip of `frames` frames.
    fn condition(&self, name: &str, frames: i64) -> Option<Condition> {
        let history = self.frames(self.reference.get(name)?);
        Some(ConditionParts { history: &history, frames, first_guess: None, extra: None }.assemble())
    }

    fn forward(&self, unet: &Filled<VideoUNet>, outcomes: &mut Vec<Outcome>) {
        let (Some(x), Some(t)) = (self.reference.get("unet.x_t"), self.reference.get("unet.t")) else { return };
        let x = self.frames(x);
        let Some(condition) = self.condition("unet.cond", x.size()[1]) else { return };
        let steps = step_tensor(&steps(t), Device::Cpu);
        let eps = unet.network.forward_tapped(&condition.join(&x), &steps, &mut |name, value| {
            self.compare(outcomes, &format!("tap.{name}"), 1e-5, value);
        });
        self.compare(outcomes, "unet.eps", 1e-5, &folded(&eps));
    }

    /// Samples with one solver from noise in y-space.
    fn sample(
        &self,
        network: &VideoUNet,
        (method, grid, steps): (Method, Grid, usize),
        (start, condition): (&str, &str),
        observe: &mut dyn FnMut(&Progress),
    ) -> Option<Tensor> {
        let noise = self.frames(self.reference.get(start)?);
        let condition = self.condition(condition, noise.size()[1])?;
        let solver = SolverConfig { method, grid, steps };
        let config = SamplerConfig { solver, guidance: Guidance::None };
        let sampler = Sampler { process: self.process.clone(), config };
        let denoiser = NetworkDenoiser { network, process: &self.process };
        Some(sampler.sample_observed(&denoiser, &condition, &noise, observe).frames)
    }

    fn trajectory(&self, network: &VideoUNet, outcomes: &mut Vec<Outcome>) {
        let (mut states, mut cleans) = (Vec::new(), Vec::new());
        let names = ("ddim.x_T_iid", "unet.cond");
        let out = self.sample(network, (Method::Ddim, Grid::UniformT, 50), names, &mut |p| {
            states.push(folded(&self.process.to_network(p.y, &p.at)));
            // The reference shows the clean frames through the operator of the next instant.
            cleans.push(folded(&self.process.to_network(p.clean, &p.at)));
        });
        let Some(out) = out else { return };
        if let Some(noise) = self.reference.get("ddim.x_T_iid") {
            let start = self.process.to_network(&self.frames(noise), &self.process.schedule.at(981));
            self.compare(outcomes, "ddim.x_T", 1e-6, &folded(&start));
        }
        self.compare(outcomes, "ddim.traj_x", 5e-5, &Tensor::stack(&states, 0));
        self.compare(outcomes, "ddim.traj_pred_x0", 5e-5, &Tensor::stack(&cleans, 0));
        self.compare(outcomes, "ddim.out", 5e-5, &folded(&out));
    }

    /// Quantities named `METHOD[_]STEPS.y0`.
    fn solvers(&self, network: &VideoUNet, outcomes: &mut Vec<Outcome>) {
        for name in self.reference.keys() {
            let Some((method, steps)) = name.strip_suffix(".y0").and_then(solver_of) else { continue };
            if let Some(y) = self.sample(network, (method, Grid::UniformT, steps), ("y_T", "cond"), &mut |_| ()) {
                self.compare(outcomes, name, 5e-5, &folded(&y));
            }
        }
    }

    fn training(&self, unet: Filled<VideoUNet>, outcomes: &mut Vec<Outcome>) {
        let get = |name: &str| self.reference.get(name);
        let (Some(x), Some(e), Some(t)) = (get("loss.x_start"), get("loss.noise"), get("loss.t")) else { return };
        let (x, e, k) = (self.frames(x), self.frames(e), steps(t));
        let Some(condition) = self.condition("unet.cond", x.size()[1]) else { return };
        let noised = self.process.noised(&x, &e, &k);
        self.compare(outcomes, "loss.noise_ema", 1e-6, &folded(&noised.noise));
        self.compare(outcomes, "loss.x_noisy", 1e-6, &folded(&noised.x));
        let output = unet.network.forward(&condition.join(&noised.x), &step_tensor(&k, Device::Cpu));
        let loss = output.mse_loss(&noised.target, tch::Reduction::Mean);
        self.compare(outcomes, "loss.value", 1e-5, &loss.reshape([1]));
        loss.backward();
        let variables = unet.store.variables();
        let gradients: BTreeMap<&str, Tensor> = variables
            .iter()
            .map(|(n, v)| (n.trim_start_matches(UNET_PREFIX).trim_start_matches('.'), v.grad()))
            .collect();
        self.gradients(&gradients, outcomes);
        self.one_update(&unet.store, &variables, outcomes);
    }

    fn gradients(&self, gradients: &BTreeMap<&str, Tensor>, outcomes: &mut Vec<Outcome>) {
        let mut names: Vec<&str> = gradients.keys().copied().collect();
        names.sort_by_key(|name| order::key(name));
        let norm = |name: &&str| gradients[name].to_kind(Kind::Double).norm().double_value(&[]);
        let norms: Vec<f64> = names.iter().map(norm).collect();
        self.compare(outcomes, "loss.grad_norms_f64", 5e-4, &Tensor::from_slice(&norms));
        // A bias before the normalisation of its own channel has no gradient but rounding errors, about 1e-7 of the
        // largest gradient; so what is below a thousandth of the largest is compared with that thousandth.
        let largest = gradients.values().map(|g| g.abs().max().double_value(&[])).fold(0.0, f64::max);
        for name in names {
            let full = format!("grad.{name}");
            if let Some(reference) = self.reference.get(&full) {
                let difference = relative_difference(&gradients[name], reference, 1e-3 * largest);
                outcomes.push(Outcome { name: full, difference, tolerance: 5e-4 });
            }
        }
    }

    /// One step of AdamW with the published settings, from the gradients at hand.
    fn one_update(&self, store: &nn::VarStore, variables: &HashMap<String, Tensor>, outcomes: &mut Vec<Outcome>) {
        use tch::nn::OptimizerConfig;
        let settings = nn::AdamW { beta1: 0.9, beta2: 0.999, wd: 0.01, eps: 1e-8, amsgrad: false };
        let Ok(mut optimiser) = settings.build(store, 1e-4) else { return };
        optimiser.step();
        for name in self.reference.keys().filter_map(|n| n.strip_prefix("adamw1.")) {
            if let Some(value) = variables.get(&format!("{UNET_PREFIX}.{name}")) {
                self.compare(outcomes, &format!("adamw1.{name}"), 1e-5, value);
            }
        }
    }

    fn autoencoder(&self, outcomes: &mut Vec<Outcome>) {
        let config = if self.size == Size::Tiny { AutoencoderConfig::tiny() } else { AutoencoderConfig::full() };
        let vae = filled(AUTOENCODER_PREFIX, |path| Autoencoder::new(path, &config)).network;
        if let Some(x) = self.reference.get("vae.x") {
            let moments = vae.moments(x);
            self.compare(outcomes, "vae.moments", 1e-5, &moments);
            self.compare(outcomes, "vae.mode", 1e-5, &moments.narrow(1, 0, config.latent_channels));
            self.compare(outcomes, "vae.latent_scaled", 1e-5, &vae.encode(x));
        }
        if let Some(mode) = self.reference.get("vae.mode") {
            self.compare(outcomes, "vae.dec", 1e-5, &vae.decode_unscaled(mode));
        }
        if let Some(latent) = self.reference.get("vae.latent_scaled") {
            self.compare(outcomes, "vae.dec_from_scaled", 1e-5, &vae.decode(latent));
        }
    }
}

/// The solver and its number of evaluations in a name such as `ddim10` or `ghvb1.8_20`.
fn solver_of(name: &str) -> Option<(Method, usize)> {
    let split = name.rfind(|c: char| !c.is_ascii_digit())? + 1;
    let steps = name[split..].parse().ok()?;
    let method = match name[..split].trim_end_matches('_') {
        "ddim" => Method::Ddim,
        // The reference ends with an update of first order if there are fewer than ten updates.
        "dpmpp2m" if steps <= 10 => Method::Dpm2mSteady,
        "dpmpp2m" => Method::Dpm2m,
        "evodiff" => Method::Evodiff,
        heavy => Method::Ghvb(heavy.strip_prefix("ghvb")?.parse().ok()?),
    };
    Some((method, steps))
}

fn filled<N>(prefix: &str, make: impl Fn(&nn::Path) -> N) -> Filled<N> {
    let store = nn::VarStore::new(Device::Cpu);
    let path = prefix.split('.').fold(store.root(), |path, part| path / part);
    let network = make(&path);
    init::fill_by_hash(&store);
    Filled { store, network }
}

fn steps(t: &Tensor) -> Vec<usize> {
    (0..t.numel() as i64).map(|i| t.int64_value(&[i]).max(0) as usize).collect()
}

/// `[sample, frame, c, y, x]` as `[sample, frame * c, y, x]`.
fn folded(x: &Tensor) -> Tensor {
    x.flatten(1, 2)
}

fn relative_difference(value: &Tensor, reference: &Tensor, least: f64) -> f64 {
    if value.size() != reference.size() {
        return f64::INFINITY;
    }
    let (value, reference) = (value.to_kind(Kind::Double), reference.to_kind(Kind::Double));
    let most = reference.abs().max().double_value(&[]);
    let difference = (value - reference).abs().max().double_value(&[]);
    // NaN in either is no agreement.
    if difference.is_nan() || most.is_nan() { f64::INFINITY } else { difference / most.max(least) }
}
