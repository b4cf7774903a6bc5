//! Noise by position: a number for each member, frame, channel and cell of the domain.
//!
//! It is addressed, never drawn in sequence. So a member's noise does not change with the ensemble's size, the batch
//! or the tile that asks for it, and it is continuous over tiles because they read one and the same field.
//!
//! On a GPU the same numbers are computed where they are needed: the generator of [`Philox`] in operations on tensors, its blocks
//! bit for bit those of the host, the normal numbers but for the rounding of f32. On a CPU they come from the host's own.

use rayon::prelude::*;
use squall_fields::random::Philox;
use tch::{Device, Kind, Tensor};

use crate::device;

/// Standard normal numbers `[frame, channel, y, x]` of a member, for the first cells of a domain of any size: cell
/// `(y, x)` has the same numbers in every domain of fewer than 2^20 rows and 2^20 columns.
pub fn field(random: &Philox, frames: usize, channels: usize, rows: usize, columns: usize) -> Tensor {
    let mut values = vec![0f32; frames * channels * rows * columns];
    if columns > 0 {
        values.par_chunks_mut(columns).enumerate().for_each(|(line, out)| {
            let (plane, y) = (line / rows, line % rows);
            random.fill_normal(((plane as u64) << PLANE) | ((y as u64) << ROW), out);
        });
    }
    Tensor::from_slice(&values).reshape([frames as i64, channels as i64, rows as i64, columns as i64])
}

/// The same on a device, computed there if it is a GPU.
pub fn field_on(random: &Philox, [frames, channels, rows, columns]: [usize; 4], device: Device) -> Tensor {
    match device.is_cuda() {
        true => field_by_tensors(random, [frames, channels, rows, columns], device),
        false => field(random, frames, channels, rows, columns).to_device(device),
    }
}

/// Standard normal numbers `[stream, number]` on a device, as many of each stream, from a position on.
pub fn of_streams(random: &[Philox], first: u64, count: usize, device: Device) -> Tensor {
    if device.is_cuda() {
        return of_streams_by_tensors(random, first, count, device);
    }
    let mut values = vec![0f32; random.len() * count];
    values.chunks_mut(count.max(1)).zip(random).for_each(|(chunk, random)| random.fill_normal(first, chunk));
    Tensor::from_slice(&values).reshape([random.len() as i64, count as i64]).to_device(device)
}

/// Bits of a position below the number of a plane, and below that of a row.
const PLANE: u32 = 38;
const ROW: u32 = 18;

fn field_by_tensors(random: &Philox, [frames, channels, rows, columns]: [usize; 4], device: Device) -> Tensor {
    let numbers = |count: usize| Tensor::arange(count as i64, (Kind::Int64, device));
    let (planes, blocks) = (frames * channels, columns.div_ceil(4));
    let planes = (numbers(planes) * (1i64 << PLANE)).reshape([-1, 1, 1]);
    let positions = planes + (numbers(rows) * (1i64 << ROW)).reshape([-1, 1]) + numbers(blocks);
    let values = normal(&[*random], &positions.flatten(0, -1));
    let width = 4 * blocks as i64;
    values.reshape([frames as i64, channels as i64, rows as i64, width]).narrow(3, 0, columns as i64)
}

fn of_streams_by_tensors(random: &[Philox], first: u64, count: usize, device: Device) -> Tensor {
    // A position is 64 bits, whatever their sign as a number.
    let positions = Tensor::arange(count.div_ceil(4) as i64, (Kind::Int64, device)) + first as i64;
    normal(random, &positions).narrow(1, 0, count as i64)
}

/// The 32 bits of a word: words are numbers of 64 bits here.
const WORD: i64 = 0xFFFF_FFFF;

