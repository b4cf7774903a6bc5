//! The parts of a chart as SVG text: axes, lines, bands, bars, markers and legends.

use super::axis::Axis;
use super::format::escape;
use super::look::{Look, Marker};

/// Width of every chart in its own units; the page scales it.
pub(super) const WIDTH: f64 = 400.0;

/// Height of a line of text.
pub(super) const TEXT: f64 = 16.0;

/// Markers closer than this would make a line a smear.
const MARKER_DISTANCE: f64 = 18.0;

/// Room between the text above a panel and the panel.
pub(super) const ABOVE: f64 = TEXT + 10.0;

/// Mean width of a letter of the page's fonts at 12 px; a little too wide rather than too narrow.
const LETTER: f64 = 6.6;

/// A chart, with what it is for those who cannot see it.
pub(super) fn svg(height: f64, about: &str, body: &str) -> String {
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">\n{body}</svg>\n",
        escape(about)
    )
}

/// Text at a point; the anchor is start, middle or end.
pub(super) fn text(x: f64, y: f64, anchor: &str, what: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n", escape(what))
}

/// Names and looks in as many rows as they need, and the height of these.
pub(super) fn legend(entries: &[(String, Look)]) -> (String, f64) {
    const SAMPLE: f64 = 30.0;
    let (mut x, mut row, mut out) = (4.0, 0.0, String::new());
    for (name, look) in entries {
        let name = &shortened(name);
        let width = SAMPLE + LETTER * name.chars().count() as f64 + 14.0;
        if x > 4.0 && x + width > WIDTH {
            (x, row) = (4.0, row + 1.0);
        }
        let y = TEXT * row + 11.0;
        out.push_str(&stroke(&format!("M{x:.1} {:.1}h24", y - 4.0), look));
        out.push_str(&marker(x + 12.0, y - 4.0, look, ""));
        out.push_str(&text(x + SAMPLE, y, "start", name));
        x += width;
    }
    (out, if entries.is_empty() { 0.0 } else { TEXT * (row + 1.0) })
}

/// A name that fits in a row of a legend.
fn shortened(name: &str) -> String {
    const LETTERS: usize = 52;
    match name.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// A line sample for a table.
pub(super) fn sample(look: &Look) -> String {
    let body = stroke("M0 6h24", look) + &marker(12.0, 6.0, look, "");
    format!("<svg class=\"sample\" viewBox=\"0 0 24 12\" width=\"24\" height=\"12\" aria-hidden=\"true\">{body}</svg>")
}

fn stroke(path: &str, look: &Look) -> String {
    let Look { colour, dash, .. } = look;
    format!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>\n")
}

/// A point, with a text that shows under a mouse.
fn marker(x: f64, y: f64, look: &Look, tip: &str) -> String {
    let path = match look.marker {
        Marker::Circle => format!("M{:.1} {y:.1}a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0", x - 3.2),
        Marker::Square => format!("M{:.1} {:.1}h5.6v5.6h-5.6z", x - 2.8, y - 2.8),
        Marker::Triangle => format!("M{x:.1} {:.1}l3.8 6.6h-7.6z", y - 4.2),
        Marker::Diamond => format!("M{x:.1} {:.1}l4 4l-4 4l-4 -4z", y - 4.0),
    };
    let tip = if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) };
    format!("<path d=\"{path}\" fill=\"{}\" stroke=\"#fff\" stroke-width=\"0.7\">{tip}</path>\n", look.colour)
}

/// The area between two axes.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    /// Left edge, top edge, width and height.
    pub(super) area: [f64; 4],
    /// From left to right.
    pub(super) x: Axis,
    /// From the bottom up.
    pub(super) y: Axis,
}

impl Panel {
    fn place(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let [left, top, width, height] = self.area;
        Some((left + width * self.x.fraction(x)?, top + height * (1.0 - self.y.fraction(y)?)))
    }

