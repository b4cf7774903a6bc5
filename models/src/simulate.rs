//! A storm made of random numbers: rain that looks and moves like rain, wherever there is no data at hand.
//!
//! Rain fields have a power-law spectrum, small structures live shorter than large ones, and most of the map is dry.
//! So a Gaussian field with a power-law spectrum evolves as an autoregression of each Fourier coefficient, with a
//! lifetime that grows with the scale, *in the frame that moves with the wind*; the map looks up where each of its
//! cells came from, and what exceeds a threshold becomes a log-normal rain rate. Looking up keeps the structures
//! sharp, where moving the field itself would blur it a little more each step. The ingredients are those of the
//! string of beads (Pegram and Clothier 2001) and of Venugopal et al. (1999) on the lifetimes.
//!
//! Everything is a function of [`StormSettings`]: numbers come from Philox, keyed by seed and step.

use std::f64::consts::TAU;

use ndarray::{Array2, Zip};
use rayon::prelude::*;
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftDirection, FftPlanner};
use squall_fields::random::Philox;
use squall_fields::{Cadence, ValidTime};

/// What a storm is like.
#[derive(Clone, Debug, PartialEq)]
pub struct StormSettings {
    /// Cells from north to south.
    pub rows: usize,
    /// Cells from west to east.
    pub columns: usize,
    /// Distance between cells in metres.
    pub spacing_m: f64,
    /// Time from frame to frame.
    pub cadence: Cadence,
    /// Slot of the first frame.
    pub start: ValidTime,
    /// Key of the random numbers: another seed is another storm.
    pub seed: u64,
    /// Share of the map where it rains, 0 to 1.
    pub wet_share: f64,
    /// Mean wind in m/s.
    pub wind_speed_m_s: f64,
    /// Where the mean wind blows to, in degrees clockwise from north; it veers by 10 degrees an hour.
    pub wind_towards_degrees: f64,
    /// Spectral slope: power falls with the wave number to the minus this; 2.5 to 3.5 for rain.
    pub slope: f64,
    /// Lifetime in seconds of structures of 64 km; others live longer or shorter with the scale to the power 0.8.
    pub lifetime_64_km_seconds: f64,
    /// Whether the corners beyond the range of an imagined radar are missing.
    pub radar_range: bool,
}

impl Default for StormSettings {
    /// 256 km square at 1 km, every five minutes.
    fn default() -> Self {
        Self {
            rows: 256,
            columns: 256,
            spacing_m: 1000.0,
            cadence: Cadence::every_seconds(300).unwrap_or_else(|| unreachable!("300 s is not zero")),
            start: ValidTime::from_unix_seconds(1_475_064_000),
            seed: 1,
            wet_share: 0.25,
            wind_speed_m_s: 11.0,
            wind_towards_degrees: 60.0,
            slope: 3.2,
            lifetime_64_km_seconds: 10_800.0,
            radar_range: true,
        }
    }
}

/// The storm at one slot: `[y, x]`, rows north to south.
#[derive(Clone, Debug, PartialEq)]
pub struct StormFrame {
    /// When it is.
    pub slot: ValidTime,
    /// Rain rate in mm/h; 0 where it is dry, NaN beyond the radar's range.
    pub rain_rate: Array2<f32>,
    /// Eastward wind in m/s.
    pub eastward_wind: Array2<f32>,
    /// Northward wind in m/s.
    pub northward_wind: Array2<f32>,
}

/// A storm, one frame a slot, without end.
///
/// ```
/// use squall_models::simulate::{Storm, StormSettings};
///
/// let settings = StormSettings { rows: 32, columns: 48, ..StormSettings::default() };
/// let frames: Vec<_> = Storm::new(settings.clone()).take(3).collect();
/// assert_eq!(frames[2].rain_rate.dim(), (32, 48));
/// assert_eq!(frames[1].slot.unix_seconds() - frames[0].slot.unix_seconds(), 300);
/// assert_eq!(Storm::new(settings).next().map(|f| f.slot), Some(frames[0].slot));
/// ```
pub struct Storm {
    settings: StormSettings,
    /// Steps made so far.
    step: u64,
    /// Rows and columns of the periodic field.
    period: (usize, usize),
    plan: Plan,
    /// Standard deviation and one-step memory of each Fourier coefficient.
    shape: Vec<(f32, f32)>,
    /// Fourier coefficients of the Gaussian field in the moving frame.
    spectrum: Vec<Complex<f32>>,
    /// Where the air of each cell was at the first slot, in cells south and east of the cell itself.
    origin: (Array2<f32>, Array2<f32>),
    /// Stream function's wind in m/s, eastward and northward, on top of the mean wind.
    eddies: (Array2<f32>, Array2<f32>),
    /// The Gaussian level above which it rains.
    threshold: f32,
}

