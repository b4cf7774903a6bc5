//! Noise by position: a number for each member, frame, channel and cell of the domain.
//!
//! It is addressed, never drawn in sequence. So a member's noise does not change with the ensemble's size, the batch
//! or the tile that asks for it, and it is continuous over tiles because they read one and the same field.

use rayon::prelude::*;
use squall_fields::random::Philox;
use tch::Tensor;

/// Standard normal numbers `[frame, channel, y, x]` of a member, for the first cells of a domain of any size: cell
/// `(y, x)` has the same numbers in every domain of fewer than 2^20 rows and 2^20 columns.
pub fn field(random: &Philox, frames: usize, channels: usize, rows: usize, columns: usize) -> Tensor {
    let mut values = vec![0f32; frames * channels * rows * columns];
    if columns > 0 {
        values.par_chunks_mut(columns).enumerate().for_each(|(line, out)| {
            let (plane, y) = (line / rows, line % rows);
            random.fill_normal(((plane as u64) << 38) | ((y as u64) << 18), out);
        });
    }
    Tensor::from_slice(&values).reshape([frames as i64, channels as i64, rows as i64, columns as i64])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_keeps_its_noise_in_a_larger_domain() {
        let random = Philox::new(3, 5);
        let (small, large) = (field(&random, 2, 2, 5, 7), field(&random, 3, 2, 9, 16));
        assert_eq!(small, large.narrow(0, 0, 2).narrow(2, 0, 5).narrow(3, 0, 7));
        assert_ne!(small.get(0), small.get(1));
        assert_ne!(small, field(&Philox::new(3, 6), 2, 2, 5, 7));
    }
}