    /// Grid, ticks and their texts; the label of y stands above, that of x below.
    pub(super) fn axes(&self) -> String {
        let [left, top, width, height] = self.area;
        let (right, bottom) = (left + width, top + height);
        let mut out = text(4.0, top - 10.0, "start", &self.y.label);
        for tick in &self.y.ticks {
            let Some(at) = self.y.fraction(*tick) else { continue };
            let y = bottom - height * at;
            out.push_str(&format!("<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>\n"));
            out.push_str(&text(left - 6.0, y + 4.0, "end", &self.y.text(*tick)));
        }
        for tick in &self.x.ticks {
            let Some(at) = self.x.fraction(*tick) else { continue };
            let x = left + width * at;
            out.push_str(&format!("<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>\n"));
            out.push_str(&text(x, bottom + 15.0, "middle", &self.x.text(*tick)));
        }
        out.push_str(&format!("<path class=\"axis\" d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\"/>\n"));
        out.push_str(&text(left + width / 2.0, bottom + 31.0, "middle", &self.x.label));
        out
    }

    /// What it holds of a drawing; the rest is cut, though not half the width of a line at the edge.
    pub(super) fn cut(&self, body: &str) -> String {
        let [left, top, width, height] = self.area;
        let (left, top, width, height) = (left - 1.5, top - 1.5, width + 3.0, height + 3.0);
        let size = format!("width=\"{width:.1}\" height=\"{height:.1}\"");
        let view = format!("{left:.1} {top:.1} {width:.1} {height:.1}");
        format!("<svg x=\"{left:.1}\" y=\"{top:.1}\" {size} viewBox=\"{view}\">\n{body}</svg>\n")
    }

    /// A line through points; it breaks where one is missing.
    pub(super) fn line(&self, points: &[(f64, Option<f64>)], look: &Look) -> String {
        let runs = runs(points.iter().map(|(x, y)| y.and_then(|y| self.place(*x, y))));
        runs.iter().filter(|run| run.len() > 1).map(|run| stroke(&path(run), look)).collect()
    }

    /// Markers at the points inside, each with its text; where they lie close, at some of them only.
    pub(super) fn markers(&self, points: &[(f64, Option<f64>)], look: &Look, tips: &[String]) -> String {
        let [left, top, width, height] = self.area;
        let is_inside = |(x, y): (f64, f64)| {
            (left - 0.1..=left + width + 0.1).contains(&x) && (top - 0.1..=top + height + 0.1).contains(&y)
        };
        let places: Vec<_> = points.iter().map(|(x, y)| y.and_then(|y| self.place(*x, y))).collect();
        let is_missing = |i: Option<usize>| i.and_then(|i| places.get(i)).is_none_or(Option::is_none);
        let mut last: Option<(f64, f64)> = None;
        let mut out = String::new();
        for (i, place) in places.iter().enumerate() {
            let Some(at) = place.filter(|at| is_inside(*at)) else { continue };
            let is_apart = last.is_none_or(|last| (at.0 - last.0).hypot(at.1 - last.1) >= MARKER_DISTANCE);
            // A point alone between gaps has no line to show it.
            if is_apart || (is_missing(i.checked_sub(1)) && is_missing(Some(i + 1))) {
                out.push_str(&marker(at.0, at.1, look, tips.get(i).map_or("", String::as_str)));
                last = Some(at);
            }
        }
        out
    }

    /// An interval at each x; where one stands alone it is a bar.
    pub(super) fn band(&self, intervals: &[(f64, Option<(f64, f64)>)], look: &Look) -> String {
        let edges = intervals.iter().map(|(x, interval)| {
            let (low, high) = (*interval)?;
            self.place(*x, low).zip(self.place(*x, high))
        });
        let mut out = String::new();
        for run in runs(edges) {
            let Look { colour, .. } = look;
            if let [((x, low), (_, high))] = run.as_slice() {
                let d = format!("M{x:.1} {low:.1}V{high:.1}");
                out.push_str(&format!("<path d=\"{d}\" stroke=\"{colour}\" stroke-width=\"6\" opacity=\"0.25\"/>\n"));
                continue;
            }
            let (lows, highs): (Vec<_>, Vec<_>) = run.into_iter().unzip();
            let around: Vec<_> = highs.into_iter().chain(lows.into_iter().rev()).collect();
            out.push_str(&format!("<path d=\"{}z\" fill=\"{colour}\" opacity=\"0.14\"/>\n", path(&around)));
        }
        out
    }

