//! What becomes of forecasts once it is known what came.

use std::collections::BTreeMap;

use metrics::{counter, gauge};
use squall_fields::{Quantity, Verdict};
use squall_models::scores::AnyScore;
use squall_models::scores::fields::WIND;

use crate::verify::{Key, Period, Standing, Sums};

/// A published forecast, or one of a companion, is not scored.
pub struct NotJudged<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Why.
    pub reason: &'a str,
}

impl NotJudged<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, reason } = self;
        tracing::warn!(stream, reason, "a forecast cannot be scored");
        counter!("squall_not_judged_total", "stream" => stream.to_owned()).increment(1);
    }
}

/// The fields that wait to be scored take so much of the folder for what waits on disk.
pub struct ScratchHeld<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// How much.
    pub bytes: u64,
}

impl ScratchHeld<'_> {
    /// Sets the gauge.
    pub fn emit(self) {
        let Self { stream, bytes } = self;
        gauge!("squall_scratch_bytes", "stream" => stream.to_owned()).set(bytes as f64);
    }
}

/// A record of reports of stations was read, and what it says was judged.
pub struct ReadingsJudged<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Readings, by their quantity and what is thought of them.
    pub readings: &'a BTreeMap<(Quantity, Verdict), u64>,
    /// Of these, those whose station's place is not known: they are compared with nothing.
    pub without_place: u64,
    /// Readings of what Squall does not know.
    pub ignored: u64,
}

impl ReadingsJudged<'_> {
    /// Counts them.
    pub fn emit(self) {
        let Self { stream, readings, without_place, ignored } = self;
        for ((quantity, verdict), count) in readings {
            let labels = [
                ("stream", stream.to_owned()),
                ("quantity", quantity.standard_name().to_owned()),
                ("verdict", verdict.name().to_owned()),
            ];
            counter!("squall_readings_total", &labels).increment(*count);
        }
        for (reason, count) in [("no place", without_place), ("unknown quantity", ignored)] {
            if count > 0 {
                let labels = [("stream", stream.to_owned()), ("reason", reason.to_owned())];
                counter!("squall_readings_unused_total", &labels).increment(count);
            }
        }
    }
}

/// The sums of an hour, of a day, or of all time have changed.
pub struct Scored<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// What the sums are of.
    pub key: &'a Key,
    /// The sums; none where nothing counts in them any more.
    pub sums: Option<&'a Sums>,
    /// Whether no newer hour or day is known, and no newer model: gauges name neither.
    pub is_newest: bool,
    /// The scores, empty.
    pub empty: &'a [Box<dyn AnyScore>],
}

/// The scores that are metrics, too: the others are on the topic.
const SHOWN: [&str; 6] = ["crps_fair", "rmse", "bias", "spread_skill", "csi", "energy_fair"];

impl Scored<'_> {
    /// Counts hours, and sets the gauges of what is newest. A score in which nothing counts any more is not a number: what
    /// it was is taken back.
    pub fn emit(self) {
        let Self { stream, key: Key { series, period }, sums, is_newest, empty } = self;
        if let Period::Hour(_) = period {
            counter!("squall_scores_total", "stream" => stream.to_owned()).increment(1);
        }
        if !is_newest {
            return;
        }
        let nothing = Sums::default();
        let Sums(statistics) = sums.unwrap_or(&nothing);
        // Others never count anything of this quantity.
        let is_vector = *series.variable == *WIND;
        for score in statistics.scores(empty).iter().filter(|score| score.is_of_vectors() == is_vector) {
            let threshold = score.threshold().map_or_else(String::new, |threshold| threshold.to_string());
            for number in score.values().into_iter().filter(|number| SHOWN.contains(&number.score)) {
                let labels = [
                    ("stream", stream.to_owned()),
                    ("contestant", series.contestant.to_string()),
                    ("model", series.model.to_string()),
                    ("variable", series.variable.to_string()),
                    ("region", series.region.to_string()),
                    ("window", period.name().to_owned()),
                    ("lead_minutes", (series.lead as f64 / 60.0).to_string()),
                    ("score", number.score.to_owned()),
                    ("threshold", threshold.clone()),
                ];
                let value = number.value.filter(|value| score.count() > 0.0 && value.is_finite());
                gauge!("squall_score", &labels).set(value.unwrap_or(f64::NAN));
            }
        }
    }
}

/// An hour is over, and a stream stands so against a baseline.
pub struct Stands<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// How.
    pub standing: &'a Standing,
}

impl Stands<'_> {
    /// Logs it where the stream is behind, and sets the gauges.
    pub fn emit(self) {
        let Self { stream, standing } = self;
        let Standing { baseline, variable, region, hour, published, of_baseline, skill, .. } = standing;
        let Standing { hours_behind, is_behind, .. } = standing;
        if *is_behind {
            tracing::warn!(stream, %baseline, %variable, %region, %hour, published, of_baseline, hours_behind, "the baseline is better");
        }
        let labels = [
            ("stream", stream.to_owned()),
            ("baseline", baseline.to_string()),
            ("variable", variable.to_string()),
            ("region", region.to_string()),
        ];
        gauge!("squall_skill", &labels).set(skill.unwrap_or(f64::NAN));
        gauge!("squall_hours_behind_baseline", &labels).set(f64::from(*hours_behind));
        gauge!("squall_behind_baseline", &labels).set(f64::from(u8::from(*is_behind)));
    }
}
