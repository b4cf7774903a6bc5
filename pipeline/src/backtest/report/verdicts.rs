//! Verdicts, a sentence each.

use super::format::{escape, of_threshold, of_unit, plural, short};
use super::look::Looks;
use super::meaning::Meaning;
use super::page::Section;
use super::{Decision, Report, Verdict};

/// Which model is better than which.
pub(super) fn section(report: &Report, _: &Looks<'_>) -> Option<Section> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for verdict in &report.verdicts {
        let pair = (verdict.model.as_str(), verdict.against.as_str());
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    if pairs.is_empty() {
        return None;
    }
    let mut body = String::new();
    for (model, against) in pairs {
        let mine: Vec<_> = report.verdicts.iter().filter(|v| v.model == model && v.against == against).collect();
        let [better, worse, undecided] = [Decision::Better, Decision::Worse, Decision::Undecided]
            .map(|decision| mine.iter().filter(|verdict| verdict.verdict == decision).count());
        body.push_str(&format!(
            "<h3>{} against {} <small>{better} better, {worse} worse, {undecided} undecided</small></h3>\n",
            escape(model),
            escape(against)
        ));
        let items = mine.iter().map(|verdict| item(verdict, report));
        body.push_str(&format!("<ul class=\"verdicts\">\n{}</ul>\n", items.collect::<String>()));
    }
    body.push_str(
        "<p class=\"remark\">Differences are the first model minus the second. Better or worse is said only if the \
         95 % interval of the difference leaves out zero.</p>\n",
    );
    Some(Section { id: "verdicts", title: "Which is better", body })
}

fn item(verdict: &Verdict, report: &Report) -> String {
    let (class, badge) = match verdict.verdict {
        Decision::Better => ("better", "▲ better"),
        Decision::Worse => ("worse", "▼ worse"),
        Decision::Undecided => ("undecided", "= undecided"),
    };
    let text = escape(&sentence(verdict, report));
    format!("<li class=\"{class}\"><span class=\"badge\">{badge}</span> <span>{text}</span></li>\n")
}

/// In plain words.
fn sentence(verdict: &Verdict, report: &Report) -> String {
    let unit = &report.unit;
    let Verdict { model, against, score, .. } = verdict;
    let meaning = Meaning::of(score);
    let claim = match verdict.verdict {
        Decision::Better => format!("{model} is better than {against}"),
        Decision::Worse => format!("{model} is worse than {against}"),
        Decision::Undecided => format!("undecided whether {model} or {against} is better"),
    };
    let lead = match verdict.lead_minutes {
        None => "at all leads together".to_owned(),
        Some(minutes) => format!("at {} min", short(minutes)),
    };
    let unit_of_score = if meaning.has_unit { unit.as_str() } else { "" };
    format!(
        "{claim} in {}{}{} {lead}: {}{}{} (95 % interval {} to {}, {})",
        meaning.title(score),
        report.of_variable(&verdict.variable),
        of_threshold(verdict.threshold, unit),
        if verdict.difference > 0.0 { "+" } else { "" },
        short(verdict.difference),
        of_unit(unit_of_score),
        short(verdict.low),
        short(verdict.high),
        plural(verdict.blocks, "block"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(variables: &[&str]) -> Report {
        let variables = variables.iter().map(|name| (*name).to_owned()).collect();
        Report { unit: "mm/h".to_owned(), variables, ..Report::default() }
    }

    fn verdict() -> Verdict {
        Verdict {
            model: "steps".to_owned(),
            against: "extrapolation".to_owned(),
            score: "crps".to_owned(),
            difference: -0.12,
            low: -0.15,
            high: -0.09,
            blocks: 14,
            verdict: Decision::Better,
            ..Verdict::default()
        }
    }

    #[test]
    fn a_verdict_is_a_sentence() {
        let text = "steps is better than extrapolation in CRPS at all leads together: -0.12 mm/h (95 % interval -0.15 \
                    to -0.09, 14 blocks)";
        assert_eq!(sentence(&verdict(), &report(&["rain_rate"])), text);
        let verdict = Verdict { variable: "wind_speed".to_owned(), ..verdict() };
        let text = sentence(&verdict, &report(&["wind", "wind_speed"]));
        assert!(text.contains(" in CRPS of wind speed at all leads together: "), "{text}");
    }

    #[test]
    fn undecided_is_said_as_such() {
        let verdict = Verdict {
            score: "csi".to_owned(),
            threshold: Some(0.1),
            lead_minutes: Some(30.0),
            difference: 0.02,
            low: -0.01,
            blocks: 1,
            verdict: Decision::Undecided,
            ..verdict()
        };
        let text = sentence(&verdict, &report(&[]));
        assert!(text.starts_with(
            "undecided whether steps or extrapolation is better in CSI (≥ 0.1 mm/h) at 30 min: +0.02 (95"
        ));
        assert!(text.ends_with("1 block)"));
    }
}
