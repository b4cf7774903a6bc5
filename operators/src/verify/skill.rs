//! How a stream stands against its baselines: its CRPS against theirs, hour by hour, where both have a value.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use squall_fields::ValidTime;
use squall_models::scores::{AnyScore, Statistics, numbers};

use super::series::{HOUR, PUBLISHED, Series};

/// What skill is computed from: of a field, or of a vector.
pub const MEASURES: [&str; 2] = ["crps", "energy"];

/// How the stream stood against a baseline in an hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Name of the baseline among the companions.
    pub baseline: Arc<str>,
    /// The quantity.
    pub variable: Arc<str>,
    /// Where.
    pub region: Arc<str>,
    /// First second of the hour.
    pub hour: ValidTime,
    /// The number that both are judged by, over all leads.
    pub score: Arc<str>,
    /// That of what was published.
    pub published: f64,
    /// That of the baseline.
    pub of_baseline: f64,
    /// `1 - published / baseline`: 1 is perfect, below 0 the baseline is better; none where it made no error.
    pub skill: Option<f64>,
    /// For how many hours in a row, this one included, the baseline has been better.
    pub hours_behind: u32,
    /// Whether that is as long as the configuration allows, or longer.
    pub is_behind: bool,
}

type Of = (Arc<str>, Arc<str>, Arc<str>);

/// The pure core: hours go in one after the other, standings come out.
#[derive(Clone, Debug)]
pub struct Skill {
    empty: Arc<[Box<dyn AnyScore>]>,
    baselines: Vec<Arc<str>>,
    /// Hours in a row after which the stream counts as behind.
    patience: u32,
    behind: BTreeMap<Of, u32>,
    /// Of before a restart.
    kept: Vec<Standing>,
}

impl Skill {
    /// Against companions; `before` are the newest standings of before a restart. Those against others are forgotten.
    pub fn new(
        empty: Arc<[Box<dyn AnyScore>]>,
        baselines: Vec<Arc<str>>,
        patience: u32,
        before: impl IntoIterator<Item = Standing>,
    ) -> Self {
        let is_known = |standing: &Standing| baselines.contains(&standing.baseline);
        let now = |standing: Standing| Standing { is_behind: standing.hours_behind >= patience, ..standing };
        let kept: Vec<Standing> = before.into_iter().filter(is_known).map(now).collect();
        let of = |Standing { baseline, variable, region, hours_behind, .. }: &Standing| {
            ((baseline.clone(), variable.clone(), region.clone()), *hours_behind)
        };
        let behind = kept.iter().map(of).collect();
        Self { empty, baselines, patience, behind, kept }
    }

    /// How the stream stood before a restart, and so stands until the next hour is over.
    pub fn at_start(&self) -> &[Standing] {
        &self.kept
    }

    /// An hour is over, in which the stream and a baseline, by its name, summed to this over what both have. An hour in which
    /// they have nothing to compare says nothing.
    pub fn close(&mut self, hour: i64, of: impl Fn(&str) -> BTreeMap<Series, Statistics>) -> Vec<Standing> {
        let baselines = self.baselines.clone();
        baselines.iter().flat_map(|baseline| self.stands(hour, baseline, &of(baseline))).collect()
    }

    fn stands(&mut self, hour: i64, baseline: &Arc<str>, sums: &BTreeMap<Series, Statistics>) -> Vec<Standing> {
        // All leads and digests of a contestant together.
        let mut pooled: BTreeMap<Of, Statistics> = BTreeMap::new();
        for (series, sum) in sums {
            let of = (series.contestant.clone(), series.variable.clone(), series.region.clone());
            let whole = pooled.entry(of).or_default();
            *whole = whole.plus(sum);
        }
        let measure = |statistics: &Statistics| {
            let numbers = numbers(&self.empty, statistics);
            numbers.into_iter().find(|number| MEASURES.contains(&number.score)).and_then(|n| Some((n.score, n.value?)))
        };
        let own = pooled.iter().filter(|((contestant, ..), _)| **contestant == *PUBLISHED);
        let mut standings = Vec::new();
        for ((_, variable, region), sum) in own {
            let Some((name, published)) = measure(sum) else { continue };
            let of = (baseline.clone(), variable.clone(), region.clone());
            let Some((_, other)) = pooled.get(&of).and_then(measure) else { continue };
            let hours_behind = self.behind.entry(of).or_default();
            *hours_behind = if published > other { *hours_behind + 1 } else { 0 };
            standings.push(Standing {
                baseline: baseline.clone(),
                variable: variable.clone(),
                region: region.clone(),
                hour: ValidTime::from_unix_seconds(hour),
                score: name.into(),
                published,
                of_baseline: other,
                skill: (other > 0.0).then(|| 1.0 - published / other),
                hours_behind: *hours_behind,
                is_behind: *hours_behind >= self.patience,
            });
        }
        standings
    }
}

