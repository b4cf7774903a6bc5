//! The grid of a composite, from `where`.

use squall_fields::crs::{Plane, PlaneUnit, Projection, wkt};
use squall_fields::{Axis, Grid};

use super::attributes::Scope;
use crate::error::FileError;
use crate::gridded::Notes;
use crate::gridded::corners::{Side, edge};
use crate::options::ReadOptions;

/// A place in the plane.
type Corner = Option<(f64, f64)>;

struct Corners {
    upper_left: Corner,
    lower_left: Corner,
    upper_right: Corner,
    lower_right: Corner,
}

/// Axes from the outer corners; where only the spacing of centres fits, from centres.
pub(super) fn grid(scope: &Scope, options: &ReadOptions, notes: &mut Notes) -> Result<Grid, FileError> {
    let number = |name: &str| scope.number("where", name).filter(|v| v.is_finite());
    let need = |name: &str| number(name).ok_or_else(|| FileError::malformed("where", format!("expected `{name}`")));
    let plane = plane(scope, options, notes)?;
    let (columns, rows) = (need("xsize")?, need("ysize")?);
    let (cells, limit) = (columns * rows, options.limits.max_cells as u64);
    if !(columns >= 2.0 && rows >= 2.0 && cells <= limit as f64) {
        return Err(FileError::TooLarge { what: "number of cells", got: cells.max(0.0) as u64, limit });
    }
    let (columns, rows) = (columns as usize, rows as usize);
    let corners = Corners::of(&number, &plane)?;
    let side = |name, first, last, len| Side { name, first, last, scale: number(name), len, unit: plane.unit };
    let (left, right, top, bottom) = corners.edges(columns, rows)?;
    let none = || FileError::malformed("where", "expected UL or LL corners");
    let x = side("xscale", left.ok_or_else(none)?, right, columns).axis(notes)?;
    // The axis of rows descends: it is found upside down.
    let y = match (top, bottom) {
        (Some(top), bottom) => side("yscale", -top, bottom.map(|bottom| -bottom), rows).axis(notes)?,
        (None, Some(bottom)) => {
            let up = side("yscale", bottom, None, rows).axis(notes)?;
            Axis { first: -up.centre(rows - 1), ..up }
        }
        (None, None) => return Err(none()),
    };
    let y = Axis { first: -y.first, step: -y.step, len: y.len };
    Ok(Grid { proj: plane.proj, wkt: None, x, y })
}

/// The reference system, its plane in metres or degrees.
fn plane(scope: &Scope, options: &ReadOptions, notes: &mut Notes) -> Result<Plane, FileError> {
    let (text, source) = match (scope.text("where", "projdef").filter(|text| !text.is_empty()), &options.crs) {
        (Some(text), _) => (text, "by where/projdef"),
        (None, Some(crs)) => (crs.clone(), "by the configuration: there is no where/projdef"),
        (None, None) => return Err(FileError::malformed("where", "expected `projdef`")),
    };
    let plane = Plane::parse(&if text.contains('[') { wkt::proj_string(&text)? } else { text })?;
    notes.add("crs", source);
    match plane.unit {
        PlaneUnit::Degrees => notes.add("axes", "in degrees, by the reference system"),
        PlaneUnit::Metres(1.0) => notes.add("axes", "in metres, by the reference system"),
        PlaneUnit::Metres(metres) => {
            notes.add(
                "axes",
                format!("in metres; the reference system counts {metres} m each and was brought to metres"),
            );
        }
    }
    Ok(plane)
}

impl Corners {
    fn of(number: &impl Fn(&str) -> Option<f64>, plane: &Plane) -> Result<Self, FileError> {
        let projection = Projection::parse(&plane.proj)?;
        let metres = if let PlaneUnit::Metres(metres) = plane.unit { metres } else { 1.0 };
        let corner = |name: &str| -> Result<Corner, FileError> {
            match (number(&format!("{name}_lon")), number(&format!("{name}_lat"))) {
                (Some(lon), Some(lat)) => Ok(Some(projection.to_xy(lat, lon)?)),
                // Coordinates of the plane are in its own unit.
                _ => Ok(number(&format!("{name}_x"))
                    .zip(number(&format!("{name}_y")))
                    .map(|(x, y)| (x * metres, y * metres))),
            }
        };
        let (upper_left, lower_left) = (corner("UL")?, corner("LL")?);
        let (mut upper_right, mut lower_right) = (corner("UR")?, corner("LR")?);
        if plane.unit == PlaneUnit::Degrees {
            // A longitude that passes 180 goes on instead of jumping.
            for (left, right) in [(upper_left, &mut upper_right), (lower_left, &mut lower_right)] {
                if let (Some((left, _)), Some((right, _))) = (left, right.as_mut())
                    && *right < left
                {
                    *right += 360.0;
                }
            }
        }
        Ok(Self { upper_left, lower_left, upper_right, lower_right })
    }

    /// Left, right, top and bottom, as far as they are known.
    #[expect(clippy::type_complexity, reason = "four edges, each known or not")]
    fn edges(
        &self,
        columns: usize,
        rows: usize,
    ) -> Result<(Option<f64>, Option<f64>, Option<f64>, Option<f64>), FileError> {
        let x = |corner: Corner| corner.map(|corner| corner.0);
        let y = |corner: Corner| corner.map(|corner| corner.1);
        let (ul, ll, ur, lr) = (self.upper_left, self.lower_left, self.upper_right, self.lower_right);
        let between = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| b - a);
        let width = between(x(ul.or(ll)), x(ur.or(lr)));
        let height = between(y(ll.or(lr)), y(ul.or(ur)));
        Ok((
            edge("western", (x(ul), x(ll)), width, columns)?,
            edge("eastern", (x(ur), x(lr)), width, columns)?,
            edge("northern", (y(ul), y(ur)), height, rows)?,
            edge("southern", (y(ll), y(lr)), height, rows)?,
        ))
    }
}
