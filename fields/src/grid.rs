//! Where the cells of a field lie.

use ndarray::Array2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::crs::params::Params;
use crate::crs::{CfAttributes, CrsError, Projection, cf};

/// Evenly spaced cell centres along one direction, in the CRS's unit (m, or degrees).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// Centre of the first cell.
    pub first: f64,
    /// From one centre to the next; negative for an axis that descends.
    pub step: f64,
    /// Number of cells.
    pub len: usize,
}

impl Axis {
    /// The axis through evenly spaced coordinates; `None` for fewer than two, or if one lies more
    /// than a twentieth of a step from its place (coordinates stored as f32 are that coarse).
    ///
    /// The step is rounded to ten digits, less than a millimetre over any domain, so that an axis that was written as
    /// coordinates is the same to the last bit when they are read again.
    ///
    /// ```
    /// use squall_fields::Axis;
    /// assert_eq!(Axis::from_coordinates(&[3.0, 2.0, 1.0]), Some(Axis { first: 3.0, step: -1.0, len: 3 }));
    /// assert_eq!(Axis::from_coordinates(&[0.0, 1.0, 2.5]), None);
    /// ```
    pub fn from_coordinates(coordinates: &[f64]) -> Option<Self> {
        let (first, last, len) = (*coordinates.first()?, *coordinates.last()?, coordinates.len());
        let step = (last - first) / (len.checked_sub(1).filter(|n| *n > 0)? as f64);
        let step: f64 = format!("{step:.9e}").parse().ok()?;
        let axis = Self { first, step, len };
        let even = |(i, c): (usize, &f64)| (c - axis.centre(i)).abs() <= 0.05 * step.abs();
        (step.is_finite() && step != 0.0 && coordinates.iter().enumerate().all(even)).then_some(axis)
    }

    /// Centre of a cell.
    pub fn centre(&self, index: usize) -> f64 {
        self.first + index as f64 * self.step
    }

    /// Fractional index of a coordinate; outside the axis it is negative or beyond `len - 1`.
    pub fn index_of(&self, coordinate: f64) -> f64 {
        (coordinate - self.first) / self.step
    }

    /// Centres of all cells.
    pub fn centres(&self) -> Vec<f64> {
        (0..self.len).map(|i| self.centre(i)).collect()
    }

    /// The same cells in the other order.
    pub fn reversed(&self) -> Self {
        Self { first: self.centre(self.len.saturating_sub(1)), step: -self.step, len: self.len }
    }

    /// Whether two axes have the same cells up to a hundredth of a step.
    pub fn is_same(&self, other: &Self) -> bool {
        let last = self.len.saturating_sub(1);
        let near = |a: f64, b: f64| (a - b).abs() <= 0.01 * self.step.abs();
        self.len == other.len && near(self.first, other.first) && near(self.centre(last), other.centre(last))
    }
}

/// A regular grid in a coordinate reference system.
///
/// Row 0 is the northernmost and column 0 the westernmost: `y.step < 0 < x.step`. Readers flip what
/// comes otherwise, so two files of one grid are equal whatever order their rows had.
///
/// ```
/// use squall_fields::{Axis, Grid};
/// let grid = Grid {
///     proj: "EPSG:3067".into(),
///     wkt: None,
///     x: Axis { first: 100_000.0, step: 1000.0, len: 600 },
///     y: Axis { first: 7_500_000.0, step: -1000.0, len: 900 },
/// };
/// let (lat, lon) = grid.lat_lon(10.0, 20.0)?;
/// let (row, column) = grid.cell_of(lat, lon)?;
/// assert!((row - 10.0).abs() < 1e-6 && (column - 20.0).abs() < 1e-6);
/// # Ok::<(), squall_fields::crs::CrsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// PROJ string of the reference system, such as `+proj=stere +lat_0=90 +lat_ts=60 ...`, or an
    /// `EPSG:` code of [`crate::crs::codes`]; empty if the source did not say.
    pub proj: String,
    /// The same as well-known text, if the source gave it; written out again, never interpreted.
    pub wkt: Option<String>,
    /// West to east.
    pub x: Axis,
    /// North to south.
    pub y: Axis,
}

