//! The few layers that the networks are made of.

use tch::{Device, Kind, Tensor, nn};

/// A convolution over rows and columns, with bias.
#[derive(Debug)]
pub struct Conv {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: [i64; 2],
}

impl Conv {
    /// Square kernel of side `kernel`, padded so that stride 1 keeps the size.
    pub fn new(path: &nn::Path, from: i64, to: i64, kernel: i64, stride: i64) -> Self {
        let weight = path.zeros("weight", &[to, from, kernel, kernel]);
        Self { weight, bias: path.zeros("bias", &[to]), stride, padding: [kernel / 2; 2] }
    }

    /// As [`Conv::new`] with stride 2 and no padding; the caller pads.
    pub fn unpadded(path: &nn::Path, from: i64, to: i64, kernel: i64, stride: i64) -> Self {
        Self { padding: [0, 0], ..Self::new(path, from, to, kernel, stride) }
    }

    /// A kernel of three frames and one pixel: stored with the shape `[to, from, 3, 1, 1]` of a convolution over
    /// (time, y, x), applied over (time, pixel).
    pub fn temporal(path: &nn::Path, from: i64, to: i64) -> Self {
        let weight = path.zeros("weight", &[to, from, 3, 1, 1]);
        Self { weight, bias: path.zeros("bias", &[to]), stride: 1, padding: [1, 0] }
    }

    /// Type of its parameters.
    pub fn kind(&self) -> Kind {
        self.weight.kind()
    }

    /// `[n, from, y, x]` to `[n, to, y', x']`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let weight = if self.weight.dim() == 5 { self.weight.squeeze_dim(-1) } else { self.weight.shallow_clone() };
        x.conv2d(&weight, Some(&self.bias), [self.stride; 2], self.padding, [1, 1], 1)
    }
}

/// A linear map of the last dimension.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// With bias.
    pub fn new(path: &nn::Path, from: i64, to: i64) -> Self {
        Self { weight: path.zeros("weight", &[to, from]), bias: Some(path.zeros("bias", &[to])) }
    }

    /// Without bias.
    pub fn unbiased(path: &nn::Path, from: i64, to: i64) -> Self {
        Self { weight: path.zeros("weight", &[to, from]), bias: None }
    }

    /// `[..., from]` to `[..., to]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }

    /// The outputs from number `first` on alone, `count` of them.
    pub fn forward_part(&self, x: &Tensor, first: i64, count: i64) -> Tensor {
        let bias = self.bias.as_ref().map(|bias| bias.narrow(0, first, count));
        x.linear(&self.weight.narrow(0, first, count), bias.as_ref())
    }
}

/// Group normalisation with 32 groups.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl GroupNorm {
    /// Over `channels` channels.
    pub fn new(path: &nn::Path, channels: i64, eps: f64) -> Self {
        Self { weight: path.zeros("weight", &[channels]), bias: path.zeros("bias", &[channels]), eps }
    }

    /// `[n, c, y, x]`, each group of `c/32` channels of a sample together. The memory of the output has the order of
    /// the input's.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        // Below this many pixels libtorch's channels-last kernel for CPUs takes another way, up to 50 times slower.
        const FEW_PIXELS: i64 = 1024;
        if x.device() == Device::Cpu && !x.is_contiguous() {
            if x.requires_grad() {
                return self.forward_for_gradient(x);
            }
            let (_, _, height, width) = x.size4().expect("of shape [frame, channel, y, x]");
            if height * width < FEW_PIXELS {
                return self.forward_few_pixels(x);
            }
        }
        x.group_norm(32, Some(&self.weight), Some(&self.bias), self.eps, true)
    }

    /// The same from whole-tensor operations, its sums over pixels being matrix products.
    fn forward_few_pixels(&self, x: &Tensor) -> Tensor {
        let (n, c, height, width) = x.size4().expect("of shape [frame, channel, y, x]");
        let (pixels, members) = (height * width, c / 32);
        let rows = x.permute([0, 2, 3, 1]).reshape([n, pixels, c]).to_kind(Kind::Float);
        let share = 1.0 / (members * pixels) as f64;
        let average = Tensor::full([1, 1, pixels], share, (Kind::Float, x.device())).expand([n, 1, pixels], false);
        let of_groups = |x: &Tensor| {
            let sums = average.bmm(x).view([n, 32, members]).sum_dim_intlist(-1, true, None::<Kind>);
            sums.expand([n, 32, members], false).reshape([n, 1, c])
        };
        let mut rows = &rows - of_groups(&rows);
        let scale = (of_groups(&rows.square()) + self.eps).rsqrt() * self.weight.to_kind(Kind::Float);
        let rows = rows.g_mul_(&scale).g_add_(&self.bias.to_kind(Kind::Float)).to_kind(x.kind());
        rows.view([n, height, width, c]).permute([0, 3, 1, 2])
    }

    /// The same through a copy that is not channels-last: on a CPU, the backward pass of the fused kernel then takes a
    /// fifth of the time, both copies included.
    fn forward_for_gradient(&self, x: &Tensor) -> Tensor {
        let (n, c, height, width) = x.size4().expect("of shape [frame, channel, y, x]");
        let rows = x.permute([0, 2, 3, 1]).reshape([n, height * width, c]).transpose(1, 2).contiguous();
        let out = rows.group_norm(32, Some(&self.weight), Some(&self.bias), self.eps, true);
        out.transpose(1, 2).contiguous().view([n, height, width, c]).permute([0, 3, 1, 2])
    }

    /// Followed by SiLU, in place where no gradient is wanted.
    pub fn forward_silu(&self, x: &Tensor) -> Tensor {
        silu(self.forward(x))
    }
}