/// What each random number is for.
#[derive(Clone, Copy)]
enum Use {
    Field = 1,
    Eddies = 2,
}

impl Storm {
    /// A storm before its first frame.
    pub fn new(settings: StormSettings) -> Self {
        let (rows, columns) = (settings.rows.max(1), settings.columns.max(1));
        let period = (period(rows), period(columns));
        let plan = Plan::new(period);
        let shape = shape(&settings, period);
        let mut storm = Self {
            step: 0,
            period,
            shape,
            spectrum: Vec::new(),
            origin: (Array2::zeros((rows, columns)), Array2::zeros((rows, columns))),
            eddies: (Array2::zeros((rows, columns)), Array2::zeros((rows, columns))),
            threshold: quantile_of_normal(1.0 - settings.wet_share.clamp(0.001, 0.999)) as f32,
            plan,
            settings,
        };
        storm.spectrum = storm.noise(Use::Field, 0);
        storm.eddies = storm.eddies();
        storm
    }

    /// The settings it was made from.
    pub fn settings(&self) -> &StormSettings {
        &self.settings
    }

    /// White noise filtered to the storm's spectrum, in Fourier space, of unit variance.
    fn noise(&self, purpose: Use, step: u64) -> Vec<Complex<f32>> {
        let mut white = vec![0f32; self.period.0 * self.period.1];
        Philox::new(self.settings.seed, (step << 8) | purpose as u64).fill_normal(0, &mut white);
        let mut field: Vec<_> = white.into_iter().map(|value| Complex::new(value, 0.0)).collect();
        self.plan.forward(&mut field);
        field.iter_mut().zip(&self.shape).for_each(|(value, (deviation, _))| *value *= deviation);
        field
    }

    /// Winds of a large-scale stream function with a root mean square of a quarter of the mean wind. They have no
    /// divergence, so they neither pile the rain up nor thin it out.
    fn eddies(&self) -> (Array2<f32>, Array2<f32>) {
        let (rows, columns) = self.period;
        let mut spectrum = self.noise(Use::Eddies, 0);
        let (mut eastward, mut northward) = (spectrum.clone(), spectrum.clone());
        for (index, value) in spectrum.iter_mut().enumerate() {
            let (ky, kx) = wave_numbers(index, self.period);
            let smooth = (-(kx * kx + ky * ky) * (rows.max(columns) as f64 / 5.0).powi(2)).exp() as f32;
            // u = -d psi / d north = d psi / d row, v = d psi / d east.
            eastward[index] = *value * Complex::new(0.0, (TAU * ky) as f32 * smooth);
            northward[index] = *value * Complex::new(0.0, (TAU * kx) as f32 * smooth);
        }
        self.plan.inverse(&mut eastward);
        self.plan.inverse(&mut northward);
        let square: f32 = eastward.iter().chain(&northward).map(|value| value.re * value.re).sum();
        let deviation = (square / eastward.len() as f32).sqrt().max(f32::MIN_POSITIVE);
        let scale = 0.25 * self.settings.wind_speed_m_s as f32 / deviation;
        let cut = |field: &[Complex<f32>]| {
            Array2::from_shape_fn((self.settings.rows, self.settings.columns), |(y, x)| {
                field[y * columns + x].re * scale
            })
        };
        (cut(&eastward), cut(&northward))
    }

    /// Wind in m/s, eastward and northward, at the present step.
    fn wind(&self) -> (Array2<f32>, Array2<f32>) {
        let hours = self.step as f64 * self.settings.cadence.step_seconds() as f64 / 3600.0;
        let towards = (self.settings.wind_towards_degrees + 10.0 * hours).to_radians();
        let (north, east) =
            (self.settings.wind_speed_m_s * towards.cos(), self.settings.wind_speed_m_s * towards.sin());
        (&self.eddies.0 + east as f32, &self.eddies.1 + north as f32)
    }

