//! How fast scores are on one thread, beside other programs on the same fields in the same run.
//!
//! `cargo run --release -p squall-models --example scores_speed -- PYTHON [ROUNDS]`, where PYTHON is an interpreter that has
//! scores, scoringrules and SciPy (`target/venv/bin/python`); scoringrules is faster where there is numba, too. The forecast
//! has 24 members of 256 x 256 cells. In each round every program does every stage in turn, so that other work on the
//! machine slows all of them. Prints nanoseconds for each value that is read, the least and the median of the rounds.

use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use ndarray::{Array2, Array3, Axis, s, stack};
use squall_models::scores::{Contingency, Crps, Event, Fss, ProbabilityTable};
use squall_models::simulate::{Storm, StormSettings};

const MEMBERS: usize = 24;
const SIDE: usize = 256;
/// No event is so near the border: programs differ in the windows that they have there.
const MARGIN: usize = 40;
const THRESHOLD: f32 = 1.0;
const EVENT: Event = Event::AtLeast(THRESHOLD);

/// Members `[member, y, x]` and an observation `[y, x]`.
struct Case {
    members: Array3<f32>,
    observed: Array2<f32>,
}

impl Case {
    /// The frames of a storm: all but the last are members, in no order.
    fn of(frames: &[Array2<f32>]) -> Self {
        let views: Vec<_> = (0..MEMBERS).map(|member| frames[member * 7 % MEMBERS].view()).collect();
        let members = stack(Axis(0), &views).expect("frames of one shape");
        Self { members, observed: frames[MEMBERS].clone() }
    }

    fn write(&self, folder: &Path, name: &str) -> std::io::Result<()> {
        let bytes = |values: &mut dyn Iterator<Item = &f32>| values.flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>();
        fs::write(folder.join(format!("{name}_members.f32")), bytes(&mut self.members.iter()))?;
        fs::write(folder.join(format!("{name}_observed.f32")), bytes(&mut self.observed.iter()))
    }
}

/// Rain, most of the map dry, and wind, which is nowhere the same.
fn cases() -> [(&'static str, Case); 2] {
    let settings = StormSettings { rows: SIDE, columns: SIDE, radar_range: false, ..StormSettings::default() };
    let frames: Vec<_> = Storm::new(settings).take(MEMBERS + 1).collect();
    let inside = MARGIN..SIDE - MARGIN;
    let dry_border = |rain: &Array2<f32>| {
        let mut cut = Array2::zeros(rain.dim());
        cut.slice_mut(s![inside.clone(), inside.clone()]).assign(&rain.slice(s![inside.clone(), inside.clone()]));
        cut
    };
    let rain: Vec<_> = frames.iter().map(|frame| dry_border(&frame.rain_rate)).collect();
    let wind: Vec<_> = frames.into_iter().map(|frame| frame.eastward_wind).collect();
    [("rain", Case::of(&rain)), ("wind", Case::of(&wind))]
}

/// What is timed: the same numbers of each program, in the same order; some give the first ones alone.
struct Stage {
    name: &'static str,
    field: &'static str,
    programs: &'static [&'static str],
    squall: fn(&Case, usize) -> Vec<Option<f64>>,
    /// Side of the windows, if there are any.
    scale: usize,
}

const STAGES: [Stage; 9] = [
    Stage { name: "crps", field: "rain", programs: &["scores", "scoringrules"], squall: crps, scale: 0 },
    Stage { name: "crps", field: "wind", programs: &["scores", "scoringrules"], squall: crps, scale: 0 },
    Stage { name: "contingency", field: "rain", programs: &["scores"], squall: contingency, scale: 0 },
    Stage { name: "brier", field: "rain", programs: &["scores", "scoringrules"], squall: brier, scale: 0 },
    Stage { name: "reliability", field: "rain", programs: &["numpy"], squall: reliability, scale: 0 },
    Stage { name: "roc", field: "rain", programs: &["scores"], squall: roc, scale: 0 },
    Stage { name: "probability", field: "rain", programs: &["scores"], squall: probability, scale: 0 },
    Stage { name: "fss", field: "rain", programs: &["scores", "scipy"], squall: fss, scale: 9 },
    Stage { name: "fss", field: "rain", programs: &["scores", "scipy"], squall: fss, scale: 33 },
];

impl Stage {
    /// Values of the forecast that are read.
    fn values(&self) -> f64 {
        (if self.scale > 0 { 1 } else { MEMBERS } * SIDE * SIDE) as f64
    }
}

fn crps(case: &Case, _: usize) -> Vec<Option<f64>> {
    let mut sums = Crps::default();
    sums.add(case.members.view(), case.observed.view());
    vec![sums.biased(), sums.fair()]
}

/// Of every member.
fn contingency(case: &Case, _: usize) -> Vec<Option<f64>> {
    let mut table = Contingency::default();
    case.members.outer_iter().for_each(|member| table.add(member, case.observed.view(), EVENT));
    vec![table.csi(), table.pod()]
}

