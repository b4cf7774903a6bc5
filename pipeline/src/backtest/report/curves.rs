//! What the probabilities are worth: reliability, rank histograms, spectra, ROC and economic value.

use super::axis::Axis;
use super::chart::{Chart, Series, figure, folded, side_by_side};
use super::format::{escape, number, of_threshold, short};
use super::look::Looks;
use super::page::Section;
use super::svg::{self, ABOVE, Panel, WIDTH};
use super::{Curve, Point, Report};

/// The smallest cost/loss ratio that is shown: nobody's is smaller.
const LEAST_COST: f64 = 1e-6;

/// How far below zero the economic value is shown: who would use such a forecast?
const WORST_VALUE: f64 = -0.2;

/// What opens the charts of single leads.
const SINGLE_LEADS: &str = "At the first, a middle and the last lead time";

/// Two ranks only would make two walls.
const WIDEST_BAR: f64 = 60.0;

/// Curves that share a chart: of the same quantity, threshold and label.
struct Group<'a> {
    title: String,
    /// Whether it is of one lead among others.
    is_of_lead: bool,
    curves: Vec<&'a Curve>,
}

/// In the order of the curves, thresholds first.
fn groups<'a>(curves: &'a [Curve], report: &Report) -> Vec<Group<'a>> {
    // A label that only repeats the model would give each model a chart of its own.
    let label = |curve: &'a Curve| if curve.label == curve.model { "" } else { curve.label.as_str() };
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut sorted: Vec<&Curve> = curves.iter().filter(|curve| !curve.points.is_empty()).collect();
    sorted.sort_by(|a, b| {
        let threshold = |curve: &Curve| curve.threshold.unwrap_or(f32::NEG_INFINITY);
        threshold(a).total_cmp(&threshold(b))
    });
    for curve in sorted {
        let event = of_threshold(curve.threshold, &report.unit).trim().trim_matches(['(', ')']).to_owned();
        let variable = report.called(&curve.variable);
        let title = [&variable, event.as_str(), label(curve)].into_iter().filter(|part| !part.is_empty());
        let title = title.collect::<Vec<_>>();
        let title = title.join(", ");
        match groups.iter_mut().find(|group| group.title == title) {
            Some(group) => group.curves.push(curve),
            None => groups.push(Group { title, is_of_lead: curve.lead_minutes.is_some(), curves: vec![curve] }),
        }
    }
    groups
}

/// Points from left to right; one without an x has no place.
fn sorted(curve: &Curve) -> Vec<Point> {
    let mut points: Vec<Point> = curve.points.iter().copied().filter(|point| point.x.is_finite()).collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    points
}

/// A line; a y that is not a number, or that `shown` refuses, is a gap.
fn line(curve: &Curve, looks: &Looks<'_>, shown: impl Fn(&Point) -> bool) -> Series {
    let points = sorted(curve);
    let y = |point: &Point| Some(point.y).filter(|y| y.is_finite() && shown(point));
    Series {
        name: curve.model.clone(),
        look: looks.of(&curve.model),
        points: points.iter().map(|point| (point.x, y(point))).collect(),
        band: Vec::new(),
        counts: Vec::new(),
    }
}

