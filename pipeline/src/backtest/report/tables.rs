//! Models, events, maps, timeliness, and what the reader should know.

use super::axis::Axis;
use super::chart::{Chart, Series, figure, side_by_side};
use super::format::{self, count, escape, number};
use super::look::Looks;
use super::meaning::Meaning;
use super::page::Section;
use super::{Report, svg};

fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Which models took part.
pub(super) fn models(report: &Report, looks: &Looks<'_>) -> Option<Section> {
    let row = |model: &super::Model| {
        vec![
            svg::sample(&looks.of(&model.name)) + &escape(&model.name),
            format!("<div class=\"wide\">{}</div>", escape(&model.description)),
            format!("<code>{}</code>", escape(&model.digest)),
            count(model.members),
            count(model.fallbacks),
            count(model.failures),
        ]
    };
    let rows: Vec<_> = report.models.iter().map(row).collect();
    let names = ["model", "description", "digest", "members", "by its fallback", "without forecast"];
    let body = format::table(3, &heads(&names), &rows);
    (!rows.is_empty()).then_some(Section { id: "models", title: "Models", body })
}

/// What was forecast.
pub(super) fn events(report: &Report, _: &Looks<'_>) -> Option<Section> {
    let row = |event: &super::Event| {
        let texts = [&event.name, &event.from, &event.to, &event.grid].map(|text| escape(text));
        texts.into_iter().chain([count(event.forecasts)]).collect()
    };
    let rows: Vec<_> = report.events.iter().map(row).collect();
    let body = format::table(4, &heads(&["event", "from", "to", "grid", "forecasts"]), &rows);
    (!rows.is_empty()).then_some(Section { id: "events", title: "Events", body })
}

/// Pictures.
pub(super) fn maps(report: &Report, _: &Looks<'_>) -> Option<Section> {
    let mut figures = String::new();
    for map in &report.maps {
        let title = escape(&map.title);
        // Line ends are allowed in base64, but not needed.
        let data: String = map.png_base64.chars().filter(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c)).collect();
        if !data.is_empty() {
            let image = format!("<img alt=\"{title}\" src=\"data:image/png;base64,{data}\">\n");
            figures.push_str(&figure(&title, &escape(&map.caption), &image));
        }
    }
    let body = format!("<div class=\"charts maps\">\n{figures}</div>\n");
    (!figures.is_empty()).then_some(Section { id: "maps", title: "Maps", body })
}

/// How soon each share of the forecasts was there.
fn waiting(report: &Report, looks: &Looks<'_>) -> String {
    let series = report.timeliness.iter().filter(|times| !times.quantiles.is_empty()).map(|times| Series {
        name: times.model.clone(),
        look: looks.of(&times.model),
        points: times.quantiles.iter().map(|at| (at.x, Some(at.y).filter(|seconds| *seconds > 0.0))).collect(),
        band: Vec::new(),
        counts: Vec::new(),
    });
    let series: Vec<Series> = series.collect();
    if series.is_empty() {
        return String::new();
    }
    let cadence = report.timeliness.iter().find_map(|times| times.cadence_s);
    let seconds = series.iter().flat_map(|line| line.points.iter().filter_map(|(_, seconds)| *seconds));
    let y = Axis::log("seconds from knowledge to forecast", seconds.chain(cadence));
    let chart = Chart {
        about: "Seconds from knowledge to forecast, by share of the forecasts".to_owned(),
        x: Axis::between("share of the forecasts (%)", 0.0, 100.0),
        y,
        references: cadence.map(|seconds| ((0.0, seconds), (100.0, seconds))).into_iter().collect(),
        series,
    };
    let remark = "on this machine; above the dotted line, the cadence, a forecast is late";
    side_by_side(&figure("Time until the forecast was there", remark, &chart.svg()))
}

/// How long forecasts took.
pub(super) fn timeliness(report: &Report, looks: &Looks<'_>) -> Option<Section> {
    let row = |times: &super::Timeliness| {
        let seconds = [times.median_s, times.p95_s, times.worst_s].map(number);
        let counts = [times.late, times.forecasts].map(count);
        [escape(&times.model)].into_iter().chain(seconds).chain(counts).collect()
    };
    let rows: Vec<_> = report.timeliness.iter().map(row).collect();
    let names = ["model", "median (s)", "95 % within (s)", "slowest (s)", "too late", "forecasts"];
    let body = waiting(report, looks) + &format::table(1, &heads(&names), &rows);
    (!rows.is_empty()).then_some(Section { id: "timeliness", title: "Timeliness", body })
}

/// How it was made, what the words mean, and notes.
pub(super) fn about(report: &Report, _: &Looks<'_>) -> Option<Section> {
    let definitions = definitions(report);
    if report.made_by.is_empty() && report.notes.is_empty() && definitions.is_empty() {
        return None;
    }
    let mut body = String::new();
    if !report.made_by.is_empty() {
        body.push_str(&format!("<p>Made by {}.</p>\n", escape(&report.made_by)));
    }
    body.extend(report.notes.iter().map(|note| format!("<p>{}</p>\n", escape(note))));
    if !definitions.is_empty() {
        let define = |(name, about): &(&str, &str)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(about));
        let list: String = definitions.iter().map(define).collect();
        body.push_str(&format!("<h3>Definitions</h3>\n<dl>\n{list}</dl>\n"));
    }
    Some(Section { id: "about", title: "How it was made", body })
}

/// The words of this report and what they mean.
fn definitions(report: &Report) -> Vec<(&str, &'static str)> {
    let scores = report.scores.iter().map(|row| row.score.as_str());
    let scores = scores.chain(report.verdicts.iter().map(|verdict| verdict.score.as_str()));
    let mut known: Vec<(_, &str, &'static str)> = Vec::new();
    for score in scores {
        let meaning = Meaning::of(score);
        let title = meaning.title(score);
        if !meaning.about.is_empty() && !known.iter().any(|(_, other, _)| *other == title) {
            known.push((meaning.place(), title, meaning.about));
        }
    }
    known.sort_by_key(|(place, ..)| *place);
    let mut all: Vec<_> = known.into_iter().map(|(_, title, about)| (title, about)).collect();
    if !report.intervals.is_empty() || !report.verdicts.is_empty() {
        all.push((
            "95 % interval",
            "from a bootstrap over blocks of time, as neighbouring forecasts see the same weather: 95 % of the samples lie \
             inside",
        ));
    }
    if !all.is_empty() {
        all.push(("lead time", "from the issue time of a forecast to the time it is for"));
        all.push(("missing", "a value that cannot be computed is a gap in a line and a dash in a table"));
    }
    all
}
