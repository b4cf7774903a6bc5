//! What the scores mean: their names in words, their unit and which way is better.

/// Which values of a score are better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Better {
    Lower,
    Higher,
    /// The closer to this value.
    Near(f64),
    /// Not known.
    Unknown,
}

impl Better {
    /// In words.
    pub(super) fn words(self) -> String {
        match self {
            Self::Lower => "lower is better".to_owned(),
            Self::Higher => "higher is better".to_owned(),
            Self::Near(value) => format!("best at {value}"),
            Self::Unknown => String::new(),
        }
    }

    /// The distance from the best there could be, for comparison only; `None` where nothing is known.
    pub(super) fn badness(self, value: f64) -> Option<f64> {
        match self {
            Self::Lower => Some(value),
            Self::Higher => Some(-value),
            Self::Near(best) => Some((value - best).abs()),
            Self::Unknown => None,
        }
    }
}

/// Under which heading a score stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Amount,
    Exceedance,
    Probability,
    Other,
}

impl Family {
    /// All, in the order of the page.
    pub(super) const ALL: [Self; 4] = [Self::Amount, Self::Exceedance, Self::Probability, Self::Other];

    /// Heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Amount => "Amounts",
            Self::Exceedance => "Reaching a threshold, yes or no",
            Self::Probability => "Probability of reaching a threshold",
            Self::Other => "Further scores",
        }
    }
}

/// What a score means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meaning {
    /// Names in files, the usual one first.
    names: &'static [&'static str],
    /// Name for people; empty if the score is not known.
    title: &'static str,
    /// Which way is better.
    pub(super) better: Better,
    /// Whether it has the unit of the variable.
    pub(super) has_unit: bool,
    /// Its heading.
    pub(super) family: Family,
    /// Definition, a sentence without its subject.
    pub(super) about: &'static str,
}

const UNKNOWN: Meaning = known(&[], "", Better::Unknown, false, Family::Other, "");

const fn known(
    names: &'static [&'static str],
    title: &'static str,
    better: Better,
    has_unit: bool,
    family: Family,
    about: &'static str,
) -> Meaning {
    Meaning { names, title, better, has_unit, family, about }
}

use Better::{Higher, Lower, Near};
use Family::{Amount, Exceedance, Other, Probability};

