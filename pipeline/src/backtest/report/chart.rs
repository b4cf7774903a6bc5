//! A line chart: a legend, the lines with their bands, and below it, where wanted, a panel of counts.

use super::axis::Axis;
use super::format::number;
use super::look::Look;
use super::svg::{self, ABOVE, Panel, WIDTH};

/// Room for the texts of y.
const LEFT: f64 = 48.0;
/// So that the text of the last tick is not cut.
const RIGHT: f64 = 14.0;
const HEIGHT: f64 = 190.0;
const COUNTS: f64 = 56.0;

/// One line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// In the legend.
    pub(super) name: String,
    /// As everywhere for its model.
    pub(super) look: Look,
    /// By rising x; a missing y is a gap.
    pub(super) points: Vec<(f64, Option<f64>)>,
    /// Intervals at the same x, or none.
    pub(super) band: Vec<(f64, Option<(f64, f64)>)>,
    /// Number of cases at x, for the panel below; or none.
    pub(super) counts: Vec<(f64, f64)>,
}

/// Lines over the same axes.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// What it shows, for those who cannot see it.
    pub(super) about: String,
    /// From left to right.
    pub(super) x: Axis,
    /// From the bottom up.
    pub(super) y: Axis,
    /// Lines to compare with, from point to point.
    pub(super) references: Vec<((f64, f64), (f64, f64))>,
    /// One for each model.
    pub(super) series: Vec<Series>,
}

impl Chart {
    /// The whole chart.
    pub(super) fn svg(&self) -> String {
        let entries: Vec<_> = self.series.iter().map(|s| (s.name.clone(), s.look)).collect();
        let (mut out, top) = svg::legend(&entries);
        let top = top + ABOVE;
        let counts: Vec<_> = self.series.iter().flat_map(|s| &s.counts).map(|(_, n)| *n).filter(|n| *n > 0.0).collect();
        let mut x = self.x.clone();
        if !counts.is_empty() {
            // The panel below has it.
            x.label.clear();
        }
        let panel = Panel { area: [LEFT, top, WIDTH - LEFT - RIGHT, HEIGHT], x, y: self.y.clone() };
        out.push_str(&panel.axes());
        out.push_str(&self.lines(&panel));
        let mut height = top + HEIGHT + 36.0;
        if !counts.is_empty() {
            let area = [LEFT, height + 10.0, WIDTH - LEFT - RIGHT, COUNTS];
            let y = Axis::log("number of cases", counts.into_iter().chain([1.0]));
            out.push_str(&self.counts(&Panel { area, x: self.x.clone(), y }));
            height += 10.0 + COUNTS + 36.0;
        }
        svg::svg(height, &self.about, &out)
    }

    fn lines(&self, panel: &Panel) -> String {
        let mut cut: String = self.references.iter().map(|line| panel.reference(*line)).collect();
        // All bands first: none shall hide a line.
        cut.extend(self.series.iter().map(|s| panel.band(&s.band, &s.look)));
        cut.extend(self.series.iter().map(|s| panel.line(&s.points, &s.look)));
        let markers = self.series.iter().map(|s| panel.markers(&s.points, &s.look, &self.tips(s)));
        panel.cut(&cut) + &markers.collect::<String>()
    }

    fn tips(&self, s: &Series) -> Vec<String> {
        let tip = |(i, (x, y)): (usize, &(f64, Option<f64>))| {
            let band = s.band.get(i).and_then(|(_, interval)| *interval);
            let band = band.map_or_else(String::new, |(low, high)| format!(" ({} to {})", number(low), number(high)));
            format!("{}, {} {}: {}{band}", s.name, self.x.label, number(*x), number(y.unwrap_or(f64::NAN)))
        };
        s.points.iter().enumerate().map(tip).collect()
    }

    /// Bars side by side, a group at each x.
    fn counts(&self, panel: &Panel) -> String {
        let n = self.series.len().max(1) as f64;
        let mut all: Vec<f64> = self.series.iter().flat_map(|s| &s.counts).map(|(x, _)| *x).collect();
        all.sort_by(f64::total_cmp);
        let places: Vec<_> = all.iter().filter_map(|x| panel.x.fraction(*x)).collect();
        let gaps = places.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 1e-6);
        let group = (0.8 * panel.area[2] * gaps.fold(0.1, f64::min)).max(n);
        let mut body = String::new();
        for (i, s) in self.series.iter().enumerate() {
            let bars: Vec<_> = s.counts.iter().copied().filter(|(_, count)| *count > 0.0).collect();
            let tip = |(x, count): &(f64, f64)| format!("{}, {}: {} cases", s.name, number(*x), number(*count));
            let tips: Vec<_> = bars.iter().map(tip).collect();
            let shift = group * ((i as f64 + 0.5) / n - 0.5);
            body.push_str(&panel.bars(&bars, group / n, shift, &s.look, &tips));
        }
        panel.axes() + &panel.cut(&body)
    }
}

/// A chart with its heading and a remark.
pub(super) fn figure(heading: &str, remark: &str, chart: &str) -> String {
    let remark = if remark.is_empty() { String::new() } else { format!(" <small>{remark}</small>") };
    format!("<figure><figcaption><b>{heading}</b>{remark}</figcaption>\n{chart}</figure>\n")
}

/// Figures side by side that a reader opens if he wants to; nothing if there are none.
pub(super) fn folded(what: &str, figures: &str) -> String {
    match figures {
        "" => String::new(),
        _ => format!("<details>\n<summary>{what}</summary>\n{}</details>\n", side_by_side(figures)),
    }
}

/// Figures side by side where there is room.
pub(super) fn side_by_side(figures: &str) -> String {
    format!("<div class=\"charts\">\n{figures}</div>\n")
}
