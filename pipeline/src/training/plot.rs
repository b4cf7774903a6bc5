//! The curves of a run as PNG.

use std::path::Path;

use plotters::prelude::*;

use crate::font;

/// A line: its name and its points.
pub type Line = (String, Vec<(f64, f64)>);

/// Draws lines over a common axis.
///
/// # Errors
/// The file cannot be written, or no point is finite.
pub fn lines(path: &Path, title: &str, across: &str, up: &str, lines: &[Line]) -> anyhow::Result<()> {
    let points = || lines.iter().flat_map(|(_, points)| points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let range = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = points().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        let margin = 0.05 * (high - low).max(1e-9);
        low - margin..high + margin
    };
    anyhow::ensure!(points().next().is_some(), "there is nothing to draw");
    font::register();
    let root = BitMapBackend::new(path, (900, 560)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (font::FAMILY, 22))
        .margin(16)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(range(|p| p.0), range(|p| p.1))?;
    let text = (font::FAMILY, 14);
    chart
        .configure_mesh()
        .x_desc(across)
        .y_desc(up)
        .label_style(text)
        .axis_desc_style(text)
        .light_line_style(WHITE.mix(0.0))
        .draw()?;
    for (i, (name, points)) in lines.iter().enumerate() {
        let colour = Palette99::pick(i).to_rgba();
        let finite = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite());
        chart
            .draw_series(LineSeries::new(finite, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font(text)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_drawn_with_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.png");
        let line =
            |name: &str, slope: f64| (name.to_owned(), (0..9).map(|x| (f64::from(x), slope * f64::from(x))).collect());
        lines(&path, "Loss", "step", "loss", &[line("training", 1.0), line("validation", f64::NAN)]).unwrap();
        let image = image::open(&path).unwrap().to_rgb8();
        // Dark pixels of the caption, in the band above the axes.
        let dark = (0..image.width()).flat_map(|x| (16..40).map(move |y| (x, y)));
        assert!(dark.filter(|(x, y)| image.get_pixel(*x, *y).0[0] < 100).count() > 20);
        assert!(lines(&path, "Loss", "step", "loss", &[]).is_err());
    }
}
