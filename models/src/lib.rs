//! Forecast models: arrays in, ensembles out.
//!
//! Everything that forecasts is a [`Forecaster`]: the [`baselines`], which need no learning, and the models of
//! [`diffusion`], whose [`weights`] come from [`training`]. [`series`] has models of stations' series, which are no frames.
//! [`scores`] say how good they are. None of it knows where frames come from or where forecasts go.
//!
//! ```
//! use std::sync::Arc;
//! use ndarray::Array3;
//! use squall_fields::{Axis, Cadence, Frame, Grid, InputRef, IssueTime, ValidTime, Variable, Window};
//! use squall_models::{Request, baselines};
//!
//! // A shower that moves east by two cells of 1 km in five minutes, seen three times.
//! let grid = Arc::new(Grid {
//!     proj: "+proj=laea +lat_0=60 +lon_0=25 +units=m".into(),
//!     wkt: None,
//!     x: Axis { first: 0.0, step: 1000.0, len: 96 },
//!     y: Axis { first: 0.0, step: -1000.0, len: 64 },
//! });
//! let frame = |n: i64| {
//!     let shower = |(_, y, x): (usize, usize, usize)| {
//!         let (dy, dx) = (y as f32 - 32.0, x as f32 - 30.0 - 2.0 * n as f32);
//!         20.0 * (-(dy * dy + dx * dx) / 60.0).exp()
//!     };
//!     Frame {
//!         grid: grid.clone(),
//!         slot: ValidTime::from_unix_seconds(300 * n),
//!         variables: [Variable::RainRate].into(),
//!         values: Array3::from_shape_fn((1, 64, 96), shower),
//!         quality: None,
//!         input: InputRef { topic: "example".into(), partition: 0, offset: n, digest: "".into() },
//!     }
//! };
//! let cadence = Cadence::every_seconds(300).expect("not zero");
//! let frames = (0..3).map(|n| Some(Arc::new(frame(n)))).collect();
//! let window = Arc::new(Window { issue_time: IssueTime::from_unix_seconds(600), cadence, frames, steering: None });
//! let request = Request { stream: "example".into(), window, leads: cadence.leads(3), members: 4, steps: None };
//!
//! let mut model = baselines::build("extrapolation", &serde_json::json!({}))?;
//! let prediction = model.forecast(&[request]).remove(0)?;
//! let rain = &prediction.ensembles[0].values; // [member, lead, y, x]
//! assert_eq!(rain.dim(), (4, 3, 64, 96));
//! // Member 0 is the control. After 15 minutes the shower is near column 40, where there was little rain before.
//! assert!(rain[[0, 2, 32, 40]] > 15.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod baselines;
pub mod calibration;
pub mod device;
pub mod diffusion;
pub mod forecaster;
pub mod network;
pub mod scores;
pub mod series;
pub mod simulate;
mod spec;
pub mod training;
pub mod weights;

pub use forecaster::{Context, Coordinates, Forecaster, ModelError, Prediction, Request};
pub use spec::ModelSpec;
