//! The network: a perceptron of residual blocks that sees a whole stretch and the diffusion step.

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use crate::network::layers::{LayerNorm, Linear, silu, sinusoids};

/// Sizes of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpConfig {
    /// Numbers that stand for a stretch inside; even. At least as many as the stretch has loses nothing.
    pub width: usize,
    /// Residual blocks.
    pub layers: usize,
}

impl MlpConfig {
    /// What is wrong with it, in a sentence.
    pub fn fault(self) -> Option<String> {
        let is_sound =
            (2..=16_384).contains(&self.width) && self.width.is_multiple_of(2) && (1..=256).contains(&self.layers);
        let Self { width, layers } = self;
        (!is_sound)
            .then(|| format!("expected an even width of 2 to 16384 and 1 to 256 layers, got {width} and {layers}"))
    }
}

/// `h + out(silu(inner(norm(h)) + step))`.
#[derive(Debug)]
struct Block {
    norm: LayerNorm,
    inner: Linear,
    step: Linear,
    out: Linear,
}

impl Block {
    fn new(path: &nn::Path, width: i64) -> Self {
        Self {
            norm: LayerNorm::new(&(path / "norm"), width),
            inner: Linear::new(&(path / "inner"), width, width),
            step: Linear::new(&(path / "step"), width, width),
            out: Linear::new(&(path / "proj_out"), width, width),
        }
    }

    fn forward(&self, h: &Tensor, step: &Tensor) -> Tensor {
        let inner = silu(self.inner.forward(&self.norm.forward(h)) + self.step.forward(step));
        h + self.out.forward(&inner)
    }
}

/// Noisy stretches in, what the network shall predict out.
#[derive(Debug)]
pub struct Mlp {
    width: i64,
    time_in: Linear,
    time_out: Linear,
    input: Linear,
    blocks: Vec<Block>,
    output: Linear,
}

impl Mlp {
    /// For stretches of so many values. Makes the parameters under `path`, all zero.
    pub fn new(path: &nn::Path, length: usize, config: MlpConfig) -> Self {
        let (length, width) = (length as i64, config.width as i64);
        let (time, blocks) = (path / "time_embed", path / "blocks");
        Self {
            width,
            time_in: Linear::new(&(&time / 0), width, width),
            time_out: Linear::new(&(&time / 2), width, width),
            input: Linear::new(&(path / "input"), length, width),
            blocks: (0..config.layers).map(|layer| Block::new(&(&blocks / layer), width)).collect(),
            output: Linear::new(&(path / "proj_out"), width, length),
        }
    }

    /// `[sample, time]`, each sample at its diffusion step `[sample]`.
    pub fn forward(&self, x: &Tensor, steps: &Tensor) -> Tensor {
        let step = self.time_out.forward(&silu(self.time_in.forward(&sinusoids(steps, self.width))));
        let h = self.blocks.iter().fold(self.input.forward(x), |h, block| block.forward(&h, &step));
        self.output.forward(&h)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::network::init;

    #[test]
    fn a_sample_is_denoised_by_itself_and_by_its_own_step() {
        let store = nn::VarStore::new(Device::Cpu);
        let network = Mlp::new(&store.root(), 6, MlpConfig { width: 16, layers: 2 });
        let x = Tensor::arange(12, (Kind::Float, Device::Cpu)).sin().reshape([2, 6]);
        let steps = |steps: &[i64]| Tensor::from_slice(steps);
        init::initialise(&store, 1);
        assert_eq!(network.forward(&x, &steps(&[3, 900])).abs().max().double_value(&[]), 0.0, "it starts as zero");
        init::fill_by_hash(&store);
        let both = network.forward(&x, &steps(&[3, 900]));
        assert_eq!(both.size(), [2, 6]);
        let apart = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        let alone = network.forward(&x.narrow(0, 1, 1), &steps(&[900]));
        assert!(apart(&both.narrow(0, 1, 1), &alone) < 1e-5);
        assert!(apart(&both, &network.forward(&x, &steps(&[3, 100]))) > 1e-3);
    }
}