/// Layer normalisation of the last dimension.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// Over `channels` channels.
    pub fn new(path: &nn::Path, channels: i64) -> Self {
        Self { weight: path.zeros("weight", &[channels]), bias: path.zeros("bias", &[channels]) }
    }

    /// `[..., channels]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm([self.weight.size()[0]], Some(&self.weight), Some(&self.bias), 1e-5, true)
    }
}

/// SiLU, in place where no gradient is wanted.
pub fn silu(mut x: Tensor) -> Tensor {
    if x.requires_grad() { x.silu() } else { x.silu_() }
}

/// Scaled dot-product attention without mask; `q`, `k`, `v` are `[batch, head, token, channel]`.
///
/// CUDA kernels take at most 65,535 heads; more are split.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    const MOST_HEADS: i64 = 32_768;
    let part = |q: &Tensor, k: &Tensor, v: &Tensor| {
        Tensor::scaled_dot_product_attention(q, k, v, None::<&Tensor>, 0.0, false, None, false)
    };
    if !q.device().is_cuda() || q.size()[1] <= MOST_HEADS {
        return part(q, k, v);
    }
    let split = |x: &Tensor| x.split(MOST_HEADS, 1);
    let parts: Vec<Tensor> = split(q).iter().zip(&split(k)).zip(&split(v)).map(|((q, k), v)| part(q, k, v)).collect();
    Tensor::cat(&parts, 1)
}

/// `[cos(k f_j), sin(k f_j)]`, `f_j = 10000^(-j/(channels/2))`: a row of `channels` numbers for each position.
pub fn sinusoids(positions: &Tensor, channels: i64) -> Tensor {
    let half = channels / 2;
    let device = positions.device();
    // By libtorch on the CPU, as published models were trained: an error in the last place of a frequency is multiplied
    // by the position, which reaches 999.
    let frequencies =
        (self::positions(half, Device::Cpu) * -(1e4f64.ln()) / half as f64).exp().to_device(device).unsqueeze(0);
    let angles = positions.to_kind(Kind::Float).unsqueeze(1) * frequencies;
    Tensor::cat(&[angles.cos(), angles.sin()], 1)
}

/// The same values with channels-last memory; a view if they already are.
pub fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// Lays the kernels of all convolutions of a store channels-last, as their input is: a few per cent faster. Values and
/// shapes stay.
pub fn lay_out_for_inference(store: &nn::VarStore) {
    tch::no_grad(|| {
        for mut parameter in store.variables().into_values() {
            let laid_out = match parameter.dim() {
                4 => channels_last(&parameter),
                5 => parameter.permute([0, 2, 3, 4, 1]).contiguous().permute([0, 4, 1, 2, 3]),
                _ => continue,
            };
            parameter.set_data(&laid_out);
        }
    });
}

/// 0, 1, ..., `count - 1` on a device.
pub fn positions(count: i64, device: Device) -> Tensor {
    Tensor::arange(count, (Kind::Float, device))
}
