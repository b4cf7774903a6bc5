//! Times the video U-Net: `bench_forward [--config tiny|full]... [--threads N] [--frames T] [--size S]
//! [--clock wall|cpu]`. The clock `cpu` counts the process's own time over all threads, for a machine that is shared.
//!
//! Weights and input come from hashes of their names, so another program can time the same computation and compare
//! what comes out (`benches/pytorch_eager.py`). Prints a JSON line for each measurement: forward pass in f32 and, where
//! the CPU computes in it natively, bf16; a training step (forward, backward, AdamW) in f32; and a whole sample of the
//! dynamical process by 10 steps of DDIM.

use std::time::Instant;

use squall_models::device::has_native_bf16;
use squall_models::diffusion::process::step_tensor;
use squall_models::diffusion::{
    Condition, Grid, Guidance, Method, NetworkDenoiser, Process, ProcessConfig, Sampler, SamplerConfig, SolverConfig,
};
use squall_models::network::config::UNET_PREFIX;
use squall_models::network::layers::lay_out_for_inference;
use squall_models::network::{UNetConfig, VideoUNet, init};
use squall_models::weights::at;
use tch::nn::OptimizerConfig;
use tch::{Device, Kind, Tensor, nn};

struct Arguments {
    configs: Vec<String>,
    threads: i32,
    frames: i64,
    size: i64,
    cpu_clock: bool,
}

fn main() -> Result<(), String> {
    let arguments = arguments()?;
    tch::set_num_threads(arguments.threads);
    for name in &arguments.configs {
        let config = match name.as_str() {
            "tiny" => UNetConfig::tiny(3),
            "full" => UNetConfig::full(3),
            other => return Err(format!("--config {other}: tiny or full was expected")),
        };
        run(name, &config, &arguments);
    }
    Ok(())
}

fn run(name: &str, config: &UNetConfig, arguments: &Arguments) {
    let shape = [1, arguments.frames, config.in_channels, arguments.size, arguments.size];
    let input = init::hash_tensor("input", &shape, 3f64.sqrt(), 0.0);
    let steps = step_tensor(&[401], Device::Cpu);
    let mut store = nn::VarStore::new(Device::Cpu);
    let network = VideoUNet::new(&at(&store, UNET_PREFIX), config);
    init::fill_by_hash(&store);
    let line = |what: &str, precision: &str, seconds: f64, result: (&str, serde_json::Value)| {
        let mut line = serde_json::json!({
            "what": what, "config": name, "precision": precision, "shape": shape, "threads": arguments.threads,
            "clock": if arguments.cpu_clock { "cpu" } else { "wall" }, "seconds": seconds,
        });
        line[result.0] = result.1;
        println!("{line}");
    };

    lay_out_for_inference(&store);
    let forward = || tch::no_grad(|| network.forward(&input, &steps));
    let head = |y: Tensor| {
        let y = y.flatten(0, -1);
        ("head", (0..64).map(|i| y.double_value(&[i])).collect::<Vec<_>>().into())
    };
    line("forward", "f32", best(arguments.cpu_clock, || drop(forward())), head(forward()));
    let sample = || sample(&network, shape);
    line("sampling", "f32", best(arguments.cpu_clock, || drop(sample())), head(sample()));

    let Ok(mut optimiser) = nn::AdamW::default().build(&store, 0.0) else { return };
    let mut step = || {
        let loss = network.forward(&input, &steps).square().mean(Kind::Float);
        optimiser.backward_step(&loss);
        loss.double_value(&[])
    };
    let loss = step();
    line(
        "training step",
        "f32",
        best(arguments.cpu_clock, || {
            step();
        }),
        ("loss", loss.into()),
    );

    if has_native_bf16() {
        store.set_kind(Kind::BFloat16);
        line("forward", "bf16", best(arguments.cpu_clock, || drop(forward())), head(forward()));
        line("sampling", "bf16", best(arguments.cpu_clock, || drop(sample())), head(sample()));
    }
}

/// A sample of 10 steps for a condition from a hash.
fn sample(network: &VideoUNet, [samples, frames, channels, height, width]: [i64; 5]) -> Tensor {
    let tensor =
        |name, channels| init::hash_tensor(name, &[samples, frames, channels, height, width], 3f64.sqrt(), 0.0);
    let solver = SolverConfig { method: Method::Ddim, grid: Grid::UniformT, steps: 10 };
    let sampler = Sampler {
        process: Process::new(ProcessConfig::Dynamical { ratio: 0.5 }),
        config: SamplerConfig { solver, guidance: Guidance::None, mean: false },
    };
    let condition = Condition { channels: tensor("condition", channels - 3) };
    let denoiser = NetworkDenoiser { network, process: &sampler.process };
    sampler.sample(&denoiser, &condition, &tensor("noise", 3)).frames
}

/// The shortest of at least three runs and about five seconds, after one that does not count.
fn best(cpu_clock: bool, mut run: impl FnMut()) -> f64 {
    run();
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || (start.elapsed().as_secs_f64() < 5.0 && times.len() < 50) {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        run();
        times.push(if cpu_clock { cpu_seconds() - cpu } else { wall.elapsed().as_secs_f64() });
    }
    times.into_iter().fold(f64::INFINITY, f64::min)
}

/// Time of the processor that this process has used.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Linux and the structure is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed =
        Arguments { configs: Vec::new(), threads: tch::get_num_threads(), frames: 10, size: 16, cpu_clock: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        let number = || value.parse::<i32>().map_err(|e| format!("{argument} {value}: {e}"));
        match argument.as_str() {
            "--config" => parsed.configs.push(value),
            "--threads" => parsed.threads = number()?.max(1),
            "--frames" => parsed.frames = number()?.max(1).into(),
            "--clock" => parsed.cpu_clock = value == "cpu",
            "--size" => parsed.size = number()?.max(8).into(),
            other => return Err(format!("unknown option {other}")),
        }
    }
    if parsed.configs.is_empty() {
        parsed.configs = vec!["tiny".to_owned(), "full".to_owned()];
    }
    Ok(parsed)
}