/// [`Philox::block`] of each stream at each position: four words, each `[stream, position]`. A product of two words is all 64 bits
/// of a number; as a signed one it wraps, and its bits are right.
fn blocks(random: &[Philox], positions: &Tensor) -> [Tensor; 4] {
    let words: Vec<i64> = random.iter().flat_map(Philox::words).map(i64::from).collect();
    let words = device::sent(&Tensor::from_slice(&words).reshape([-1, 4]), positions.device());
    let word = |number: i64| words.narrow(1, number, 1);
    let low = |x: &Tensor| x.bitwise_and(WORD);
    let high = |x: &Tensor| x.bitwise_right_shift_tensor_scalar(32i64).bitwise_and(WORD);
    let xor = |a: Tensor, b: &Tensor, c: &Tensor| a.bitwise_xor_tensor(b).bitwise_xor_tensor(c);
    let positions = positions.unsqueeze(0);
    let mut c = [low(&positions), high(&positions), word(2), word(3)];
    let mut k = [word(0), word(1)];
    for _ in 0..10 {
        let (p0, p1) = (&c[0] * 0xD251_1F53i64, &c[2] * 0xCD9E_8D57i64);
        c = [xor(high(&p1), &c[1], &k[0]), low(&p1), xor(high(&p0), &c[3], &k[1]), low(&p0)];
        k = [low(&(&k[0] + 0x9E37_79B9i64)), low(&(&k[1] + 0xBB67_AE85i64))];
    }
    c
}

/// [`Philox::normal`] of each stream at each position, `[stream, 4 * position]` in f32.
fn normal(random: &[Philox], positions: &Tensor) -> Tensor {
    let [a, b, c, d] = blocks(random, positions);
    let unit = |word: &Tensor| (word.to_kind(Kind::Double) + 0.5) / 4_294_967_296.0;
    let pair = |a: &Tensor, b: &Tensor| {
        let (radius, angle) = ((unit(a).log() * -2.0).sqrt(), unit(b) * std::f64::consts::TAU);
        [(&radius * angle.cos()).to_kind(Kind::Float), (radius * angle.sin()).to_kind(Kind::Float)]
    };
    let ([a, b], [c, d]) = (pair(&a, &b), pair(&c, &d));
    Tensor::stack(&[a, b, c, d], -1).flatten(1, -1)
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

    #[test]
    fn blocks_of_tensors_are_those_of_the_host() {
        let random = [Philox::new(u64::MAX, u64::MAX), Philox::new(0, 0), Philox::new(0x0123_4567_89AB_CDEF, 1 << 63)];
        let positions = [u64::MAX, 0, 1, 0xFFFF_FFFF, 1 << 32, 1 << 60, 0xA5A5_5A5A_DEAD_BEEF];
        let words = blocks(&random, &Tensor::from_slice(&positions.map(|position| position as i64)));
        let words = words.map(|words| Vec::<Vec<i64>>::try_from(&words).unwrap());
        for (stream, random) in random.iter().enumerate() {
            for (place, position) in positions.iter().enumerate() {
                let found = [0, 1, 2, 3].map(|word: usize| words[word][stream][place]);
                assert_eq!(found, random.block(*position).map(i64::from), "stream {stream} at {position}");
            }
        }
        // The known answers of the Random123 library.
        assert_eq!([0, 1, 2, 3].map(|i: usize| words[i][0][0]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!([0, 1, 2, 3].map(|i: usize| words[i][1][1]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    }

    /// The largest difference, relative to the host's number.
    fn apart(by_tensors: &Tensor, of_host: &Tensor) -> f64 {
        assert_eq!((by_tensors.size(), by_tensors.kind()), (of_host.size(), Kind::Float));
        let (found, expected) = (by_tensors.to_kind(Kind::Double), of_host.to_kind(Kind::Double));
        ((found - &expected).abs() / expected.abs()).max().double_value(&[])
    }

    #[test]
    fn normal_numbers_of_tensors_are_those_of_the_host_but_for_rounding() {
        let random: Vec<Philox> = (0..5).map(|sample| Philox::new(7, sample)).collect();
        for (first, count) in [(16, 50_001), (1 << 40, 3)] {
            let found = of_streams_by_tensors(&random, first, count, Device::Cpu);
            let difference = apart(&found, &of_streams(&random, first, count, Device::Cpu));
            assert!(difference <= 2e-6, "{difference}");
        }
        let (one, size) = (Philox::new(3, 5), [2, 3, 37, 41]);
        let found = field_by_tensors(&one, size, Device::Cpu);
        let difference = apart(&found, &field_on(&one, size, Device::Cpu));
        assert!(difference <= 2e-6, "{difference}");
    }
}
