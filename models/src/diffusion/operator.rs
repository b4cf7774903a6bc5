//! The dynamical operator of DyDiff: a recursion over frames that lets each frame's noisy state hold its past.
//!
//! `u_0 = x_0`, `u_s = sqrt(1-g) u_{s-1} + sqrt(g) x_s`, with its exact inverse. Linear, causal, the same for every
//! channel and pixel, the identity for g = 1.

use tch::{Kind, Tensor};

use crate::device;

/// D for one g: `x` is `[sample, frame, ...]`.
pub fn apply(x: &Tensor, g: f64) -> Tensor {
    if g == 1.0 { x.shallow_clone() } else { apply_each(x, &vec![g; x.size()[0].max(1) as usize]) }
}

/// D with its own g for each sample. Computed as one small matrix over the frames for each sample.
pub fn apply_each(x: &Tensor, g: &[f64]) -> Tensor {
    let size = x.size();
    let (samples, frames) = (size[0], size[1]);
    let entries: Vec<f32> = g.iter().flat_map(|g| matrix(*g, frames)).collect();
    let matrix = device::sent(&Tensor::from_slice(&entries), x.device()).reshape([samples, frames, frames]);
    matrix.bmm(&x.to_kind(Kind::Float).reshape([samples, frames, -1])).reshape(&size)
}

/// Rows of D, `[frame, frame]`.
fn matrix(g: f64, frames: i64) -> Vec<f32> {
    let (keep, take) = ((1.0 - g).sqrt(), g.sqrt());
    let entry = |s: i64, j: i64| match (s - j, j) {
        (back, _) if back < 0 => 0.0,
        (back, 0) => keep.powi(back as i32),
        (back, _) => take * keep.powi(back as i32),
    };
    (0..frames).flat_map(|s| (0..frames).map(move |j| entry(s, j) as f32)).collect()
}

/// The inverse of D: `x_0 = u_0`, `x_s = (u_s - sqrt(1-g) u_{s-1}) / sqrt(g)`.
pub fn invert(u: &Tensor, g: f64) -> Tensor {
    if g == 1.0 {
        return u.shallow_clone();
    }
    let frames = u.size()[1];
    let later = (u.narrow(1, 1, frames - 1) - u.narrow(1, 0, frames - 1) * (1.0 - g).sqrt()) / g.sqrt();
    Tensor::cat(&[u.narrow(1, 0, 1), later], 1)
}

/// The inverse with its own g for each sample.
pub fn invert_each(u: &Tensor, g: &[f64]) -> Tensor {
    let parts: Vec<Tensor> = g.iter().enumerate().map(|(i, g)| invert(&u.narrow(0, i as i64, 1), *g)).collect();
    Tensor::cat(&parts, 0)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn the_recursion_and_its_inverse() {
        let x = Tensor::arange(2 * 4 * 3, (Kind::Float, Device::Cpu)).sin().reshape([2, 4, 3]);
        let g = [0.3, 0.8];
        let u = apply_each(&x, &g);
        for (b, g) in g.iter().enumerate() {
            let (x, u) = (x.get(b as i64), u.get(b as i64));
            let mut expected = x.get(0);
            for s in 0..4 {
                if s > 0 {
                    expected = expected * (1.0 - g).sqrt() + x.get(s) * g.sqrt();
                }
                assert!((u.get(s) - &expected).abs().max().double_value(&[]) < 1e-6);
            }
        }
        assert!((invert_each(&u, &g) - &x).abs().max().double_value(&[]) < 1e-5);
        assert_eq!(apply(&x, 1.0), x);
    }
}
