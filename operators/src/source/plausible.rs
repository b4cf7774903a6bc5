//! Whether a timestamp of a replay is believed.
//!
//! In a replay records alone move time, and a single one with a timestamp of the far future would silence its stream for
//! ever: everything after it in its partition would count as known that late. One of a clock in the wrong time zone does the
//! same for hours, and one of minutes makes frames late beyond their patience. But an archive has gaps of slots, hours and
//! days, and what comes after one is ahead, too. What tells the two apart is what follows: after a gap the records go on
//! from there, after junk they go back. So a timestamp that is further ahead than does no harm waits for the votes of the
//! next records of its partition. That is a function of the partition alone; the end of the log ends the vote.
//!
//! The majority speaks, of junk that is further ahead than a few records. Junk of minutes is soon passed by those among
//! which it lies: they go back behind it, and on from there in steps that are even. Records in the order of their
//! timestamps are all believed, whatever lies between them.
//!
//! A record that is not believed counts as known when the oldest of those did that speak against it.

use squall_fields::KnowledgeTime;

/// Records that vote, at most: the majority of them decides.
pub(super) const VOTES: usize = 5;
/// At the end of the log one record alone speaks against a timestamp only where it is so much older: otherwise it may be
/// itself the one that is late.
const FAR_MS: i64 = 6 * 3_600_000;

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its timestamp holds.
    Believed,
    /// Its timestamp is junk: the record counts as known at this one, in milliseconds since 1970.
    Doubted(i64),
    /// More records must be seen.
    Open,
}

/// What does no harm, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Harmless {
    /// A timestamp up to so far ahead needs no confirmation.
    pub(super) jump_ms: i64,
    /// One up to so much older than another does not speak against it.
    pub(super) disorder_ms: i64,
}

