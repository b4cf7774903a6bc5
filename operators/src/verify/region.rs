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
        let is_around = east - west >= 360.0;
        (*south..=*north).contains(&latitude) && (is_around || from_west <= (east - west).rem_euclid(360.0))
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

#[cfg(test)]
mod tests {
    use ndarray::arr2;
    use squall_fields::Axis;

    use super::*;

    fn grid(proj: &str, west: f64) -> Grid {
        let axis = |first, step, len| Axis { first, step, len };
        Grid { proj: proj.into(), wkt: None, x: axis(west, 10.0, 4), y: axis(62.0, -1.0, 3) }
    }

    fn region([west, south, east, north]: [f64; 4]) -> Region {
        Region { name: "r".into(), west, south, east, north }
    }

    #[test]
    fn a_mask_holds_the_cells_whose_centres_lie_in_it() {
        let grid = grid("+proj=longlat", 10.0);
        let mask = region([15.0, 60.5, 30.0, 62.0]).mask(&grid);
        let (inside, outside) = ([false, true, true, false], [false; 4]);
        assert_eq!(mask, arr2(&[inside, inside, outside]), "rows run north to south, and edges belong to it");
        assert!(!region([15.0, 10.0, 30.0, 20.0]).mask(&grid).iter().any(|inside| *inside));
    }

    #[test]
    fn a_mask_may_cross_the_date_line_on_a_grid_that_does() {
        let mask = region([175.0, 61.0, -175.0, 61.0]).mask(&grid("+proj=longlat", 170.0));
        assert_eq!(mask, arr2(&[[false; 4], [false, true, false, false], [false; 4]]));
    }

    #[test]
    fn a_region_around_the_earth_holds_every_longitude() {
        let mask = region([-180.0, 60.5, 180.0, 90.0]).mask(&grid("+proj=longlat", 10.0));
        assert_eq!(mask, arr2(&[[true; 4], [true; 4], [false; 4]]));
    }

    #[test]
    fn a_grid_without_a_place_on_the_earth_has_no_cell_in_any_region() {
        let mask = region([-180.0, -90.0, 180.0, 90.0]).mask(&grid("", 10.0));
        assert_eq!(mask, Array2::from_elem((3, 4), false));
    }
}
