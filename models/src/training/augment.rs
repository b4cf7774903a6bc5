//! Mirrored and turned crops: rain knows no right-handed world at 100 km.

use tch::Tensor;

/// One of the eight symmetries of the square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symmetry(u8);

impl Symmetry {
    /// As it is.
    pub const IDENTITY: Self = Self(0);

    /// One of eight, by any number.
    pub const fn numbered(number: u32) -> Self {
        Self((number % 8) as u8)
    }

    /// Applied to the last two dimensions, which must be square.
    ///
    /// All fields of a clip, its first guess too, take the same symmetry, so motion turns with the rain.
    pub fn apply(self, x: &Tensor) -> Tensor {
        let turned = x.rot90(i64::from(self.0 & 3), [-2, -1]);
        if self.0 & 4 == 0 { turned } else { turned.flip([-1]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_eight_differ() {
        let x = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).reshape([2, 2]);
        let mut seen: Vec<Vec<f32>> =
            (0..8).map(|n| Vec::try_from(Symmetry::numbered(n).apply(&x).reshape([4]).contiguous()).unwrap()).collect();
        seen.sort_by(|a, b| a.partial_cmp(b).unwrap());
        seen.dedup();
        assert_eq!(seen.len(), 8);
        assert_eq!(Symmetry::IDENTITY.apply(&x), x);
    }
}