/// A section with a chart for each group; `chart` fills in all but what it is about.
fn section(
    (id, title): (&'static str, &'static str),
    remark: &str,
    groups: &[Group<'_>],
    chart: impl Fn(&Group<'_>) -> Chart,
) -> Option<Section> {
    if groups.is_empty() {
        return None;
    }
    let figures = |is_of_lead: bool| {
        let wanted = groups.iter().filter(|group| group.is_of_lead == is_of_lead);
        let figures = wanted.map(|group| {
            let heading = if group.title.is_empty() { title } else { &group.title };
            let about = format!("{title}: {heading}");
            figure(&escape(heading), "", &Chart { about, ..chart(group) }.svg())
        });
        figures.collect::<String>()
    };
    let (pooled, of_leads) = (side_by_side(&figures(false)), folded(SINGLE_LEADS, &figures(true)));
    let body = format!("<p class=\"remark\">{remark}</p>\n{pooled}{of_leads}");
    Some(Section { id, title, body })
}

/// How often it came when it was said to come with a probability.
pub(super) fn reliability(report: &Report, looks: &Looks<'_>) -> Option<Section> {
    let remark = "How often the threshold was reached, by the probability that was forecast. On the dotted line the \
                  probabilities can be taken at their word; below it they are too high, above it too low. Few cases \
                  (bars, logarithmic) make a point unsure.";
    section(("reliability", "Reliability"), remark, &groups(&report.reliability, report), |group| {
        let series = group.curves.iter().map(|curve| {
            let counts = sorted(curve).iter().map(|point| (point.x, point.count)).collect();
            Series { counts, ..line(curve, looks, |point| point.count != 0.0 || point.y != 0.0) }
        });
        Chart {
            about: String::new(),
            x: Axis::between("forecast probability", -0.04, 1.04),
            y: Axis::between("observed frequency", 0.0, 1.0),
            references: vec![((0.0, 0.0), (1.0, 1.0))],
            series: series.collect(),
        }
    })
}

/// How much of the structure of the observations the members have.
pub(super) fn spectra(report: &Report, looks: &Looks<'_>) -> Option<Section> {
    let remark = "Power of the members over power of the observations, by wavelength. At 1 the forecast has as much \
                  structure of that size as the observations; below 1 it is too smooth, above 1 too rough.";
    section(("spectra", "Spectra"), remark, &groups(&report.spectra, report), |group| {
        let points: Vec<Point> = group.curves.iter().flat_map(|curve| sorted(curve)).collect();
        let x = Axis::log("wavelength (km)", points.iter().map(|point| point.x));
        let y = Axis::log("power, forecast / observed", points.iter().map(|point| point.y).chain([0.5, 2.0]));
        Chart {
            about: String::new(),
            references: vec![((x.low(), 1.0), (x.high(), 1.0))],
            x,
            y,
            series: group.curves.iter().map(|curve| line(curve, looks, |point| point.y > 0.0)).collect(),
        }
    })
}

/// Whether the probabilities tell cases apart.
pub(super) fn roc(report: &Report, looks: &Looks<'_>) -> Option<Section> {
    let remark = "Hit rate against false alarm rate, when a warning is given from each probability on. The closer to \
                  the upper left corner, the better; on the dotted line a forecast cannot tell such cases from others. The \
                  area is 1 at best and 0.5 on the dotted line.";
    section(("roc", "ROC"), remark, &groups(&report.roc, report), |group| {
        let series = group.curves.iter().map(|curve| {
            let line = line(curve, looks, |_| true);
            let area = area(&line.points).map_or_else(String::new, |area| format!(" (area {})", number(area)));
            Series { name: format!("{}{area}", line.name), ..line }
        });
        Chart {
            about: String::new(),
            x: Axis::between("false alarm rate", 0.0, 1.0),
            y: Axis::between("hit rate", 0.0, 1.0),
            references: vec![((0.0, 0.0), (1.0, 1.0))],
            series: series.collect(),
        }
    })
}

/// Area below the line and its two corners, by trapezoids; `None` if a point is missing.
fn area(points: &[(f64, Option<f64>)]) -> Option<f64> {
    let points: Option<Vec<(f64, f64)>> = points.iter().map(|(x, y)| y.map(|y| (*x, y))).collect();
    let mut points = points.filter(|points| !points.is_empty())?;
    points.extend([(0.0, 0.0), (1.0, 1.0)]);
    // Of one rate, from the lower hit rate to the higher one.
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    Some(points.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0).sum())
}

/// What acting on the forecast saves.
pub(super) fn economic_value(report: &Report, looks: &Looks<'_>) -> Option<Section> {
    let remark = "For a user whom protection costs a share (cost/loss) of what it saves: 1 is the value of a perfect \
                  forecast, at 0 and below climatology serves as well. Users differ in their cost/loss.";
    section(("value", "Economic value"), remark, &groups(&report.economic_value, report), |group| {
        let points: Vec<Point> = group.curves.iter().flat_map(|curve| sorted(curve)).collect();
        let costs = points.iter().map(|point| point.x).filter(|x| *x >= LEAST_COST);
        let x = Axis::log("cost/loss", costs.chain([1.0]));
        let worst = points.iter().map(|point| point.y).filter(|y| y.is_finite()).fold(0.0, f64::min);
        Chart {
            about: String::new(),
            references: vec![((x.low(), 0.0), (x.high(), 0.0))],
            x,
            y: Axis::between("economic value", worst.max(WORST_VALUE), 1.0),
            series: group.curves.iter().map(|curve| line(curve, looks, |point| point.x >= LEAST_COST)).collect(),
        }
    })
}

/// Whether what comes is like one more member.
pub(super) fn ranks(report: &Report, looks: &Looks<'_>) -> Option<Section> {
    let (mut pooled, mut of_leads) = (String::new(), String::new());
    for ranks in &report.ranks {
        let counts: Vec<f64> = ranks.ranks.iter().map(|n| if n.is_finite() { n.max(0.0) } else { 0.0 }).collect();
        let total: f64 = counts.iter().sum();
        if total <= 0.0 {
            continue;
        }
        let uniform = total / counts.len() as f64;
        let bars: Vec<_> = counts.iter().enumerate().map(|(rank, n)| (rank as f64, n / uniform)).collect();
        let top = ABOVE;
        let area = [48.0, top, WIDTH - 62.0, 150.0];
        let last = counts.len() as f64 - 1.0;
        let x = Axis::whole("members below the observation", -0.6, last + 0.6);
        let y = Axis::linear("frequency, uniform = 1", bars.iter().map(|(_, y)| *y).chain([0.0, 1.2]));
        let panel = Panel { area, x, y };
        let tips: Vec<_> = counts.iter().map(|n| format!("{} cases", number(*n))).collect();
        let width = (0.8 * area[2] / (last + 1.2)).min(WIDEST_BAR);
        let drawing = panel.bars(&bars, width, 0.0, &looks.of(&ranks.model), &tips)
            + &panel.reference(((-0.6, 1.0), (last + 0.6, 1.0)));
        let lead = ranks.lead_minutes.map(|minutes| format!("{} min", short(minutes))).unwrap_or_default();
        let variable = report.called(&ranks.variable);
        let parts = [&ranks.model, &variable, &lead].map(String::as_str);
        let heading = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        let about = format!("rank histogram of {heading}");
        let chart = svg::svg(top + 150.0 + 36.0, &about, &(panel.axes() + &panel.cut(&drawing)));
        let figures = if ranks.lead_minutes.is_some() { &mut of_leads } else { &mut pooled };
        figures.push_str(&figure(&escape(&heading), &format!("{} cases", number(total)), &chart));
    }
    let remark = "Number of members below the observation. Of a reliable ensemble all are as frequent (dotted line); a U \
                  means too little spread, a hump too much, a slope a bias.";
    let is_any = !pooled.is_empty() || !of_leads.is_empty();
    let (pooled, of_leads) = (side_by_side(&pooled), folded(SINGLE_LEADS, &of_leads));
    let body = format!("<p class=\"remark\">{remark}</p>\n{pooled}{of_leads}");
    is_any.then_some(Section { id: "ranks", title: "Rank histograms", body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(model: &str, label: &str, threshold: f32) -> Curve {
        Curve {
            model: model.to_owned(),
            label: label.to_owned(),
            threshold: Some(threshold),
            points: vec![Point::default()],
            ..Curve::default()
        }
    }

    #[test]
    fn models_share_a_chart_of_the_same_threshold_and_label() {
        let curves = [curve("a", "a", 5.0), curve("b", "b", 5.0), curve("a", "30 min", 0.1), curve("b", "30 min", 0.1)];
        let report = Report { unit: "mm/h".to_owned(), ..Report::default() };
        let groups = groups(&curves, &report);
        let titles: Vec<_> = groups.iter().map(|group| (group.title.as_str(), group.curves.len())).collect();
        assert_eq!(titles, [("≥ 0.1 mm/h, 30 min", 2), ("≥ 5 mm/h", 2)]);
    }

    #[test]
    fn curves_of_a_lead_are_folded_away_and_those_of_several_quantities_say_so() {
        let of = |variable: &str, lead_minutes: Option<f64>| Curve {
            variable: variable.to_owned(),
            lead_minutes,
            ..curve("a", if lead_minutes.is_some() { "30 min" } else { "" }, 5.0)
        };
        let roc = vec![of("wind_speed", None), of("wind_speed", Some(30.0)), of("eastward_wind", None)];
        let variables = vec!["wind_speed".to_owned(), "eastward_wind".to_owned()];
        let report = Report { unit: "m/s".to_owned(), variables, roc, ..Report::default() };
        let body = super::roc(&report, &Looks::new(&report)).map(|section| section.body).unwrap_or_default();
        let (open, closed) = body.split_once("<details>").unwrap();
        assert!(
            open.contains("<b>wind speed, ≥ 5 m/s</b>") && open.contains("<b>eastward wind, ≥ 5 m/s</b>"),
            "{open}"
        );
        assert!(closed.contains("<b>wind speed, ≥ 5 m/s, 30 min</b>"), "{closed}");
    }

    #[test]
    fn the_area_reaches_to_the_corners() {
        assert_eq!(area(&[(0.0, Some(1.0))]), Some(1.0));
        assert_eq!(area(&[(0.5, Some(0.5))]), Some(0.5));
        assert_eq!(area(&[(0.2, Some(0.5)), (0.5, None)]), None);
        assert_eq!(area(&[]), None);
    }
}
