//! Scores over the lead time: of all events together, and the CRPS, or the energy score of wind, of each.

use super::axis::Axis;
use super::chart::{Chart, Series, figure, side_by_side};
use super::format::{escape, optional};
use super::look::Looks;
use super::meaning::{Better, Family};
use super::page::Section;
use super::score_table::by_lead_heads;
use super::subject::{Subject, leads, models, row, rows_of, value};
use super::{ALL_EVENTS, Interval, Report, Row, format};

/// With more events than this, only the table shows them.
const EVENT_CHARTS: usize = 24;

/// A chart for each score.
pub(super) fn scores(report: &Report, looks: &Looks<'_>) -> Option<Section> {
    let rows = rows_of(report, ALL_EVENTS);
    let subjects = Subject::all(&rows);
    let intervals = intervals_of(report, ALL_EVENTS);
    let mut body = String::new();
    for family in Family::ALL {
        let mine = subjects.iter().filter(|subject| subject.meaning.family == family);
        let figures: String = mine.filter_map(|subject| score(report, looks, subject, &rows, &intervals)).collect();
        if !figures.is_empty() {
            body.push_str(&format!("<h3>{}</h3>\n{}", family.title(), side_by_side(&figures)));
        }
    }
    if body.is_empty() {
        return None;
    }
    let what = match intervals.as_slice() {
        [] => "All events together.",
        _ => {
            "All events together. Bands are 95 % intervals; where they overlap, the verdicts above still may tell two \
              models apart, as they compare them case by case."
        }
    };
    Some(Section {
        id: "scores",
        title: "Scores by lead time",
        body: format!("<p class=\"remark\">{what}</p>\n{body}"),
    })
}

/// The intervals of an event.
fn intervals_of<'a>(report: &'a Report, event: &str) -> Vec<&'a Interval> {
    report.intervals.iter().filter(|interval| interval.event == event).collect()
}

fn score(
    report: &Report,
    looks: &Looks<'_>,
    subject: &Subject<'_>,
    rows: &[&Row],
    intervals: &[&Interval],
) -> Option<String> {
    let rows = subject.rows(rows);
    let title = subject.title(report);
    let series = series(subject, &rows, intervals, looks);
    let y = y_axis(subject, &report.unit, &series);
    let chart = chart(&title, subject, y, series, &rows)?;
    Some(figure(&escape(&title), &subject.meaning.better.words(), &chart))
}

/// The lines of all models that have a value anywhere.
fn series(subject: &Subject<'_>, rows: &[&Row], intervals: &[&Interval], looks: &Looks<'_>) -> Vec<Series> {
    let leads = leads(rows);
    let mut all = Vec::new();
    for model in models(rows, looks) {
        let at = |lead: &f64| row(rows, model, *lead);
        let points: Vec<_> = leads.iter().map(|lead| (*lead, at(lead).and_then(value))).collect();
        if points.iter().any(|(_, y)| y.is_some()) {
            let band = leads.iter().map(|lead| (*lead, at(lead).and_then(|row| subject.interval(intervals, row))));
            let (band, counts) = (band.collect(), Vec::new());
            all.push(Series { name: model.to_owned(), look: looks.of(model), points, band, counts });
        }
    }
    all
}

/// With its best or zero, so that a small difference does not look large.
fn y_axis(subject: &Subject<'_>, unit: &str, series: &[Series]) -> Axis {
    let anchor = match subject.meaning.better {
        Better::Near(best) => Some(best),
        Better::Unknown if !subject.meaning.has_unit => None,
        _ => Some(0.0),
    };
    let points = series.iter().flat_map(|s| s.points.iter().filter_map(|(_, y)| *y));
    let bands = series.iter().flat_map(|s| s.band.iter().filter_map(|(_, interval)| *interval));
    let values = points.chain(bands.flat_map(|(low, high)| [low, high])).chain(anchor);
    let label = match subject.unit(unit) {
        "" => subject.name().to_owned(),
        unit => format!("{} ({unit})", subject.name()),
    };
    Axis::linear(&label, values)
}

fn chart(title: &str, subject: &Subject<'_>, y: Axis, series: Vec<Series>, rows: &[&Row]) -> Option<String> {
    if series.is_empty() {
        return None;
    }
    let x = Axis::minutes("lead time (min)", leads(rows));
    let references = match subject.meaning.better {
        Better::Near(best) => vec![((x.low(), best), (x.high(), best))],
        _ => Vec::new(),
    };
    Some(Chart { about: format!("{title} by lead time"), x, y, references, series }.svg())
}