    /// A thin line between two points of the axes, for what would be perfect or worthless.
    pub(super) fn reference(&self, (from, to): ((f64, f64), (f64, f64))) -> String {
        let (Some(from), Some(to)) = (self.place(from.0, from.1), self.place(to.0, to.1)) else {
            return String::new();
        };
        format!("<path class=\"reference\" d=\"{}\"/>\n", path(&[from, to]))
    }

    /// Bars from the bottom, `width` wide in units of this chart and `shift` to the right of their x.
    pub(super) fn bars(&self, bars: &[(f64, f64)], width: f64, shift: f64, look: &Look, tips: &[String]) -> String {
        let bottom = self.area[1] + self.area[3];
        let mut out = String::new();
        for (i, (x, y)) in bars.iter().enumerate() {
            let Some((x, y)) = self.place(*x, *y) else { continue };
            let (left, y) = (x + shift - width / 2.0, y.min(bottom));
            let tip = escape(tips.get(i).map_or("", String::as_str));
            let size = format!("width=\"{width:.2}\" height=\"{:.1}\"", bottom - y);
            let colour = look.colour;
            out.push_str(&format!(
                "<rect x=\"{left:.1}\" y=\"{y:.1}\" {size} fill=\"{colour}\"><title>{tip}</title></rect>\n"
            ));
        }
        out
    }
}

/// A path through places.
fn path(places: &[(f64, f64)]) -> String {
    let step = |(i, (x, y)): (usize, &(f64, f64))| format!("{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
    places.iter().enumerate().map(step).collect()
}

/// What lies between gaps, a run each.
fn runs<T>(items: impl Iterator<Item = Option<T>>) -> Vec<Vec<T>> {
    let mut runs = vec![Vec::new()];
    for item in items {
        match (item, runs.last_mut()) {
            (Some(item), Some(run)) => run.push(item),
            _ => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look { colour: "#000000", dash: "none", marker: Marker::Circle };

    fn panel() -> Panel {
        let axis = Axis::between("", 0.0, 10.0);
        Panel { area: [0.0, 0.0, 100.0, 100.0], x: axis.clone(), y: axis }
    }

    #[test]
    fn a_line_breaks_where_a_value_is_missing() {
        let points: Vec<_> = [Some(1.0), Some(2.0), None, Some(4.0), Some(5.0), Some(f64::NAN), Some(7.0)]
            .into_iter()
            .enumerate()
            .map(|(i, y)| (i as f64, y))
            .collect();
        let line = panel().line(&points, &LOOK);
        assert_eq!(line.matches('M').count(), 2, "{line}");
        assert!(!line.contains("NaN"));
        // The first of each run, and the one that stands alone.
        let close = Panel { area: [0.0, 0.0, 100.0, 10.0], ..panel() };
        assert_eq!(close.markers(&points, &LOOK, &[]).matches("<path").count(), 3);
        let apart: Vec<_> = [(0.0, Some(1.0)), (0.1, None), (0.2, Some(1.0)), (0.3, None)].into();
        assert_eq!(panel().markers(&apart, &LOOK, &[]).matches("<path").count(), 2);
    }

    #[test]
    fn an_interval_alone_is_a_bar() {
        let band = panel().band(&[(1.0, Some((1.0, 2.0))), (2.0, None), (3.0, None)], &LOOK);
        assert!(band.contains("M10.0 90.0V80.0"), "{band}");
    }

    #[test]
    fn a_long_legend_takes_several_rows() {
        let entries = vec![("a model with quite a long name".to_owned(), LOOK); 3];
        assert_eq!(legend(&entries).1, 3.0 * TEXT);
        assert!(legend(&[("é".repeat(100), LOOK)]).0.contains("é…</text>"));
    }
}
