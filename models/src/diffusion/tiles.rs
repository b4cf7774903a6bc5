//! Domains larger than a network's tile: overlapping tiles, blended at every step of the solver.
//!
//! The solver keeps one state over the whole domain. At each step the noise is predicted tile by tile and averaged
//! with weights that fall to almost zero at a tile's edge (Bar-Tal et al. 2023), so neighbours agree at every step
//! and no seam can grow. Tiles and members are evaluated in batches of one fixed shape, so that a result never
//! depends on what else is in the batch.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::denoiser::{Condition, Denoiser};
use super::schedule::Instant;

/// Size of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiling {
    /// Rows and columns of a tile, multiples of the network's stride.
    pub tile: (usize, usize),
    /// Least rows and columns that neighbours share; less than half a tile.
    pub overlap: usize,
}

impl Tiling {
    /// Rows and columns of the domain that covers `rows` x `columns` cells: at least one tile.
    pub fn domain(&self, rows: usize, columns: usize) -> (usize, usize) {
        (rows.max(self.tile.0), columns.max(self.tile.1))
    }

    /// The smallest tiles, multiples of `stride`, that cover a domain in as few pieces: a domain that is no multiple of
    /// a tile does not make its tiles overlap more than they must, and one smaller than a tile is not filled up to it.
    ///
    /// ```
    /// use squall_models::diffusion::Tiling;
    /// let tiling = Tiling { tile: (256, 256), overlap: 32 };
    /// assert_eq!(tiling.fitted(100, 1226, 16).tile, (112, 240));
    /// ```
    pub fn fitted(&self, rows: usize, columns: usize, stride: usize) -> Self {
        let side = |length: usize, tile: usize| {
            let count = along(length, tile, self.overlap).len();
            let least = (length + (count - 1) * self.overlap).div_ceil(count);
            least.next_multiple_of(stride.max(1)).min(tile)
        };
        Self { tile: (side(rows, self.tile.0), side(columns, self.tile.1)), ..*self }
    }

    /// First rows and columns of the tiles of a domain, row by row.
    ///
    /// ```
    /// use squall_models::diffusion::Tiling;
    /// let tiling = Tiling { tile: (64, 64), overlap: 16 };
    /// assert_eq!(tiling.origins(64, 150), [(0, 0), (0, 43), (0, 86)]);
    /// ```
    pub fn origins(&self, rows: usize, columns: usize) -> Vec<(usize, usize)> {
        let columns = along(columns, self.tile.1, self.overlap);
        let rows = along(rows, self.tile.0, self.overlap);
        rows.iter().flat_map(|y| columns.iter().map(|x| (*y, *x))).collect()
    }

    /// Weight of each cell of a tile, `[y, x]`: 1 inside, falling linearly over the overlap.
    fn weights(&self) -> Tensor {
        let ramp = |length: usize| {
            let most = (self.overlap + 1) as f32;
            let weight = |i: usize| ((i + 1).min(length - i) as f32).min(most) / most;
            Tensor::from_slice(&(0..length).map(weight).collect::<Vec<f32>>())
        };
        ramp(self.tile.0).unsqueeze(1) * ramp(self.tile.1).unsqueeze(0)
    }
}

/// Evenly spaced starts of the fewest tiles that overlap enough.
fn along(length: usize, tile: usize, overlap: usize) -> Vec<usize> {
    if length <= tile {
        return vec![0];
    }
    let stride = tile.saturating_sub(overlap).max(1);
    let count = (length - tile).div_ceil(stride) + 1;
    (0..count).map(|i| i * (length - tile) / (count - 1)).collect()
}

/// Cuts domains into tiles, in batches of one fixed shape, and blends what comes of them.
#[derive(Debug)]
pub struct Tiles {
    tiling: Tiling,
    batch: usize,
    weights: Tensor,
}

impl Tiles {
    /// Evaluates `batch` tiles at a time.
    pub fn new(tiling: Tiling, batch: usize) -> Self {
        Self { tiling, batch: batch.max(1), weights: tiling.weights() }
    }

