//! A small font that comes with the program, so that maps and plots look the same on a machine without fonts.

use std::sync::Once;

use plotters::style::{FontStyle, register_font};

const FONT: &[u8] = include_bytes!("../assets/maps.ttf");

/// The name to draw text with, once [`register`] was called.
pub const FAMILY: &str = "squall";

/// Makes the font known.
pub fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Cannot fail: the font is part of the program. Were it broken, drawing text would say so.
        let _ = register_font(FAMILY, FontStyle::Normal, FONT);
    });
}
