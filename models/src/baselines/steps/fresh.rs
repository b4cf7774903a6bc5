//! STEPS against pysteps as it runs now, by the Python of the tests: all deterministic stages, the noise and an ensemble, of
//! drawn rain and, with `SQUALL_DATA`, of a part of a radar's picture.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use ndarray::ArrayView2;
use rustfft::num_complex::Complex;

use super::cascade::Bands;
use super::fft::{Fft2, multiplicity};
use super::parity::{Reference, STAGES, assert_close};
use super::*;
use crate::baselines::perturbation::{Draw, perturbed};
use crate::scores::{RankHistogram, spectrum::power_spectrum};

const LEVELS: usize = 6;
const WET_DB: f32 = -10.0;
const DRY_DB: f32 = -15.0;
const THRESHOLD_MM_H: f32 = 0.1;
/// Cells of 1 km, a frame every 5 minutes.
const SCALE: Scale = Scale { cell_km: [1.0, 1.0], step_minutes: 5.0 };
/// Squall's samples are larger than those of pysteps, so that they add little to the uncertainty.
const MEMBERS: u64 = 64;
const NOISES: usize = 200;

/// What `models/tests/data/steps/make.py` writes of one event.
#[derive(Deserialize)]
struct Dump {
    name: String,
    stages: Reference,
    /// Three frames in mm/h, oldest first, -1 where missing.
    rates: [Vec<f32>; FRAMES],
    /// Cells a step along columns and rows, everywhere.
    velocity: [f32; 2],
    /// The frames in dB, moved to where the newest is; nothing where a cell is missing or comes from outside.
    aligned: [Vec<Option<f64>>; FRAMES],
    perturbations: Vec<Perturbation>,
    /// Of each field of noise, the power at each wavenumber and the variance of each level.
    noise_power: Vec<Vec<f64>>,
    noise_parts: Vec<Vec<f64>>,
    /// Cells along the border that the following fields lack.
    margin: usize,
    /// In dB: at each lead, and of each member at each lead.
    observed: Vec<Vec<f32>>,
    members: Vec<Vec<Vec<f32>>>,
}

/// What a member adds to a motion.
#[derive(Deserialize)]
struct Perturbation {
    parallel: f64,
    perpendicular: f64,
    minutes: f64,
    u: Vec<f64>,
    v: Vec<f64>,
}