    /// Runs `evaluate` on batches of tiles of each input and blends each of its outputs, of so many channels, over the domain.
    /// Inputs are `[sample, frame, channel, y, x]`; one with fewer samples than the first repeats its last.
    pub fn blend<const N: usize>(
        &self,
        inputs: &[&Tensor],
        channels: i64,
        evaluate: impl Fn(&[Tensor]) -> [Tensor; N],
    ) -> [Tensor; N] {
        let (members, frames, _, rows, columns) = inputs[0].size5().expect("of shape [sample, frame, channel, y, x]");
        let options = (Kind::Float, inputs[0].device());
        let origins = self.tiling.origins(rows as usize, columns as usize);
        let single = origins.len() == 1;
        let weights = self.weights.to_device(inputs[0].device());
        let sums: [Tensor; N] =
            std::array::from_fn(|_| Tensor::zeros([members, frames, channels, rows, columns], options));
        let total = Tensor::zeros([rows, columns], options);
        for (y0, x0) in &origins {
            let _ = self.cut(&total, *y0, *x0).g_add_(&weights);
        }
        let work: Vec<(i64, (usize, usize))> =
            (0..members).flat_map(|m| origins.iter().map(move |origin| (m, *origin))).collect();
        for chunk in work.chunks(self.batch) {
            let gather = |from: &Tensor| {
                let entry = |i: usize| {
                    // The shape is fixed: what is left over repeats the last entry.
                    let (member, (y0, x0)) = chunk[i.min(chunk.len() - 1)];
                    self.cut(&from.narrow(0, member.min(from.size()[0] - 1), 1), y0, x0)
                };
                Tensor::cat(&(0..self.batch).map(entry).collect::<Vec<_>>(), 0)
            };
            let tiles: Vec<Tensor> = inputs.iter().map(|input| gather(input)).collect();
            for (sum, output) in sums.iter().zip(evaluate(&tiles)) {
                for (i, (member, (y0, x0))) in chunk.iter().enumerate() {
                    let part = output.narrow(0, i as i64, 1);
                    let mut place = self.cut(&sum.narrow(0, *member, 1), *y0, *x0);
                    if single {
                        place.copy_(&part);
                    } else {
                        let _ = place.g_add_(&(part * &weights));
                    }
                }
            }
        }
        if single { sums } else { sums.map(|sum| sum / &total) }
    }

    /// The tile that starts at a row and column: a view of the last two dimensions.
    fn cut(&self, from: &Tensor, y0: usize, x0: usize) -> Tensor {
        from.narrow(-2, y0 as i64, self.tiling.tile.0 as i64).narrow(-1, x0 as i64, self.tiling.tile.1 as i64)
    }
}

/// A denoiser of domains, made from a denoiser of tiles.
#[derive(Debug)]
pub struct Tiled<D> {
    denoiser: D,
    tiles: Tiles,
}

impl<D: Denoiser> Tiled<D> {
    /// Evaluates `batch` tiles at a time.
    pub fn new(denoiser: D, tiling: Tiling, batch: usize) -> Self {
        Self { denoiser, tiles: Tiles::new(tiling, batch) }
    }

    fn blend<const N: usize>(
        &self,
        x: &Tensor,
        condition: &Condition,
        evaluate: impl Fn(&Tensor, &Condition) -> [Tensor; N],
    ) -> [Tensor; N] {
        let of = |parts: &[Tensor]| evaluate(&parts[0], &Condition { channels: parts[1].shallow_clone() });
        self.tiles.blend(&[x, &condition.channels], x.size()[2], of)
    }
}

impl<D: Denoiser> Denoiser for Tiled<D> {
    fn noise(&self, x: &Tensor, at: &Instant, condition: &Condition) -> Tensor {
        let [noise] = self.blend(x, condition, |x, condition| [self.denoiser.noise(x, at, condition)]);
        noise
    }

