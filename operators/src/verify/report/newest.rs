//! Which sums are the newest of their kind: those that metrics show.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::verify::{Key, Period, Series};

/// Remembers what is newest. The name of a gauge has neither an hour nor a digest, or there would be more of them every
/// hour: so what is corrected in an older hour, or of an older model, must not take the place of what is newer.
#[derive(Default)]
pub(super) struct Newest {
    /// Of a series, whatever its digest: the newest time that a forecast was valid at, and the digest of what made it.
    models: BTreeMap<Series, (Option<i64>, Arc<str>)>,
    /// Of such a series and a name of windows: where the newest window begins.
    windows: BTreeMap<(Series, &'static str), Option<i64>>,
}

impl Newest {
    /// Whether sums that have changed are those of the newest model and window. `counts` says whether anything counts in
    /// them still.
    pub(super) fn takes(&mut self, Key { series, period }: &Key, counts: bool) -> bool {
        let of = Series { digest: "".into(), ..series.clone() };
        let from = match *period {
            Period::At(time) | Period::Hour(time) | Period::Day(time) => Some(time),
            Period::All => None,
        };
        let (newest, digest) = self.models.entry(of.clone()).or_insert_with(|| (None, series.digest.clone()));
        if counts && from >= *newest {
            (*newest, *digest) = (from, series.digest.clone());
        }
        if *digest != series.digest || matches!(period, Period::At(_)) {
            return false;
        }
        let newest = self.windows.entry((of, period.name())).or_insert(from);
        let is_newest = from >= *newest;
        *newest = from.max(*newest);
        is_newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{DOMAIN, PUBLISHED};

    fn series(digest: &str) -> Series {
        let [contestant, model, digest, variable, region] =
            [PUBLISHED, "m", digest, "rain_rate", DOMAIN].map(Arc::from);
        Series { contestant, model, digest, variable, region, lead: 300 }
    }

    /// The names of the windows that are shown when the sums of a valid time have changed.
    fn shown(newest: &mut Newest, digest: &str, valid: i64, counts: bool) -> Vec<&'static str> {
        let all = Period::of(valid).map(|period| Key { series: series(digest), period });
        all.iter().filter(|key| newest.takes(key, counts)).map(|key| key.period.name()).collect()
    }

    const HOUR: i64 = 3600;

    #[test]
    fn a_correction_of_an_older_hour_changes_nothing_that_is_of_the_newest() {
        let mut newest = Newest::default();
        assert_eq!(shown(&mut newest, "a", 30 * HOUR, true), ["1h", "24h", "all"]);
        assert_eq!(shown(&mut newest, "a", 31 * HOUR + 300, true), ["1h", "24h", "all"]);
        assert_eq!(shown(&mut newest, "a", 31 * HOUR, true), ["1h", "24h", "all"], "the same hour");
        assert_eq!(shown(&mut newest, "a", 30 * HOUR, true), ["24h", "all"]);
        assert_eq!(shown(&mut newest, "a", 23 * HOUR, true), ["all"], "the day before");
        assert_eq!(shown(&mut newest, "a", 30 * HOUR, false), ["24h", "all"], "and where it is taken back");
        assert_eq!(shown(&mut newest, "a", 31 * HOUR, false), ["1h", "24h", "all"]);
    }

    #[test]
    fn leads_do_not_know_of_each_other() {
        let mut newest = Newest::default();
        let mut takes = |lead, hour| newest.takes(&Key { series: Series { lead, ..series("a") }, period: hour }, true);
        assert!(takes(300, Period::Hour(2 * HOUR)) && takes(600, Period::Hour(HOUR)));
        assert!(!takes(300, Period::Hour(HOUR)));
    }

    #[test]
    fn a_new_model_takes_over_and_what_is_corrected_of_the_one_before_is_not_shown() {
        let mut newest = Newest::default();
        assert_eq!(shown(&mut newest, "b", HOUR, true), ["1h", "24h", "all"]);
        assert_eq!(shown(&mut newest, "a", HOUR + 300, true), ["1h", "24h", "all"], "whatever its digest");
        assert!(shown(&mut newest, "b", HOUR, true).is_empty());
        assert!(shown(&mut newest, "b", HOUR, false).is_empty(), "it does not become nothing either");
        assert_eq!(shown(&mut newest, "b", HOUR + 600, true), ["1h", "24h", "all"], "and back again");
    }

    #[test]
    fn what_was_kept_of_the_model_of_today_is_shown_after_a_restart() {
        let mut newest = Newest::default();
        let mut takes = |digest: &str, period| newest.takes(&Key { series: series(digest), period }, true);
        assert!(takes("a", Period::Day(86_400)) && takes("a", Period::All));
        assert!(!takes("b", Period::All), "its days are over");
    }
}
