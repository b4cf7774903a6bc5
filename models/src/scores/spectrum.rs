//! Spectra: how much of what came at each wavelength the members have, too.

use std::collections::BTreeMap;

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Zip};
use rayon::prelude::*;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex64;

use super::ratio;
use super::score::{Pair, Score, Value};
use super::statistics::{Sums, sums_of_field};

/// Radially averaged power spectrum of a field `[y, x]`, by wavenumber from 0 on: the mean of |FFT|^2/(rows columns)
/// over the ring of rounded radius k, as pysteps has it.
///
/// With l the longer side, wavenumbers end before l/2 if l is even, and with (l-1)/2 if it is odd; the wavelength is
/// l/k cells. `None` if a value is missing or infinite, or there is none.
pub fn power_spectrum<T: Copy + Into<f64>>(field: ArrayView2<'_, T>) -> Option<Vec<f64>> {
    let (rows, columns) = field.dim();
    let mut waves: Array2<Complex64> = field.mapv(|v| Complex64::new(v.into(), 0.0));
    if waves.is_empty() || waves.iter().any(|v| !v.re.is_finite()) {
        return None;
    }
    let mut planner = FftPlanner::new();
    for axis in [ndarray::Axis(1), ndarray::Axis(0)] {
        let fft = planner.plan_fft_forward(waves.len_of(axis));
        for mut lane in waves.lanes_mut(axis) {
            let mut line = lane.to_vec();
            fft.process(&mut line);
            lane.iter_mut().zip(line).for_each(|(to, from)| *to = from);
        }
    }
    let longer = rows.max(columns);
    let mut rings = vec![(0f64, 0f64); longer.div_ceil(2)];
    let centred = |i: usize, n: usize| if i < n.div_ceil(2) { i as f64 } else { i as f64 - n as f64 };
    for ((y, x), wave) in waves.indexed_iter() {
        let radius = centred(y, rows).hypot(centred(x, columns)).round() as usize;
        if let Some((power, cells)) = rings.get_mut(radius) {
            *power += wave.norm_sqr() / (rows * columns) as f64;
            *cells += 1.0;
        }
    }
    Some(rings.into_iter().map(|(power, cells)| power / cells).collect())
}

/// Sums of the spectra of members and observations, for their ratio at each wavelength.
///
/// The spectrum of each member is taken, not that of the mean, which is smooth; members are averaged linearly. Fields
/// with a missing value have no spectrum: such a case is refused and counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpectrumRatio {
    /// Power of (members, observation), by (longer side, wavenumber).
    power: BTreeMap<(usize, usize), [f64; 2]>,
    count: u64,
    refused: u64,
}

/// The longer side, wavenumber and which of the two in 20, 20 and 1 bits; then both counts.
impl Sums for SpectrumRatio {
    fn sums(&self) -> Vec<(u64, f64)> {
        let key = |longer: usize, k: usize, of: usize| (longer as u64) << 21 | (k as u64) << 1 | of as u64;
        let power = self.power.iter();
        let power = power.flat_map(|((longer, k), power)| [0, 1].map(|of| (key(*longer, *k, of), power[of])));
        power.chain([(0, self.count as f64), (1, self.refused as f64)]).filter(|(_, sum)| *sum != 0.0).collect()
    }

    fn set_sums(&mut self, sums: &[(u64, f64)]) {
        *self = Self::default();
        for (key, sum) in sums {
            match *key {
                0 => self.count = *sum as u64,
                1 => self.refused = *sum as u64,
                key => {
                    let wave = ((key >> 21) as usize, (key >> 1 & 0xf_ffff) as usize);
                    self.power.entry(wave).or_default()[(key & 1) as usize] = *sum;
                }
            }
        }
    }
}