impl Grid {
    /// Cells as `(rows, columns)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.y.len, self.x.len)
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.y.len * self.x.len
    }

    /// Whether rows run north to south and columns west to east.
    pub fn is_north_first(&self) -> bool {
        self.y.step < 0.0 && self.x.step > 0.0
    }

    /// The reference system, made ready to compute with. Keep it where many places are converted.
    ///
    /// # Errors
    /// As [`Projection::parse`].
    pub fn projection(&self) -> Result<Projection, CrsError> {
        Projection::parse(&self.proj)
    }

    /// Latitude and longitude in degrees at a (fractional) row and column.
    ///
    /// Parses the reference system each time; for many cells use [`Grid::lat_lon_fields`], or
    /// [`Grid::lat_lon_with`] with a projection that was kept.
    ///
    /// # Errors
    /// As [`Projection::parse`] and [`Projection::to_lat_lon`].
    pub fn lat_lon(&self, row: f64, column: f64) -> Result<(f64, f64), CrsError> {
        self.lat_lon_with(&self.projection()?, row, column)
    }

    /// As [`Grid::lat_lon`], with the grid's projection at hand.
    ///
    /// # Errors
    /// As [`Projection::to_lat_lon`].
    pub fn lat_lon_with(&self, projection: &Projection, row: f64, column: f64) -> Result<(f64, f64), CrsError> {
        projection.to_lat_lon(self.x.first + column * self.x.step, self.y.first + row * self.y.step)
    }

    /// Fractional `(row, column)` of a latitude and a longitude in degrees; outside the grid it is
    /// negative or beyond the last cell. Where x is a longitude, whole turns do not matter.
    ///
    /// # Errors
    /// As [`Projection::parse`] and [`Projection::to_xy`].
    pub fn cell_of(&self, latitude: f64, longitude: f64) -> Result<(f64, f64), CrsError> {
        self.cell_of_with(&self.projection()?, latitude, longitude)
    }

    /// As [`Grid::cell_of`], with the grid's projection at hand.
    ///
    /// # Errors
    /// As [`Projection::to_xy`].
    pub fn cell_of_with(&self, projection: &Projection, latitude: f64, longitude: f64) -> Result<(f64, f64), CrsError> {
        let (mut x, y) = projection.to_xy(latitude, longitude)?;
        if projection.is_angular() {
            // Into the turn that begins half a cell west of the first column.
            let west = self.x.first - 0.5 * self.x.step;
            let turned = west + (x - west).rem_euclid(360.0);
            // A place outside is left on the side where it is nearer.
            let beyond = turned - (west + self.x.len as f64 * self.x.step);
            x = if beyond > 0.0 && west + 360.0 - turned < beyond { turned - 360.0 } else { turned };
        }
        Ok((self.y.index_of(y), self.x.index_of(x)))
    }

    /// The cell `(row, column)` that a place lies in, if it lies on the grid.
    ///
    /// # Errors
    /// As [`Grid::cell_of`].
    pub fn cell_at(&self, latitude: f64, longitude: f64) -> Result<Option<(usize, usize)>, CrsError> {
        let (row, column) = self.cell_of(latitude, longitude)?;
        let inside =
            |index: f64, len: usize| (index > -0.5 && index < len as f64 - 0.5).then(|| index.round() as usize);
        Ok(inside(row, self.y.len).zip(inside(column, self.x.len)))
    }

    /// Latitudes and longitudes of all cell centres in degrees, both `[y, x]`; NaN where the
    /// projection has no answer.
    ///
    /// # Errors
    /// As [`Projection::parse`].
    pub fn lat_lon_fields(&self) -> Result<(Array2<f64>, Array2<f64>), CrsError> {
        let projection = self.projection()?;
        let (mut lat, mut lon) = (Array2::zeros(self.shape()), Array2::zeros(self.shape()));
        let columns = self.x.len.max(1);
        let rows = lat.as_slice_mut().into_iter().flat_map(|s| s.chunks_mut(columns));
        let rows: Vec<_> = rows.zip(lon.as_slice_mut().into_iter().flat_map(|s| s.chunks_mut(columns))).collect();
        rows.into_par_iter().enumerate().for_each(|(row, (lats, lons))| {
            for (column, (lat, lon)) in lats.iter_mut().zip(lons).enumerate() {
                let place = self.lat_lon_with(&projection, row as f64, column as f64);
                (*lat, *lon) = place.unwrap_or((f64::NAN, f64::NAN));
            }
        });
        Ok((lat, lon))
    }

    /// Spacing of the cells in metres as `(dy, dx)`: of the projection plane, or for a grid in
    /// degrees along the meridian and along the parallel through its middle row.
    ///
    /// # Errors
    /// As [`Projection::parse`]. A grid without a reference system is taken to be in metres.
    pub fn spacing_m(&self) -> Result<(f64, f64), CrsError> {
        if self.proj.is_empty() || !self.projection()?.is_angular() {
            let params = Params::parse(&self.proj).ok();
            let units = params.as_ref().and_then(|p| p.text("units"));
            let metres = if units == Some("km") { 1000.0 } else { 1.0 };
            return Ok((self.y.step.abs() * metres, self.x.step.abs() * metres));
        }
        const METRES_PER_DEGREE: f64 = 6_371_008.8 * std::f64::consts::PI / 180.0;
        let middle = self.y.first + 0.5 * (self.y.len.saturating_sub(1)) as f64 * self.y.step;
        let parallel = middle.to_radians().cos().abs();
        Ok((self.y.step.abs() * METRES_PER_DEGREE, self.x.step.abs() * METRES_PER_DEGREE * parallel))
    }

    /// Whether two grids are the same but for rounding (a hundredth of a step) and for how their
    /// reference system is spelled. Well-known text is not compared.
    pub fn is_same(&self, other: &Self) -> bool {
        self.x.is_same(&other.x)
            && self.y.is_same(&other.y)
            && (self.proj == other.proj || canonical(&self.proj) == canonical(&other.proj))
    }

    /// First 16 hex digits of a digest over CRS and axes, with coordinates rounded to a hundredth
    /// of a step: equal for grids that are the same but for rounding and spelling.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(canonical(&self.proj));
        for axis in [self.x, self.y] {
            let scale = 100.0 / axis.step.abs();
            hash.update(((axis.first * scale).round() as i64).to_le_bytes());
            hash.update(format!("{:.5e}", axis.step));
            hash.update((axis.len as u64).to_le_bytes());
        }
        hex::encode(&hash.finalize()[..8])
    }

    /// The attributes of a CF grid mapping variable for this grid.
    ///
    /// # Errors
    /// As [`cf::write_grid_mapping`].
    pub fn crs_to_cf(&self) -> Result<CfAttributes, CrsError> {
        cf::write_grid_mapping(&self.proj, self.wkt.as_deref())
    }
}

