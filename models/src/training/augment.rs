//! Mirrored, turned, coarser and stronger crops: rain knows no right-handed world at 100 km.

use squall_fields::random::Philox;
use tch::Tensor;

use super::config::CropConfig;

/// How the values of a crop are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Cells along a side of which one pixel is the mean.
    pub zoom: usize,
    /// Factor on rain.
    pub factor: f32,
}

impl Reading {
    /// Values as they are.
    pub const PLAIN: Self = Self { zoom: 1, factor: 1.0 };

    /// Drawn from a sample's random numbers, at two positions.
    pub fn drawn(crop: &CropConfig, random: &Philox, [zoom, factor]: [u64; 2]) -> Self {
        // Uniform, of unit variance.
        let strength = 12f64.sqrt() * (random.uniform(factor) - 0.5);
        Self {
            zoom: if random.uniform(zoom) < crop.zoom { 2 } else { 1 },
            factor: (crop.intensity * strength).exp() as f32,
        }
    }
}

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
    fn crops_are_read_as_often_coarser_and_as_much_stronger_as_is_asked() {
        let crop = CropConfig { zoom: 0.25, intensity: 0.3, ..CropConfig::default() };
        let read = |crop: &CropConfig, i: u64| Reading::drawn(crop, &Philox::new(3, i), [4, 5]);
        let all: Vec<Reading> = (0..20_000).map(|i| read(&crop, i)).collect();
        let coarse = all.iter().filter(|reading| reading.zoom == 2).count() as f64 / 20_000.0;
        let spread = (all.iter().map(|r| f64::from(r.factor.ln()).powi(2)).sum::<f64>() / 20_000.0).sqrt();
        assert!((coarse - 0.25).abs() < 0.02 && (spread - 0.3).abs() < 0.01, "{coarse} {spread}");
        assert!((0..100).all(|i| read(&CropConfig::default(), i) == Reading::PLAIN));
    }

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
