//! Maps of forecasts as PNG: observed, forecast and probability side by side, one row for each lead.
//!
//! A map answers one question at a glance: is the rain where the forecast put it, and how sure was it? So the three
//! panels of a row share one valid time, one frame and one scale of kilometres; missing is grey and dry is white,
//! because mistaking one for the other is the classic fault of a rain map.

mod canvas;
pub mod comparison;
pub mod forecast;
mod scale;

use std::sync::Arc;

use ndarray::ArrayView2;
use squall_fields::{Grid, Variable};

pub use canvas::MapError;
use canvas::{Canvas, Rgb};
pub use scale::Scale;

/// Longest side of a panel in pixels.
const PANEL: u32 = 380;
const MARGIN: u32 = 16;
const LEFT: u32 = 64;
const TITLE: u32 = 64;
const ROW_TITLE: u32 = 26;
const TICKS: u32 = 34;
const LEGEND: u32 = 64;
const INK: Rgb = [38, 42, 48];
const FAINT: Rgb = [120, 126, 134];

/// One panel: what it is called, and its values on the map's grid.
#[derive(Clone, Debug)]
pub struct Panel<'a> {
    /// Printed above it.
    pub title: String,
    /// `[y, x]`, rows north to south; NaN is missing. `None` leaves the panel empty, saying that nothing is known.
    pub values: Option<ArrayView2<'a, f32>>,
    /// How values become colours.
    pub scale: Arc<Scale>,
}

/// A page of panels.
#[derive(Clone, Debug)]
pub struct Map<'a> {
    /// First line.
    pub title: String,
    /// Second line, smaller.
    pub subtitle: String,
    /// Where the cells lie.
    pub grid: &'a Grid,
    /// Rows of panels, each as long as the first.
    pub rows: Vec<Vec<Panel<'a>>>,
}

