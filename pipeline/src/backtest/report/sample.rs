//! A made-up report that looks like a real one, for tests and for looking at the page.

use super::{Curve, Decision, Event, Interval, MapImage, Model, Point, Ranks, Report, Row, Timeliness, Verdict};

/// Name, description, size of the ensemble, and how fast errors grow.
const MODELS: [(&str, &str, usize, f64); 3] = [
    ("persistence", "The last radar image, unchanged.", 1, 1.5),
    ("extrapolation", "The last radar image, moved along the motion of the rain (semi-Lagrangian).", 1, 1.15),
    ("steps", "Extrapolation with noise that has the spectrum of the rain; small features decay first.", 24, 0.8),
];
const THRESHOLDS: [f32; 3] = [0.1, 1.0, 5.0];
const EVENTS: [(&str, f64); 4] =
    [("summer storms <Zürich>", 1.4), ("cold front", 0.9), ("drizzle", 0.3), ("squall line", 1.8)];

/// One pixel, grey.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNsaGj4DwAFgwKAN1wV8QAAAABJRU5ErkJggg==";

/// Three models, four events, twelve leads.
pub(crate) fn report() -> Report {
    let mut report = Report {
        title: "Backtest of three nowcasts".to_owned(),
        made_by: "squall 0.0 (made up)".to_owned(),
        period: "1 June to 31 August 2024, 1 240 forecasts in 4 events".to_owned(),
        unit: "mm/h".to_owned(),
        models: MODELS.iter().map(|(name, about, members, _)| model(name, about, *members)).collect(),
        events: EVENTS.iter().map(|(name, _)| event(name)).collect(),
        notes: vec!["All numbers of this report are made up. Cells without an observation are left out.".to_owned()],
        verdicts: verdicts(),
        ..Report::default()
    };
    scores(&mut report);
    MODELS.iter().for_each(|(name, _, members, growth)| curves(&mut report, name, *members, *growth));
    report.maps = ["observed", "forecast"].map(map).into();
    report
}

fn model(name: &str, description: &str, members: usize) -> Model {
    let digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned();
    Model { name: name.to_owned(), description: description.to_owned(), digest, members, ..Model::default() }
}

fn event(name: &str) -> Event {
    let [from, to] = ["2024-06-21 12:00 UTC", "2024-06-22 02:00 UTC"].map(str::to_owned);
    Event { name: name.to_owned(), from, to, forecasts: 310, grid: "640 x 710 cells of 1 km".to_owned() }
}

fn map(title: &str) -> MapImage {
    let caption = "2024-06-21 18:00 UTC, 30 min ahead".to_owned();
    MapImage { title: title.to_owned(), caption, png_base64: PIXEL.to_owned() }
}

fn scores(report: &mut Report) {
    for (event, size) in EVENTS.into_iter().chain([(super::ALL_EVENTS, 1.0)]) {
        for (model, _, members, growth) in MODELS {
            for lead in (1..=12).map(|i| 5.0 * f64::from(i)) {
                let error = size * growth * (1.0 - (-lead / 40.0).exp());
                let mut add = |score: &str, threshold: Option<f32>, value: f64| {
                    // So that a gap can be seen.
                    let missing = (score == "mae" && model == "extrapolation" && lead == 30.0)
                        || (score == "spread_skill" && members == 1);
                    let [event, model, score] = [event, model, score].map(str::to_owned);
                    let row = Row { event, model, score, threshold, ..Row::default() };
                    let row = Row { lead_minutes: lead, count: 1.3e8, value: (!missing).then_some(value), ..row };
                    if row.event == super::ALL_EVENTS || row.score == "crps" {
                        report.intervals.extend(interval(&row));
                    }
                    report.scores.push(row);
                };
                add("crps", None, 0.3 * error);
                add("crps_fair", None, 0.29 * error);
                add("mae", None, 0.4 * error);
                add("rmse", None, 1.9 * error);
                add("bias", None, 0.06 * (growth - 1.1) * (lead / 20.0).sin());
                add("spread_skill", None, 0.95 - 0.2 * (-lead / 30.0).exp());
                for threshold in THRESHOLDS {
                    let rarity = 1.0 / (1.0 + f64::from(threshold).sqrt());
                    add("csi", Some(threshold), (-0.5 * error).exp() * rarity);
                    add("fss", Some(threshold), (-0.3 * error).exp() * rarity.sqrt());
                    add("frequency_bias", Some(threshold), 1.0 - 0.1 * error);
                    add("brier", Some(threshold), 0.1 * error * rarity);
                }
            }
        }
    }
}