fn table(case: &Case) -> ProbabilityTable {
    let mut table = ProbabilityTable::default();
    table.add(case.members.view(), case.observed.view(), EVENT);
    table
}

fn brier(case: &Case, _: usize) -> Vec<Option<f64>> {
    let table = table(case);
    vec![table.brier(), table.fair_brier()]
}

fn reliability(case: &Case, _: usize) -> Vec<Option<f64>> {
    let parts = table(case).murphy();
    vec![parts.map(|parts| parts[0]), parts.map(|parts| parts[1])]
}

fn roc(case: &Case, _: usize) -> Vec<Option<f64>> {
    vec![table(case).roc_area()]
}

/// All of the above that scores has, which Squall takes from one table.
fn probability(case: &Case, _: usize) -> Vec<Option<f64>> {
    let table = table(case);
    vec![table.brier(), table.fair_brier(), table.roc_area()]
}

/// Of the first member.
fn fss(case: &Case, scale: usize) -> Vec<Option<f64>> {
    let mut sums = Fss::default();
    sums.add(case.members.index_axis(Axis(0), 0), case.observed.view(), EVENT, scale);
    vec![sums.score()]
}

/// The other programs, in one process that waits for questions.
struct Others {
    child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Others {
    fn start(python: &str, folder: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/scores_speed.py");
        let mut command = Command::new(python);
        command.arg(script).arg(folder).args([MEMBERS, SIDE, SIDE].map(|n| n.to_string())).arg(THRESHOLD.to_string());
        for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"] {
            command.env(name, "1");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the interpreter runs");
        let (questions, answers) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, questions, answers: BufReader::new(answers).lines() }
    }

    /// Seconds of one call, and its numbers.
    fn ask(&mut self, stage: &Stage, program: &str) -> (f64, Vec<f64>) {
        writeln!(self.questions, "{} {} {program} {}", stage.name, stage.field, stage.scale).expect("it listens");
        let answer = self.answers.next().expect("an answer").expect("text");
        let mut numbers = answer.split(' ').map(|number| number.parse().expect("numbers"));
        (numbers.next().expect("seconds"), numbers.collect())
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The least and the median.
fn summary(seconds: &mut [f64]) -> [f64; 2] {
    seconds.sort_by(f64::total_cmp);
    [seconds[0], seconds[seconds.len() / 2]]
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let python = arguments.next().expect("expected an interpreter: scores_speed PYTHON [ROUNDS]");
    let rounds: usize = arguments.next().map_or(15, |rounds| rounds.parse().expect("a number of rounds"));
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("the first use of the pool");
    let (folder, cases) = (tempfile::tempdir()?, cases());
    for (name, case) in &cases {
        case.write(folder.path(), name)?;
    }
    let mut others = Others::start(&python, folder.path());
    // Of each stage: Squall, then the programs. The first round warms up and is not counted.
    let mut times: Vec<Vec<Vec<f64>>> = STAGES.iter().map(|stage| vec![vec![]; stage.programs.len() + 1]).collect();
    let mut furthest = [0f64; STAGES.len()];
    for round in 0..=rounds {
        for (i, stage) in STAGES.iter().enumerate() {
            let case = &cases.iter().find(|(name, _)| *name == stage.field).expect("a field of that name").1;
            let start = Instant::now();
            let own = black_box((stage.squall)(black_box(case), stage.scale));
            let mut seconds = vec![start.elapsed().as_secs_f64()];
            for program in stage.programs {
                let (took, numbers) = others.ask(stage, program);
                seconds.push(took);
                for (own, other) in own.iter().zip(&numbers) {
                    let difference = own.map_or(f64::INFINITY, |own| (own / other - 1.0).abs());
                    furthest[i] = if difference.is_nan() { f64::INFINITY } else { furthest[i].max(difference) };
                }
            }
            if round > 0 {
                times[i].iter_mut().zip(seconds).for_each(|(all, seconds)| all.push(seconds));
            }
        }
    }
    println!("{:<24} {:>20} {:<13} {:>20} {:>15}", "ns a value: least, median", "Squall", "", "other", "times");
    for ((stage, times), furthest) in STAGES.iter().zip(&mut times).zip(furthest) {
        let mut summaries = times.iter_mut().map(|seconds| summary(seconds));
        let own = summaries.next().expect("Squall is the first");
        let windows = if stage.scale > 0 { format!(", {}", stage.scale) } else { String::new() };
        let name = format!("{} of {}{windows}", stage.name, stage.field);
        for (program, other) in stage.programs.iter().zip(summaries) {
            let ns = |[least, median]: [f64; 2]| {
                format!("{:9.3} {:9.3}", least / stage.values() * 1e9, median / stage.values() * 1e9)
            };
            let ratio = [other[0] / own[0], other[1] / own[1]];
            println!("{name:<24} {:>20} {program:<13} {:>20} {:7.1} {:7.1}", ns(own), ns(other), ratio[0], ratio[1]);
        }
        assert!(furthest < 1e-5, "{name}: the numbers differ by {furthest:.1e} of them");
    }
    Ok(())
}