impl Score for SpectrumRatio {
    fn name(&self) -> &'static str {
        "spectrum"
    }

    fn is_of_neighbours(&self) -> bool {
        true
    }

    fn is_by_lead(&self) -> bool {
        false
    }

    /// Cells that are missing anywhere are dry everywhere, in all members and in what came; if more than half are, the pair
    /// is refused. A radar's field is never whole.
    fn add(&mut self, pair: &Pair<'_>) {
        let mut known = pair.observed.mapv(|v| !v.is_nan());
        for member in pair.members.outer_iter() {
            known.zip_mut_with(&member, |known, v| *known &= !v.is_nan());
        }
        if 2 * known.iter().filter(|known| **known).count() < known.len() {
            self.refused += 1;
            return;
        }
        let dry = |known: &bool, v: &f32| if *known { *v } else { 0.0 };
        let observed = Zip::from(&known).and(pair.observed).map_collect(dry);
        let mut members = Array3::zeros(pair.members.dim());
        for (from, mut to) in pair.members.outer_iter().zip(members.outer_iter_mut()) {
            Zip::from(&mut to).and(&known).and(from).for_each(|to, known, v| *to = dry(known, v));
        }
        Self::add(self, members.view(), observed.view());
    }

    fn merge(&mut self, other: &Self) {
        *self = Self::merge(self, other);
    }

    fn count(&self) -> f64 {
        self.count as f64
    }

    /// Power of the members over that of the observation, over all wavelengths.
    fn finish(&self) -> Option<f64> {
        let waves = self.power.iter().filter(|((_, k), _)| *k > 0);
        let [members, came] = waves.fold([0.0; 2], |all, (_, power)| [all[0] + power[0], all[1] + power[1]]);
        ratio(members, came)
    }

    fn values(&self) -> Vec<Value> {
        let ratios = self.ratios().into_iter();
        ratios.map(|(length, ratio)| Value { score: "rapsd_ratio", scale: Some(length), value: ratio }).collect()
    }
}

impl SpectrumRatio {
    /// Adds members `[member, y, x]` and an observation `[y, x]`; whether they counted.
    pub fn add(&mut self, members: ArrayView3<'_, f32>, observed: ArrayView2<'_, f32>) -> bool {
        debug_assert_eq!((members.dim().1, members.dim().2), observed.dim(), "fields of one shape");
        let members: Vec<_> = members.outer_iter().collect();
        let each: Option<Vec<_>> = members.into_par_iter().map(power_spectrum).collect();
        let (Some(each), Some(came)) = (each.filter(|e| !e.is_empty()), power_spectrum(observed)) else {
            self.refused += 1;
            return false;
        };
        let longer = observed.dim().0.max(observed.dim().1);
        for (k, came) in came.iter().enumerate() {
            let power = self.power.entry((longer, k)).or_default();
            power[0] += each.iter().map(|spectrum| spectrum[k]).sum::<f64>() / each.len() as f64;
            power[1] += came;
        }
        self.count += 1;
        true
    }

    /// The sums of both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let mut power = self.power.clone();
        for (key, more) in &other.power {
            let own = power.entry(*key).or_default();
            *own = [own[0] + more[0], own[1] + more[1]];
        }
        Self { power, count: self.count + other.count, refused: self.refused + other.refused }
    }

    /// Cases that counted, and those refused for a missing value.
    pub fn counts(&self) -> (u64, u64) {
        (self.count, self.refused)
    }

    /// Power of the members over that of the observation, by wavelength in cells (longer side over wavenumber, the
    /// mean of the field left out); `None` where nothing was observed at a wavelength.
    pub fn ratios(&self) -> Vec<(f64, Option<f64>)> {
        let waves = self.power.iter().filter(|((_, k), _)| *k > 0);
        waves.map(|((longer, k), [members, came])| (*longer as f64 / *k as f64, ratio(*members, *came))).collect()
    }
}

/// The same of ln(1 + x / 0.1), where x is an amount such as a rain rate in mm/h: linear power is that of the few heaviest
/// cells, this that of the texture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogSpectrumRatio(SpectrumRatio);

/// What the logarithm takes for hardly anything, in the unit of the variable.
const LOG_FLOOR: f32 = 0.1;

sums_of_field!(LogSpectrumRatio, 0);

