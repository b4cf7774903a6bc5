//! A forecaster of one's own, and how it does against persistence on a simulated storm.
//!
//! ```text
//! cargo run --release -p squall-models --example own_forecaster
//! ```
//!
//! [`WholeShift`] moves the newest frame as a whole. A model that implements [`Forecaster`] needs no more than this to
//! run in a stream: `squall_pipeline::runtime::Parts::models` makes the models of a run.

use std::sync::Arc;

use ndarray::{Array2, Array4, ArrayView2, s};
use squall_fields::{Axis, Cadence, Ensemble, Frame, Grid, InputRef, IssueTime, LeadTime, Variable, Window};
use squall_models::baselines::Persistence;
use squall_models::scores::{Contingency, Event};
use squall_models::simulate::{Storm, StormFrame, StormSettings};
use squall_models::{Coordinates, Forecaster, ModelError, Prediction, Request};

/// Furthest that rain is looked for, in cells.
const REACH: isize = 16;

/// Moves the newest frame by the one shift that takes the oldest frame of the window closest to it.
struct WholeShift;

impl Forecaster for WholeShift {
    fn name(&self) -> &str {
        "whole-shift"
    }

    // Part of the key of every forecast: it changes whenever what is forecast does.
    fn digest(&self) -> &str {
        "whole-shift-1"
    }

    fn coordinates(&self) -> Coordinates {
        Coordinates {
            variables: vec![vec![Variable::RainRate]],
            cadence: None,
            spacing_m: None,
            context_frames: 2,
            max_leads: None,
            min_shape: (2 * REACH as usize, 2 * REACH as usize),
            max_members: Some(1),
        }
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        requests.iter().map(shifted).collect()
    }
}

fn shifted(request: &Request) -> Result<Prediction, ModelError> {
    let window = &request.window;
    // A slot whose frame did not come is `None`.
    let present: Vec<&Arc<Frame>> = window.frames.iter().flatten().collect();
    let [oldest, .., newest] = present[..] else {
        let reason = format!("two frames are needed to see motion, {} are there", present.len());
        return Err(ModelError::Window { issue_time: window.issue_time, reason });
    };
    let (before, now) = (oldest.values.slice(s![0, .., ..]), newest.values.slice(s![0, .., ..]));
    let shift = best_shift(before, now);
    let between = (newest.slot.unix_seconds() - oldest.slot.unix_seconds()) as f64;
    let behind = (window.issue_time.slot().unix_seconds() - newest.slot.unix_seconds()) as f64;
    let (rows, columns) = now.dim();
    let mut values = Array4::zeros((request.members, request.leads.len(), rows, columns));
    for (index, lead) in request.leads.iter().enumerate() {
        let steps = (lead.seconds() as f64 + behind) / between;
        let (down, right) = ((shift.0 as f64 * steps).round() as isize, (shift.1 as f64 * steps).round() as isize);
        // What comes from outside is missing, not dry.
        let from = |(y, x): (usize, usize)| at(now, y as isize - down, x as isize - right).unwrap_or(f32::NAN);
        values.slice_mut(s![.., index, .., ..]).assign(&Array2::from_shape_fn((rows, columns), from));
    }
    Ok(Prediction { ensembles: vec![Ensemble { variable: Variable::RainRate, values }], precision: None })
}

fn at(field: ArrayView2<'_, f32>, y: isize, x: isize) -> Option<f32> {
    field.get((usize::try_from(y).ok()?, usize::try_from(x).ok()?)).copied()
}

/// The shift `(down, right)` in cells with the least mean absolute difference.
fn best_shift(before: ArrayView2<'_, f32>, now: ArrayView2<'_, f32>) -> (isize, isize) {
    let difference = |(down, right): (isize, isize)| {
        let pairs = now.indexed_iter().filter_map(|((y, x), value)| {
            let was = at(before, y as isize - down, x as isize - right)?;
            (!was.is_nan() && !value.is_nan()).then(|| f64::from((value - was).abs()))
        });
        let (sum, count) = pairs.fold((0.0, 0.0), |(sum, count), pair| (sum + pair, count + 1.0));
        if count > 0.0 { sum / count } else { f64::INFINITY }
    };
    let all = (-REACH..=REACH).flat_map(|down| (-REACH..=REACH).map(move |right| (down, right)));
    all.min_by(|a, b| difference(*a).total_cmp(&difference(*b))).expect("there is a shift")
}

fn main() -> Result<(), ModelError> {
    let settings = StormSettings { rows: 96, columns: 96, radar_range: false, ..StormSettings::default() };
    let cadence = settings.cadence;
    let frames: Vec<Arc<Frame>> = Storm::new(settings).take(20).map(|storm| Arc::new(frame(storm))).collect();
    let leads = cadence.leads(6);
    let mut tables = vec![[Contingency::default(); 2]; leads.len()];
    for first in 0..frames.len() - leads.len() - 3 {
        let window = window(cadence, &frames[first..first + 4]);
        let request = Request {
            stream: "example".into(),
            window: Arc::new(window),
            leads: leads.clone(),
            members: 1,
            steps: None,
        };
        let own = WholeShift.forecast(std::slice::from_ref(&request)).remove(0)?;
        let still = Persistence::default().forecast(&[request]).remove(0)?;
        for (lead, tables) in tables.iter_mut().enumerate() {
            let field = |prediction: &Prediction| prediction.ensembles[0].values.slice(s![0, lead, .., ..]).to_owned();
            let (own, still) = (field(&own), field(&still));
            // Both are judged on the cells that both have.
            let observed = frames[first + 4 + lead].values.slice(s![0, .., ..]);
            let observed = ndarray::Zip::from(observed).and(&own).map_collect(|o, f| if f.is_nan() { *f } else { *o });
            let event = Event::AtLeast(1.0);
            tables[0].add(own.view(), observed.view(), event);
            tables[1].add(still.view(), observed.view(), event);
        }
    }
    print(&leads, &tables);
    Ok(())
}

fn print(leads: &[LeadTime], tables: &[[Contingency; 2]]) {
    println!("CSI at 1 mm/h");
    println!("{:>9} {:>12} {:>12}", "lead", "whole-shift", "persistence");
    for (lead, tables) in leads.iter().zip(tables) {
        // Without any rain there is no score: `None`, not 0.
        let [own, still] = tables.map(|table| table.csi().map_or("-".to_owned(), |csi| format!("{csi:.3}")));
        println!("{:>9} {own:>12} {still:>12}", lead.to_string());
    }
}

fn window(cadence: Cadence, frames: &[Arc<Frame>]) -> Window {
    let issue_time = IssueTime::from(frames[frames.len() - 1].slot);
    Window { issue_time, cadence, frames: frames.iter().cloned().map(Some).collect(), steering: None }
}

/// The rain of a storm as a frame, as a decoder would give it.
fn frame(storm: StormFrame) -> Frame {
    let (rows, columns) = storm.rain_rate.dim();
    let grid = Grid {
        proj: "+proj=laea +lat_0=60 +lon_0=25 +ellps=WGS84 +units=m".into(),
        wkt: None,
        x: Axis { first: 0.0, step: 1000.0, len: columns },
        y: Axis { first: 0.0, step: -1000.0, len: rows },
    };
    Frame {
        grid: Arc::new(grid),
        slot: storm.slot,
        variables: [Variable::RainRate].into(),
        values: storm.rain_rate.insert_axis(ndarray::Axis(0)),
        quality: None,
        input: InputRef { topic: "storm".into(), partition: 0, offset: 0, digest: "".into() },
    }
}
