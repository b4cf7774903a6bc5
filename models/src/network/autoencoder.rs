//! A variational autoencoder from pixels to a smaller latent space and back (Rombach et al. 2022).
//!
//! Unlike the video U-Net it keeps rows of pixels together in memory and not channels: libtorch's convolutions of 512
//! channels are as fast on a CPU, and their rounding errors are a quarter.

use tch::{Tensor, nn};

use super::config::AutoencoderConfig;
use super::layers::{Conv, GroupNorm, attention};

const EPS: f64 = 1e-6;

#[derive(Debug)]
struct ResBlock {
    norm1: GroupNorm,
    conv1: Conv,
    norm2: GroupNorm,
    conv2: Conv,
    shortcut: Option<Conv>,
}

impl ResBlock {
    fn new(path: &nn::Path, from: i64, to: i64) -> Self {
        Self {
            norm1: GroupNorm::new(&(path / "norm1"), from, EPS),
            conv1: Conv::new(&(path / "conv1"), from, to, 3, 1),
            norm2: GroupNorm::new(&(path / "norm2"), to, EPS),
            conv2: Conv::new(&(path / "conv2"), to, to, 3, 1),
            shortcut: (from != to).then(|| Conv::new(&(path / "nin_shortcut"), from, to, 1, 1)),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.conv1.forward(&self.norm1.forward_silu(x));
        let h = self.conv2.forward(&self.norm2.forward_silu(&h));
        match &self.shortcut {
            Some(shortcut) => h + shortcut.forward(x),
            None => h + x,
        }
    }
}

/// Attention of one head over the pixels of a frame, its projections being convolutions of one pixel.
#[derive(Debug)]
struct Attention {
    norm: GroupNorm,
    q: Conv,
    k: Conv,
    v: Conv,
    out: Conv,
}

impl Attention {
    fn new(path: &nn::Path, channels: i64) -> Self {
        let conv = |name: &str| Conv::new(&(path / name), channels, channels, 1, 1);
        Self {
            norm: GroupNorm::new(&(path / "norm"), channels, EPS),
            q: conv("q"),
            k: conv("k"),
            v: conv("v"),
            out: conv("proj_out"),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let (n, c, height, width) = x.size4().expect("of shape [frame, channel, y, x]");
        let h = self.norm.forward(x);
        let tokens = |conv: &Conv| conv.forward(&h).permute([0, 2, 3, 1]).reshape([n, 1, height * width, c]);
        let out = attention(&tokens(&self.q), &tokens(&self.k), &tokens(&self.v));
        self.out.forward(&out.reshape([n, height, width, c]).permute([0, 3, 1, 2]).contiguous()) + x
    }
}

#[derive(Debug)]
struct Middle(ResBlock, Attention, ResBlock);

impl Middle {
    fn new(path: &nn::Path, channels: i64) -> Self {
        Self(
            ResBlock::new(&(path / "block_1"), channels, channels),
            Attention::new(&(path / "attn_1"), channels),
            ResBlock::new(&(path / "block_2"), channels, channels),
        )
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.2.forward(&self.1.forward(&self.0.forward(x)))
    }
}

/// One resolution: its blocks, and the change to the next resolution.
#[derive(Debug)]
struct Level {
    blocks: Vec<ResBlock>,
    resample: Option<Conv>,
}

#[derive(Debug)]
struct Coder {
    conv_in: Conv,
    levels: Vec<Level>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv,
}

impl Coder {
    fn encoder(path: &nn::Path, config: &AutoencoderConfig) -> Self {
        let ch = config.channels;
        let mut width = ch;
        let mut levels = Vec::new();
        for (i, mult) in config.mult.iter().enumerate() {
            let here = path / "down" / i;
            let mut blocks = Vec::new();
            for j in 0..config.res_blocks {
                blocks.push(ResBlock::new(&(&here / "block" / j), width, mult * ch));
                width = mult * ch;
            }
            let conv = &here / "downsample" / "conv";
            let resample = (i + 1 < config.mult.len()).then(|| Conv::unpadded(&conv, width, width, 3, 2));
            levels.push(Level { blocks, resample });
        }
        Self {
            conv_in: Conv::new(&(path / "conv_in"), config.in_channels, ch, 3, 1),
            levels,
            middle: Middle::new(&(path / "mid"), width),
            norm_out: GroupNorm::new(&(path / "norm_out"), width, EPS),
            conv_out: Conv::new(&(path / "conv_out"), width, 2 * config.latent_channels, 3, 1),
        }
    }

