//! The video U-Net: noisy frames and their conditioning in, noise of every frame out.

use tch::{Kind, Tensor, nn};

use super::config::UNetConfig;
use super::layers::{Conv, GroupNorm, Linear, channels_last, silu, sinusoids};
use super::res_block::VideoResBlock;
use super::transformer::SpatialVideoTransformer;

/// One step on the way down, through the middle or up.
// A network has a few dozen of them: a box around the large one would save nothing that counts.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum Layer {
    Conv(Conv),
    Res(VideoResBlock),
    Transformer(SpatialVideoTransformer),
    Upsample(Conv),
}

impl Layer {
    fn forward(&self, x: &Tensor, embedding: &Tensor, frames: i64) -> Tensor {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Res(block) => block.forward(x, embedding),
            Self::Transformer(block) => block.forward(x, frames),
            Self::Upsample(conv) => {
                let (_, _, height, width) = x.size4().expect("of shape [frame, channel, y, x]");
                conv.forward(&x.upsample_nearest2d([2 * height, 2 * width], None, None))
            }
        }
    }
}

/// Called with the name and the output of each block, for tests of parity.
pub type Tap<'a> = &'a mut dyn FnMut(&str, &Tensor);

/// A U-Net over the frames of a clip, with convolutions and attention over space and over time.
///
/// 60,982,185 parameters in the full configuration for frames of three channels.
#[derive(Debug)]
pub struct VideoUNet {
    config: UNetConfig,
    time_in: Linear,
    time_out: Linear,
    input_blocks: Vec<Vec<Layer>>,
    middle_block: Vec<Layer>,
    output_blocks: Vec<Vec<Layer>>,
    norm_out: GroupNorm,
    conv_out: Conv,
}

impl VideoUNet {
    /// Makes the parameters under `path`, all zero.
    ///
    /// ```
    /// use squall_models::network::{UNetConfig, VideoUNet};
    /// let store = tch::nn::VarStore::new(tch::Device::Cpu);
    /// VideoUNet::new(&store.root(), &UNetConfig::tiny(3));
    /// let parameters: usize = store.variables().values().map(|v| v.numel()).sum();
    /// assert_eq!(parameters, 2_059_634);
    /// ```
    pub fn new(path: &nn::Path, config: &UNetConfig) -> Self {
        let (ch, emb, area) = (config.channels, 4 * config.channels, config.patch * config.patch);
        let time = path / "time_embed";
        let attends = |factor: i64| config.attention.contains(&factor);
        let transformer = |p: nn::Path, c: i64| Layer::Transformer(SpatialVideoTransformer::new(&p, c, config.heads));

        let down = path / "input_blocks";
        let mut input_blocks =
            vec![vec![Layer::Conv(Conv::new(&(&down / 0 / 0), config.in_channels * area, ch, 3, 1))]];
        let (mut widths, mut width, mut factor) = (vec![ch], ch, 1);
        for (level, mult) in config.mult.iter().enumerate() {
            for _ in 0..config.res_blocks {
                let here = &down / input_blocks.len();
                let mut layers = vec![Layer::Res(VideoResBlock::new(&(&here / 0), width, mult * ch, emb))];
                width = mult * ch;
                if attends(factor) {
                    layers.push(transformer(&here / 1, width));
                }
                input_blocks.push(layers);
                widths.push(width);
            }
            if level + 1 < config.mult.len() {
                let here = &down / input_blocks.len() / 0 / "op";
                input_blocks.push(vec![Layer::Conv(Conv::new(&here, width, width, 3, 2))]);
                widths.push(width);
                factor *= 2;
            }
        }

        let middle = path / "middle_block";
        let middle_block = vec![
            Layer::Res(VideoResBlock::new(&(&middle / 0), width, width, emb)),
            transformer(&middle / 1, width),
            Layer::Res(VideoResBlock::new(&(&middle / 2), width, width, emb)),
        ];

        let up = path / "output_blocks";
        let mut output_blocks: Vec<Vec<Layer>> = Vec::new();
        for (level, mult) in config.mult.iter().enumerate().rev() {
            for i in 0..=config.res_blocks {
                let here = &up / output_blocks.len();
                let skip = widths.pop().unwrap_or(ch);
                let mut layers = vec![Layer::Res(VideoResBlock::new(&(&here / 0), width + skip, mult * ch, emb))];
                width = mult * ch;
                if attends(factor) {
                    layers.push(transformer(&here / 1, width));
                }
                if level > 0 && i == config.res_blocks {
                    let conv = &here / layers.len() / "conv";
                    layers.push(Layer::Upsample(Conv::new(&conv, width, width, 3, 1)));
                    factor /= 2;
                }
                output_blocks.push(layers);
            }
        }

        Self {
            time_in: Linear::new(&(&time / 0), ch, emb),
            time_out: Linear::new(&(&time / 2), emb, emb),
            input_blocks,
            middle_block,
            output_blocks,
            norm_out: GroupNorm::new(&(path / "out" / 0), ch, 1e-5),
            conv_out: Conv::new(&(path / "out" / 2), ch, config.out_channels * area, 3, 1),
            config: config.clone(),
        }
    }

