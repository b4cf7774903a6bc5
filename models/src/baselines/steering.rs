//! The wind that moves rain whose own motion cannot be seen.

use ndarray::ArrayView2;
use squall_fields::{Frame, Grid, Variable, Window};

use super::motion::MotionField;
use super::perturbation::Scale;

/// Rows and columns of places, spread over the grid, whose winds are averaged where the wind has a grid of its own.
const PLACES: usize = 9;
/// Mean radius of the Earth in metres.
const EARTH_M: f64 = 6_371_008.8;

/// The components of a wind: along the axes of its grid, or along parallels and meridians.
#[derive(Clone, Copy)]
enum Along {
    Axes,
    Parallels,
}

/// The mean wind over a grid times a factor, in cells per step: of the window's steering, else of the newest frame with a
/// wind if there is a factor.
pub(super) fn motion(window: &Window, grid: &Grid, factor: Option<f32>) -> Option<MotionField> {
    let drift = match (&window.steering, factor) {
        (Some(frame), factor) => over(frame, grid, window, factor.unwrap_or(1.0)),
        (None, Some(factor)) => {
            let newest = window.frames.iter().rev().flatten().find(|frame| components(frame).is_some());
            over(newest?, grid, window, factor)
        }
        (None, None) => None,
    };
    drift.map(|(u, v)| MotionField::uniform(grid.shape(), u as f32, v as f32))
}