    fn noise_pair(&self, x: &Tensor, at: &Instant, condition: &Condition) -> (Tensor, Tensor) {
        let pair = |x: &Tensor, condition: &Condition| self.denoiser.noise_pair(x, at, condition).into();
        let [conditional, unconditional] = self.blend(x, condition, pair);
        (conditional, unconditional)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::diffusion::{Process, ProcessConfig, Sampler, SamplerConfig};

    /// Says for each tile what it could not know from inside: the noise less the tile's own mean. Neighbouring tiles
    /// then differ by the difference of their means, which shows as a seam unless tiles are blended.
    struct Biased;

    impl Denoiser for Biased {
        fn noise(&self, x: &Tensor, _at: &Instant, condition: &Condition) -> Tensor {
            let ramp = condition.channels.narrow(2, 0, 1);
            x - (&ramp - ramp.mean_dim([-2i64, -1].as_slice(), true, Kind::Float))
        }
    }

    const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// A ramp from west to east as condition.
    fn ramp(columns: i64) -> Condition {
        let ramp = Tensor::arange(columns, OPTIONS) / columns as f64;
        Condition { channels: ramp.expand([1, 2, 3, 16, columns], false).contiguous() }
    }

    /// Largest step from one column to the next.
    fn roughness(field: &Tensor) -> f64 {
        let columns = field.mean_dim([0i64, 1, 2, 3].as_slice(), false, Kind::Float);
        columns.diff(1, -1, None::<&Tensor>, None::<&Tensor>).abs().max().double_value(&[])
    }

    fn sampled(overlap: usize) -> Tensor {
        let tiling = Tiling { tile: (16, 32), overlap };
        let sampler = Sampler { process: Process::new(ProcessConfig::Plain {}), config: SamplerConfig::default() };
        let noise = Tensor::zeros([1, 2, 1, 16, 128], OPTIONS);
        sampler.sample(&Tiled::new(Biased, tiling, 2), &ramp(128), &noise).frames
    }

    #[test]
    fn no_seam_where_one_would_show() {
        // The ramp rises by 1/32 of what a tile spans; where tiles abut it falls by all of it.
        let (abutting, blended) = (roughness(&sampled(0)), roughness(&sampled(15)));
        assert!(blended < 0.06 * abutting, "abutting {abutting}, blended {blended}");
    }

    #[test]
    fn what_every_tile_agrees_on_is_kept() {
        struct Same;
        impl Denoiser for Same {
            fn noise(&self, x: &Tensor, _at: &Instant, condition: &Condition) -> Tensor {
                x * 0.5 + condition.channels.narrow(2, 0, 1)
            }
        }
        let x = Tensor::arange(2 * 2 * 40 * 70, OPTIONS).sin().reshape([2, 2, 1, 40, 70]);
        let condition = Condition { channels: x.cos().repeat([1, 1, 3, 1, 1]) };
        let whole = Same.noise(&x, &Instant::CLEAN, &condition);
        for (tile, overlap, batch) in [((16, 32), 7, 1), ((16, 32), 0, 3), ((40, 70), 0, 4), ((40, 16), 5, 2)] {
            let tiled = Tiled::new(Same, Tiling { tile, overlap }, batch);
            let difference = (tiled.noise(&x, &Instant::CLEAN, &condition) - &whole).abs().max().double_value(&[]);
            assert!(difference < 1e-6, "{tile:?} {overlap} {batch}: {difference}");
            let (a, b) = tiled.noise_pair(&x, &Instant::CLEAN, &condition);
            assert!((a - &whole).abs().max().double_value(&[]) < 1e-6);
            assert!((b - &x * 0.5).abs().max().double_value(&[]) < 1e-6);
        }
    }

    #[test]
    fn tiles_cover_the_domain_and_overlap_enough() {
        for length in 32..200 {
            let starts = along(length, 32, 10);
            assert_eq!((starts[0], starts[starts.len() - 1]), (0, length - 32));
            assert!(starts.windows(2).all(|w| w[1] - w[0] <= 22 && w[1] > w[0]), "{length}: {starts:?}");
        }
    }
}
