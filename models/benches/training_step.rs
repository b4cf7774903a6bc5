//! What a training step does beside the network, for `cargo bench -p squall-models --bench training_step`: a step of AdamW
//! over the parameters of the sizes of CogDPM for rain, and the crops of a batch.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ndarray::Array3;
use squall_fields::{Axis, Cadence, Frame, Grid, InputRef, ValidTime, Variable};
use squall_models::network::config::UNET_PREFIX;
use squall_models::network::{UNetConfig, VideoUNet, init};
use squall_models::training::ahead::Ahead;
use squall_models::training::batch;
use squall_models::training::config::OptimizerConfig;
use squall_models::training::flat::{Flat, Gradients};
use squall_models::training::optimizer::AdamW;
use squall_models::training::{Archive, Event, Task};
use squall_models::weights::at;
use tch::{Device, Tensor, nn};

fn main() {
    divan::main();
}

/// As in configs/train-cogdpm-rain.toml.
fn task() -> Task {
    let task = serde_json::json!({
        "model": {"name": "bench", "variables": ["rain_rate"], "cadence_seconds": 300, "spacing_m": [900, 2000],
            "context": 4, "leads": 12, "transforms": [{"rain": {"dry_below_mm_h": 0.05}}],
            "first_guess": "extrapolation", "residual": {"factor": [0.3]}, "target": "velocity",
            "tiling": {"tile": [256, 256], "overlap": 32},
            "network": {"in_channels": 4, "out_channels": 1, "channels": 64, "mult": [1, 1, 2], "res_blocks": 1,
                "attention": [], "heads": 4, "patch": 4}},
        "training": {"steps": 1_000_000, "batch": 4, "augment": true, "crop": {"size": 96, "stride": 16}}
    });
    serde_json::from_value(task).expect("a task")
}

/// Parameters, and gradients of their sizes.
fn parameters() -> (BTreeMap<String, Tensor>, BTreeMap<String, Tensor>) {
    let config: UNetConfig = task().model.network;
    let store = nn::VarStore::new(Device::Cpu);
    let _network = VideoUNet::new(&at(&store, UNET_PREFIX), &config);
    init::fill_by_hash(&store);
    let parameters: BTreeMap<String, Tensor> =
        store.variables().into_iter().map(|(name, parameter)| (name, parameter.detach().copy())).collect();
    let gradients = parameters.iter().map(|(name, parameter)| (name.clone(), parameter * 1e-3)).collect();
    (parameters, gradients)
}

#[divan::bench(sample_count = 50)]
fn adamw_flat(bencher: divan::Bencher) {
    let (parameters, found) = parameters();
    let mut parameters = Flat::of(&parameters);
    let mut adam = AdamW::new(OptimizerConfig::default(), &parameters);
    let mut gradients = Gradients::none(&parameters);
    gradients.add(found);
    bencher.bench_local(|| {
        let norm = gradients.norm().double_value(&[]);
        adam.step(&mut parameters, &gradients, norm, 1e-6);
    });
}

#[divan::bench(sample_count = 50)]
fn adamw_parameter_by_parameter(bencher: divan::Bencher) {
    let (mut parameters, gradients) = parameters();
    let mut state: BTreeMap<String, [Tensor; 2]> =
        parameters.iter().map(|(name, p)| (name.clone(), [p.zeros_like(), p.zeros_like()])).collect();
    let (config, mut count) = (OptimizerConfig::default(), 0);
    bencher.bench_local(|| {
        count += 1;
        one_by_one(&config, &mut parameters, &gradients, &mut state, count);
    });
}

/// A step of AdamW as it is written, a few kernels a parameter.
fn one_by_one(
    config: &OptimizerConfig,
    parameters: &mut BTreeMap<String, Tensor>,
    gradients: &BTreeMap<String, Tensor>,
    state: &mut BTreeMap<String, [Tensor; 2]>,
    count: i32,
) {
    let (b1, b2, rate) = (config.beta1, config.beta2, 1e-6);
    let (c1, c2) = (1.0 - b1.powi(count), (1.0 - b2.powi(count)).sqrt());
    tch::no_grad(|| {
        let norms: Vec<Tensor> = gradients.values().map(Tensor::norm).collect();
        let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
        let clip = if norm > config.clip_norm { config.clip_norm / (norm + 1e-6) } else { 1.0 };
        for ((name, parameter), [mean, square]) in parameters.iter_mut().zip(state.values_mut()) {
            let gradient = &gradients[name] * clip;
            let _ = mean.lerp_(&gradient, 1.0 - b1);
            let _ = square.g_mul_scalar_(b2).addcmul_(&gradient, &(&gradient * (1.0 - b2)));
            let denominator = square.sqrt() / c2 + 1e-8;
            let _ = parameter.g_mul_scalar_(1.0 - rate * config.weight_decay);
            let _ = parameter.g_sub_(&(&*mean / denominator * (rate / c1)));
        }
    });
}

/// Showers on 256 x 256 cells, two hours of them.
fn archive(task: &Task) -> Archive {
    let axis = |step| Axis { first: 0.0, step, len: 256 };
    let grid = Arc::new(Grid { proj: String::new(), wkt: None, x: axis(1000.0), y: axis(-1000.0) });
    let frame = |t: usize| {
        let rain = |(_, y, x): (usize, usize, usize)| {
            let (x, y) = (x as f32 - 2.0 * t as f32, y as f32);
            (8.0 * (x / 17.0).sin() * (y / 13.0).cos() - 2.0).max(0.0)
        };
        Arc::new(Frame {
            grid: grid.clone(),
            slot: ValidTime::from_unix_seconds(300 * t as i64),
            variables: [Variable::RainRate].into(),
            values: Array3::from_shape_fn((1, 256, 256), rain),
            quality: None,
            input: InputRef { topic: "bench".into(), partition: 0, offset: t as i64, digest: "".into() },
        })
    };
    let frames: Vec<Arc<Frame>> = (0..24).map(frame).collect();
    let cadence = Cadence::every_seconds(300).expect("a cadence");
    let event = Event::new("showers", cadence, &frames).expect("an event");
    Archive::new(vec![event], task, 4).expect("an archive")
}

#[divan::bench(sample_count = 50)]
fn crops_in_place(bencher: divan::Bencher) {
    let task = task();
    let archive = archive(&task);
    let mut index = 0;
    bencher.bench_local(|| {
        index += 1;
        batch::drawn(&task.training, &archive, &batch::order(&task, &archive, index))
    });
}

/// What is left to wait for when the network has computed meanwhile.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn crops_ahead(bencher: divan::Bencher) {
    let task = task();
    let archive = archive(&task);
    let (ahead, mut index) = (RefCell::new(Ahead::default()), 0);
    let asked = || {
        index += 1;
        let order = batch::order(&task, &archive, index);
        ahead.borrow_mut().ask(&archive, &task.training, order.clone(), Device::Cpu);
        // In place of the network.
        std::thread::sleep(Duration::from_millis(100));
        order
    };
    bencher.with_inputs(asked).bench_local_values(|order| ahead.borrow_mut().take(&archive, &order));
}
