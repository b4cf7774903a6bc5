//! The pooled scores as numbers.

use super::format::{self, escape, number, optional, short};
use super::look::Looks;
use super::page::Section;
use super::subject::{Subject, leads, models, row, rows_of, value};
use super::{ALL_EVENTS, Report, Row};

/// A line for each score and model, a column for each lead.
pub(super) fn section(report: &Report, looks: &Looks<'_>) -> Option<Section> {
    let rows = rows_of(report, ALL_EVENTS);
    let leads = leads(&rows);
    let mut lines = Vec::new();
    for subject in Subject::all(&rows) {
        lines.extend(of_subject(&subject, &subject.rows(&rows), &leads, report, looks));
    }
    if lines.is_empty() {
        return None;
    }
    let mut heads = by_lead_heads(&["model"], &leads);
    heads.push("cases".to_owned());
    let remark = "<p class=\"remark\">By lead time in minutes, all events together. Bold is the best of the models at \
                  that lead, which need not be a sure difference; cases are of all leads.</p>\n";
    let body = format!("{remark}{}", format::table(1, &heads, &lines));
    Some(Section { id: "table", title: "The same scores as numbers", body })
}

/// Heads of a table with a column for each lead.
pub(super) fn by_lead_heads(names: &[&str], leads: &[f64]) -> Vec<String> {
    let leads = leads.iter().map(|lead| format!("{} min", short(*lead)));
    names.iter().map(|name| (*name).to_owned()).chain(leads).collect()
}

fn of_subject(
    subject: &Subject<'_>,
    rows: &[&Row],
    leads: &[f64],
    report: &Report,
    looks: &Looks<'_>,
) -> Vec<Vec<String>> {
    let models = models(rows, looks);
    let badness = |model: &str, lead: f64| {
        row(rows, model, lead).and_then(value).and_then(|value| subject.meaning.better.badness(value))
    };
    let best = |lead: &f64| {
        let all: Vec<f64> = models.iter().filter_map(|model| badness(model, *lead)).collect();
        // Where there is only one, it is not the best of any.
        all.iter().copied().min_by(f64::total_cmp).filter(|_| all.len() > 1)
    };
    let best: Vec<Option<f64>> = leads.iter().map(best).collect();
    let mut lines = vec![vec![heading(subject, report)]];
    for model in &models {
        let mut line = vec![escape(model)];
        for (lead, best) in leads.iter().zip(&best) {
            let text = optional(row(rows, model, *lead).and_then(value));
            let is_best = best.is_some() && badness(model, *lead) == *best;
            line.push(if is_best { format!("<b>{text}</b>") } else { text });
        }
        line.push(number(rows.iter().filter(|row| row.model == *model).map(|row| row.count).sum()));
        lines.push(line);
    }
    lines
}

fn heading(subject: &Subject<'_>, report: &Report) -> String {
    let better = subject.meaning.better.words();
    let about = [subject.unit(&report.unit), &better]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(", ");
    format!("{} <small>{}</small>", escape(&subject.title(report)), escape(&about))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(model: &str, value: Option<f64>) -> Row {
        let [event, score, model] = [ALL_EVENTS, "bias", model].map(str::to_owned);
        Row { event, score, model, lead_minutes: 5.0, value, ..Row::default() }
    }

    #[test]
    fn the_best_is_bold_and_a_missing_value_is_a_dash() {
        let scores = vec![row("a", Some(-0.1)), row("b", Some(0.2)), row("c", None)];
        let report = Report { scores, unit: "mm/h".to_owned(), ..Report::default() };
        let body = section(&report, &Looks::new(&report)).map(|section| section.body).unwrap_or_default();
        assert!(body.contains("<td class=\"n\"><b>-0.100</b></td>"), "{body}");
        assert!(body.contains("<td class=\"n\">0.200</td>") && body.contains("<td class=\"n\">–</td>"));
        assert!(body.contains("bias <small>mm/h, best at 0</small>"));
    }
}
