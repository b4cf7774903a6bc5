//! Attention over the pixels of a frame, then over the frames of a pixel.

use tch::{Tensor, nn};

use super::layers::{Conv, GroupNorm, LayerNorm, Linear, attention, positions, silu, sinusoids};

/// Multi-head self-attention: its projections. Who attends to whom is decided by the caller's view.
#[derive(Debug)]
struct SelfAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: i64,
}

impl SelfAttention {
    fn new(path: &nn::Path, channels: i64, heads: i64) -> Self {
        let linear = |name: &str| Linear::unbiased(&(path / name), channels, channels);
        let out = Linear::new(&(path / "to_out" / 0), channels, channels);
        Self { q: linear("to_q"), k: linear("to_k"), v: linear("to_v"), out, heads }
    }

    /// Tokens `[frame, pixel, c]`; each attends to the tokens of its frame.
    fn within_frames(&self, x: &Tensor) -> Tensor {
        let (frames, pixels, c) = x.size3().expect("of shape [frame, pixel, channel]");
        let split = |t: Tensor| t.view([frames, pixels, self.heads, c / self.heads]).transpose(1, 2);
        let out = attention(&split(self.q.forward(x)), &split(self.k.forward(x)), &split(self.v.forward(x)));
        self.out.forward(&out.transpose(1, 2).reshape([frames, pixels, c]))
    }

    /// Tokens `[sample * frame, pixel, c]`; each attends to the tokens at its pixel. The heads of all pixels are laid
    /// side by side as heads of one attention over frames, which needs no copy.
    fn across_frames(&self, x: &Tensor, frames: i64) -> Tensor {
        let (rows, pixels, c) = x.size3().expect("of shape [frame, pixel, channel]");
        let samples = rows / frames.max(1);
        let split = |t: Tensor| t.view([samples, frames, pixels * self.heads, c / self.heads]).transpose(1, 2);
        let out = attention(&split(self.q.forward(x)), &split(self.k.forward(x)), &split(self.v.forward(x)));
        self.out.forward(&out.transpose(1, 2).reshape([rows, pixels, c]))
    }
}

/// Linear(C,8C) split in (a, g), a * GELU(g), Linear(4C,C).
#[derive(Debug)]
struct FeedForward {
    expand: Linear,
    contract: Linear,
}

impl FeedForward {
    fn new(path: &nn::Path, channels: i64) -> Self {
        let net = path / "net";
        Self {
            expand: Linear::new(&(&net / 0 / "proj"), channels, 8 * channels),
            contract: Linear::new(&(&net / 2), 4 * channels, channels),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        // An input of trained layers always takes gradients.
        if x.requires_grad() {
            let parts = self.expand.forward(x).chunk(2, -1);
            return self.contract.forward(&(&parts[0] * parts[1].gelu("none")));
        }
        // Without gradients the halves are made apart and combined in place: half the time on a CPU.
        let half = 4 * x.size().last().expect("of shape [..., channel]");
        let mut gate = self.expand.forward_part(x, half, half);
        let _ = gate.gelu_("none");
        self.contract.forward(&gate.g_mul_(&self.expand.forward_part(x, 0, half)))
    }
}

/// Two self-attentions and a feed-forward, each on a normalised input and added to it.
#[derive(Debug)]
struct Block {
    norms: [LayerNorm; 3],
    attentions: [SelfAttention; 2],
    feed_forward: FeedForward,
}

impl Block {
    fn new(path: &nn::Path, channels: i64, heads: i64) -> Self {
        Self {
            norms: ["norm1", "norm2", "norm3"].map(|n| LayerNorm::new(&(path / n), channels)),
            attentions: ["attn1", "attn2"].map(|n| SelfAttention::new(&(path / n), channels, heads)),
            feed_forward: FeedForward::new(&(path / "ff"), channels),
        }
    }

    fn forward(&self, x: &Tensor, attend: impl Fn(&SelfAttention, &Tensor) -> Tensor) -> Tensor {
        let mut x = x + attend(&self.attentions[0], &self.norms[0].forward(x));
        x = &x + attend(&self.attentions[1], &self.norms[1].forward(&x));
        &x + self.feed_forward.forward(&self.norms[2].forward(&x))
    }
}

/// Spatial attention, then temporal attention on a copy that knows its frame, mixed by a learned share.
#[derive(Debug)]
pub struct SpatialVideoTransformer {
    norm: GroupNorm,
    proj_in: Conv,
    spatial: Block,
    frame_in: Linear,
    frame_out: Linear,
    norm_in: LayerNorm,
    feed_forward_in: FeedForward,
    temporal: Block,
    mix_factor: Tensor,
    proj_out: Conv,
    channels: i64,
}

impl SpatialVideoTransformer {
    /// Of one width.
    pub fn new(path: &nn::Path, channels: i64, heads: i64) -> Self {
        let (frame, time) = (path / "time_pos_embed", path / "time_stack" / 0);
        Self {
            norm: GroupNorm::new(&(path / "norm"), channels, 1e-6),
            proj_in: Conv::new(&(path / "proj_in"), channels, channels, 1, 1),
            spatial: Block::new(&(path / "transformer_blocks" / 0), channels, heads),
            frame_in: Linear::new(&(&frame / 0), channels, 4 * channels),
            frame_out: Linear::new(&(&frame / 2), 4 * channels, channels),
            norm_in: LayerNorm::new(&(&time / "norm_in"), channels),
            feed_forward_in: FeedForward::new(&(&time / "ff_in"), channels),
            temporal: Block::new(&time, channels, heads),
            mix_factor: (path / "time_mixer").zeros("mix_factor", &[1]),
            proj_out: Conv::new(&(path / "proj_out"), channels, channels, 1, 1),
            channels,
        }
    }

    /// `[sample * frame, c, y, x]`, channels last.
    pub fn forward(&self, input: &Tensor, frames: i64) -> Tensor {
        let (rows, c, height, width) = input.size4().expect("of shape [frame, channel, y, x]");
        let x = self.proj_in.forward(&self.norm.forward(input));
        let x = x.permute([0, 2, 3, 1]).reshape([rows, height * width, c]);
        let x = self.spatial.forward(&x, |a, x| a.within_frames(x));
        let z = self.with_frame(&x, frames);
        let z = self.feed_forward_in.forward(&self.norm_in.forward(&z)) + z;
        let z = self.temporal.forward(&z, |a, z| a.across_frames(z, frames));
        let x = z.lerp_tensor(&x, &self.mix_factor.sigmoid());
        let x = x.reshape([rows, height, width, c]).permute([0, 3, 1, 2]);
        self.proj_out.forward(&x) + input
    }

    /// Adds to each token the embedding of its frame's number.
    fn with_frame(&self, x: &Tensor, frames: i64) -> Tensor {
        let (rows, pixels, c) = x.size3().expect("of shape [frame, pixel, channel]");
        let numbers = sinusoids(&positions(frames, x.device()), self.channels).to_kind(x.kind());
        let embedding = self.frame_out.forward(&silu(self.frame_in.forward(&numbers)));
        let x = x.view([rows / frames.max(1), frames, pixels, c]) + embedding.view([1, frames, 1, c]);
        x.view([rows, pixels, c])
    }
}