impl Standing {
    /// The first time behind its hour.
    pub fn until(&self) -> ValidTime {
        self.hour.plus_seconds(HOUR)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};
    use squall_fields::Variable;
    use squall_models::scores::list::{self, Settings};
    use squall_models::scores::{Field, of_fields};

    use super::*;
    use crate::verify::DOMAIN;

    fn empty() -> Arc<[Box<dyn AnyScore>]> {
        list::start(&["mae", "crps"], &Settings::default()).unwrap().into()
    }

    fn sums(errors: &[(&str, f32)]) -> BTreeMap<Series, Statistics> {
        let series = |contestant: &str, lead| Series {
            contestant: contestant.into(),
            model: contestant.into(),
            digest: "d".into(),
            variable: "rain_rate".into(),
            region: DOMAIN.into(),
            lead,
        };
        let mut sums = BTreeMap::new();
        for (contestant, error) in errors {
            for lead in [300, 600] {
                let (members, observed) = (Array3::from_elem((1, 2, 2), *error), Array2::zeros((2, 2)));
                let field = Field { variable: Variable::RainRate, members: members.view(), observed: observed.view() };
                sums.insert(series(contestant, lead), of_fields(&empty(), &[field]).remove(0).1);
            }
        }
        sums
    }

    #[test]
    fn a_stream_falls_behind_after_so_many_hours_in_a_row_and_a_restart_counts_on() {
        let mut skill = Skill::new(empty(), vec!["persistence".into()], 2, []);
        let hour = |skill: &mut Skill, published: f32| {
            let standing = skill.close(3600, |_| sums(&[("published", published), ("persistence", 2.0)])).remove(0);
            (standing.skill, standing.hours_behind, standing.is_behind, standing)
        };
        assert_eq!(hour(&mut skill, 1.0).0, Some(0.5));
        let (first, behind, is_behind, standing) = hour(&mut skill, 3.0);
        assert_eq!((first, behind, is_behind), (Some(-0.5), 1, false));
        let mut restarted = Skill::new(empty(), vec!["persistence".into()], 2, [standing]);
        assert!(hour(&mut restarted, 3.0).2);
        assert_eq!(hour(&mut restarted, 2.0).1, 0, "as good is not behind");
        assert!(skill.close(3600, |_| sums(&[("published", 1.0)])).is_empty(), "nobody to compare with");
    }

    #[test]
    fn a_restart_tells_how_the_stream_stood_against_the_baselines_that_it_has_by_what_is_allowed_now() {
        let started = |baselines: &[&str], patience, before: &[Standing]| {
            Skill::new(empty(), baselines.iter().map(|name| (*name).into()).collect(), patience, before.to_vec())
        };
        let mut skill = started(&["persistence", "steps"], 2, &[]);
        assert!(skill.at_start().is_empty(), "there was nothing before");
        let mut hour = |hour| skill.close(hour, |baseline| sums(&[("published", 3.0), (baseline, 2.0)]));
        hour(3600);
        let before = hour(7200);
        assert!(before.len() == 2 && before.iter().all(|standing| standing.is_behind));
        assert_eq!(started(&["persistence", "steps"], 2, &before).at_start(), before);
        let patient = started(&["steps"], 3, &before);
        assert_eq!(patient.at_start(), [Standing { is_behind: false, ..before[1].clone() }]);
    }
}
