//! Lagrangian probability: what may fall here is what is nearby, once it has moved.
//!
//! After Germann and Zawadzki (2004): the probability of exceeding a threshold is the share of a
//! neighbourhood of the extrapolated field that exceeds it. The neighbourhood grows with the lead, by
//! about 1 km a minute. It is the cheapest probabilistic forecast there is, and a hard one to beat.
//!
//! It comes in two forms: [`probabilities`] gives the shares themselves, and the forecaster
//! [`LagrangianProbability`] gives members whose frequencies converge to them, so that it can stand
//! wherever an ensemble can. Members shift the whole field and so keep the texture of rain.

use ndarray::{Array3, Array4, ArrayView2, ArrayView3, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use squall_fields::{Ensemble, LeadTime, Variable, Window, random::Philox};

use super::{
    Kind, advection::extrapolate, digest, extrapolation::rain_coordinates, motion::MotionParams, perturbation::Scale,
    source::Source,
};
use crate::{Coordinates, Forecaster, ModelError, Prediction, Request};

/// Counts changes of the algorithm; part of the digest.
const VERSION: u32 = 1;

/// What tunes the Lagrangian probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LagrangianParams {
    /// How the motion is found.
    pub motion: MotionParams,
    /// Growth of the neighbourhood's radius in km per minute of lead.
    pub km_per_minute: f64,
    /// As for [`super::ExtrapolationParams::steering_wind_factor`].
    pub steering_wind_factor: Option<f32>,
}

impl Default for LagrangianParams {
    fn default() -> Self {
        Self { motion: MotionParams::default(), km_per_minute: 1.0, steering_wind_factor: None }
    }
}

/// Shares of a disc around each cell at or above each threshold: `[threshold, lead, y, x]`.
///
/// `fields` are `[lead, y, x]`, `radii` the disc's radius for each lead in cells. Missing cells do not
/// count; a disc without any valid cell gives NaN.
pub fn probabilities(fields: ArrayView3<'_, f32>, radii: &[f64], thresholds: &[f32]) -> Array4<f32> {
    let (leads, rows, columns) = fields.dim();
    let mut out = Array4::from_elem((thresholds.len(), leads, rows, columns), f32::NAN);
    for (lead, radius) in radii.iter().enumerate().take(leads) {
        let field = fields.slice(s![lead, .., ..]);
        let valid = disc_sums(field, *radius, |v| v.is_finite());
        for (t, threshold) in thresholds.iter().enumerate() {
            let above = disc_sums(field, *radius, |v| v >= *threshold);
            let mut plane = out.slice_mut(s![t, lead, .., ..]);
            plane.iter_mut().zip(above.iter().zip(&valid)).filter(|(_, (_, n))| **n > 0).for_each(|(p, (k, n))| {
                *p = *k as f32 / *n as f32;
            });
        }
    }
    out
}

/// How many cells of the disc around each cell meet a condition, row by row.
fn disc_sums(field: ArrayView2<'_, f32>, radius: f64, condition: impl Fn(f32) -> bool + Sync) -> Vec<i32> {
    let (rows, columns) = field.dim();
    // Counts along each row up to, and without, a cell.
    let before: Vec<Vec<i32>> = (0..rows)
        .into_par_iter()
        .map(|y| {
            let mut count = 0;
            let sums = field.row(y).into_iter().map(|v| {
                count += i32::from(condition(*v));
                count
            });
            std::iter::once(0).chain(sums).collect()
        })
        .collect();
    let reach = radius.max(0.0) as usize;
    let mut out = vec![0i32; rows * columns];
    out.par_chunks_mut(columns.max(1)).enumerate().for_each(|(y, out)| {
        let first = y.saturating_sub(reach);
        for (near, before) in before[first..(y + reach + 1).min(rows)].iter().enumerate() {
            let dy = (first + near).abs_diff(y) as f64;
            let half = (radius * radius - dy * dy).max(0.0).sqrt() as usize;
            add_spans(before, half, out);
        }
    });
    out
}

/// Adds to each cell the count between `half` cells before and after it.
fn add_spans(before: &[i32], half: usize, out: &mut [i32]) {
    let n = out.len();
    if 2 * half < n {
        // In the middle both ends lie inside, so that the loop has neither clamp nor branch.
        let inner = &mut out[half..n - half];
        let (low, high) = (&before[..inner.len()], &before[2 * half + 1..]);
        inner.iter_mut().zip(low.iter().zip(high)).for_each(|(o, (l, h))| *o += h - l);
        for x in (0..half).chain(n - half..n) {
            out[x] += before[(x + half + 1).min(n)] - before[x.saturating_sub(half)];
        }
    } else {
        out.iter_mut()
            .enumerate()
            .for_each(|(x, o)| *o += before[(x + half + 1).min(n)] - before[x.saturating_sub(half)]);
    }
}

