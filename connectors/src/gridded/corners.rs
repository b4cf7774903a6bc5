//! Axes from outer corners, a size and a scale.
//!
//! A file that gives all of them says the same thing twice, and where it contradicts itself a guess would be wrong
//! half of the time. The corners are given as places on the Earth, so they cannot be in a wrong unit: where the scale
//! contradicts them they decide, and a scale alone is taken only if it can be one of a radar or a satellite.

use squall_fields::Axis;
use squall_fields::crs::PlaneUnit;

use super::Notes;
use crate::error::FileError;

/// What is known of one axis, ascending, in metres or degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Side<'a> {
    /// What the file calls the scale, such as `xscale`.
    pub name: &'a str,
    /// The first outer edge.
    pub first: f64,
    /// The last outer edge.
    pub last: Option<f64>,
    /// The scale, as the file has it.
    pub scale: Option<f64>,
    /// Number of cells.
    pub len: usize,
    /// What the plane counts where nothing else is said.
    pub unit: PlaneUnit,
}

/// A grid mapping's scale may be off by so many cells over the whole axis: corners are given with few digits.
const CELLS_OFF: f64 = 1.5;
/// Or by this part of the axis.
const PART_OFF: f64 = 0.005;

impl Side<'_> {
    /// The axis of cell centres.
    ///
    /// # Errors
    /// [`FileError::Malformed`] if the edges are in the wrong order, or nothing tells the size of a cell.
    pub fn axis(&self, notes: &mut Notes) -> Result<Axis, FileError> {
        let (first, len) = (self.first, self.len);
        let span = self.last.map(|last| last - first);
        if span.is_some_and(|span| !(span.is_finite() && span > 0.0)) {
            return Err(self.wrong("the corners are in the wrong order"));
        }
        let step = self.step(span, notes)?;
        // Some producers give the centres of the corner cells instead of their outer edges.
        let centres = span.is_some_and(|span| {
            (span - step * len as f64).abs() > 0.5 * step && (span - step * (len - 1) as f64).abs() < 0.25 * step
        });
        if centres {
            notes.add("axes", format!("by {} the corners are those of the cells' centres", self.name));
        }
        // Corners are given in degrees with few digits; where two are, the cells lie between them.
        let span = span.filter(|span| (span - step * len as f64).abs() < 0.5 * step);
        let first = match span {
            Some(span) => first + 0.5 * (span - step * len as f64),
            None => first,
        };
        Ok(Axis { first: if centres { first } else { first + 0.5 * step }, step, len })
    }

    /// The size of a cell: the scale in the unit that agrees with the corners, or else by the corners alone.
    fn step(&self, span: Option<f64>, notes: &mut Notes) -> Result<f64, FileError> {
        let candidates = self.candidates();
        let cells = self.len as f64;
        let Some(span) = span else {
            let Some(scale) = self.scale else { return Err(self.wrong("expected a scale or two corners")) };
            let found = candidates.into_iter().find(|step| self.is_plausible(*step));
            let step = found.ok_or_else(|| {
                let reason = "is no size of a cell in the unit of the projection, and no two corners tell what it is";
                self.wrong(&format!("the scale {scale} {reason}"))
            })?;
            notes.add("axes", format!("{} is {scale}: cells of {}", self.name, self.in_words(step)));
            return Ok(step);
        };
        let off = |step: f64| (span - step * cells).abs();
        let agrees = |step: &f64| off(*step) <= CELLS_OFF * step || off(*step) <= PART_OFF * span;
        let nearest = candidates.into_iter().filter(agrees).min_by(|a, b| off(*a).total_cmp(&off(*b)));
        let step = nearest.unwrap_or_else(|| rounded(span / cells));
        let cells_of = self.in_words(step);
        match (nearest, self.scale) {
            (Some(_), Some(scale)) => {
                notes.add(
                    "axes",
                    format!("{} is {scale}, which agrees with the corners: cells of {cells_of}", self.name),
                );
            }
            (_, Some(scale)) => {
                let reason =
                    format!("{} is {scale}, which contradicts the corners: by these, cells of {cells_of}", self.name);
                notes.add("axes", reason);
            }
            _ => notes.add("axes", format!("cells of {cells_of}, by the corners: there is no {}", self.name)),
        }
        Ok(step)
    }

    /// What the scale may mean: metres, as ODIM has it, or the unit of the plane; in degrees, degrees.
    fn candidates(&self) -> Vec<f64> {
        let scale = self.scale.filter(|scale| scale.is_finite() && *scale > 0.0);
        match (scale, self.unit) {
            (None, _) => Vec::new(),
            (Some(scale), PlaneUnit::Metres(metres)) if metres != 1.0 => vec![scale, scale * metres],
            (Some(scale), _) => vec![scale],
        }
    }

    /// Whether there are cells of such a size.
    fn is_plausible(&self, step: f64) -> bool {
        match self.unit {
            PlaneUnit::Metres(_) => (10.0..=1e6).contains(&step),
            PlaneUnit::Degrees => step * self.len as f64 <= 360.0,
        }
    }

    fn in_words(&self, step: f64) -> String {
        if self.unit == PlaneUnit::Degrees { format!("{step} degrees") } else { format!("{step} m") }
    }

    fn wrong(&self, reason: &str) -> FileError {
        FileError::malformed(self.name, reason)
    }
}