fn interval(row: &Row) -> Option<Interval> {
    let value = row.value?;
    let margin = 0.06 * value.abs() + 0.003;
    let (event, model, score) = (row.event.clone(), row.model.clone(), row.score.clone());
    let Row { lead_minutes, threshold, .. } = *row;
    let (low, high) = (value - margin, value + 1.3 * margin);
    Some(Interval { event, model, score, lead_minutes, threshold, low, high, ..Interval::default() })
}

fn verdicts() -> Vec<Verdict> {
    let mut all = Vec::new();
    for against in ["extrapolation", "persistence"] {
        for (score, threshold, lead_minutes, difference, margin, verdict) in [
            ("crps", None, None, -0.12, 0.03, Decision::Better),
            ("crps", None, Some(30.0), -0.051, 0.0123, Decision::Better),
            ("csi", Some(1.0), None, 0.012, 0.034, Decision::Undecided),
            ("fss", Some(5.0), Some(60.0), -0.032, 0.02, Decision::Worse),
        ] {
            let [model, against, score] = ["steps", against, score].map(str::to_owned);
            let (low, high) = (difference - margin, difference + margin);
            let blocks = 14;
            all.push(Verdict {
                model,
                against,
                score,
                threshold,
                lead_minutes,
                difference,
                low,
                high,
                blocks,
                verdict,
                ..Verdict::default()
            });
        }
    }
    all
}

fn curves(report: &mut Report, model: &str, members: usize, growth: f64) {
    let curve = |label: &str, threshold: Option<f32>, points: Vec<Point>| {
        let [model, label] = [model, label].map(str::to_owned);
        let lead_minutes = (label == "60 min").then_some(60.0);
        Curve { model, label, lead_minutes, threshold, points, ..Curve::default() }
    };
    let tenths = || (0..=10).map(|i| f64::from(i) / 10.0);
    for threshold in THRESHOLDS {
        let rare = f64::from(threshold).sqrt();
        let point =
            |x: f64| Point { x, y: x.powf(growth) * (1.0 - 0.05 * rare), count: 1e7 * (-x * (6.0 + rare)).exp() };
        let sure = |x: &f64| members > 1 || *x == 0.0 || *x == 1.0;
        report.reliability.push(curve("30 min", Some(threshold), tenths().filter(sure).map(point).collect()));
        let point = |x: f64| Point { x: x * x, y: x.powf(0.35 * growth), count: 0.0 };
        report.roc.push(curve("30 min", Some(threshold), tenths().map(point).collect()));
        let base: f64 = 0.2 / (1.0 + rare);
        let value = |x: f64| 0.75 / growth - 0.5 * growth * (x / base).ln().abs().powf(1.4) / 2.0;
        let costs = (1..=40).map(|i| 10f64.powf(f64::from(i) / 20.0 - 2.0));
        let points = costs.map(|x| Point { x, y: value(x), count: 0.0 });
        report.economic_value.push(curve("30 min", Some(threshold), points.collect()));
    }
    for (label, age) in [("30 min", 1.0), ("60 min", 2.0)] {
        let ratio =
            |x: f64| if members > 1 { 1.0 - 0.1 * age / x.sqrt() } else { 1.0 / (1.0 + growth * age * 4.0 / x) };
        let points = (1..=40).map(|k| 640.0 / (f64::from(k) * 8.0)).map(|x| Point { x, y: ratio(x), count: 9.0 });
        report.spectra.push(curve(label, None, points.collect()));
    }
    let ranks = (0..=members).map(|i| 1e6 * (1.0 + 0.02 * (i as f64 - members as f64 / 2.0).powi(2)));
    report.ranks.push(Ranks { model: model.to_owned(), ranks: ranks.collect(), ..Ranks::default() });
    report.timeliness.push(Timeliness {
        model: model.to_owned(),
        median_s: 1.3 * growth * members as f64,
        p95_s: 2.1 * growth * members as f64,
        worst_s: 9.7 * members as f64,
        late: members / 8,
        forecasts: 1240,
        quantiles: (0..=10u8)
            .map(f64::from)
            .map(|i| Point { x: 10.0 * i, y: growth * (0.1 + i), count: 1240.0 })
            .collect(),
        cadence_s: Some(300.0),
    });
}