    /// One step on: follows the air, and lets every scale forget a little.
    fn advance(&mut self) {
        let (eastward, northward) = self.wind();
        let cells_per_m_s = (self.settings.cadence.step_seconds() as f64 / self.settings.spacing_m) as f32;
        let (south, east) = &self.origin;
        let shape = south.dim();
        let mut origin = (Array2::zeros(shape), Array2::zeros(shape));
        Zip::indexed(&mut origin.0).and(&mut origin.1).and(&eastward).and(&northward).par_for_each(
            |(y, x), to_south, to_east, u, v| {
                // The air came from upwind; its own origin is known there.
                let (dy, dx) = (v * cells_per_m_s, -u * cells_per_m_s);
                let (from_y, from_x) = (y as f32 + dy, x as f32 + dx);
                *to_south = dy + clamped(south, from_y, from_x);
                *to_east = dx + clamped(east, from_y, from_x);
            },
        );
        self.origin = origin;
        self.step += 1;
        let fresh = self.noise(Use::Field, self.step);
        let parts = self.spectrum.iter_mut().zip(fresh).zip(&self.shape);
        parts.for_each(|((old, new), (_, memory))| *old = *old * memory + new * (1.0 - memory * memory).sqrt());
    }

    fn frame(&self) -> StormFrame {
        let mut field = self.spectrum.clone();
        self.plan.inverse(&mut field);
        let (south, east) = &self.origin;
        let mut rain_rate = Array2::zeros(south.dim());
        Zip::indexed(&mut rain_rate).and(south).and(east).par_for_each(|(y, x), rate, dy, dx| {
            let level = periodic(&field, self.period, y as f32 + dy, x as f32 + dx);
            *rate = if self.is_seen(y, x) { rain_of(level - self.threshold) } else { f32::NAN };
        });
        let (eastward_wind, northward_wind) = self.wind();
        let slot = self.settings.cadence.step(self.settings.start, self.step as i64);
        StormFrame { slot, rain_rate, eastward_wind, northward_wind }
    }

    fn is_seen(&self, y: usize, x: usize) -> bool {
        let centred = |index: usize, len: usize| (2.0 * index as f64 + 1.0) / len as f64 - 1.0;
        let (y, x) = (centred(y, self.settings.rows), centred(x, self.settings.columns));
        !self.settings.radar_range || y * y + x * x < 1.7
    }
}

impl Iterator for Storm {
    type Item = StormFrame;

    fn next(&mut self) -> Option<StormFrame> {
        let frame = self.frame();
        self.advance();
        Some(frame)
    }
}

/// Rain rate in mm/h of a Gaussian level above the threshold: 0.1 at its edge, e^2.1 times more for each deviation.
fn rain_of(excess: f32) -> f32 {
    if excess > 0.0 { (0.1 * (2.1 * excess).exp()).min(150.0) } else { 0.0 }
}

/// The next length above a quarter more that a Fourier transform is quick for.
fn period(len: usize) -> usize {
    let smooth = |mut n: usize| {
        for factor in [2, 3, 5] {
            while n.is_multiple_of(factor) {
                n /= factor;
            }
        }
        n == 1
    };
    (len + len / 4..).find(|n| *n > 0 && smooth(*n)).unwrap_or(len)
}

/// Wave numbers in cycles per cell, (rows, columns), of a coefficient.
fn wave_numbers(index: usize, (rows, columns): (usize, usize)) -> (f64, f64) {
    let signed = |k: usize, n: usize| if k <= n / 2 { k as f64 } else { k as f64 - n as f64 };
    (signed(index / columns, rows) / rows as f64, signed(index % columns, columns) / columns as f64)
}

/// Standard deviation and one-step memory of each coefficient; the field has unit variance.
fn shape(settings: &StormSettings, period: (usize, usize)) -> Vec<(f32, f32)> {
    let step = settings.cadence.step_seconds() as f64;
    let cells = period.0 * period.1;
    let of = |index: usize| {
        let (ky, kx) = wave_numbers(index, period);
        let cycles_per_m = kx.hypot(ky) / settings.spacing_m;
        if cycles_per_m == 0.0 {
            return (0.0, 0.0);
        }
        let scale_m = 1.0 / cycles_per_m;
        let lifetime = settings.lifetime_64_km_seconds * (scale_m / 64_000.0).powf(0.8);
        // Above 150 km the spectrum is flat: otherwise one front would fill every map.
        let power = cycles_per_m.max(1.0 / 150_000.0).powf(-settings.slope);
        (power.sqrt(), (-step / lifetime).exp())
    };
    let shape: Vec<(f64, f64)> = (0..cells).map(of).collect();
    let mean_power = shape.iter().map(|(deviation, _)| deviation * deviation).sum::<f64>() / cells as f64;
    let scale = mean_power.sqrt().recip();
    shape.into_iter().map(|(deviation, memory)| ((deviation * scale) as f32, memory as f32)).collect()
}