fn canonical(proj: &str) -> String {
    Params::parse(proj).map_or_else(|_| proj.split_whitespace().collect::<Vec<_>>().join(" "), |p| p.canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The reference systems of the real data, with a corner and a spacing.
    const SYSTEMS: [(&str, f64, f64, f64); 9] = [
        (
            "+proj=stere +lon_0=25 +lat_0=90 +lat_ts=60 +a=6371288 +b=6371288 +x_0=380886.310 +y_0=3395677.920",
            499.8,
            1_225_044.8,
            999.7,
        ),
        ("+proj=stere +lat_0=90 +lat_ts=60 +lon_0=10 +a=6370040 +b=6370040 +units=m", -523_462.2, -3_759_644.7, 1000.0),
        ("+proj=stere +lat_ts=60 +ellps=bessel +lon_0=14 +lat_0=90 +units=m", -154_199.3, -3_412_560.8, 2000.0),
        ("EPSG:21781", 255_500.0, 479_500.0, 1000.0),
        ("EPSG:3067", 59_536.1, 7_188_256.9, 250.0),
        ("+proj=lcc +lat_0=63 +lon_0=15 +lat_1=63 +lat_2=63 +R=6371000", -697_442.0, 145_678.0, 2500.0),
        ("+proj=laea +lat_0=55 +lon_0=10 +x_0=1950000 +y_0=-2100000 +ellps=WGS84", 0.0, 0.0, 2000.0),
        ("EPSG:4326", -129.995, 54.995, 0.01),
        ("+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +o_lon_p=0 +lon_0=18", -8.0, 9.0, 0.025),
    ];

    fn grid(index: usize) -> Grid {
        let (proj, x, y, step) = SYSTEMS[index];
        let (x, y) = (Axis { first: x, step, len: 700 }, Axis { first: y, step: -step, len: 900 });
        Grid { proj: proj.to_owned(), wkt: None, x, y }
    }

    proptest! {
        #[test]
        fn lat_lon_round_trip(index in 0..SYSTEMS.len(), row in 0.0..900.0, column in 0.0..700.0) {
            let grid = grid(index);
            let (lat, lon) = grid.lat_lon(row, column).unwrap();
            for turns in [0.0, 360.0, -360.0] {
                let (r, c) = grid.cell_of(lat, lon + turns).unwrap();
                prop_assert!((r - row).abs() < 1e-6 && (c - column).abs() < 1e-6, "{} {r} {row} {c} {column}", grid.proj);
            }
        }

        #[test]
        fn an_axis_is_the_same_when_its_coordinates_are_read_again(
            first in -1e7..1e7f64, step in 100.0..1e4f64, len in 2usize..2000, down: bool,
        ) {
            let raw = Axis { first, step: if down { -step } else { step }, len };
            let axis = Axis::from_coordinates(&raw.centres()).unwrap();
            prop_assert!(axis.is_same(&raw));
            prop_assert_eq!(Axis::from_coordinates(&axis.centres()), Some(axis));
            let turned = axis.reversed();
            prop_assert_eq!(Axis::from_coordinates(&turned.centres()), Some(turned));
        }

        #[test]
        fn rounding_and_spelling_do_not_change_a_grid(index in 0..SYSTEMS.len(), noise in -1e-4..1e-4f64) {
            let a = grid(index);
            let mut b = a.clone();
            b.x.first += noise * b.x.step;
            b.proj = format!("{}  +no_defs", b.proj.replace("EPSG", "epsg"));
            prop_assert!(a.is_same(&b));
            b.y.len += 1;
            prop_assert!(!a.is_same(&b));
            prop_assert!(a.id() != b.id());
        }
    }

    #[test]
    fn fields_of_places_agree_with_single_places() {
        let mut grid = grid(0);
        (grid.x.len, grid.y.len) = (5, 7);
        let (lat, lon) = grid.lat_lon_fields().unwrap();
        assert_eq!((lat[[6, 4]], lon[[6, 4]]), grid.lat_lon(6.0, 4.0).unwrap());
        assert!(lat[[0, 0]] > lat[[6, 0]] && lon[[0, 0]] < lon[[0, 4]]);
    }

    #[test]
    fn a_longitude_axis_beyond_180_finds_western_places() {
        let x = Axis { first: 255.0, step: 1.0, len: 90 };
        let grid = Grid { proj: "EPSG:4326".into(), wkt: None, x, y: Axis { first: 70.0, step: -1.0, len: 71 } };
        assert_eq!(grid.cell_at(60.2, -100.1).unwrap(), Some((10, 5)));
        assert_eq!(grid.cell_at(60.2, 10.0).unwrap(), None);
        let (_, column) = grid.cell_of(60.0, -106.0).unwrap();
        assert!((column + 1.0).abs() < 1e-9, "{column}");
    }

    #[test]
    fn spacing_in_metres() {
        let (dy, dx) = grid(7).spacing_m().unwrap();
        assert!((dy - 1112.0).abs() < 1.0 && (dx - 1112.0 * 50.5f64.to_radians().cos()).abs() < 1.0, "{dy} {dx}");
        assert_eq!(grid(4).spacing_m().unwrap(), (250.0, 250.0));
    }

    /// The identifier is written into files and topics: a change of it is a change of format.
    #[test]
    fn the_identifier_does_not_change_from_release_to_release() {
        assert_eq!(grid(4).id(), "f40c1964e36a5c42");
        assert_eq!(grid(4).id(), Grid { wkt: Some("ignored".into()), ..grid(4) }.id());
    }
}
