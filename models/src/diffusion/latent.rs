//! The space that a model diffuses in: pixels, or the latent space of an autoencoder.

use tch::Tensor;

use crate::network::Autoencoder;

/// Pixel space, or the latent space of an autoencoder.
#[derive(Clone, Copy, Debug)]
pub struct Space<'a> {
    autoencoder: Option<&'a Autoencoder>,
}

impl<'a> Space<'a> {
    /// The latent space of an autoencoder; pixel space without one.
    pub fn new(autoencoder: Option<&'a Autoencoder>) -> Self {
        Self { autoencoder }
    }

    /// Transformed frames `[sample, frame, variable, y, x]`, NaN where missing, as frames that are diffused. A latent
    /// cell is missing where all its pixels are; other missing pixels count as 0. Rows and columns are padded to whole
    /// latent cells.
    pub fn encode(&self, frames: &Tensor) -> Tensor {
        let Some(autoencoder) = self.autoencoder else { return frames.shallow_clone() };
        let (samples, count, channels, rows, columns) =
            frames.size5().expect("of shape [sample, frame, channel, y, x]");
        let stride = autoencoder.config().stride() as i64;
        let flat = frames.reshape([samples * count, channels, rows, columns]);
        let padding = [0, (-columns).rem_euclid(stride), 0, (-rows).rem_euclid(stride)];
        let flat = flat.pad(padding, "constant", f64::NAN);
        let missing = flat.isnan().all_dim(1, true).to_kind(tch::Kind::Float);
        let missing = missing.avg_pool2d([stride; 2], [stride; 2], [0, 0], false, false, None::<i64>).ge(1.0);
        // One frame at a time: at full resolution the encoder's states are large.
        let flat = flat.nan_to_num(0.0, None, None);
        let latents: Vec<Tensor> = (0..samples * count).map(|i| autoencoder.encode(&flat.narrow(0, i, 1))).collect();
        let latent = Tensor::cat(&latents, 0).masked_fill(&missing, f64::NAN);
        let (_, z, rows, columns) = latent.size4().expect("of shape [frame, channel, y, x]");
        latent.reshape([samples, count, z, rows, columns])
    }

    /// Diffused frames `[sample, frame, channel, y, x]` as transformed frames.
    pub fn decode(&self, frames: &Tensor) -> Tensor {
        let Some(autoencoder) = self.autoencoder else { return frames.shallow_clone() };
        let (samples, count, z, rows, columns) = frames.size5().expect("of shape [sample, frame, channel, y, x]");
        let flat = frames.reshape([samples * count, z, rows, columns]);
        let decoded: Vec<Tensor> = (0..samples * count).map(|i| autoencoder.decode(&flat.narrow(0, i, 1))).collect();
        let decoded = Tensor::cat(&decoded, 0);
        let (_, channels, rows, columns) = decoded.size4().expect("of shape [frame, channel, y, x]");
        decoded.reshape([samples, count, channels, rows, columns])
    }

    /// A map over diffused cells `[frame, y, x]` as one over pixels.
    pub fn spread(&self, map: &Tensor) -> Tensor {
        let Some(autoencoder) = self.autoencoder else { return map.shallow_clone() };
        let stride = autoencoder.config().stride() as i64;
        map.repeat_interleave_self_int(stride, 1, None).repeat_interleave_self_int(stride, 2, None)
    }
}