    /// Its sizes.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// Type of its parameters, in which it computes.
    pub fn kind(&self) -> Kind {
        self.conv_out.kind()
    }

    /// `x` is `[sample, frame, in_channels, y, x]`, `step` the diffusion index of each sample; gives
    /// `[sample, frame, out_channels, y, x]`. Rows and columns are multiples of [`UNetConfig::stride`].
    ///
    /// Computes in the type of the parameters; the output has the type of `x`.
    pub fn forward(&self, x: &Tensor, step: &Tensor) -> Tensor {
        self.forward_tapped(x, step, &mut |_, _| ())
    }

    /// As [`VideoUNet::forward`], with the features that the output is made of: the channels of a cell, normalised, as
    /// `[sample, frame, channels / patch^2, y, x]`.
    pub fn forward_with_features(&self, x: &Tensor, step: &Tensor) -> (Tensor, Tensor) {
        let features = self.norm_out.forward_silu(&self.trunk(x, step, &mut |_, _| ()));
        (self.as_frames(x, &self.conv_out.forward(&features)), self.as_frames(x, &features))
    }

    /// As [`VideoUNet::forward`], showing each block's output to `tap`.
    pub fn forward_tapped(&self, x: &Tensor, step: &Tensor, tap: Tap) -> Tensor {
        let h = self.trunk(x, step, tap);
        self.as_frames(x, &self.conv_out.forward(&self.norm_out.forward_silu(&h)))
    }

    /// Cells `[sample * frame, channel, y, x]` as frames of pixels of the type of the input.
    fn as_frames(&self, x: &Tensor, cells: &Tensor) -> Tensor {
        let (samples, frames, _, height, width) = x.size5().expect("of shape [sample, frame, channel, y, x]");
        let pixels = self.to_pixels(cells.shallow_clone());
        pixels.reshape([samples, frames, -1, height, width]).to_kind(x.kind())
    }

    /// All but the last layers.
    fn trunk(&self, x: &Tensor, step: &Tensor, tap: Tap) -> Tensor {
        let (samples, frames, channels, height, width) = x.size5().expect("of shape [sample, frame, channel, y, x]");
        let kind = self.kind();
        let time = sinusoids(step, self.config.channels).to_kind(kind);
        let time = self.time_out.forward(&silu(self.time_in.forward(&time)));
        tap("time_embed", &time.repeat_interleave_self_int(frames, 0, samples * frames));
        // Every use of the embedding goes through SiLU first.
        let embedding = silu(time);

        let mut h = channels_last(&self.to_cells(x.reshape([samples * frames, channels, height, width]).to_kind(kind)));
        let mut skips = Vec::with_capacity(self.input_blocks.len());
        let run = |layers: &[Layer], mut h: Tensor| {
            for layer in layers {
                h = layer.forward(&h, &embedding, frames);
            }
            h
        };
        for (i, layers) in self.input_blocks.iter().enumerate() {
            h = run(layers, h);
            tap(&format!("input_blocks.{i}"), &h);
            skips.push(h.shallow_clone());
        }
        h = run(&self.middle_block, h);
        tap("middle_block", &h);
        for (i, layers) in self.output_blocks.iter().enumerate() {
            let skip = skips.pop().expect("as many blocks out as in");
            h = run(layers, Tensor::cat(&[h, skip], 1));
            tap(&format!("output_blocks.{i}"), &h);
        }
        h
    }

    /// Squares of pixels to channels of a cell.
    fn to_cells(&self, x: Tensor) -> Tensor {
        if self.config.patch == 1 { x } else { x.pixel_unshuffle(self.config.patch) }
    }

    /// Channels of a cell to squares of pixels.
    fn to_pixels(&self, x: Tensor) -> Tensor {
        if self.config.patch == 1 { x } else { x.pixel_shuffle(self.config.patch) }
    }
}
