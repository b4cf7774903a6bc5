//! Values of parameters, given by their names.

use std::collections::BTreeMap;

use squall_fields::random::Philox;
use tch::{Device, Kind, Tensor, nn};

/// FNV-1a, 64 bits, of a text.
///
/// ```
/// let hash = squall_models::network::init::fnv1a("model.diffusion_model.input_blocks.0.0.weight");
/// assert_eq!(hash, 0x8c8a_b0aa_c9d4_9768);
/// ```
pub fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Number `index` of the uniform sequence in [-1, 1) that belongs to a name.
///
/// ```
/// use squall_models::network::init::{fnv1a, hash_uniform};
/// let seed = fnv1a("model.diffusion_model.input_blocks.0.0.weight");
/// assert_eq!(hash_uniform(seed, 0), 0.3253728151321411);
/// assert_eq!(hash_uniform(seed, 1), -0.9738171100616455);
/// assert_eq!(hash_uniform(seed, 3), -0.6034457683563232);
/// ```
pub fn hash_uniform(seed: u64, index: u64) -> f64 {
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z ^= z >> 30;
    z = z.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 27;
    z = z.wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    2.0 * ((z >> 40) as f64 / (1u64 << 24) as f64) - 1.0
}

/// The tensor of a name: uniform numbers in [-1, 1) times `scale`, plus `offset`, row-major.
pub fn hash_tensor(name: &str, shape: &[i64], scale: f64, offset: f64) -> Tensor {
    let seed = fnv1a(name);
    let count = shape.iter().product::<i64>().max(0) as u64;
    let values: Vec<f32> = (0..count).map(|i| (offset + scale * hash_uniform(seed, i)) as f32).collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// Fills every parameter with numbers that depend on its name and shape alone, to compare programs without a file.
pub fn fill_by_hash(store: &nn::VarStore) {
    for_each(store, |name, shape| {
        let fan_in = shape.iter().product::<i64>() as f64 / shape.first().copied().unwrap_or(1).max(1) as f64;
        let (scale, offset) = if shape.len() >= 2 {
            ((3.0 / fan_in).sqrt(), 0.0)
        } else if name.ends_with("mix_factor") {
            (0.5, 0.0)
        } else if name.ends_with(".weight") {
            (0.1, 1.0)
        } else {
            (0.1, 0.0)
        };
        hash_tensor(name, shape, scale, offset)
    });
}

/// Starting values for training, the same on every device and for every number of threads.
///
/// Matrices and kernels are uniform within 1/sqrt(fan-in), normalisation is the identity, biases are zero, mixing
/// starts at sigmoid(0.5). The last convolution, the second one of each residual block and each projection out of a
/// transformer are zero, so that the network starts as the identity on its skip paths.
pub fn initialise(store: &nn::VarStore, seed: u64) {
    for_each(store, |name, shape| {
        if name.ends_with("mix_factor") {
            return Tensor::full(shape, 0.5, (Kind::Float, Device::Cpu));
        }
        if shape.len() < 2 {
            let value = if name.ends_with(".weight") { 1.0 } else { 0.0 };
            return Tensor::full(shape, value, (Kind::Float, Device::Cpu));
        }
        if name.ends_with("out_layers.3.weight") || name.ends_with("proj_out.weight") || name.ends_with(".out.2.weight")
        {
            return Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        }
        let numel = shape.iter().product::<i64>();
        let bound = 1.0 / (numel as f64 / shape[0] as f64).sqrt();
        let random = Philox::new(fnv1a(name), seed);
        let unit = |bits: u32| ((f64::from(bits) / 2_147_483_648.0 - 1.0) * bound) as f32;
        let blocks = (numel as u64).div_ceil(4);
        let values: Vec<f32> = (0..blocks).flat_map(|b| random.block(b)).map(unit).take(numel as usize).collect();
        Tensor::from_slice(&values).reshape(shape)
    });
}

/// Sets each parameter to what `value(name, shape)` returns, in order of names.
fn for_each(store: &nn::VarStore, value: impl Fn(&str, &[i64]) -> Tensor) {
    tch::no_grad(|| {
        for (name, mut parameter) in store.variables().into_iter().collect::<BTreeMap<_, _>>() {
            parameter.copy_(&value(&name, &parameter.size()));
        }
    });
}