/// The forecaster `lagrangian-probability`.
///
/// Each member is the extrapolated field, displaced within the neighbourhood: by a place in the unit
/// disc that the member keeps, times the radius at the lead, rounded to whole cells. The places are a
/// quasi-random sequence, shifted anew for each issue time, so that the frequency of exceedance over
/// members tends to [`probabilities`] faster than with independent places. **Member 0 is the control**,
/// without displacement; a member does not depend on how many are asked for.
#[derive(Clone, Debug)]
pub struct LagrangianProbability {
    params: LagrangianParams,
    digest: String,
}

impl LagrangianProbability {
    /// With these parameters.
    pub fn new(params: LagrangianParams) -> Self {
        let digest = digest(Kind::LagrangianProbability, VERSION, &params);
        Self { params, digest }
    }

    /// Radius of the neighbourhood in columns and rows for each time in steps.
    fn radii(&self, window: &Window, source: &Source<'_>, steps: &[f32]) -> Vec<[f64; 2]> {
        let scale = Scale::new(&source.newest.grid, window.cadence.step_seconds());
        let km = |step: &f32| self.params.km_per_minute.max(0.0) * f64::from(*step) * scale.step_minutes;
        steps.iter().map(|step| scale.cell_km.map(|cell| km(step) / cell)).collect()
    }

    /// Probabilities `[threshold, lead, y, x]` of reaching thresholds, in the unit of the frames, for
    /// the first rain variable of a window and for leads from its issue time.
    ///
    /// # Errors
    /// [`ModelError::Window`] if no frame is present or the frames hold no rain variable.
    pub fn exceedance(
        &self,
        window: &Window,
        leads: &[LeadTime],
        thresholds: &[f32],
    ) -> Result<Array4<f32>, ModelError> {
        let source = Source::new(window)?;
        let steps = source.steps(leads);
        let fields = self.fields(&source, &steps, source.variables[0])?;
        // Cells are nearly square on a radar's grid; a disc of the mean radius stands for the ellipse.
        let radii: Vec<f64> = self.radii(window, &source, &steps).iter().map(|[x, y]| (x * y).sqrt()).collect();
        Ok(probabilities(fields.view(), &radii, thresholds))
    }

    fn fields(&self, source: &Source<'_>, steps: &[f32], variable: Variable) -> Result<Array3<f32>, ModelError> {
        let motion = source.motion(&self.params.motion, self.params.steering_wind_factor);
        Ok(extrapolate(source.plane(variable)?, &motion, steps))
    }

    fn answer(&self, request: &Request) -> Result<Prediction, ModelError> {
        let source = Source::new(&request.window)?;
        let steps = source.steps(&request.leads);
        let radii = self.radii(&request.window, &source, &steps);
        let random = Philox::of_member(&self.digest, &request.stream, request.window.issue_time, 0, "displacement");
        let ensembles = source.variables.iter().map(|variable| {
            let fields = self.fields(&source, &steps, *variable)?;
            let (leads, rows, columns) = fields.dim();
            let mut values = Array4::from_elem((request.members, leads, rows, columns), f32::NAN);
            if let Some(out) = values.as_slice_mut() {
                out.par_chunks_mut((rows * columns).max(1)).enumerate().for_each(|(plane, out)| {
                    let (member, lead) = (plane / leads, plane % leads);
                    let [x, y] = place(random, member as u64);
                    let [rx, ry] = radii[lead];
                    shift(fields.slice(s![lead, .., ..]), [(x * rx).round() as isize, (y * ry).round() as isize], out);
                });
            }
            Ok(Ensemble { variable: *variable, values })
        });
        Ok(Prediction { ensembles: ensembles.collect::<Result<_, ModelError>>()?, precision: None })
    }
}

impl Default for LagrangianProbability {
    fn default() -> Self {
        Self::new(LagrangianParams::default())
    }
}

