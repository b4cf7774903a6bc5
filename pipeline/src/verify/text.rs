//! Rows as a table for people and as CSV.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use squall_operators::verify::DOMAIN;

use super::tally::Row;

/// Leads that a table for people shows beside each other.
const COLUMNS: usize = 8;

/// A line for each score, a column for each lead; of many leads some, the last among them. Wavelengths are left to the
/// other formats.
pub fn table(rows: &[Row]) -> String {
    let key = |row: &Row| row.lead_minutes.to_bits();
    let mut leads: Vec<f64> = rows.iter().map(|row| row.lead_minutes).collect();
    leads.sort_by(f64::total_cmp);
    leads.dedup();
    let step = leads.len().div_ceil(COLUMNS).max(1);
    let shown: Vec<f64> = leads.iter().copied().skip((leads.len() + step - 1) % step).step_by(step).collect();
    let mut lines: Vec<(String, BTreeMap<u64, f64>)> = Vec::new();
    for row in rows.iter().filter(|row| row.score != "rapsd_ratio") {
        let of = |sign: &str, value: Option<String>| value.map_or_else(String::new, |value| format!(" {sign}{value}"));
        let event = of(">=", row.threshold.map(|t| t.to_string()));
        let window = of("window ", row.scale.map(|scale| scale.to_string()));
        let place = of("at ", (&*row.region != DOMAIN).then(|| row.region.to_string()));
        let name = format!("{:<14} {:<16} {}{event}{window}{place}", row.model, row.variable, row.score);
        let at = lines.iter().position(|(own, _)| *own == name).unwrap_or(lines.len());
        if at == lines.len() {
            lines.push((name, BTreeMap::new()));
        }
        lines[at].1.extend(row.value.map(|value| (key(row), value)));
    }
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = format!("{:width$}", "lead (min)");
    shown.iter().for_each(|lead| _ = write!(text, " {lead:>9}"));
    text.push('\n');
    for (name, values) in lines {
        let _ = write!(text, "{name:width$}");
        for lead in &shown {
            let value = values.get(&lead.to_bits()).map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
            let _ = write!(text, " {value:>9}");
        }
        text.push('\n');
    }
    text
}

/// Comma-separated values with a head; what is missing is empty.
pub fn csv(rows: &[Row]) -> String {
    let quoted = |text: &str| match text.contains(['"', ',', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let mut text = String::from("event,model,variable,region,lead_minutes,score,threshold,scale,value,count\n");
    for row in rows {
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{}",
            quoted(&row.event),
            quoted(&row.model),
            quoted(&row.variable),
            quoted(&row.region),
            row.lead_minutes,
            row.score,
            row.threshold.map_or_else(String::new, |value| value.to_string()),
            number(row.scale),
            number(row.value),
            row.count
        );
    }
    text
}