    /// Its levels are in the order in which data passes: coarsest first.
    fn decoder(path: &nn::Path, config: &AutoencoderConfig) -> Self {
        let ch = config.channels;
        let coarsest = ch * config.mult.last().copied().unwrap_or(1);
        let mut width = coarsest;
        let mut levels = Vec::new();
        for (i, mult) in config.mult.iter().enumerate().rev() {
            let here = path / "up" / i;
            let mut blocks = Vec::new();
            for j in 0..=config.res_blocks {
                blocks.push(ResBlock::new(&(&here / "block" / j), width, mult * ch));
                width = mult * ch;
            }
            let resample = (i > 0).then(|| Conv::new(&(&here / "upsample" / "conv"), width, width, 3, 1));
            levels.push(Level { blocks, resample });
        }
        Self {
            conv_in: Conv::new(&(path / "conv_in"), config.latent_channels, coarsest, 3, 1),
            levels,
            middle: Middle::new(&(path / "mid"), coarsest),
            norm_out: GroupNorm::new(&(path / "norm_out"), width, EPS),
            conv_out: Conv::new(&(path / "conv_out"), width, config.in_channels, 3, 1),
        }
    }

    fn finish(&self, h: &Tensor) -> Tensor {
        self.conv_out.forward(&self.norm_out.forward_silu(h))
    }
}

/// The autoencoder; 55,309,758 parameters in the full configuration.
#[derive(Debug)]
pub struct Autoencoder {
    config: AutoencoderConfig,
    encoder: Coder,
    decoder: Coder,
    quant: Conv,
    post_quant: Conv,
}

impl Autoencoder {
    /// Makes the parameters under `path`, all zero.
    pub fn new(path: &nn::Path, config: &AutoencoderConfig) -> Self {
        let z = config.latent_channels;
        Self {
            encoder: Coder::encoder(&(path / "encoder"), config),
            decoder: Coder::decoder(&(path / "decoder"), config),
            quant: Conv::new(&(path / "quant_conv"), 2 * z, 2 * z, 1, 1),
            post_quant: Conv::new(&(path / "post_quant_conv"), z, z, 1, 1),
            config: config.clone(),
        }
    }

    /// Its sizes.
    pub fn config(&self) -> &AutoencoderConfig {
        &self.config
    }

    /// Sets [`AutoencoderConfig::scale`].
    pub fn set_scale(&mut self, scale: f64) {
        self.config.scale = scale;
    }

    /// Mean and log-variance of the latent: `[n, c, y, x]` to `[n, 2 z, y/stride, x/stride]`, the mean first.
    pub fn moments(&self, x: &Tensor) -> Tensor {
        let mut h = self.encoder.conv_in.forward(&x.contiguous());
        for level in &self.encoder.levels {
            for block in &level.blocks {
                h = block.forward(&h);
            }
            if let Some(conv) = &level.resample {
                h = conv.forward(&h.constant_pad_nd([0, 1, 0, 1]));
            }
        }
        self.quant.forward(&self.encoder.finish(&self.encoder.middle.forward(&h)))
    }

    /// The latent that is diffused: the mean, scaled; `[n, z, y/stride, x/stride]`.
    pub fn encode(&self, x: &Tensor) -> Tensor {
        self.moments(x).narrow(1, 0, self.config.latent_channels) * self.config.scale
    }

    /// A latent drawn with the given standard normal noise, scaled.
    pub fn sample(&self, x: &Tensor, noise: &Tensor) -> Tensor {
        let parts = self.moments(x).chunk(2, 1);
        let deviation = (parts[1].clamp(-30.0, 20.0) * 0.5).exp();
        (&parts[0] + deviation * noise) * self.config.scale
    }

    /// Undoes [`Autoencoder::encode`], approximately.
    pub fn decode(&self, latent: &Tensor) -> Tensor {
        self.decode_unscaled(&(latent / self.config.scale))
    }

    /// Decodes a latent that is not scaled.
    pub fn decode_unscaled(&self, latent: &Tensor) -> Tensor {
        let mut h = self.decoder.conv_in.forward(&self.post_quant.forward(&latent.contiguous()));
        h = self.decoder.middle.forward(&h);
        for level in &self.decoder.levels {
            for block in &level.blocks {
                h = block.forward(&h);
            }
            if let Some(conv) = &level.resample {
                let (_, _, height, width) = h.size4().expect("of shape [frame, channel, y, x]");
                h = conv.forward(&h.upsample_nearest2d([2 * height, 2 * width], None, None));
            }
        }
        self.decoder.finish(&h)
    }
}
