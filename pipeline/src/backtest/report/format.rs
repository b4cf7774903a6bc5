//! Text and numbers, as they stand in HTML.

/// What stands for a missing value.
pub(super) const MISSING: &str = "–";

/// Text that HTML and SVG show as it is, in content and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Three significant digits; a dash for what is not a number.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return MISSING.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    // Rounded first, as 9.996 has one digit more before the point than it seems.
    let rounded = format!("{value:.2e}");
    let exponent = rounded.split_once('e').and_then(|(_, e)| e.parse::<i32>().ok()).unwrap_or(0);
    match exponent {
        -4..=2 => format!("{value:.*}", usize::try_from(2 - exponent).unwrap_or(0)),
        3..=11 => grouped(&format!("{:.0}", rounded.parse().unwrap_or(value))),
        _ => rounded,
    }
}

/// Three significant digits at most: without zeros at the end.
pub(super) fn short(value: f64) -> String {
    let text = number(value);
    if text.contains('.') && !text.contains('e') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

/// [`number`] of a value that may be missing.
pub(super) fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| MISSING.to_owned(), number)
}

/// All digits of a count.
pub(super) fn count(value: usize) -> String {
    grouped(&value.to_string())
}

/// A narrow space that does not break before every three digits, from five digits on.
fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut out = sign.to_owned();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && digits.len() > 4 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    out
}

/// The event of a score, with a blank before it; nothing if it is of no event.
pub(super) fn of_threshold(threshold: Option<f32>, unit: &str) -> String {
    // As f32 it is written as it was meant: 0.1 and not 0.10000000149.
    let threshold = threshold.filter(|threshold| threshold.is_finite());
    threshold.map_or_else(String::new, |threshold| format!(" (≥ {threshold}{})", of_unit(unit)))
}

/// A unit with a blank before it; nothing if there is none.
pub(super) fn of_unit(unit: &str) -> String {
    if unit.is_empty() { String::new() } else { format!(" {unit}") }
}

/// One thing and several of it.
pub(super) fn plural(n: usize, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A table that scrolls on a narrow screen. Heads and cells are HTML already; the first `names` columns are text and the
/// others numbers. A row of one cell is a heading of the rows below it.
pub(super) fn table(names: usize, heads: &[String], rows: &[Vec<String>]) -> String {
    let class = |i: usize| if i < names { "" } else { " class=\"n\"" };
    let mut out = String::from("<div class=\"scroll\"><table><thead><tr>");
    for (i, head) in heads.iter().enumerate() {
        out.push_str(&format!("<th scope=\"col\"{}>{head}</th>", class(i)));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        if let ([heading], true) = (row.as_slice(), heads.len() > 1) {
            let n = heads.len();
            out.push_str(&format!("<tr class=\"group\"><th colspan=\"{n}\"><span>{heading}</span></th></tr>\n"));
            continue;
        }
        out.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            out.push_str(&format!("<td{}>{cell}</td>", class(i)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_is_escaped() {
        assert_eq!(escape("<b a=\"1\">&'\u{0}"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
    }

    #[test]
    fn numbers_have_three_significant_digits() {
        let cases = [
            (0.0, "0"),
            (0.123_456, "0.123"),
            (-9.996, "-10.0"),
            (999.6, "1000"),
            (12.34, "12.3"),
            (1234.0, "1230"),
            (123_456.0, "123\u{202f}000"),
            (0.000_012_3, "1.23e-5"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_label_has_no_zeros_at_its_end() {
        assert_eq!([short(0.1), short(100.0), short(2.5)], ["0.1", "100", "2.5"]);
    }

    #[test]
    fn a_missing_value_is_a_dash_and_not_zero() {
        assert_eq!(optional(None), MISSING);
        assert_eq!(optional(Some(f64::NAN)), MISSING);
    }
}