impl Map<'_> {
    /// Draws the page as a PNG file.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use ndarray::Array2;
    /// # use squall_fields::{Axis, Grid, Variable};
    /// use squall_pipeline::maps::{Map, Panel, Scale};
    ///
    /// let axis = |step| Axis { first: 0.0, step, len: 40 };
    /// let grid = Grid { proj: "+proj=laea".into(), wkt: None, x: axis(1000.0), y: axis(-1000.0) };
    /// let rain = Array2::from_elem(grid.shape(), 2.5);
    /// let scale = Arc::new(Scale::of(Variable::RainRate));
    /// let panel = Panel { title: "Observed".into(), values: Some(rain.view()), scale };
    /// let map = Map { title: "Rain".into(), subtitle: String::new(), grid: &grid, rows: vec![vec![panel]] };
    /// assert!(map.png()?.starts_with(b"\x89PNG"));
    /// # Ok::<(), squall_pipeline::maps::MapError>(())
    /// ```
    ///
    /// # Errors
    /// The drawing library failed.
    pub fn png(&self) -> Result<Vec<u8>, MapError> {
        let layout = Layout::of(self);
        let mut canvas = Canvas::new(layout.width, layout.height);
        canvas.text(&self.title, (LEFT as i32, 12), 22.0, INK)?;
        canvas.text(&self.subtitle, (LEFT as i32, 40), 14.0, FAINT)?;
        for (row, panels) in self.rows.iter().enumerate() {
            for (column, panel) in panels.iter().enumerate() {
                self.panel(&mut canvas, &layout, (row, column), panel)?;
            }
        }
        for (column, scale) in self.legends() {
            let (x, y) = (layout.x(column), layout.height - LEGEND + 8);
            let width = layout.span(column, self.columns_of(column));
            canvas.legend(&scale, (x, y), width)?;
        }
        canvas.png()
    }

    /// The first column of each scale.
    fn legends(&self) -> Vec<(usize, Arc<Scale>)> {
        let mut legends: Vec<(usize, Arc<Scale>)> = Vec::new();
        for (column, panel) in self.rows.first().into_iter().flatten().enumerate() {
            if legends.last().is_none_or(|(_, scale)| **scale != *panel.scale) {
                legends.push((column, Arc::clone(&panel.scale)));
            }
        }
        legends
    }

    /// How many columns from this one on share its scale.
    fn columns_of(&self, column: usize) -> usize {
        let row = self.rows.first().map_or(&[][..], Vec::as_slice);
        row[column..].iter().take_while(|panel| *panel.scale == *row[column].scale).count()
    }

    fn panel(
        &self,
        canvas: &mut Canvas,
        layout: &Layout,
        (row, column): (usize, usize),
        panel: &Panel<'_>,
    ) -> Result<(), MapError> {
        let (x, y) = (layout.x(column), layout.y(row));
        let (width, height) = layout.panel;
        canvas.text(&panel.title, (x as i32, y as i32 - 22), 15.0, INK)?;
        match panel.values {
            Some(values) => canvas.field(values, &panel.scale, (x, y), (width, height)),
            None => {
                canvas.fill((x, y), (width, height), scale::MISSING);
                canvas.text_centred("not observed yet", (x + width / 2, y + height / 2 - 8), 14.0, FAINT)?;
            }
        }
        canvas.frame((x, y), (width, height), FAINT);
        self.ticks(canvas, (x, y), layout.panel, column == 0)
    }

    /// Distances from the south-western corner along both sides.
    fn ticks(
        &self,
        canvas: &mut Canvas,
        (x, y): (u32, u32),
        (width, height): (u32, u32),
        labelled: bool,
    ) -> Result<(), MapError> {
        let (per_unit, unit) = unit_of(self.grid);
        let extent = self.grid.x.len as f64 * self.grid.x.step.abs() / per_unit;
        let step = round_step(extent / 4.0);
        let pixels = f64::from(width) / extent;
        let mut distance = 0.0;
        while distance <= extent {
            let at = x + (distance * pixels) as u32;
            canvas.fill((at.min(x + width - 1), y + height), (1, 4), FAINT);
            let last = distance + step > extent;
            let label = if last { format!("{distance} {unit}") } else { format!("{distance}") };
            canvas.text_centred(&label, (at, y + height + 6), 12.0, FAINT)?;
            distance += step;
        }
        let tall = self.grid.y.len as f64 * self.grid.y.step.abs() / per_unit;
        let mut distance = 0.0;
        while distance <= tall {
            let at = y + height - (distance * f64::from(height) / tall) as u32;
            canvas.fill((x - 4, at.saturating_sub(1).max(y)), (4, 1), FAINT);
            if labelled {
                canvas.text_right(&format!("{distance}"), (x - 8, at as i32 - 7), 12.0, FAINT)?;
            }
            distance += step;
        }
        Ok(())
    }
}

/// Units of the grid's axes in one unit of the map, and that unit's name.
fn unit_of(grid: &Grid) -> (f64, &'static str) {
    let degrees = ["longlat", "latlong", "ob_tran"].iter().any(|name| grid.proj.contains(name));
    if degrees { (1.0, "°") } else { (1000.0, "km") }
}

