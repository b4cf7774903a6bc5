//! How a model looks in every chart: colour, dashes and marker together, so that it is known in grey, too.

use super::Report;

/// Okabe and Ito's colours for all kinds of colour vision, without their yellow, which is too pale on white.
const COLOURS: [&str; 7] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"];

/// Lengths of dashes and gaps.
const DASHES: [&str; 5] = ["none", "7 3", "2 3", "9 3 2 3", "12 4"];

/// Shape of the points of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
}

const MARKERS: [Marker; 4] = [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond];

/// The look of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// As CSS has it.
    pub(super) colour: &'static str,
    /// For `stroke-dasharray`.
    pub(super) dash: &'static str,
    /// Of its points.
    pub(super) marker: Marker,
}

/// The looks of the models of a report, in its order.
#[derive(Clone, Debug)]
pub(super) struct Looks<'a> {
    names: Vec<&'a str>,
}

impl<'a> Looks<'a> {
    /// Of the models of the table, then of those that only scores or curves name.
    pub(super) fn new(report: &'a Report) -> Self {
        let curves = [&report.reliability, &report.spectra, &report.roc, &report.economic_value];
        let elsewhere = report.scores.iter().map(|row| &row.model);
        let elsewhere = elsewhere.chain(curves.into_iter().flatten().map(|curve| &curve.model));
        let elsewhere = elsewhere.chain(report.ranks.iter().map(|ranks| &ranks.model));
        let mut names: Vec<&str> = Vec::new();
        for name in report.models.iter().map(|model| &model.name).chain(elsewhere) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        Self { names }
    }

    /// The names, each once.
    pub(super) fn names(&self) -> &[&'a str] {
        &self.names
    }

    /// The look of a model; that of the first one if nobody knows it.
    pub(super) fn of(&self, model: &str) -> Look {
        let i = self.names.iter().position(|name| *name == model).unwrap_or(0);
        Look { colour: COLOURS[i % COLOURS.len()], dash: DASHES[i % DASHES.len()], marker: MARKERS[i % MARKERS.len()] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Model;
    use super::*;

    #[test]
    fn twenty_models_look_different() {
        let models = (0..20).map(|i| Model { name: i.to_string(), ..Model::default() }).collect();
        let report = Report { models, ..Report::default() };
        let looks = Looks::new(&report);
        let all: Vec<_> = looks.names().iter().map(|name| looks.of(name)).collect();
        assert!((0..20).all(|i| (0..i).all(|j| all[i] != all[j])));
    }
}