/// In the order of the page.
#[rustfmt::skip]
const KNOWN: &[Meaning] = &[
    known(&["energy"], "energy score", Lower, true, Amount, "CRPS of the wind as a vector"),
    known(&["energy_fair"], "fair energy score", Lower, true, Amount, "energy score as of infinitely many members"),
    known(&["vector_rmse"], "vector RMSE", Lower, true, Amount, "root mean squared length of the error of the mean wind"),
    known(&["crps_speed"], "CRPS of speed", Lower, true, Amount, "CRPS of the wind speed"),
    known(&["crps_speed_fair"], "fair CRPS of speed", Lower, true, Amount, "CRPS of the wind speed as of infinitely many members"),
    known(&["crps"], "CRPS", Lower, true, Amount, "continuous ranked probability score: distance of the distribution of the members from what came; the absolute error if there is one member"),
    known(&["crps_fair", "fair_crps"], "fair CRPS", Lower, true, Amount, "CRPS as of infinitely many members, so that ensembles of different size compare"),
    known(&["mae"], "MAE", Lower, true, Amount, "mean absolute error of the ensemble mean"),
    known(&["rmse"], "RMSE", Lower, true, Amount, "root mean squared error of the ensemble mean"),
    known(&["bias"], "bias", Near(0.0), true, Amount, "mean of forecast minus observation: positive is too much"),
    known(&["spread_skill"], "spread/skill", Near(1.0), false, Amount, "spread of the members over the error of their mean: below 1 the ensemble is too sure of itself"),
    known(&["spread"], "spread", Better::Unknown, true, Amount, "standard deviation of the members"),
    known(&["skill"], "error of the mean", Lower, true, Amount, "root mean squared error of the ensemble mean, to compare with the spread"),
    known(&["csi"], "CSI", Higher, false, Exceedance, "critical success index of the ensemble mean: hits over hits, misses and false alarms"),
    known(&["fss"], "FSS", Higher, false, Exceedance, "fractions skill score: agreement of the fraction of cells at or above the threshold in windows"),
    known(&["csi_control"], "CSI of the control", Higher, false, Exceedance, "critical success index of the first member"),
    known(&["csi_neighbourhood"], "CSI in windows", Higher, false, Exceedance, "critical success index of whether the threshold is reached anywhere in a window"),
    known(&["pod"], "POD", Higher, false, Exceedance, "probability of detection: hits over hits and misses"),
    known(&["far"], "FAR", Lower, false, Exceedance, "false alarm ratio: false alarms over hits and false alarms"),
    known(&["ets"], "ETS", Higher, false, Exceedance, "equitable threat score: CSI without the hits of chance"),
    known(&["hss"], "HSS", Higher, false, Exceedance, "Heidke skill score: share of right answers, compared with chance"),
    known(&["frequency_bias"], "frequency bias", Near(1.0), false, Exceedance, "cells at or above the threshold in the forecast over those observed"),
    known(&["frequency_bias_control"], "frequency bias of the control", Near(1.0), false, Exceedance, "frequency bias of the first member"),
    known(&["brier"], "Brier score", Lower, false, Probability, "mean squared error of the probability of reaching the threshold"),
    known(&["brier_fair"], "fair Brier score", Lower, false, Probability, "Brier score as of infinitely many members"),
    known(&["brier_reliability"], "Brier reliability", Lower, false, Probability, "part of the Brier score that is due to wrong probabilities"),
    known(&["brier_resolution"], "Brier resolution", Higher, false, Probability, "part of the Brier score gained by telling cases apart"),
    known(&["brier_uncertainty"], "Brier uncertainty", Better::Unknown, false, Probability, "part of the Brier score that is due to the observations alone"),
    known(&["roc_area"], "ROC area", Higher, false, Probability, "area under the ROC curve: 0.5 cannot tell rain from no rain, 1 always can"),
    known(&["economic_value_max"], "largest economic value", Higher, false, Probability, "economic value for the user whose cost/loss ratio is the base rate"),
    known(&["twcrps"], "CRPS above the threshold", Lower, true, Amount, "threshold-weighted CRPS: the part of it above the threshold"),
    known(&["twcrps_fair"], "fair CRPS above the threshold", Lower, true, Amount, "threshold-weighted CRPS as of infinitely many members"),
    known(&["crps_pooled_mean"], "CRPS of window means", Lower, true, Amount, "CRPS of the means of windows"),
    known(&["crps_pooled_mean_fair"], "fair CRPS of window means", Lower, true, Amount, "CRPS of the means of windows, as of infinitely many members"),
    known(&["crps_pooled_max"], "CRPS of window maxima", Lower, true, Amount, "CRPS of the maxima of windows"),
    known(&["crps_pooled_max_fair"], "fair CRPS of window maxima", Lower, true, Amount, "CRPS of the maxima of windows, as of infinitely many members"),
    known(&["rank_outliers"], "outliers", Near(1.0), false, Other, "share of observations outside all members over that of a reliable ensemble: above 1 the ensemble is too sure of itself"),
    known(&["rank_reliability_index"], "unevenness of ranks", Lower, false, Other, "sum over the ranks of the observation of how far their shares are from even: 0 is reliable"),
    known(&["wet_area_ratio"], "wet area", Near(1.0), false, Exceedance, "cells at or above the threshold in the members one by one over those observed"),
    known(&["wet_area_members"], "wet area of members", Better::Unknown, false, Exceedance, "share of the domain at or above the threshold in the members"),
    known(&["wet_area_observed"], "wet area observed", Better::Unknown, false, Exceedance, "share of the domain at or above the threshold as observed"),
    known(&["maximum_ratio"], "maximum", Near(1.0), false, Other, "largest values of the members over those observed"),
    known(&["maximum_members"], "maximum of members", Better::Unknown, true, Other, "mean of the largest values of the members"),
    known(&["maximum_observed"], "maximum observed", Better::Unknown, true, Other, "mean of the largest values observed"),
    known(&["direction_error"], "error of direction", Lower, false, Other, "mean angle in degrees between the mean wind and the observed one, calms left out"),
    known(&["precision_rank"], "precision", Better::Unknown, false, Other, "rank correlation of the precision map with the absolute error of the ensemble mean"),
    known(&["precision_rank_wet"], "precision where it rains", Better::Unknown, false, Other, "rank correlation of the precision map with the absolute error of the ensemble mean, where it rains"),
];

impl Meaning {
    /// Of a score by its name in files; dashes and capitals do not matter.
    pub(super) fn of(score: &str) -> Self {
        let name = score.trim().to_lowercase().replace(['-', ' '], "_");
        KNOWN.iter().copied().find(|meaning| meaning.names.contains(&name.as_str())).unwrap_or(UNKNOWN)
    }

    /// The name for people, or that of the file if it is not known.
    pub(super) fn title<'a>(&self, score: &'a str) -> &'a str {
        if self.title.is_empty() { score } else { self.title }
    }

    /// Its place on the page; unknown scores come last.
    pub(super) fn place(&self) -> (Family, usize) {
        let is_it = |meaning: &Meaning| !self.names.is_empty() && meaning.names == self.names;
        (self.family, KNOWN.iter().position(is_it).unwrap_or(KNOWN.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_known_by_all_its_spellings() {
        for name in ["crps_fair", "fair-crps", "Fair CRPS"] {
            assert_eq!(Meaning::of(name).title(name), "fair CRPS");
        }
    }

    #[test]
    fn an_unknown_score_keeps_its_name_and_comes_last() {
        let meaning = Meaning::of("luck");
        assert_eq!(meaning.title("luck"), "luck");
        assert!(KNOWN.iter().all(|known| known.place() < meaning.place()));
    }
}