/// 1, 2 or 5 times a power of ten, near a number.
fn round_step(near: f64) -> f64 {
    if !(near.is_finite() && near > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(near.log10().floor());
    power
        * [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .min_by(|a, b| (a - near / power).abs().total_cmp(&(b - near / power).abs()))
            .unwrap_or(1.0)
}

/// Where things stand on the page.
struct Layout {
    panel: (u32, u32),
    width: u32,
    height: u32,
}

impl Layout {
    fn of(map: &Map<'_>) -> Self {
        let (rows, columns) = map.grid.shape();
        let (rows, columns) = (rows.max(1) as f64, columns.max(1) as f64);
        // Cells of a grid in degrees are drawn as wide as they are on the ground at its middle.
        let squeeze = match unit_of(map.grid) {
            (_, "°") => map.grid.y.centre(map.grid.y.len / 2).to_radians().cos().max(0.2),
            _ => map.grid.x.step.abs() / map.grid.y.step.abs(),
        };
        let aspect = (columns * squeeze / rows).clamp(0.25, 4.0);
        let longest = f64::from(PANEL);
        let (w, h) = if aspect > 1.0 { (longest, longest / aspect) } else { (longest * aspect, longest) };
        let panel = ((w as u32).max(200), h as u32);
        let across = map.rows.first().map_or(1, Vec::len).max(1) as u32;
        let down = map.rows.len().max(1) as u32;
        Self {
            panel,
            width: (LEFT + across * (panel.0 + MARGIN) + MARGIN).max(640),
            height: TITLE + down * (ROW_TITLE + panel.1 + TICKS) + LEGEND,
        }
    }

    fn x(&self, column: usize) -> u32 {
        LEFT + column as u32 * (self.panel.0 + MARGIN)
    }

    fn y(&self, row: usize) -> u32 {
        TITLE + row as u32 * (ROW_TITLE + self.panel.1 + TICKS) + ROW_TITLE
    }

    fn span(&self, column: usize, columns: usize) -> u32 {
        self.x(column + columns.max(1) - 1) + self.panel.0 - self.x(column)
    }
}

/// The scale of a variable, shared by its panels.
pub fn scale_of(variable: Variable) -> Arc<Scale> {
    Arc::new(Scale::of(variable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_fields::Axis;
    use squall_models::simulate::{Storm, StormSettings};

    /// Draws a storm; set SQUALL_MAP to a path to keep the picture and look at it.
    #[test]
    fn a_page_shows_what_it_is_given() {
        let frames: Vec<_> = Storm::new(StormSettings::default()).take(7).collect();
        let axis = |first, step| Axis { first, step, len: 256 };
        let grid = Grid { proj: "+proj=laea +lat_0=60".into(), wkt: None, x: axis(0.0, 1e3), y: axis(0.0, -1e3) };
        let (rain, odds) = (scale_of(Variable::RainRate), Arc::new(Scale::of_probability("Probability".into())));
        let probability = frames[6].rain_rate.mapv(|rate| if rate.is_nan() { rate } else { (rate / 3.0).min(1.0) });
        let panel =
            |title: &str, values, scale: &Arc<Scale>| Panel { title: title.into(), values, scale: Arc::clone(scale) };
        let row = |observed| {
            vec![
                panel("Observed +30 min", observed, &rain),
                panel("Forecast +30 min", Some(frames[6].rain_rate.view()), &rain),
                panel("Probability of 1 mm/h or more", Some(probability.view()), &odds),
            ]
        };
        let map = Map {
            title: "Rain, issued 2016-09-28 16:00 UTC".into(),
            subtitle: "extrapolation, 8 members".into(),
            grid: &grid,
            rows: vec![row(Some(frames[0].rain_rate.view())), row(None)],
        };
        let png = map.png().unwrap();
        if let Some(path) = std::env::var_os("SQUALL_MAP") {
            std::fs::write(path, &png).unwrap();
        }
        let picture = image::load_from_memory(&png).unwrap().to_rgb8();
        let count = |colour: Rgb| picture.pixels().filter(|pixel| pixel.0 == colour).count();
        assert!(count(rain.colours[4]) > 100, "moderate rain is drawn");
        assert!(count(odds.colours[9]) > 100, "high probabilities are drawn");
        assert!(count(scale::MISSING) > 50_000, "the empty panel is grey");
        assert!(count(INK) > 20, "there is text");
    }

    #[test]
    fn steps_are_round() {
        assert_eq!(round_step(64.0), 50.0);
        assert_eq!(round_step(300.0), 200.0);
        assert_eq!(round_step(0.18), 0.2);
        assert_eq!(round_step(f64::NAN), 1.0);
    }
}
