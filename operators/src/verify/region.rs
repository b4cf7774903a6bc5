//! Parts of a grid that are judged by themselves.

use std::sync::Arc;

use ndarray::{Array2, Zip};
use serde::{Deserialize, Serialize};
use squall_fields::Grid;

/// A box of latitudes and longitudes, in degrees. One whose west lies east of its east crosses the date line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Its name.
    pub name: Arc<str>,
    /// Western edge.
    pub west: f64,
    /// Southern edge.
    pub south: f64,
    /// Eastern edge.
    pub east: f64,
    /// Northern edge.
    pub north: f64,
}

impl Region {
    /// Whether a place lies in it, edges included.
    ///
    /// ```
    /// use squall_operators::verify::Region;
    /// let fiji = Region { name: "fiji".into(), west: 176.0, south: -20.0, east: -178.0, north: -15.0 };
    /// assert!(fiji.holds(-17.0, -179.0) && fiji.holds(-17.0, 178.0) && !fiji.holds(-17.0, 0.0));
    /// ```
    pub fn holds(&self, latitude: f64, longitude: f64) -> bool {
        let Self { west, south, east, north, .. } = self;
        let from_west = (longitude - west).rem_euclid(360.0);
        (*south..=*north).contains(&latitude) && from_west <= (east - west).rem_euclid(360.0)
    }

    /// `[y, x]`: the cells whose centres lie in it; none on a grid whose places are not known.
    pub fn mask(&self, grid: &Grid) -> Array2<bool> {
        match grid.lat_lon_fields() {
            Ok((latitudes, longitudes)) => Zip::from(&latitudes)
                .and(&longitudes)
                .map_collect(|latitude, longitude| self.holds(*latitude, *longitude)),
            Err(_) => Array2::from_elem(grid.shape(), false),
        }
    }
}
