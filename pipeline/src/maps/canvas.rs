//! Pixels, and text on them.

use image::{ExtendedColorType, ImageEncoder};
use ndarray::ArrayView2;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::scale::Scale;
use crate::font;

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];

/// A map could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the map: {0}")]
pub struct MapError(String);

impl MapError {
    pub(super) fn new(reason: &str) -> Self {
        Self(reason.to_owned())
    }

    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A white page.
pub(super) struct Canvas {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Canvas {
    pub(super) fn new(width: u32, height: u32) -> Self {
        font::register();
        Self { width, height, pixels: vec![255; (width * height * 3) as usize] }
    }

    fn put(&mut self, x: u32, y: u32, colour: Rgb) {
        if x < self.width && y < self.height {
            let at = ((y * self.width + x) * 3) as usize;
            self.pixels[at..at + 3].copy_from_slice(&colour);
        }
    }

    pub(super) fn fill(&mut self, (x, y): (u32, u32), (width, height): (u32, u32), colour: Rgb) {
        for row in y..y + height {
            for column in x..x + width {
                self.put(column, row, colour);
            }
        }
    }

    /// A line of one pixel around an area, inside it.
    pub(super) fn frame(&mut self, (x, y): (u32, u32), (width, height): (u32, u32), colour: Rgb) {
        self.fill((x, y), (width, 1), colour);
        self.fill((x, y + height - 1), (width, 1), colour);
        self.fill((x, y), (1, height), colour);
        self.fill((x + width - 1, y), (1, height), colour);
    }

    /// A field stretched over an area. A pixel shows the mean of its cells, missing where most of them are.
    pub(super) fn field(
        &mut self,
        values: ArrayView2<'_, f32>,
        scale: &Scale,
        (x, y): (u32, u32),
        (width, height): (u32, u32),
    ) {
        let (rows, columns) = values.dim();
        let cells = |pixel: u32, pixels: u32, len: usize| {
            let from = pixel as usize * len / pixels as usize;
            let to = (pixel as usize + 1) * len / pixels as usize;
            (from.min(len - 1), to.clamp(from + 1, len))
        };
        if rows == 0 || columns == 0 {
            return;
        }
        for row in 0..height {
            let (top, bottom) = cells(row, height, rows);
            for column in 0..width {
                let (left, right) = cells(column, width, columns);
                let (mut sum, mut known) = (0f32, 0usize);
                for value in (top..bottom).flat_map(|y| (left..right).map(move |x| values[[y, x]])) {
                    if value.is_finite() {
                        (sum, known) = (sum + value, known + 1);
                    }
                }
                let all = (bottom - top) * (right - left);
                let mean = if 2 * known >= all && known > 0 { sum / known as f32 } else { f32::NAN };
                self.put(x + column, y + row, scale.colour(mean));
            }
        }
    }

    pub(super) fn text(&mut self, text: &str, at: (i32, i32), size: f64, colour: Rgb) -> Result<(), MapError> {
        self.anchored(text, at, size, colour, HPos::Left)
    }

    pub(super) fn text_centred(&mut self, text: &str, at: (u32, u32), size: f64, colour: Rgb) -> Result<(), MapError> {
        self.anchored(text, (at.0 as i32, at.1 as i32), size, colour, HPos::Center)
    }

    pub(super) fn text_right(&mut self, text: &str, at: (u32, i32), size: f64, colour: Rgb) -> Result<(), MapError> {
        self.anchored(text, (at.0 as i32, at.1), size, colour, HPos::Right)
    }

    fn anchored(
        &mut self,
        text: &str,
        at: (i32, i32),
        size: f64,
        [red, green, blue]: Rgb,
        horizontal: HPos,
    ) -> Result<(), MapError> {
        let area = BitMapBackend::with_buffer(&mut self.pixels, (self.width, self.height)).into_drawing_area();
        let colour = RGBColor(red, green, blue);
        let style = TextStyle::from((font::FAMILY, size).into_font()).color(&colour);
        let style = style.pos(Pos::new(horizontal, VPos::Top));
        area.draw(&Text::new(text.to_owned(), at, style)).map_err(MapError::of)?;
        area.present().map_err(MapError::of)
    }

    /// The classes of a scale with their lower bounds, and what they are.
    pub(super) fn legend(&mut self, scale: &Scale, (x, y): (u32, u32), width: u32) -> Result<(), MapError> {
        let classes = scale.colours.len().max(1) as u32;
        let class = (width / classes).min(44);
        for (index, colour) in (0u32..).zip(&scale.colours) {
            self.fill((x + index * class, y), (class, 14), *colour);
            let bound = scale.bounds.get(index as usize).map_or_else(String::new, ToString::to_string);
            self.text(&bound, ((x + index * class) as i32, y as i32 + 17), 11.0, [90, 96, 104])?;
        }
        self.frame((x, y), (class * classes, 14), [120, 126, 134]);
        self.text(&scale.title, (x as i32, y as i32 + 32), 13.0, [38, 42, 48])
    }

    pub(super) fn png(&self) -> Result<Vec<u8>, MapError> {
        let mut bytes = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        let colour = ExtendedColorType::Rgb8;
        encoder.write_image(&self.pixels, self.width, self.height, colour).map_err(MapError::of)?;
        Ok(bytes)
    }
}
