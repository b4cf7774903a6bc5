//! Whether a timestamp of a replay is believed.
//!
//! In a replay records alone move time, and a single one with a timestamp of the far future would silence its stream for
//! ever: everything after it in its partition would count as known that late. But an archive has gaps of days, and what
//! comes after one is far ahead, too. What tells the two apart is what follows: after a gap the records go on from
//! there, after junk they go back. So a timestamp that is far ahead waits for the votes of the next records of its
//! partition. That is a function of the partition alone; the end of the log ends the vote.

use squall_fields::KnowledgeTime;

/// Records that vote, at most: the majority of them decides.
pub(super) const VOTES: usize = 5;

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its timestamp holds.
    Believed,
    /// Its timestamp is junk: the record counts as known when its predecessor was.
    Doubted,
    /// More records must be seen.
    Open,
}

/// Judges the first of some timestamps in milliseconds since 1970, which follow each other in a partition that has come
/// to a time; `over` if no more will follow. A timestamp up to `jump_ms` ahead needs no confirmation.
pub(super) fn judge(
    newest: KnowledgeTime,
    jump_ms: i64,
    mut timestamps: impl Iterator<Item = i64>,
    over: bool,
) -> Verdict {
    let Some(first) = timestamps.next() else { return Verdict::Open };
    if first.saturating_sub(newest.unix_ms() as i64) <= jump_ms {
        return Verdict::Believed;
    }
    let (mut with, mut against) = (0, 0);
    for timestamp in timestamps.take(VOTES) {
        if timestamp >= first.saturating_sub(jump_ms) {
            with += 1;
        } else {
            against += 1;
        }
        if with > VOTES / 2 {
            return Verdict::Believed;
        }
        if against > VOTES / 2 {
            return Verdict::Doubted;
        }
    }
    match over {
        false => Verdict::Open,
        true if against > with => Verdict::Doubted,
        true => Verdict::Believed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JUMP: i64 = 1_000;

    /// Which timestamps of a whole partition are believed, as the source takes them.
    fn believed(stamps: &[i64]) -> Vec<bool> {
        let mut newest = KnowledgeTime::default();
        let one = |i: usize| {
            let verdict = judge(newest, JUMP, stamps[i..].iter().copied(), true);
            // As soon as a record can be judged it is, and more records do not change that.
            for seen in i + 1..stamps.len() {
                let early = judge(newest, JUMP, stamps[i..seen].iter().copied(), false);
                assert!(early == Verdict::Open || early == verdict);
            }
            if verdict == Verdict::Believed {
                newest = newest.max(KnowledgeTime::from_unix_ms(stamps[i]));
            }
            verdict == Verdict::Believed
        };
        (0..stamps.len()).map(one).collect()
    }

    #[test]
    fn junk_is_doubted_and_a_gap_is_believed() {
        assert_eq!(believed(&[100, 200, 9_000_000, 300, 400, 500]), [true, true, false, true, true, true]);
        assert_eq!(believed(&[100, 200, 90_000, 90_100, 90_200]), [true; 5]);
        assert_eq!(believed(&[100, 200, 90_000]), [true; 3], "nothing speaks against the last");
        assert_eq!(believed(&[9_000_000, 100, 200]), [false, true, true]);
        let junk_before_a_gap = [100, 9_000_000, 90_000, 90_100, 90_200, 90_300];
        assert_eq!(believed(&junk_before_a_gap), [true, false, true, true, true, true]);
        let junk_after_a_gap = [100, 90_000, 9_000_000, 90_100, 3, 90_200, 90_300];
        assert_eq!(believed(&junk_after_a_gap), [true, true, false, true, true, true, true]);
    }

    proptest! {
        /// Single junk records among good ones never move time beyond the good ones; gaps do no harm.
        #[test]
        fn junk_never_moves_time(
            steps in prop::collection::vec((0i64..400, prop::option::weighted(0.1, 10_000i64..1_000_000)), 8..60),
            junk in prop::collection::btree_set(0usize..60, 0..4),
        ) {
            let mut now = 1_000_000_000;
            let mut stamps = Vec::new();
            let mut is_junk: Vec<bool> = Vec::new();
            for (i, (step, gap)) in steps.into_iter().enumerate() {
                now += step + gap.unwrap_or(0);
                // Apart, so that a majority around each is good.
                if junk.contains(&i) && is_junk.iter().rev().take(4).all(|j| !*j) && !is_junk.is_empty() {
                    stamps.push(now + 4_000_000_000);
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
    }
}