fn components(frame: &Frame) -> Option<(Along, [ArrayView2<'_, f32>; 2])> {
    let pairs = [
        (Along::Axes, Variable::XWind, Variable::YWind),
        (Along::Parallels, Variable::EastwardWind, Variable::NorthwardWind),
    ];
    pairs.into_iter().find_map(|(along, x, y)| Some((along, [frame.plane(x)?, frame.plane(y)?])))
}

fn over(frame: &Frame, grid: &Grid, window: &Window, factor: f32) -> Option<(f64, f64)> {
    let (along, winds) = components(frame)?;
    let step_seconds = window.cadence.step_seconds();
    if frame.grid.is_same(grid) {
        let [x, y] = [mean(winds[0])?, mean(winds[1])?];
        let [dx, dy] = Scale::new(grid, step_seconds).cell_km;
        let km_per_step = f64::from(factor) * step_seconds as f64 / 1000.0;
        // Rows run from north to south.
        return Some((x * km_per_step / dx, -y * km_per_step / dy));
    }
    let seconds = f64::from(factor) * step_seconds as f64;
    elsewhere(frame, grid, along, winds, seconds)
}

/// The mean drift over another grid: places of it are carried along by the wind where they lie in the wind's.
fn elsewhere(
    frame: &Frame,
    grid: &Grid,
    along: Along,
    [x, y]: [ArrayView2<'_, f32>; 2],
    seconds: f64,
) -> Option<(f64, f64)> {
    let (own, of_wind) = (grid.projection().ok()?, frame.grid.projection().ok()?);
    let (rows, columns) = grid.shape();
    let drift = |row: f64, column: f64| {
        let (latitude, longitude) = grid.lat_lon_with(&own, row, column).ok()?;
        let (at_row, at_column) = frame.grid.cell_of_with(&of_wind, latitude, longitude).ok()?;
        let cell = (index(at_row, x.nrows())?, index(at_column, x.ncols())?);
        let wind = [f64::from(x[cell]), f64::from(y[cell])];
        let [east, north] = match along {
            Along::Parallels => wind,
            Along::Axes => {
                let place = |row, column| frame.grid.lat_lon_with(&of_wind, row, column).ok();
                let across = direction(place(at_row, at_column - 0.5)?, place(at_row, at_column + 0.5)?)?;
                let up = direction(place(at_row + 0.5, at_column)?, place(at_row - 0.5, at_column)?)?;
                [0, 1].map(|i| wind[0] * across[i] + wind[1] * up[i])
            }
        };
        let to_latitude = latitude + (north * seconds / EARTH_M).to_degrees();
        let to_longitude = longitude + (east * seconds / (EARTH_M * latitude.to_radians().cos())).to_degrees();
        let (to_row, to_column) = grid.cell_of_with(&own, to_latitude, to_longitude).ok()?;
        let (u, v) = (to_column - column, to_row - row);
        (u.is_finite() && v.is_finite()).then_some((u, v))
    };
    let place = |i: usize, len: usize| (i as f64 + 0.5) / PLACES as f64 * len as f64 - 0.5;
    let places = (0..PLACES).flat_map(|i| (0..PLACES).map(move |j| (place(i, rows), place(j, columns))));
    let drifts: Vec<_> = places.filter_map(|(row, column)| drift(row, column)).collect();
    let of = |component: fn(&(f64, f64)) -> f64| drifts.iter().map(component).sum::<f64>() / drifts.len() as f64;
    (!drifts.is_empty()).then(|| (of(|(u, _)| *u), of(|(_, v)| *v)))
}

fn index(at: f64, len: usize) -> Option<usize> {
    (at > -0.5 && at < len as f64 - 0.5).then(|| at.round() as usize)
}

/// East and north of the unit vector from one place to another, both in degrees.
fn direction((from_latitude, from_longitude): (f64, f64), (latitude, longitude): (f64, f64)) -> Option<[f64; 2]> {
    let turn = (longitude - from_longitude + 540.0).rem_euclid(360.0) - 180.0;
    let (east, north) = (turn * from_latitude.to_radians().cos(), latitude - from_latitude);
    let length = east.hypot(north);
    (length > 0.0).then(|| [east / length, north / length])
}

/// Mean of the valid cells.
fn mean(plane: ArrayView2<'_, f32>) -> Option<f64> {
    let valid = plane.iter().filter(|v| v.is_finite());
    let (sum, n) = valid.fold((0f64, 0u64), |(sum, n), v| (sum + f64::from(*v), n + 1));
    (n > 0).then(|| sum / n as f64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::Array3;
    use squall_fields::Axis;
    use squall_fields::crs::Projection;

    use super::*;
    use crate::baselines::testing::{frame, request};

    /// Calm rain of 100 x 100 km around 60 N 25 E, as a window with a wind of its own.
    fn window(wind: Frame) -> Window {
        let mut rain = frame(&[Variable::RainRate], (50, 50), |_, _, _| 0.0);
        let axis = |first: f64, step: f64| Axis { first, step, len: 50 };
        let proj = "+proj=laea +lat_0=60 +lon_0=25 +ellps=WGS84".to_owned();
        rain.grid = Arc::new(Grid { proj, wkt: None, x: axis(-49_000.0, 2000.0), y: axis(49_000.0, -2000.0) });
        let mut window = Arc::unwrap_or_clone(request(vec![Some(rain)], 1, 1).window);
        window.steering = Some(wind.into());
        window
    }

    fn wind(grid: Grid, variables: [Variable; 2], of: impl Fn(usize, usize, usize) -> f32) -> Frame {
        let (rows, columns) = grid.shape();
        let mut wind = frame(&variables, (rows, columns), |_, _, _| 0.0);
        wind.values = Array3::from_shape_fn((2, rows, columns), |(c, y, x)| of(c, y, x));
        wind.grid = Arc::new(grid);
        wind
    }

    /// A grid of 1 degree from 0 to 40 E and 70 to 50 N.
    fn degrees() -> Grid {
        let axis = |first: f64, step: f64, len: usize| Axis { first, step, len };
        let proj = "+proj=longlat +datum=WGS84".to_owned();
        Grid { proj, wkt: None, x: axis(0.0, 1.0, 41), y: axis(70.0, -1.0, 21) }
    }

    fn drift(window: &Window, factor: Option<f32>) -> Option<(f32, f32)> {
        let grid = window.frames[0].as_ref().unwrap().grid.clone();
        motion(window, &grid, factor).map(|field| field.at(25.0, 25.0))
    }

    fn is_near(drift: Option<(f32, f32)>, expected: (f32, f32)) {
        let (u, v) = drift.unwrap();
        assert!((u - expected.0).abs() < 0.02 && (v - expected.1).abs() < 0.02, "{u} {v}, not {expected:?}");
    }

    #[test]
    fn a_wind_on_another_grid_steers_by_what_it_is_over_the_rain_alone() {
        // 20 m/s to the east and 10 to the north around 25 E, a storm to the south everywhere else.
        let here = |x: usize| (22..=28).contains(&x);
        let of = |c: usize, _: usize, x: usize| if here(x) { [20.0, 10.0][c] } else { -50.0 };
        let wind = wind(degrees(), [Variable::EastwardWind, Variable::NorthwardWind], of);
        // 6 km and 3 km in 5 minutes are 3 cells and 1.5; north is up.
        is_near(drift(&window(wind.clone()), None), (3.0, -1.5));
        is_near(drift(&window(wind), Some(2.0)), (6.0, -3.0));
    }

    #[test]
    fn components_along_a_turned_grid_are_turned() {
        // Seen from the pole, a quarter of a turn from its meridian: x runs to the south there, and y to the east.
        let proj = "+proj=stere +lat_0=90 +lat_ts=60 +lon_0=-65 +ellps=WGS84".to_owned();
        let (x, y) = Projection::parse(&proj).unwrap().to_xy(60.0, 25.0).unwrap();
        let axis = |middle: f64, step: f64| Axis { first: middle - 20.0 * step, step, len: 41 };
        let grid = Grid { proj, wkt: None, x: axis(x, 5000.0), y: axis(y, -5000.0) };
        let wind = wind(grid, [Variable::XWind, Variable::YWind], |c, _, _| [20.0, 10.0][c]);
        is_near(drift(&window(wind), None), (1.5, 3.0));
    }

    #[test]
    fn a_wind_that_lies_elsewhere_or_is_missing_steers_nothing() {
        let far = Grid { x: Axis { first: -120.0, step: 1.0, len: 10 }, ..degrees() };
        let winds = [Variable::EastwardWind, Variable::NorthwardWind];
        assert_eq!(drift(&window(wind(far, winds, |_, _, _| 10.0)), None), None);
        assert_eq!(drift(&window(wind(degrees(), winds, |_, _, _| f32::NAN)), None), None);
        let no_wind = wind(degrees(), [Variable::RainRate, Variable::Reflectivity], |_, _, _| 10.0);
        assert_eq!(drift(&window(no_wind), Some(1.0)), None);
    }
}