/// Judges the first of some timestamps in milliseconds since 1970, which follow each other in a partition that has come
/// to a time; `over` if no more will follow.
pub(super) fn judge(
    newest: KnowledgeTime,
    harmless: Harmless,
    mut timestamps: impl Iterator<Item = i64>,
    over: bool,
) -> Verdict {
    let Harmless { jump_ms, disorder_ms } = harmless;
    let Some(first) = timestamps.next() else { return Verdict::Open };
    let newest = newest.unix_ms() as i64;
    if first.saturating_sub(newest) <= jump_ms {
        return Verdict::Believed;
    }
    let (mut seen, mut with, mut against, mut is_far) = (0, 0, 0, false);
    // Of those that speak against it.
    let (mut oldest, mut latest) = (i64::MAX, newest);
    for timestamp in timestamps.take(VOTES) {
        seen += 1;
        let before = first.saturating_sub(timestamp);
        if before <= disorder_ms {
            let (step, so_far) = (timestamp.saturating_sub(latest), latest.saturating_sub(newest));
            if with == 0 && against > 0 && step <= so_far.saturating_mul(2) {
                return Verdict::Doubted(oldest);
            }
            with += 1;
        } else if timestamp >= newest.saturating_sub(disorder_ms) {
            against += 1;
            is_far |= before > FAR_MS;
            (oldest, latest) = (oldest.min(timestamp), latest.max(timestamp));
        } // else it is late, whichever of the two holds
        if with > VOTES / 2 {
            return Verdict::Believed;
        }
        if against > VOTES / 2 {
            return Verdict::Doubted(oldest);
        }
    }
    let is_doubted = match (seen < VOTES, over) {
        (true, false) => return Verdict::Open,
        (true, true) => against > with && (against > 1 || is_far),
        (false, _) => against >= with,
    };
    match (is_doubted, against) {
        (false, _) => Verdict::Believed,
        (true, 0) => Verdict::Doubted(newest), // all of them are late
        (true, _) => Verdict::Doubted(oldest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const SLOT: i64 = 5 * MINUTE;
    /// As a stream has them whose slots are five minutes apart and whose patience is three.
    const DISORDER: i64 = 90_000;
    const JUMP: i64 = SLOT + DISORDER;
    /// A day of 2026.
    const DAY: i64 = 1_780_000_000_000;
    const YEAR_2100: i64 = 4_102_444_800_000;

    fn judged(newest: KnowledgeTime, jump_ms: i64, stamps: &[i64], over: bool) -> Verdict {
        let harmless = Harmless { jump_ms, disorder_ms: jump_ms.min(DISORDER) };
        judge(newest, harmless, stamps.iter().copied(), over)
    }

    /// Which timestamps of a whole partition are believed, as the source takes them.
    fn believed_within(jump: i64, stamps: &[i64]) -> Vec<bool> {
        let mut newest = KnowledgeTime::default();
        let one = |i: usize| {
            let verdict = judged(newest, jump, &stamps[i..], true);
            // As soon as a record can be judged it is, and more records do not change that.
            for seen in i + 1..stamps.len() {
                let early = judged(newest, jump, &stamps[i..seen], false);
                assert!(early == Verdict::Open || early == verdict);
            }
            let known = if let Verdict::Doubted(known) = verdict { known } else { stamps[i] };
            newest = newest.max(KnowledgeTime::from_unix_ms(known));
            verdict == Verdict::Believed
        };
        (0..stamps.len()).map(one).collect()
    }

    fn believed(stamps: &[i64]) -> Vec<bool> {
        believed_within(JUMP, stamps)
    }

    /// So many slots, and the places of those that are not believed once junk is put before one of them.
    fn doubted_among(slots: i64, before: usize, junk: &[i64]) -> Vec<usize> {
        let mut stamps: Vec<_> = (0..slots).map(|slot| DAY + slot * SLOT).collect();
        stamps.splice(before..before, junk.iter().copied());
        (0..).zip(believed(&stamps)).filter(|(_, believed)| !believed).map(|(place, _)| place).collect()
    }

    #[test]
    fn junk_is_doubted_and_a_gap_is_believed() {
        let believed = |stamps: &[i64]| believed_within(1_000, stamps);
        assert_eq!(believed(&[100, 200, 9_000_000, 300, 400, 500]), [true, true, false, true, true, true]);
        assert_eq!(believed(&[100, 200, 90_000, 90_100, 90_200]), [true; 5]);
        assert_eq!(believed(&[100, 200, 90_000]), [true; 3], "nothing speaks against the last");
        assert_eq!(believed(&[9_000_000, 100, 200]), [false, true, true]);
        let junk_before_a_gap = [100, 9_000_000, 90_000, 90_100, 90_200, 90_300];
        assert_eq!(believed(&junk_before_a_gap), [true, false, true, true, true, true]);
        let junk_after_a_gap = [100, 90_000, 9_000_000, 90_100, 3, 90_200, 90_300];
        assert_eq!(believed(&junk_after_a_gap), [true, true, false, true, true, true, true]);
    }

    #[test]
    fn three_hours_without_a_record_are_believed_after_the_votes() {
        let newest = KnowledgeTime::from_unix_ms(DAY);
        let after: Vec<_> = (0..6).map(|slot| DAY + 3 * HOUR + slot * SLOT).collect();
        let seen = |count: usize, over| judged(newest, JUMP, &after[..count], over);
        assert_eq!([1, 2, 3].map(|count| seen(count, false)), [Verdict::Open; 3]);
        assert_eq!([4, 5, 6].map(|count| seen(count, false)), [Verdict::Believed; 3]);
        assert_eq!([1, 2, 3].map(|count| seen(count, true)), [Verdict::Believed; 3], "so is what the log ends with");
    }

    #[test]
    fn the_next_slot_waits_for_no_votes_and_what_comes_after_a_missing_one_does() {
        let newest = KnowledgeTime::from_unix_ms(DAY);
        assert_eq!(judged(newest, JUMP, &[DAY + SLOT + DISORDER], false), Verdict::Believed);
        let after = [2, 3, 4, 5].map(|slot| DAY + slot * SLOT);
        assert_eq!(judged(newest, JUMP, &after[..3], false), Verdict::Open);
        assert_eq!(judged(newest, JUMP, &after, false), Verdict::Believed);
    }

    #[test]
    fn junk_of_minutes_is_doubted_once_records_go_on_behind_it_and_pass_it() {
        for ahead in [2, 4, 6, 10, 15, 20, 30].map(|minutes| minutes * MINUTE) {
            for before in [1, 7, 17, 18] {
                let junk = DAY + before as i64 * SLOT + ahead;
                assert_eq!(doubted_among(20, before, &[junk]), [before], "{ahead} ms ahead of slot {before}");
            }
        }
        // Where each second slot lies in another partition.
        let mut stamps: Vec<_> = (0..12).map(|i| DAY + 2 * i * SLOT).collect();
        stamps.insert(4, DAY + 8 * SLOT + 10 * MINUTE);
        let doubted: Vec<_> = (0..).zip(believed(&stamps)).filter(|(_, believed)| !believed).map(|(i, _)| i).collect();
        assert_eq!(doubted, [4]);
        let newest = KnowledgeTime::from_unix_ms(DAY);
        let seen = [3 * SLOT, SLOT, 2 * SLOT, 3 * SLOT].map(|ms| DAY + ms);
        assert_eq!(judged(newest, JUMP, &seen, false), Verdict::Doubted(DAY + SLOT), "as the next of the others");
    }

    #[test]
    fn one_record_that_comes_late_after_a_gap_speaks_against_nothing() {
        let at = |minutes: i64| DAY + minutes * MINUTE;
        assert_eq!(believed(&[at(0), at(180), at(20), at(185), at(190), at(195), at(200)]), [true; 7]);
        let late = [60, -60, -55, -50, -45, -40].map(at);
        assert_eq!(judged(KnowledgeTime::from_unix_ms(at(0)), JUMP, &late, false), Verdict::Doubted(at(0)));
    }

    #[test]
    fn minutes_hours_and_decades_ahead_are_doubted() {
        for ahead in [50 * MINUTE, 2 * HOUR, 5 * HOUR, 6 * HOUR + 10 * MINUTE, YEAR_2100 - DAY] {
            for before in [1, 7, 17, 18] {
                let junk = DAY + before as i64 * SLOT + ahead;
                assert_eq!(doubted_among(20, before, &[junk]), [before], "{ahead} ms ahead");
                assert_eq!(doubted_among(24, before, &[junk, junk + 1, junk + 2]), [before, before + 1, before + 2]);
            }
        }
    }

    #[test]
    fn a_producer_in_another_time_zone_moves_no_time() {
        // Each second record is stamped two hours ahead.
        let stamps: Vec<_> = (0..40).map(|i| DAY + i * SLOT + if i % 2 == 1 { 2 * HOUR } else { 0 }).collect();
        let expected: Vec<_> = (0..30).map(|i| i % 2 == 0).collect();
        assert_eq!(believed(&stamps)[..30], expected, "but where the log ends too soon for a majority");
    }

    #[test]
    fn what_comes_late_speaks_against_nothing() {
        let at = |minutes: i64| DAY + minutes * MINUTE;
        assert_eq!(believed(&[at(0), at(180), at(-60), at(-55), at(185), at(190), at(-50), at(195)]), [true; 8]);
        // At the end of the log one record alone may be the late one, unless it would be so by hours.
        assert_eq!(believed(&[at(0), at(60), at(20)]), [true; 3]);
        assert_eq!(believed(&[at(0), YEAR_2100, at(5)]), [true, false, true]);
        assert_eq!(believed(&[at(0), at(60), at(5), at(10)]), [true, false, true, true]);
    }

    #[test]
    fn a_source_is_measured_by_its_own_cadence() {
        let hourly: Vec<_> = [0, 1, 2, 5, 6, 7, 30, 33, 34, 35].map(|hour| DAY + hour * HOUR).into();
        assert_eq!(believed_within(3 * HOUR, &hourly), [true; 10]);
        assert_eq!(believed(&hourly), [true; 10], "nor is anything lost where records are rarer than slots");
        let mut junk = hourly.clone();
        junk.insert(3, DAY + 30 * HOUR);
        assert_eq!(believed_within(3 * HOUR, &junk).iter().filter(|believed| !**believed).count(), 1);
    }

    proptest! {
        /// Junk among good records never moves time, from fifty minutes ahead on; gaps do no harm.
        #[test]
        fn junk_never_moves_time(
            steps in prop::collection::vec((0..=SLOT, prop::option::weighted(0.1, SLOT..200 * HOUR)), 8..60),
            junk in prop::collection::btree_map(0usize..60, prop_oneof![50 * MINUTE..12 * HOUR, Just(YEAR_2100)], 0..4),
        ) {
            let mut now = DAY;
            let mut stamps = Vec::new();
            let mut is_junk: Vec<bool> = Vec::new();
            for (i, (step, gap)) in steps.iter().enumerate() {
                now += step + gap.unwrap_or(0);
                // Apart, so that a majority around each is good, and not where a gap follows: the records after it would
                // lie ahead of the junk.
                let is_apart = is_junk.iter().rev().take(4).all(|j| !*j) && !is_junk.is_empty();
                let is_dense = steps.iter().skip(i + 1).take(VOTES).all(|(_, gap)| gap.is_none());
                let is_followed = i + 2 < steps.len();
                if let Some(ahead) = junk.get(&i).filter(|_| is_apart && is_dense && is_followed) {
                    stamps.push(now + ahead);
                    is_junk.push(true);
                }
                stamps.push(now);
                is_junk.push(false);
            }
            let believed = believed(&stamps);
            for (i, (believed, junk)) in believed.iter().zip(&is_junk).enumerate() {
                prop_assert_eq!(*believed, !junk, "{} of {:?}", i, stamps);
            }
        }

        /// Whatever is missing between them.
        #[test]
        fn records_in_order_are_believed(
            steps in prop::collection::vec(prop_oneof![0..3 * SLOT, 0..400 * HOUR], 0..60), jump in 1..JUMP,
        ) {
            let in_order: Vec<_> = steps.iter().scan(DAY, |now, step| { *now += step; Some(*now) }).collect();
            prop_assert!(believed_within(jump, &in_order).iter().all(|believed| *believed));
        }
    }
}
