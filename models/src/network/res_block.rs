//! A residual block over space, then over time.

use tch::{Tensor, nn};

use super::layers::{Conv, GroupNorm, Linear};

/// Twice (normalise, SiLU, convolve), with the diffusion step's embedding added between.
#[derive(Debug)]
struct Branch {
    norm_in: GroupNorm,
    conv_in: Conv,
    embedding: Linear,
    norm_out: GroupNorm,
    conv_out: Conv,
}

impl Branch {
    fn new(path: &nn::Path, from: i64, to: i64, embedding: i64, conv: impl Fn(&nn::Path, i64, i64) -> Conv) -> Self {
        let (before, after) = (path / "in_layers", path / "out_layers");
        Self {
            norm_in: GroupNorm::new(&(&before / 0), from, 1e-5),
            conv_in: conv(&(&before / 2), from, to),
            embedding: Linear::new(&(path / "emb_layers" / 1), embedding, to),
            norm_out: GroupNorm::new(&(&after / 0), to, 1e-5),
            conv_out: conv(&(&after / 3), to, to),
        }
    }

    /// `embedding` is `[sample, channel]` after SiLU; `x` holds whole samples one after the other.
    fn forward(&self, x: &Tensor, embedding: &Tensor) -> Tensor {
        let h = self.conv_in.forward(&self.norm_in.forward_silu(x));
        let e = self.embedding.forward(embedding);
        let (samples, channels) = (e.size()[0], e.size()[1]);
        let rows = h.size()[0] / samples;
        let e = e.unsqueeze(1).expand([samples, rows, channels], false).reshape([samples * rows, channels, 1, 1]);
        let h = add(h, &e);
        self.conv_out.forward(&self.norm_out.forward_silu(&h))
    }
}

/// `a + b`, in place where no gradient is wanted.
fn add(mut a: Tensor, b: &Tensor) -> Tensor {
    if a.requires_grad() || b.requires_grad() { a + b } else { a.g_add_(b) }
}

/// Spatial residual block, then a temporal one, mixed by a learned share.
#[derive(Debug)]
pub struct VideoResBlock {
    spatial: Branch,
    temporal: Branch,
    skip: Option<Conv>,
    mix_factor: Tensor,
}

impl VideoResBlock {
    /// From `from` to `to` channels; `embedding` is the width of the diffusion step's embedding.
    pub fn new(path: &nn::Path, from: i64, to: i64, embedding: i64) -> Self {
        Self {
            spatial: Branch::new(path, from, to, embedding, |p, a, b| Conv::new(p, a, b, 3, 1)),
            temporal: Branch::new(&(path / "time_stack"), to, to, embedding, Conv::temporal),
            skip: (from != to).then(|| Conv::new(&(path / "skip_connection"), from, to, 1, 1)),
            mix_factor: (path / "time_mixer").zeros("mix_factor", &[1]),
        }
    }

    /// `[sample * frame, from, y, x]` to `[sample * frame, to, y, x]`; `embedding` as `[sample, channel]` after SiLU.
    pub fn forward(&self, x: &Tensor, embedding: &Tensor) -> Tensor {
        let h = self.spatial.forward(x, embedding);
        let spatial = match &self.skip {
            Some(skip) => add(h, &skip.forward(x)),
            None => add(h, x),
        };
        let change = self.temporal.forward(&over_time(&spatial, embedding.size()[0]), embedding);
        let change = over_space(&change, &spatial);
        // a*s + (1-a)*(s + change) = s + (1-a)*change
        let share = 1.0 - self.mix_factor.sigmoid();
        spatial.addcmul(&change, &share)
    }
}

/// `[sample * frame, c, y, x]`, channels last, as `[sample, c, frame, y * x]`: a view.
fn over_time(x: &Tensor, samples: i64) -> Tensor {
    let (rows, c, y, w) = x.size4().expect("of shape [frame, channel, y, x]");
    x.permute([0, 2, 3, 1]).reshape([samples, rows / samples.max(1), y * w, c]).permute([0, 3, 1, 2])
}

/// Undoes [`over_time`]; `like` has the shape wanted.
fn over_space(x: &Tensor, like: &Tensor) -> Tensor {
    let (rows, c, y, w) = like.size4().expect("of shape [frame, channel, y, x]");
    x.permute([0, 2, 3, 1]).reshape([rows, y, w, c]).permute([0, 3, 1, 2])
}