/// Of pysteps; none where the tests' Python packages are not installed, as on a machine where only `make check` was run.
fn dumps() -> &'static [Dump] {
    static DUMPS: OnceLock<Vec<Dump>> = OnceLock::new();
    DUMPS.get_or_init(|| {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let environment = crate_folder.join("../target/venv");
        // Written when the packages are installed.
        if !environment.join("squall-stamp").exists() {
            eprintln!("{} has no pysteps: skipped (`make setup` installs it)", environment.display());
            return Vec::new();
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = folder.path().join("dumps.json");
        let mut command = Command::new(environment.join("bin/python"));
        command.arg(crate_folder.join("tests/data/steps/make.py")).arg(&output);
        match std::env::var_os("SQUALL_DATA") {
            Some(data) => _ = command.arg(Path::new(&data).join("radar_mch_20150515.nc")),
            None => eprintln!("SQUALL_DATA is not set: drawn rain alone is compared"),
        }
        let ran = command.output().expect("the tests' Python runs");
        assert!(ran.status.success(), "{}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice(&std::fs::read(&output).expect("its output")).expect("as the script writes it")
    })
}

impl Dump {
    fn motion(&self) -> MotionField {
        MotionField::uniform(self.stages.shape, self.velocity[0], self.velocity[1])
    }

    fn observed(&self) -> Observed {
        let known = |rate: &f32| if *rate < 0.0 { f32::NAN } else { *rate };
        let rates = self.rates.each_ref().map(|rates| rates.iter().map(known).collect());
        Observed::new(&rates, &self.motion(), THRESHOLD_MM_H)
    }

    /// Rows and columns of the fields without their margin.
    fn inside(&self) -> (usize, usize) {
        (self.stages.shape.0 - 2 * self.margin, self.stages.shape.1 - 2 * self.margin)
    }

    /// A field of this without its margin, and what is missing dry.
    fn cut(&self, field: &[f32]) -> Vec<f32> {
        let (rows, columns) = self.inside();
        let row = |y: usize| {
            let start = (y + self.margin) * self.stages.shape.1 + self.margin;
            field[start..start + columns].iter().map(|v| if v.is_finite() { *v } else { DRY_DB })
        };
        (0..rows).flat_map(row).collect()
    }

    /// Squall's ensemble of what pysteps' is of: fields in dB, `[member][lead]`.
    fn ensemble(&self) -> Vec<Vec<Vec<f32>>> {
        let (observed, motion) = (self.observed(), self.motion());
        let fields = observed.fields.as_ref().expect("it rains");
        let model = Model::new(fields, self.stages.shape, LEVELS, Rim::new(5.0, 10), WET_DB);
        let (cells, steps) = (self.rates[0].len(), [1.0, 2.0, 3.0]);
        let mut work = Workspace::new(Some(&model), cells);
        let mut out = vec![0f32; steps.len() * cells];
        let member = |member: u64| {
            let paths = member_paths(&motion, Philox::new(1, member), &PerturbationParams::default(), SCALE, &steps);
            let of = Member { model: Some(&model), missing: &observed.missing, random: Philox::new(2, member) };
            of.forecast(&steps, &paths, &mut work, &mut out);
            out.chunks_exact(cells).map(|field| self.cut(field)).collect()
        };
        (0..MEMBERS).map(member).collect()
    }
}

/// Power at each wavenumber but 0.
fn power(field: &[f32], shape: (usize, usize)) -> Vec<f64> {
    let field = ArrayView2::from_shape(shape, field).expect("a field of this shape");
    power_spectrum(field).expect("no value is missing").split_off(1)
}

/// Standard deviation of each level.
fn deviations(field: &[f32], shape: (usize, usize)) -> Vec<f64> {
    let fft = Fft2::<f32>::new(shape);
    let mut spectrum = vec![Complex::default(); fft.len()];
    fft.forward(field, &mut spectrum, &mut fft.scratch());
    Bands::new(shape, LEVELS).deviations(&spectrum)
}

/// Mean of a quantity over samples, and the square of its standard error.
fn mean(samples: &[Vec<f64>], quantity: usize) -> (f64, f64) {
    let n = samples.len() as f64;
    let mean = samples.iter().map(|sample| sample[quantity]).sum::<f64>() / n;
    let variance = samples.iter().map(|sample| (sample[quantity] - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, variance / n)
}

/// Fails unless the mean of each quantity is the same, to 2 % and as far as so many samples can tell: two seeds of pysteps
/// are up to 5 standard errors apart.
#[track_caller]
fn assert_same_means(ours: &[Vec<f64>], theirs: &[Vec<f64>]) {
    assert_eq!(ours[0].len(), theirs[0].len());
    for quantity in 0..ours[0].len() {
        let ((own, own_error), (other, other_error)) = (mean(ours, quantity), mean(theirs, quantity));
        let allowed = 6.0 * (own_error + other_error).sqrt() + 0.02 * other;
        assert!((own - other).abs() <= allowed, "{quantity}: {own}, expected {other} +- {allowed}");
    }
}

/// Shares of the ranks of an observation among members, of as many at a time as the reference has.
fn ranks(members: &[&Vec<f32>], observed: &[f32], at_a_time: usize) -> Vec<f64> {
    let mut histogram = RankHistogram::default();
    for members in members.chunks_exact(at_a_time) {
        for (cell, observed) in observed.iter().enumerate() {
            let case: Vec<f32> = members.iter().map(|member| member[cell]).collect();
            histogram.add_case(&case, *observed);
        }
    }
    let counts = histogram.ranks(at_a_time as u32);
    let all: f64 = counts.iter().sum();
    counts.iter().map(|count| count / all).collect()
}

#[test]
fn each_stage_is_that_of_pysteps_on_larger_fields() {
    for dump in dumps() {
        println!("{}", dump.name);
        STAGES.iter().for_each(|stage| stage(&dump.stages));
    }
}

#[test]
fn frames_are_moved_to_the_newest_as_by_pysteps() {
    for dump in dumps() {
        println!("{}", dump.name);
        let ours = dump.observed().fields.expect("it rains");
        for (ours, theirs) in ours.iter().zip(&dump.aligned) {
            // At the border and beside missing cells Squall fills in less.
            let known = || ours.iter().zip(theirs).filter_map(|(ours, theirs)| Some((*ours, (*theirs)?)));
            assert!(known().count() * 10 > 9 * ours.len());
            assert_close(known().map(|(ours, _)| ours), &known().map(|(_, theirs)| theirs).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_draw_perturbs_the_motion_as_in_pysteps() {
    for dump in dumps() {
        let motion = MotionField::on_nodes((26, 33), 1, |row, column| [1.0 + 0.02 * row, -0.5 + 0.03 * column]);
        assert_eq!(dump.perturbations.len(), 9);
        for Perturbation { parallel, perpendicular, minutes, u, v } in &dump.perturbations {
            let draw = Draw { parallel: *parallel, perpendicular: *perpendicular };
            let ours = perturbed(&motion, draw, &PerturbationParams::default(), SCALE, *minutes);
            assert_close((&ours.u - &motion.u).iter().map(|u| f64::from(*u)), u);
            assert_close((&ours.v - &motion.v).iter().map(|v| f64::from(*v)), v);
        }
    }
}

#[test]
fn noise_has_the_spectrum_and_in_each_level_the_variance_of_that_of_pysteps() {
    for dump in dumps() {
        println!("{}", dump.name);
        let shape = dump.stages.shape;
        let (exact, fft) = (Fft2::<f64>::new(shape), Fft2::<f32>::new(shape));
        let filter = noise::filter(&dump.stages.fields, shape, &exact, &mut exact.scratch());
        let (mut scratch, mut field) = (fft.scratch(), vec![0f32; shape.0 * shape.1]);
        let (mut powers, mut parts) = (Vec::new(), Vec::new());
        let mut spectrum = vec![Complex::default(); fft.len()];
        for step in 0..NOISES {
            noise::white(&Philox::new(3, 0), step, shape, &mut spectrum);
            spectrum.iter_mut().zip(&filter).for_each(|(z, amplitude)| *z *= amplitude);
            // As in pysteps: without its mean, and of unit variance.
            spectrum[0] = Complex::default();
            let of_column = |(i, z): (usize, &Complex<f32>)| multiplicity(shape, i / shape.0) * f64::from(z.norm_sqr());
            let deviation = spectrum.iter().enumerate().map(of_column).sum::<f64>().sqrt();
            spectrum.iter_mut().for_each(|z| *z /= deviation as f32);
            fft.inverse(&mut spectrum, &mut field, &mut scratch);
            powers.push(power(&field, shape));
            parts.push(deviations(&field, shape).iter().map(|deviation| deviation.powi(2)).collect());
        }
        let theirs: Vec<Vec<f64>> = dump.noise_power.iter().map(|power| power[1..].to_vec()).collect();
        assert_same_means(&powers, &theirs);
        assert_same_means(&parts, &dump.noise_parts);
    }
}

#[test]
fn members_have_the_spectrum_the_variances_and_the_ranks_of_those_of_pysteps() {
    for dump in dumps() {
        let (ours, shape) = (dump.ensemble(), dump.inside());
        for (lead, observed) in dump.observed.iter().enumerate() {
            println!("{}, lead {}", dump.name, lead + 1);
            let [ours, theirs] =
                [&ours, &dump.members].map(|all| all.iter().map(|member| &member[lead]).collect::<Vec<_>>());
            let of_each = |members: &[&Vec<f32>], what: fn(&[f32], (usize, usize)) -> Vec<f64>| {
                members.iter().map(|field| what(field, shape)).collect::<Vec<_>>()
            };
            assert_same_means(&of_each(&ours, deviations), &of_each(&theirs, deviations));
            assert_same_means(&of_each(&ours, power), &of_each(&theirs, power));
            let histograms = [&ours, &theirs].map(|members| ranks(members, observed, theirs.len()));
            let apart: f64 = histograms[0].iter().zip(&histograms[1]).map(|(a, b)| (a - b).abs()).sum();
            // Two seeds of pysteps are up to 0.2 apart; two histograms that have nothing in common, 2.
            assert!(apart < 0.25, "{apart}: {:.3?} {:.3?}", histograms[0], histograms[1]);
        }
    }
}