impl Score for LogSpectrumRatio {
    fn name(&self) -> &'static str {
        "spectrum of logarithms"
    }

    fn is_of_neighbours(&self) -> bool {
        true
    }

    fn is_by_lead(&self) -> bool {
        false
    }

    fn add(&mut self, pair: &Pair<'_>) {
        let log = |v: f32| if v.is_nan() { v } else { (v.max(0.0) / LOG_FLOOR).ln_1p() };
        let (members, observed) = (pair.members.mapv(log), pair.observed.mapv(log));
        Score::add(&mut self.0, &Pair::new(members.view(), observed.view()));
    }

    fn merge(&mut self, other: &Self) {
        Score::merge(&mut self.0, &other.0);
    }

    fn count(&self) -> f64 {
        Score::count(&self.0)
    }

    fn finish(&self) -> Option<f64> {
        self.0.finish()
    }

    fn values(&self) -> Vec<Value> {
        let ratios = self.0.ratios().into_iter();
        ratios.map(|(length, ratio)| Value { score: "rapsd_ratio_log", scale: Some(length), value: ratio }).collect()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, Axis};

    use super::*;

    /// NumPy's `default_rng(1).standard_normal((8, 8))`.
    #[rustfmt::skip]
    const NOISE: [f64; 64] = [0.345584192064786, 0.8216181435011584, 0.33043707618338714, -1.303157231604361, 0.9053558666731177, 0.4463745723640113, -0.5369532353602852, 0.5811181041963531, 0.36457239618607573, 0.294132496655526, 0.02842224131579679, 0.5467129866124469, -0.7364540870016669, -0.16290994799305278, -0.48211931267997826, 0.5988462126346276, 0.03972210748165899, -0.2924567509650886, -0.7819084623568421, -0.2571922406188707, 0.008142180518343508, -0.2756029052993704, 1.2940638143982073, 1.0067243153057943, -2.7111624789659685, -1.8890132459676727, -0.17477209205516195, -0.42219041157635356, 0.2136429974986111, 0.21732193102256359, 2.1178387550510482, -1.1120207626922813, -0.37760500712699807, 2.0427716074923303, 0.6467029962018469, 0.6630633723762617, -0.5140063716874629, -1.6480751708556527, 0.16746474422274113, 0.10901408782154753, -1.2273520542445742, -0.6832266617805622, -0.07204367972722743, -0.9447516230607774, -0.09826996785221727, 0.09548302746945433, 0.03558623705548571, -0.5062916583143148, 0.5937480717858228, 0.8911669542823284, 0.3208483045665637, -0.818230227390307, 0.7316522837854408, -0.5014400184670523, 0.8791606182879853, -1.0717874168774442, 0.9144672031287812, -0.02006345461548042, -1.2487488903344155, -0.31389947196684775, 0.05410227877154389, 0.27279133916445375, -0.9821881249409777, -1.107373047165193];

    #[test]
    fn golden_values() {
        let field = Array2::from_shape_vec((8, 8), NOISE.to_vec()).unwrap();
        let spectrum = power_spectrum(field.view()).unwrap();
        let expected = [0.3443654137907444, 0.42730319528984667, 1.284800940410315, 0.6816158431981121];
        assert_eq!(spectrum.len(), 4);
        assert!(spectrum.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{spectrum:?}");
    }

    #[test]
    fn twice_the_field_has_four_times_the_power_and_missing_values_are_counted() {
        let field = Array2::from_shape_fn((6, 9), |(y, x)| ((y * 7 + x * x) % 5) as f32);
        let members = Array3::from_shape_fn((2, 6, 9), |(_, y, x)| 2.0 * field[[y, x]]);
        let mut sum = SpectrumRatio::default();
        assert!(sum.add(members.view(), field.view()));
        let mut broken = field.clone();
        broken[[0, 0]] = f32::NAN;
        assert!(!sum.add(members.view(), broken.view()));
        assert!(!sum.add(broken.insert_axis(Axis(0)).view(), field.view()));
        assert_eq!(sum.counts(), (1, 2));
        let merged = sum.merge(&sum);
        assert_eq!((merged.counts(), merged.ratios().len()), ((2, 4), 4));
        assert!(merged.ratios().iter().all(|(_, r)| (r.unwrap() - 4.0).abs() < 1e-9));
    }

    #[test]
    fn the_texture_of_drizzle_counts_in_logarithms_and_hardly_otherwise() {
        let observed = Array2::from_shape_fn((16, 16), |(y, x)| if (y, x) == (4, 4) { 50.0f32 } else { 0.0 });
        let mut member = observed.clone();
        member.indexed_iter_mut().filter(|((y, x), _)| (x + y) % 2 == 0 && *y > 8).for_each(|(_, v)| *v = 0.5);
        let members = member.insert_axis(Axis(0));
        let pair = Pair::new(members.view(), observed.view());
        let (mut linear, mut log) = (SpectrumRatio::default(), LogSpectrumRatio::default());
        Score::add(&mut linear, &pair);
        Score::add(&mut log, &pair);
        assert!(
            linear.finish().unwrap() < 1.1 && log.finish().unwrap() > 2.0,
            "{:?} {:?}",
            linear.finish(),
            log.finish()
        );
        assert_eq!(log.values().len(), linear.ratios().len());
    }
}
