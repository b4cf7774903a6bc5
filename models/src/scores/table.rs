//! A board as a table: a row for each lead, and for each score the models side by side.

use std::fmt::Write as _;

use squall_fields::LeadTime;

use super::board::Scoreboard;
use super::score::AnyScore;

/// A column: which score of which model.
type Column = (usize, usize);

impl Scoreboard {
    /// Scores by lead, each with its models. A score that counted nothing for a model has no column.
    fn columns(&self, wanted: impl Fn(&dyn AnyScore) -> bool) -> Vec<Column> {
        let is_shown = |score: &usize| self.scores()[*score].is_by_lead() && wanted(&*self.scores()[*score]);
        let by_lead = (0..self.scores().len()).filter(is_shown);
        let models = 0..self.models().len();
        by_lead
            .flat_map(|score| models.clone().map(move |model| (score, model)))
            .filter(|(score, model)| self.has(*model, *score))
            .collect()
    }

    /// As Markdown, with four digits.
    pub fn markdown(&self) -> String {
        self.markdown_of(|_| true)
    }

    /// The same of some of the scores.
    pub fn markdown_of(&self, wanted: impl Fn(&dyn AnyScore) -> bool) -> String {
        let (columns, names): (_, Vec<&str>) = (self.columns(wanted), self.models().collect());
        let mut text = String::from("| lead (min) |");
        for (score, model) in &columns {
            let _ = write!(text, " {} {} |", names[*model], heading(&*self.scores()[*score]));
        }
        let _ = writeln!(text, "\n|{}", "---|".repeat(columns.len() + 1));
        for lead in self.leads() {
            let _ = write!(text, "| {:.0} |", lead.seconds() as f64 / 60.0);
            for (score, model) in &columns {
                let value = self.value(*model, lead, *score);
                text += &value.map_or_else(|| " |".to_owned(), |value| format!(" {value:.4} |"));
            }
            text.push('\n');
        }
        text
    }

    /// For a terminal, with three digits and about `rows` of the leads, the last among them. `unit` is that of the
    /// variable.
    pub fn text(&self, unit: &str, rows: usize) -> String {
        const LONGEST: usize = 13;
        let names: Vec<String> = self.models().map(|name| name.chars().take(LONGEST).collect()).collect();
        let (columns, mut text, mut heads) = (self.columns(|_| true), String::new(), String::new());
        let groups: Vec<&[Column]> = columns.chunk_by(|a, b| a.0 == b.0).collect();
        let cell = |text: &str, model: usize| format!("{text:>width$} ", width = names[model].len().max(7));
        let _ = write!(text, "{:>9} ", "");
        let _ = write!(heads, "{:>9} ", "lead");
        for group in &groups {
            let under: String = group.iter().map(|(_, model)| cell(&names[*model], *model)).collect();
            let over = heading_with_unit(&*self.scores()[group[0].0], unit);
            let _ = write!(text, "|{over:^width$}", width = under.chars().count());
            let _ = write!(heads, "|{under}");
        }
        let _ = writeln!(text, "\n{heads}");
        for lead in some(&self.leads(), rows) {
            let _ = write!(text, "{:>9} ", lead.to_string());
            for group in &groups {
                text.push('|');
                for (score, model) in *group {
                    let value = self.value(*model, lead, *score);
                    text += &cell(&value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}")), *model);
                }
            }
            text.push('\n');
        }
        text
    }
}

/// About so many of the leads, evenly, with the last one.
fn some(leads: &[LeadTime], rows: usize) -> impl Iterator<Item = LeadTime> {
    let step = leads.len().div_ceil(rows.max(1)).max(1);
    leads.iter().copied().skip(step - 1).step_by(step)
}

fn heading(score: &dyn AnyScore) -> String {
    match score.threshold() {
        Some(threshold) => format!("{} {threshold}", score.name()),
        None => score.name().to_owned(),
    }
}

fn heading_with_unit(score: &dyn AnyScore, unit: &str) -> String {
    match score.threshold() {
        Some(threshold) => format!("{} at {threshold} {unit}", score.name()),
        None if score.has_unit() => format!("{} ({unit})", score.name()),
        None => score.name().to_owned(),
    }
}