/// Ten digits: less than a millimetre over any domain, and more than corners in degrees give.
fn rounded(step: f64) -> f64 {
    format!("{step:.9e}").parse().expect("a number that was written is one")
}

/// An edge by the corners at both of its ends.
///
/// # Errors
/// [`FileError::Malformed`] if the two contradict each other: by more than a fiftieth of the other axis and a cell.
pub fn edge(
    name: &str,
    ends: (Option<f64>, Option<f64>),
    span: Option<f64>,
    cells: usize,
) -> Result<Option<f64>, FileError> {
    if let ((Some(a), Some(b)), Some(span)) = (ends, span) {
        let allowed = span.abs() * (0.02 + 1.0 / cells.max(1) as f64);
        if (a - b).abs() > allowed {
            let reason =
                format!("the corners contradict each other: the two ends of the {name} edge lie at {a} and {b}");
            return Err(FileError::malformed("where", reason));
        }
    }
    Ok(ends.0.or(ends.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(last: Option<f64>, scale: Option<f64>, unit: PlaneUnit) -> Result<Axis, String> {
        let side = Side { name: "xscale", first: 1000.0, last, scale, len: 32, unit };
        side.axis(&mut Notes::default()).map_err(|error| error.to_string())
    }

    const METRES: PlaneUnit = PlaneUnit::Metres(1.0);
    const KILOMETRES: PlaneUnit = PlaneUnit::Metres(1000.0);

    #[test]
    fn the_corners_decide_in_which_unit_the_scale_is() {
        let expected = Axis { first: 2000.0, step: 2000.0, len: 32 };
        for (scale, unit) in [
            (Some(2000.0), METRES),
            (Some(2.0), METRES),
            (Some(1234.0), METRES),
            (None, METRES),
            (Some(2000.0), KILOMETRES),
            (Some(2.0), KILOMETRES),
            (Some(-7.0), METRES),
            (Some(f64::NAN), METRES),
        ] {
            assert_eq!(axis(Some(65_000.0), scale, unit), Ok(expected), "{scale:?} {unit:?}");
        }
        let degrees = Side {
            name: "xscale",
            first: 8.0,
            last: Some(8.64),
            scale: Some(2000.0),
            len: 32,
            unit: PlaneUnit::Degrees,
        };
        let axis = degrees.axis(&mut Notes::default()).unwrap();
        assert!((axis.step - 0.02).abs() < 1e-12 && (axis.first - 8.01).abs() < 1e-12);
    }

    #[test]
    fn corners_of_few_digits_do_not_change_a_scale() {
        let rough = axis(Some(65_300.0), Some(2000.0), METRES).unwrap();
        assert_eq!((rough.step, rough.first), (2000.0, 2150.0));
        let centres = axis(Some(63_000.0), Some(2000.0), METRES).unwrap();
        assert_eq!((centres.step, centres.first), (2000.0, 1000.0));
    }

    #[test]
    fn a_scale_alone_must_be_one() {
        let expected = Axis { first: 2000.0, step: 2000.0, len: 32 };
        assert_eq!(axis(None, Some(2000.0), METRES), Ok(expected));
        assert_eq!(axis(None, Some(2000.0), KILOMETRES), Ok(expected));
        assert_eq!(axis(None, Some(2.0), KILOMETRES), Ok(expected));
        for (scale, unit) in
            [(Some(2.0), METRES), (Some(2000.0), PlaneUnit::Degrees), (None, METRES), (Some(-2000.0), METRES)]
        {
            let error = axis(None, scale, unit).unwrap_err();
            assert!(error.contains("scale"), "{error}");
        }
        assert!(axis(Some(0.0), Some(2000.0), METRES).unwrap_err().contains("corners"));
    }

    #[test]
    fn corners_that_are_no_rectangle_are_refused() {
        assert_eq!(edge("western", (Some(5.0), Some(6.0)), Some(100.0), 50).unwrap(), Some(5.0));
        assert_eq!(edge("western", (None, Some(6.0)), None, 50).unwrap(), Some(6.0));
        let error = edge("western", (Some(5.0), Some(25.0)), Some(100.0), 50).unwrap_err();
        assert!(error.to_string().contains("corners"), "{error}");
    }
}
