//! Numbers that networks filled by hash must give on every machine, so that parity is watched without fixtures.

use squall_models::diffusion::process::step_tensor;
use squall_models::network::config::{AUTOENCODER_PREFIX, UNET_PREFIX};
use squall_models::network::{Autoencoder, AutoencoderConfig, UNetConfig, VideoUNet, init};
use squall_models::weights::at;
use tch::{Device, Tensor, nn};

/// A norm and a few values, which come out alike on every machine to about six digits.
fn close(value: &Tensor, norm: f64, head: &[f64]) {
    let flat = value.flatten(0, -1);
    let found: Vec<f64> = (0..head.len() as i64).map(|i| flat.double_value(&[i])).collect();
    let found_norm = flat.norm().double_value(&[]);
    let scale = flat.abs().max().double_value(&[]);
    assert!((found_norm / norm - 1.0).abs() < 1e-4, "{found_norm} {norm}");
    assert!(found.iter().zip(head).all(|(a, b)| (a - b).abs() < 1e-4 * scale), "{found:?} {head:?}");
}

#[test]
fn video_unet() {
    let store = nn::VarStore::new(Device::Cpu);
    let network = VideoUNet::new(&at(&store, UNET_PREFIX), &UNetConfig::tiny(3));
    init::fill_by_hash(&store);
    let x = init::hash_tensor("input", &[2, 3, 8, 8, 8], 3f64.sqrt(), 0.0);
    let y = tch::no_grad(|| network.forward(&x, &step_tensor(&[981, 41], Device::Cpu)));
    close(&y, 18.188755, &[-0.2377960, -0.3265656, -0.0288716]);
}

#[test]
fn autoencoder() {
    let store = nn::VarStore::new(Device::Cpu);
    let network = Autoencoder::new(&at(&store, AUTOENCODER_PREFIX), &AutoencoderConfig::tiny());
    init::fill_by_hash(&store);
    let x = init::hash_tensor("vae_x", &[1, 2, 16, 16], 3f64.sqrt(), 0.0);
    let (latent, back) = tch::no_grad(|| {
        let latent = network.encode(&x);
        (latent.shallow_clone(), network.decode(&latent))
    });
    close(&latent, 1.553318, &[0.1366504, -0.0207775, 0.1075774]);
    close(&back, 13.467622, &[-0.0890519, 0.2049835, -0.5011804]);
}
