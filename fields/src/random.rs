//! Counter-based random numbers: Philox4x32-10 of Salmon et al. (2011).
//!
//! A number is a pure function of a key and a counter. Keyed by (model digest, stream, issue time,
//! member, what), a member stays the same whatever the ensemble size, the batch, the worker count or
//! a restart, and the noise at a cell can be had without the noise at the cells before it.

use sha2::{Digest, Sha256};

use crate::IssueTime;

/// A stream of random numbers, addressed by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
    stream: [u32; 2],
}

impl Philox {
    /// The stream of one key; `stream` tells apart uses of one key.
    pub const fn new(key: u64, stream: u64) -> Self {
        Self { key: [key as u32, (key >> 32) as u32], stream: [stream as u32, (stream >> 32) as u32] }
    }

    /// The stream of one member of one forecast; `what` names its use, such as `noise` or `motion`.
    pub fn of_member(model_digest: &str, stream: &str, issue_time: IssueTime, member: u32, what: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [model_digest, stream, what] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(issue_time.unix_seconds().to_le_bytes());
        let digest = hash.finalize();
        let number =
            |from: usize| u64::from_le_bytes(digest[from..from + 8].try_into().expect("a SHA-256 digest has 32 bytes"));
        let (key, stream) = (number(0), number(8));
        Self::new(key, stream ^ u64::from(member).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// Key and stream, each low word first: with a position, all that [`Philox::block`] is a function of.
    pub const fn words(&self) -> [u32; 4] {
        [self.key[0], self.key[1], self.stream[0], self.stream[1]]
    }

    /// Four independent 32-bit numbers at a position.
    ///
    /// ```
    /// // Known answer of the Random123 library: key and counter all ones.
    /// use squall_fields::random::Philox;
    /// let all = Philox::new(u64::MAX, u64::MAX).block(u64::MAX);
    /// assert_eq!(all, [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    /// ```
    pub const fn block(&self, position: u64) -> [u32; 4] {
        let mut c = [position as u32, (position >> 32) as u32, self.stream[0], self.stream[1]];
        let mut k = self.key;
        let mut round = 0;
        while round < 10 {
            let p0 = c[0] as u64 * 0xD251_1F53;
            let p1 = c[2] as u64 * 0xCD9E_8D57;
            c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
            k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
            round += 1;
        }
        c
    }

    /// Uniform in [0, 1) at a position.
    pub fn uniform(&self, position: u64) -> f64 {
        let [a, b, ..] = self.block(position);
        ((u64::from(a) << 32 | u64::from(b)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Four standard normal numbers at a position (Box and Muller).
    pub fn normal(&self, position: u64) -> [f32; 4] {
        let bits = self.block(position);
        let unit = |b: u32| (f64::from(b) + 0.5) / 4_294_967_296.0;
        let pair = |a: u32, b: u32| {
            let radius = (-2.0 * unit(a).ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * unit(b)).sin_cos();
            ((radius * cos) as f32, (radius * sin) as f32)
        };
        let ((a, b), (c, d)) = (pair(bits[0], bits[1]), pair(bits[2], bits[3]));
        [a, b, c, d]
    }

    /// Fills a slice with standard normal numbers: element `i` is number `i % 4` at position `first + i / 4`.
    pub fn fill_normal(&self, first: u64, out: &mut [f32]) {
        for (block, chunk) in out.chunks_mut(4).enumerate() {
            let numbers = self.normal(first + block as u64);
            chunk.copy_from_slice(&numbers[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(Philox::new(0, 0).block(0), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    }

    #[test]
    fn normal_moments() {
        let mut x = vec![0f32; 100_000];
        Philox::new(7, 1).fill_normal(0, &mut x);
        let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / x.len() as f64;
        assert!(mean.abs() < 0.015 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