/// Bilinear value of a map whose edge values go on outside.
fn clamped(field: &Array2<f32>, y: f32, x: f32) -> f32 {
    let (rows, columns) = field.dim();
    let (y, x) = (y.clamp(0.0, rows as f32 - 1.0), x.clamp(0.0, columns as f32 - 1.0));
    let (y0, x0) = (y as usize, x as usize);
    let (y1, x1) = ((y0 + 1).min(rows - 1), (x0 + 1).min(columns - 1));
    let (fy, fx) = (y - y0 as f32, x - x0 as f32);
    let along = |row: usize| field[[row, x0]] * (1.0 - fx) + field[[row, x1]] * fx;
    along(y0) * (1.0 - fy) + along(y1) * fy
}

/// Cubic (Catmull and Rom) value of the periodic field: sharper than bilinear, so small structures survive.
fn periodic(field: &[Complex<f32>], (rows, columns): (usize, usize), y: f32, x: f32) -> f32 {
    let (y0, x0) = (y.floor(), x.floor());
    let (wy, wx) = (cubic(y - y0), cubic(x - x0));
    let mut sum = 0.0;
    for (i, wy) in wy.iter().enumerate() {
        let row = (y0 as i64 + i as i64 - 1).rem_euclid(rows as i64) as usize * columns;
        for (j, wx) in wx.iter().enumerate() {
            let column = (x0 as i64 + j as i64 - 1).rem_euclid(columns as i64) as usize;
            sum += wy * wx * field[row + column].re;
        }
    }
    sum
}

fn cubic(t: f32) -> [f32; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [0.5 * (-t3 + 2.0 * t2 - t), 0.5 * (3.0 * t3 - 5.0 * t2 + 2.0), 0.5 * (-3.0 * t3 + 4.0 * t2 + t), 0.5 * (t3 - t2)]
}

