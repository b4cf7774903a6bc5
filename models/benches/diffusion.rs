//! Forward pass, training step and full sampling, for `cargo bench -p squall-models --bench diffusion`.

use squall_models::diffusion::process::step_tensor;
use squall_models::diffusion::{
    Condition, Grid, Guidance, Method, NetworkDenoiser, PrecisionConfig, Process, ProcessConfig, Sampler,
    SamplerConfig, SolverConfig,
};
use squall_models::network::config::UNET_PREFIX;
use squall_models::network::{UNetConfig, VideoUNet, init};
use squall_models::weights::at;
use tch::nn::OptimizerConfig;
use tch::{Device, Kind, Tensor, nn};

fn main() {
    divan::main();
}

const FRAMES: i64 = 10;
const SIZE: i64 = 16;

fn network(name: &str) -> (nn::VarStore, VideoUNet) {
    let config = if name == "full" { UNetConfig::full(3) } else { UNetConfig::tiny(3) };
    let store = nn::VarStore::new(Device::Cpu);
    let network = VideoUNet::new(&at(&store, UNET_PREFIX), &config);
    init::fill_by_hash(&store);
    (store, network)
}

fn input(channels: i64) -> Tensor {
    init::hash_tensor("input", &[1, FRAMES, channels, SIZE, SIZE], 3f64.sqrt(), 0.0)
}

#[divan::bench(args = ["tiny", "full"])]
fn forward(bencher: divan::Bencher, name: &str) {
    let (_store, network) = network(name);
    let (input, steps) = (input(8), step_tensor(&[401], Device::Cpu));
    bencher.bench_local(|| tch::no_grad(|| network.forward(&input, &steps)));
}

#[divan::bench(args = ["tiny", "full"])]
fn training_step(bencher: divan::Bencher, name: &str) {
    let (store, network) = network(name);
    let (input, steps) = (input(8), step_tensor(&[401], Device::Cpu));
    let mut optimiser = nn::AdamW::default().build(&store, 1e-6).expect("AdamW builds for any parameters");
    bencher.bench_local(|| {
        let loss = network.forward(&input, &steps).square().mean(Kind::Float);
        optimiser.backward_step(&loss);
    });
}

#[divan::bench(args = ["plain", "guided"])]
fn sampling_10_steps(bencher: divan::Bencher, name: &str) {
    let (_store, network) = network("tiny");
    let guidance = match name {
        "guided" => Guidance::Precision(PrecisionConfig::default()),
        _ => Guidance::None,
    };
    let solver = SolverConfig { method: Method::Dpm2m, grid: Grid::UniformLambda, steps: 10 };
    let sampler = Sampler {
        process: Process::new(ProcessConfig::Dynamical { ratio: 0.5 }),
        config: SamplerConfig { solver, guidance, mean: false },
    };
    let condition = Condition { channels: input(5) };
    let noise = input(3);
    let denoiser = NetworkDenoiser { network: &network, process: &sampler.process };
    bencher.bench_local(|| sampler.sample(&denoiser, &condition, &noise));
}