impl Forecaster for LagrangianProbability {
    fn name(&self) -> &str {
        Kind::LagrangianProbability.name()
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn coordinates(&self) -> Coordinates {
        rain_coordinates()
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        requests.iter().map(|request| self.answer(request)).collect()
    }
}

/// A member's place in the unit disc: the R2 sequence of Roberts (2018), shifted at random, with equal
/// areas equally likely. The control is in the middle.
fn place(random: Philox, member: u64) -> [f64; 2] {
    if member == 0 {
        return [0.0, 0.0];
    }
    const STEP: [f64; 2] = [0.754_877_666_246_693, 0.569_840_290_998_053];
    let unit = |k: usize| (random.uniform(k as u64) + STEP[k] * member as f64).fract();
    let (radius, angle) = (unit(0).sqrt(), std::f64::consts::TAU * unit(1));
    [radius * angle.cos(), radius * angle.sin()]
}

/// Reads each cell from `[columns, rows]` further on; what lies outside stays as it is.
fn shift(field: ArrayView2<'_, f32>, [dx, dy]: [isize; 2], out: &mut [f32]) {
    let (rows, columns) = field.dim();
    let from = (-dx).clamp(0, columns as isize) as usize;
    let until = (columns as isize - dx).clamp(from as isize, columns as isize) as usize;
    for (y, out) in out.chunks_exact_mut(columns.max(1)).enumerate() {
        let row = y as isize + dy;
        if (0..rows as isize).contains(&row) && from < until {
            let cells = field.slice(s![row as usize, (from as isize + dx)..(until as isize + dx)]);
            out[from..until].iter_mut().zip(cells).for_each(|(o, v)| *o = *v);
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::baselines::testing::{bump, request};

    /// Counted cell by cell.
    fn by_hand(field: &Array2<f32>, radius: f64, threshold: f32, y: usize, x: usize) -> f32 {
        let (mut above, mut valid) = (0, 0);
        for ((j, i), v) in field.indexed_iter() {
            let (dy, dx) = (j.abs_diff(y) as f64, i.abs_diff(x) as f64);
            if v.is_finite() && dy <= radius && dx * dx <= radius * radius - dy * dy {
                valid += 1;
                above += i32::from(*v >= threshold);
            }
        }
        above as f32 / valid as f32
    }

    #[test]
    fn shares_equal_counting_by_hand() {
        let mut field = Array2::from_shape_fn((23, 31), |(y, x)| ((y * 7 + x * 13) % 11) as f32);
        field.slice_mut(s![..9, ..12]).fill(f32::NAN);
        for radius in [0.0, 1.0, 2.9, 8.5, 40.0] {
            let p = probabilities(field.view().insert_axis(ndarray::Axis(0)), &[radius], &[5.0, 9.5]);
            for (t, threshold) in [5.0, 9.5].into_iter().enumerate() {
                for ((y, x), _) in field.indexed_iter() {
                    let (fast, slow) = (p[[t, 0, y, x]], by_hand(&field, radius, threshold, y, x));
                    assert!(fast == slow || (fast.is_nan() && slow.is_nan()), "{radius} {y} {x}: {fast} {slow}");
                }
            }
        }
    }

    #[test]
    fn frequencies_of_members_tend_to_the_probabilities() {
        let frames = || (0..3).map(|t| Some(bump(30.0 + 2.0 * t as f32, 40.0))).collect();
        let model = LagrangianProbability::default();
        let request = request(frames(), 4, 400);
        let p = model.exceedance(&request.window, &request.leads, &[2.0]).unwrap();
        let ensemble = model.clone().forecast(&[request]).remove(0).unwrap().ensembles.remove(0);
        let mut worst = 0f32;
        for (y, x) in (30..50).flat_map(|y| (38..55).map(move |x| (y, x))) {
            let members = ensemble.values.slice(s![.., 3, y, x]);
            let share = members.iter().filter(|v| **v >= 2.0).count() as f32 / members.len() as f32;
            worst = worst.max((share - p[[0, 3, y, x]]).abs());
        }
        assert!(worst < 0.03, "{worst}");
    }

    #[test]
    fn a_member_does_not_depend_on_the_size_and_the_control_is_the_extrapolation() {
        let run = |members| {
            let frames = (0..3).map(|t| Some(bump(30.0 + 2.0 * t as f32, 40.0))).collect();
            LagrangianProbability::default()
                .forecast(&[request(frames, 3, members)])
                .remove(0)
                .unwrap()
                .ensembles
                .remove(0)
        };
        let (two, six) = (run(2), run(6));
        let bits = |e: &Ensemble, m: usize| -> Vec<u32> {
            e.values.slice(s![m, .., .., ..]).iter().map(|v| v.to_bits()).collect()
        };
        assert_eq!(bits(&two, 1), bits(&six, 1));
        assert_ne!(bits(&six, 1), bits(&six, 2));
        let frames = (0..3).map(|t| Some(bump(30.0 + 2.0 * t as f32, 40.0))).collect();
        let request = request(frames, 3, 1);
        let guess = super::super::first_guess(&request.window, &request.leads).unwrap();
        assert_eq!(bits(&six, 0), guess.fields.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    }

    #[test]
    fn a_shift_beyond_the_domain_leaves_nothing() {
        let field = Array2::<f32>::ones((3, 4));
        for d in [[9, 0], [-9, 0], [0, 5], [0, -5]] {
            let mut out = vec![f32::NAN; 12];
            shift(field.view(), d, &mut out);
            assert!(out.iter().all(|v| v.is_nan()), "{d:?}");
        }
        let mut out = vec![f32::NAN; 12];
        shift(field.view(), [1, -1], &mut out);
        assert_eq!(out.iter().filter(|v| v.is_finite()).count(), 6);
    }
}