/// Quantile of the standard normal distribution by bisection of its distribution function.
fn quantile_of_normal(probability: f64) -> f64 {
    // Distribution function by Simpson's rule on the density, accurate far beyond what a threshold needs.
    let below = |x: f64| {
        let (n, step) = (200, x / 200.0);
        let density = |t: f64| (-t * t / 2.0).exp() / TAU.sqrt();
        let inner: f64 = (1..n).map(|i| density(i as f64 * step) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
        0.5 + step / 3.0 * (density(0.0) + inner + density(x))
    };
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if below(middle) < probability { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Fourier transforms of the periodic field, both ways.
struct Plan {
    rows: usize,
    columns: usize,
    along_rows: [std::sync::Arc<dyn Fft<f32>>; 2],
    along_columns: [std::sync::Arc<dyn Fft<f32>>; 2],
}

impl Plan {
    fn new((rows, columns): (usize, usize)) -> Self {
        let mut planner = FftPlanner::new();
        let mut both =
            |len| [FftDirection::Forward, FftDirection::Inverse].map(|direction| planner.plan_fft(len, direction));
        Self { rows, columns, along_rows: both(columns), along_columns: both(rows) }
    }

    fn forward(&self, field: &mut Vec<Complex<f32>>) {
        self.run(field, 0);
    }

    /// The inverse, with its factor 1/n.
    fn inverse(&self, field: &mut Vec<Complex<f32>>) {
        self.run(field, 1);
        let scale = 1.0 / field.len() as f32;
        field.iter_mut().for_each(|value| *value *= scale);
    }

    fn run(&self, field: &mut Vec<Complex<f32>>, direction: usize) {
        field.par_chunks_mut(self.columns).for_each(|row| self.along_rows[direction].process(row));
        let mut turned = transpose(field, self.rows, self.columns);
        turned.par_chunks_mut(self.rows).for_each(|column| self.along_columns[direction].process(column));
        *field = transpose(&turned, self.columns, self.rows);
    }
}

fn transpose(field: &[Complex<f32>], rows: usize, columns: usize) -> Vec<Complex<f32>> {
    (0..rows * columns).map(|i| field[(i % rows) * columns + i / rows]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storm() -> Storm {
        Storm::new(StormSettings { rows: 128, columns: 160, ..StormSettings::default() })
    }

    fn correlation(pairs: impl Iterator<Item = (f32, f32)>) -> f64 {
        let pairs: Vec<(f64, f64)> =
            pairs.filter(|(a, b)| a.is_finite() && b.is_finite()).map(|(a, b)| (a.into(), b.into())).collect();
        let n = pairs.len() as f64;
        let mean = |f: fn(&(f64, f64)) -> f64| pairs.iter().map(f).sum::<f64>() / n;
        let (ma, mb) = (mean(|p| p.0), mean(|p| p.1));
        let covariance = pairs.iter().map(|(a, b)| (a - ma) * (b - mb)).sum::<f64>();
        let variances = pairs.iter().map(|(a, _)| (a - ma).powi(2)).sum::<f64>()
            * pairs.iter().map(|(_, b)| (b - mb).powi(2)).sum::<f64>();
        covariance / variances.sqrt()
    }

    /// log(1 + 10 R), zero stays zero: comparable where rates span three decades.
    fn log_rain(frame: &StormFrame) -> Array2<f32> {
        frame.rain_rate.mapv(|rate| (10.0 * rate).ln_1p())
    }

    #[test]
    fn the_same_seed_is_the_same_storm_and_another_is_not() {
        let third = |seed| Storm::new(StormSettings { seed, rows: 40, columns: 40, ..StormSettings::default() }).nth(2);
        let (a, b, c) = (third(5).unwrap(), third(5).unwrap(), third(6).unwrap());
        assert!(a.rain_rate.iter().zip(&b.rain_rate).all(|(x, y)| x.to_bits() == y.to_bits()));
        assert!(a.rain_rate.iter().zip(&c.rain_rate).any(|(x, y)| x.to_bits() != y.to_bits()));
    }

    #[test]
    fn part_of_the_map_is_wet_and_little_of_it_heavy() {
        let (mut cells, mut wet, mut heavy, mut highest) = (0, 0, 0, 0f32);
        for frame in (1..=12).filter_map(|seed| Storm::new(StormSettings { seed, ..StormSettings::default() }).next()) {
            for rate in frame.rain_rate.iter().filter(|rate| rate.is_finite()) {
                (cells, wet, heavy) = (cells + 1, wet + usize::from(*rate >= 0.1), heavy + usize::from(*rate >= 5.0));
                highest = highest.max(*rate);
            }
        }
        let share = |count: usize| count as f64 / cells as f64;
        assert!((0.15..0.35).contains(&share(wet)), "wet {}", share(wet));
        assert!((0.0005..0.05).contains(&share(heavy)), "heavy {}", share(heavy));
        assert!((15.0..=150.0).contains(&highest), "highest {highest}");
    }

    #[test]
    fn the_rain_moves_with_the_wind() {
        let frames: Vec<_> = storm().take(4).collect();
        let (first, last) = (log_rain(&frames[0]), log_rain(&frames[3]));
        let mean = |field: &Array2<f32>| field.mean().unwrap();
        // Three steps of 300 s at 1 km a cell.
        let dx = (mean(&frames[0].eastward_wind) * 0.9).round() as isize;
        let dy = (-mean(&frames[0].northward_wind) * 0.9).round() as isize;
        assert!(dx.abs() + dy.abs() > 8, "{dx} {dy}");
        let inner = (20..108isize).flat_map(|y| (20..140isize).map(move |x| (y, x)));
        let at = |(y, x): (isize, isize), (sy, sx): (isize, isize)| {
            (first[[(y - sy) as usize, (x - sx) as usize]], last[[y as usize, x as usize]])
        };
        let moved = correlation(inner.clone().map(|cell| at(cell, (dy, dx))));
        let still = correlation(inner.clone().map(|cell| at(cell, (0, 0))));
        let against = correlation(inner.map(|cell| at(cell, (-dy, -dx))));
        assert!(moved > still + 0.1 && moved > against + 0.2 && moved > 0.6, "{moved} {still} {against}");
    }

    #[test]
    fn the_rain_grows_and_decays() {
        let still = StormSettings { wind_speed_m_s: 0.0, ..storm().settings().clone() };
        let frames: Vec<_> = Storm::new(still).take(13).collect();
        let with_first = |i: usize| {
            let (a, b) = (log_rain(&frames[0]), log_rain(&frames[i]));
            correlation(a.iter().copied().zip(b.iter().copied()))
        };
        let (one, twelve) = (with_first(1), with_first(12));
        assert!(one > 0.85 && twelve < one - 0.15, "{one} {twelve}");
    }

    #[test]
    fn quantiles_of_the_normal_distribution() {
        assert!((quantile_of_normal(0.975) - 1.959_964).abs() < 1e-5);
        assert!(quantile_of_normal(0.5).abs() < 1e-9);
    }
}
