//! The loss: weighted mean square between what the network says and what it should say, in x-space.

use tch::{Kind, Tensor};

/// `sum(weight * (output - target)^2) / sum(weight)`, all broadcast to `[sample, frame, channel, y, x]`.
///
/// Missing pixels have weight 0 and so neither count nor dilute.
pub fn weighted_square(output: &Tensor, target: &Tensor, weight: &Tensor) -> Tensor {
    let square = (output - target).square() * weight;
    let total = weight.expand_as(&square).sum(Kind::Float).clamp_min(1e-6);
    square.sum(Kind::Float) / total
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn missing_pixels_do_not_count() {
        let target = Tensor::zeros([1, 1, 1, 2, 2], (Kind::Float, Device::Cpu));
        let output = Tensor::from_slice(&[1f32, 1.0, 50.0, 1.0]).reshape([1, 1, 1, 2, 2]);
        let weight = Tensor::from_slice(&[1f32, 1.0, 0.0, 1.0]).reshape([1, 1, 1, 2, 2]);
        assert!((weighted_square(&output, &target, &weight).double_value(&[]) - 1.0).abs() < 1e-6);
    }
}
