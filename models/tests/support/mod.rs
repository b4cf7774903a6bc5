//! Real events for tests and benchmarks, found through `SQUALL_DATA`.
// Each test that includes this uses a part of it.
#![allow(dead_code)]

use std::{path::PathBuf, sync::Arc};

use ndarray::{Array2, Array3, Array4};
use squall_fields::{Axis, Cadence, Frame, Grid, InputRef, IssueTime, ValidTime, Variable, Window};
use squall_models::{Request, scores::Crps};

/// Path of a data file, or `None` (said on stderr) if there is no data here.
pub(crate) fn data(file: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("SQUALL_DATA") else {
        eprintln!("SQUALL_DATA is not set: skipped {file}");
        return None;
    };
    let path = PathBuf::from(folder).join(file);
    assert!(path.exists(), "SQUALL_DATA is set, but {} is missing", path.display());
    Some(path)
}

/// A packed variable `[time, y, x]` of a file, NaN where missing.
pub(crate) fn read(file: &str, variable: &str) -> Option<Array3<f32>> {
    let file = netcdf::open(data(file)?).expect("a NetCDF file");
    let variable = file.variable(variable).expect("the variable is there");
    let number =
        |name: &str| -> f32 { variable.attribute_value(name).expect(name).expect(name).try_into().expect(name) };
    let (scale, offset, fill) = (number("scale_factor"), number("add_offset"), number("_FillValue"));
    let shape: Vec<usize> = variable.dimensions().iter().map(netcdf::Dimension::len).collect();
    let packed: Vec<i16> = variable.get_values(..).expect("packed as i16");
    let unpack = |v: i16| if f32::from(v) == fill { f32::NAN } else { f32::from(v) * scale + offset };
    let values = packed.into_iter().map(unpack).collect();
    Some(Array3::from_shape_vec((shape[0], shape[1], shape[2]), values).expect("time, y, x"))
}

/// A rain rate every 5 minutes on a grid of 1 km.
pub(crate) struct Event {
    grid: Arc<Grid>,
    pub(crate) rates: Array3<f32>,
}

impl Event {
    pub(crate) fn read(file: &str) -> Option<Self> {
        let rates = read(file, "rainfall_rate")?;
        let (_, rows, columns) = rates.dim();
        let axis = |step: f64, len| Axis { first: 0.0, step, len };
        let grid =
            Grid { proj: "+proj=stere +units=m".into(), wkt: None, x: axis(1000.0, columns), y: axis(-1000.0, rows) };
        Some(Self { grid: Arc::new(grid), rates })
    }

    /// Index of the newest frame of the middle start: as many starts lie before it as after it, when
    /// each needs 4 frames of context and 20 leads.
    pub(crate) fn middle(&self) -> usize {
        (self.rates.dim().0 - 24) / 2 + 3
    }

    pub(crate) fn field(&self, index: usize) -> Array2<f32> {
        self.rates.index_axis(ndarray::Axis(0), index).to_owned()
    }

    /// Four frames up to `newest`.
    pub(crate) fn request(&self, newest: usize, leads: usize, members: usize) -> Request {
        let cadence = Cadence::every_seconds(300).expect("not zero");
        let frame = |index: usize| {
            Some(Arc::new(Frame {
                grid: self.grid.clone(),
                slot: ValidTime::from_unix_seconds(300 * index as i64),
                variables: [Variable::RainRate].into(),
                values: self.field(index).insert_axis(ndarray::Axis(0)),
                quality: None,
                input: InputRef { topic: "archive".into(), partition: 0, offset: index as i64, digest: "".into() },
            }))
        };
        let window = Window {
            issue_time: IssueTime::from_unix_seconds(300 * newest as i64),
            cadence,
            frames: (newest - 3..=newest).map(frame).collect(),
            steering: None,
        };
        Request { stream: "event".into(), window: Arc::new(window), leads: cadence.leads(leads), members, steps: None }
    }
}

/// CRPS in mm/h of an ensemble `[member, lead, y, x]` at a lead, over cells where the observation and every member have a
/// value.
pub(crate) fn crps(ensemble: &Array4<f32>, lead: usize, observed: &Array2<f32>) -> f64 {
    let members = ensemble.index_axis(ndarray::Axis(1), lead);
    let mut observed = observed.clone();
    members.outer_iter().for_each(|member| observed.zip_mut_with(&member, |o, m| *o += 0.0 * m));
    let mut crps = Crps::default();
    crps.add(members, observed.view());
    crps.biased().expect("valid cells")
}
