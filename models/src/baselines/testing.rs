//! Small windows for tests.

use std::sync::Arc;

use ndarray::Array3;
use squall_fields::{Axis, Cadence, Frame, Grid, InputRef, IssueTime, ValidTime, Variable, Window};

use crate::{Context, Request};

/// A frame on a grid of 1 km.
pub(crate) fn frame(
    variables: &[Variable],
    shape: (usize, usize),
    value: impl Fn(usize, usize, usize) -> f32,
) -> Frame {
    let grid = Grid {
        proj: "+proj=stere +lat_0=90 +units=m".into(),
        wkt: None,
        x: Axis { first: 0.0, step: 1000.0, len: shape.1 },
        y: Axis { first: 0.0, step: -1000.0, len: shape.0 },
    };
    Frame {
        grid: Arc::new(grid),
        slot: ValidTime::from_unix_seconds(0),
        variables: variables.into(),
        values: Array3::from_shape_fn((variables.len(), shape.0, shape.1), |(v, y, x)| value(v, y, x)),
        quality: None,
        input: InputRef { topic: "test".into(), partition: 0, offset: 0, digest: "".into() },
    }
}

/// A round shower around a column and a row, on 80 x 100 cells.
pub(crate) fn bump(column: f32, row: f32) -> Frame {
    frame(&[Variable::RainRate], (80, 100), |_, y, x| {
        let d2 = (x as f32 - column).powi(2) + (y as f32 - row).powi(2);
        20.0 * (-d2 / 60.0).exp()
    })
}

/// A request on a cadence of 5 minutes.
pub(crate) fn request(frames: Vec<Option<Frame>>, leads: usize, members: usize) -> Request {
    let cadence = Cadence::every_seconds(300).expect("not zero");
    let window = Window {
        issue_time: IssueTime::from_unix_seconds(1_475_000_100),
        cadence,
        frames: frames.into_iter().map(|f| f.map(Arc::new)).collect(),
        steering: None,
    };
    Request { stream: "test".into(), window: Arc::new(window), leads: cadence.leads(leads), members, steps: None }
}

/// What a stream of these variables asks.
pub(crate) fn context(variables: &[Variable]) -> Context {
    Context {
        stream: "test".into(),
        variables: variables.to_vec(),
        cadence: Cadence::every_seconds(300).expect("not zero"),
        grid: None,
        window_frames: 4,
        leads: 12,
        members: 1,
    }
}
