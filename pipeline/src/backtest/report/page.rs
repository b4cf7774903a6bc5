//! The page: its head, its sections in order, and links to them.

use super::format::escape;
use super::look::Looks;
use super::{Report, by_lead, curves, score_table, tables, verdicts};

/// A part of the page with a heading.
#[derive(Clone, Debug)]
pub(super) struct Section {
    /// For links.
    pub(super) id: &'static str,
    /// Heading.
    pub(super) title: &'static str,
    /// HTML.
    pub(super) body: String,
}

/// Makes a section, or leaves it out.
type Make = fn(&Report, &Looks<'_>) -> Option<Section>;

/// In the order of the page: the answer first, then what it rests on.
const SECTIONS: [Make; 14] = [
    verdicts::section,
    tables::models,
    tables::events,
    by_lead::scores,
    score_table::section,
    by_lead::events,
    curves::reliability,
    curves::ranks,
    curves::spectra,
    curves::roc,
    curves::economic_value,
    tables::maps,
    tables::timeliness,
    tables::about,
];

/// Everything.
pub(super) fn html(report: &Report) -> String {
    let looks = Looks::new(report);
    let sections: Vec<_> = SECTIONS.iter().filter_map(|make| make(report, &looks)).collect();
    let title = escape(if report.title.is_empty() { "Backtest" } else { &report.title });
    let period = match report.period.as_str() {
        "" => String::new(),
        period => format!("<p class=\"period\">{}</p>\n", escape(period)),
    };
    let link = |s: &Section| format!("<a href=\"#{}\">{}</a>\n", s.id, s.title);
    let links: String = sections.iter().map(link).collect();
    let body = |s: &Section| format!("<section id=\"{}\">\n<h2>{}</h2>\n{}</section>\n", s.id, s.title, s.body);
    let bodies: String = sections.iter().map(body).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"{}\">\n<title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n\
         <header>\n<h1>{title}</h1>\n{period}<nav>\n{links}</nav>\n</header>\n<main>\n{bodies}</main>\n</body>\n</html>\n",
        escape(&report.made_by),
        include_str!("page.css"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Model, sample};
    use super::*;

    /// Elements of HTML that have no end.
    const VOID: [&str; 3] = ["meta", "img", "br"];

    /// The first tag that does not match, if there is one. No attribute holds a raw `>`, as text is escaped.
    fn unbalanced(html: &str) -> Option<String> {
        let (before, rest) = html.split_once("<style>")?;
        let (_, after) = rest.split_once("</style>")?;
        let mut open = Vec::new();
        for tag in before.split('<').skip(1).chain(after.split('<').skip(1)) {
            let tag = tag.split('>').next().unwrap_or_default();
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
            if tag.starts_with('!') || tag.ends_with('/') || VOID.contains(&name) {
                continue;
            }
            if !tag.starts_with('/') {
                open.push(name);
            } else if open.pop() != Some(name) {
                return Some(tag.to_owned());
            }
        }
        open.pop().map(str::to_owned)
    }

    #[test]
    fn every_section_is_there_in_order() {
        let page = html(&sample::report());
        let ids = [
            "verdicts",
            "models",
            "events",
            "scores",
            "table",
            "by-event",
            "reliability",
            "ranks",
            "spectra",
            "roc",
            "value",
            "maps",
            "timeliness",
            "about",
        ];
        let places: Vec<_> = ids.iter().map(|id| page.find(&format!("<section id=\"{id}\">"))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
    }

    #[test]
    fn an_empty_report_still_is_a_page() {
        let page = html(&Report::default());
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        assert!(!page.contains("<section"));
        assert_eq!(unbalanced(&page), None);
    }

    #[test]
    fn every_tag_is_closed() {
        assert_eq!(unbalanced(&html(&sample::report())), None);
        assert_eq!(unbalanced("<style></style><p><b></p></b>"), Some("/p".to_owned()));
    }

    #[test]
    fn nothing_is_shown_that_is_not_a_number() {
        let mut report = sample::report();
        for row in &mut report.scores {
            row.value = row.value.map(|value| if row.lead_minutes == 20.0 { f64::NAN } else { value });
        }
        report.verdicts.iter_mut().for_each(|verdict| verdict.low = f64::NAN);
        report.timeliness.iter_mut().for_each(|timeliness| timeliness.p95_s = f64::INFINITY);
        for curve in report.reliability.iter_mut().chain(&mut report.spectra).chain(&mut report.roc) {
            curve.points.iter_mut().take(2).for_each(|point| (point.x, point.y) = (f64::NAN, f64::INFINITY));
        }
        let page = html(&report);
        assert!(!page.contains("NaN") && !page.contains("inf\"") && !page.contains(">inf"));
    }

    #[test]
    fn markup_in_names_is_only_text() {
        let mut report = sample::report();
        let name = "<script>\"&'";
        report.title = name.to_owned();
        report.models.push(Model { name: name.to_owned(), description: name.to_owned(), ..Model::default() });
        report.scores.iter_mut().for_each(|row| row.score.push_str(name));
        report.scores.iter_mut().for_each(|row| row.model = name.to_owned());
        report.maps.iter_mut().for_each(|map| map.png_base64 = format!("\"{name}"));
        let page = html(&report);
        assert!(!page.contains("<script"));
        assert_eq!(unbalanced(&page), None);
    }

    #[test]
    fn the_page_needs_nothing_from_outside() {
        let page = html(&sample::report());
        for outside in ["http:", "https:", "<link", "<script", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