/// Scores that sum up a forecast, best first, and what their section is called.
const SUMMARIES: [(&str, &str); 3] = [
    ("energy score", "Energy score of each event"),
    ("CRPS", "CRPS of each event"),
    ("fair CRPS", "Fair CRPS of each event"),
];

/// The CRPS, or the energy score of wind, of each event, all on the same scale.
pub(super) fn events(report: &Report, looks: &Looks<'_>) -> Option<Section> {
    let mut names: Vec<&str> = report.events.iter().map(|event| event.name.as_str()).collect();
    for row in &report.scores {
        if !names.contains(&row.event.as_str()) {
            names.push(&row.event);
        }
    }
    names.retain(|name| *name != ALL_EVENTS);
    let (score, heading) = SUMMARIES.into_iter().find_map(|(title, heading)| {
        let row = report.scores.iter().find(|row| row.event != ALL_EVENTS && is_titled(&row.score, title))?;
        Some((row.score.as_str(), heading))
    })?;
    let rows: Vec<&Row> =
        report.scores.iter().filter(|row| row.score == score && row.lead_minutes.is_finite()).collect();
    let rows: Vec<&Row> = rows.into_iter().filter(|row| row.event != ALL_EVENTS).collect();
    let subjects = Subject::all(&rows);
    // Of several quantities that which has intervals, as the verdicts are about it.
    let judged = report.intervals.iter().find(|interval| interval.score == score).map(|of| of.variable.as_str());
    let subject = subjects.iter().find(|subject| Some(subject.variable) == judged).or(subjects.first())?;
    let rows = subject.rows(&rows);
    let each = names.iter().map(|name| {
        let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.event == *name).collect();
        let series = series(subject, &rows, &intervals_of(report, name), looks);
        (*name, rows, series)
    });
    let each: Vec<_> = each.filter(|(_, _, series)| !series.is_empty()).collect();
    let lines: Vec<_> = each.iter().flat_map(|(_, _, series)| series.iter().cloned()).collect();
    let y = y_axis(subject, &report.unit, &lines);
    let title = subject.title(report);
    let has_bands = lines.iter().any(|line| line.band.iter().any(|(_, interval)| interval.is_some()));
    let has_short = has_bands && names.iter().any(|name| is_short(report, name));
    let bands = if has_bands { " Bands are 95 % intervals; an event of few forecasts has none." } else { "" };
    let short = match has_short {
        true => " Those of an event of few hours are of blocks of half an hour, and narrower than they should be.",
        false => "",
    };
    let better = subject.meaning.better.words();
    let mut body = format!("<p class=\"remark\">{}, {better}.{bands}{short}</p>\n", escape(&title));
    if each.len() <= EVENT_CHARTS {
        let figures = each.iter().filter_map(|(name, rows, series)| {
            let chart = chart(&format!("{title} of {name}"), subject, y.clone(), series.clone(), rows)?;
            let remark = if is_short(report, name) { "blocks of half an hour" } else { "" };
            Some(figure(&escape(name), remark, &chart))
        });
        body.push_str(&side_by_side(&figures.collect::<String>()));
    }
    body.push_str(&event_table(&each, &rows));
    (!each.is_empty()).then_some(Section { id: "by-event", title: heading, body })
}

/// Whether the intervals of an event are of blocks shorter than an hour.
fn is_short(report: &Report, event: &str) -> bool {
    report.intervals.iter().any(|interval| interval.event == event && interval.is_of_short_blocks())
}

fn is_titled(score: &str, title: &str) -> bool {
    super::meaning::Meaning::of(score).title("") == title
}

/// The same as numbers.
fn event_table(each: &[(&str, Vec<&Row>, Vec<Series>)], rows: &[&Row]) -> String {
    let leads = leads(rows);
    let heads = by_lead_heads(&["model"], &leads);
    let mut lines = Vec::new();
    for (name, rows, series) in each {
        lines.push(vec![escape(name)]);
        for s in series {
            let value = |lead: &f64| optional(row(rows, &s.name, *lead).and_then(value));
            lines.push([escape(&s.name)].into_iter().chain(leads.iter().map(value)).collect());
        }
    }
    format::table(1, &heads, &lines)
}
