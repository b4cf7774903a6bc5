use super::*;
use ndarray::Array3;
use proptest::prelude::*;
use squall_fields::{Axis, Cadence, InputRef, Variable};

const STEP: i64 = 300;

fn config() -> WindowConfig {
    let cadence = Cadence::every_seconds(STEP as u32).unwrap();
    WindowConfig { frames: 4, cadence, patience_ms: 180_000, horizon_ms: 1_800_000 }
}

fn at(seconds: i64) -> KnowledgeTime {
    KnowledgeTime::from_unix_ms(seconds * 1000)
}

fn frame(slot: i64, offset: i64) -> Arc<Frame> {
    let axis = |step: f64| Axis { first: 0.0, step, len: 1 };
    Arc::new(Frame {
        grid: Grid { proj: "+proj=utm".into(), wkt: None, x: axis(1.0), y: axis(-1.0) }.into(),
        slot: ValidTime::from_unix_seconds(slot * STEP),
        variables: vec![Variable::RainRate].into(),
        values: Array3::zeros((1, 1, 1)),
        quality: None,
        input: InputRef { topic: "obs".into(), partition: 0, offset, digest: "".into() },
    })
}

/// What fired: issue slot, revision, mask, known at (s).
type Line = (i64, u32, Vec<bool>, i64);

fn lines(fired: Vec<Fired>) -> Vec<Line> {
    let line = |f: Fired| {
        let slot = f.window.issue_time.unix_seconds() / STEP;
        (slot, f.revision, f.window.mask(), (f.known_at.unix_ms() / 1000) as i64)
    };
    fired.into_iter().map(line).collect()
}

fn fresh(slot: i64, offset: i64) -> Fresh {
    Fresh { frame: frame(slot, offset), origin: Origin::default(), read_at_us: 0 }
}

fn push(windows: &mut WindowBuffer, slot: i64, offset: i64, known_at: KnowledgeTime) -> Vec<Line> {
    lines(windows.push(known_at, vec![fresh(slot, offset)]).0)
}

/// Takes a log of (slot, known at) from an offset on: what is known at one time at once.
fn take(windows: &mut WindowBuffer, log: &[(i64, i64)], first: usize) -> Vec<Line> {
    let mut out = Vec::new();
    let numbered: Vec<_> = log.iter().enumerate().skip(first).collect();
    for together in numbered.chunk_by(|(_, (_, a)), (_, (_, b))| a == b) {
        let known_at = at(together[0].1.1);
        out.extend(lines(windows.advance(known_at)));
        let frames = together.iter().map(|(offset, (slot, _))| fresh(*slot, *offset as i64)).collect();
        out.extend(lines(windows.push(known_at, frames).0));
    }
    out
}

/// Runs a log of (slot, known at) to its end and a little further.
fn run(log: &[(i64, i64)], end: i64) -> Vec<Line> {
    let mut windows = WindowBuffer::new(config());
    let mut out = take(&mut windows, log, 0);
    out.extend(lines(windows.advance(at(end))));
    out
}

#[test]
fn fires_when_complete_and_never_before_the_first_slot() {
    let log: Vec<_> = (10..16).map(|s| (s, s * STEP + 20)).collect();
    let fired = run(&log, 15 * STEP + 21);
    let expected: Vec<Line> = (13..16).map(|s| (s, 0, vec![true; 4], s * STEP + 20)).collect();
    assert_eq!(fired, expected);
}

#[test]
fn an_incomplete_window_fires_after_its_patience_and_is_revised() {
    let mut log: Vec<_> = (10..18).filter(|s| *s != 14).map(|s| (s, s * STEP + 20)).collect();
    log.push((14, 18 * STEP)); // late, within the horizon
    log.sort_by_key(|(_, known)| *known);
    let fired = run(&log, 18 * STEP + 100);
    let with = |missing: usize| (0..4).map(|i| i != missing).collect::<Vec<_>>();
    let due = |s: i64| s * STEP + 180;
    assert_eq!(
        fired,
        [
            (13, 0, vec![true; 4], 13 * STEP + 20),
            (15, 0, with(2), due(15)),
            (16, 0, with(1), due(16)),
            (17, 0, with(0), due(17)),
            (14, 0, vec![true; 4], 18 * STEP),
            (15, 1, vec![true; 4], 18 * STEP),
            (16, 1, vec![true; 4], 18 * STEP),
            (17, 1, vec![true; 4], 18 * STEP),
        ]
    );
}

#[test]
fn after_the_horizon_nothing_is_revised() {
    let mut windows = WindowBuffer::new(config());
    for s in 10..15 {
        push(&mut windows, s, s, at(s * STEP + 1));
    }
    let late = at(13 * STEP + 1801);
    windows.advance(late);
    let fired = push(&mut windows, 13, 99, late);
    assert_eq!(fired.iter().map(|l| l.0).collect::<Vec<_>>(), [14], "a later window is revised, 13 is over");
    let (fired, unused) = windows.push(late, vec![fresh(9, 99)]);
    assert!(fired.is_empty() && unused == [ValidTime::from_unix_seconds(9 * STEP)], "no window may use it");
}

/// After an outage of the feed nothing but the frames before it is known: the issue time of a forecast made of them
/// would not be the slot of its newest frame.
#[test]
fn a_window_without_the_frame_of_its_issue_time_does_not_fire() {
    let log: Vec<_> = (10..15).map(|s| (s, s * STEP + 20)).collect();
    let issued: Vec<_> = run(&log, 30 * STEP).into_iter().map(|l| (l.0, l.1)).collect();
    assert_eq!(issued, [(13, 0), (14, 0)]);
}

#[test]
fn a_newest_frame_after_the_patience_fires_its_window_even_with_a_gap() {
    let mut log: Vec<_> = (10..16).filter(|s| *s != 14).map(|s| (s, s * STEP + 20)).collect();
    log.push((16, 16 * STEP + 240)); // the patience is 180 s
    let fired: Vec<_> = run(&log, 16 * STEP + 250).into_iter().filter(|l| l.0 == 16).collect();
    assert_eq!(fired, [(16, 0, vec![true, false, true, true], 16 * STEP + 240)]);
}

/// Frames of one knowledge time in several partitions: the order among them is nobody's doing.
#[test]
fn what_is_known_at_one_time_fires_a_window_once() {
    let mut log: Vec<_> = (10..14).map(|s| (s, s * STEP + 20)).collect();
    let known = 14 * STEP + 20;
    let mut expected = None;
    for order in [[11, 12, 14], [14, 12, 11], [12, 14, 11]] {
        log.truncate(4);
        log.extend(order.map(|slot| (slot, known)));
        let fired: Vec<_> = run(&log, known + 1).into_iter().filter(|l| l.3 == known).collect();
        let issued: Vec<_> = fired.iter().map(|l| (l.0, l.1)).collect();
        assert_eq!(issued, [(13, 1), (14, 0)], "one revision each, whatever came first");
        assert_eq!(*expected.get_or_insert(fired.clone()), fired);
    }
}

#[test]
fn a_backlog_makes_one_forecast_per_issue_time() {
    let mut log: Vec<_> = (10..14).map(|s| (s, s * STEP + 20)).collect();
    log.extend((20..26).map(|s| (s, 25 * STEP + 20))); // an outage, then all at once
    let fired = run(&log, 25 * STEP + 100);
    let outage: Vec<_> = fired.iter().filter(|l| (17..20).contains(&l.0)).collect();
    assert!(outage.is_empty(), "nothing was known of these: {outage:?}");
    let backlog: Vec<_> = fired.iter().filter(|l| l.0 >= 20).map(|l| (l.0, l.1)).collect();
    assert_eq!(backlog, [(23, 0), (24, 0), (25, 0)]);
}

proptest! {
    /// Out of order within the patience gives the same windows as in order.
    #[test]
    fn order_within_the_patience_does_not_matter(delays in prop::collection::vec(0i64..170, 4..20)) {
        let slots: Vec<i64> = (10..10 + delays.len() as i64).collect();
        let in_order: Vec<_> = slots.iter().map(|s| (*s, s * STEP)).collect();
        // Delays of up to 170 s on 60 s slots would reorder; on 300 s slots spread them over two slots.
        let mut shuffled: Vec<_> = slots.iter().zip(&delays).map(|(s, d)| (*s, s * STEP + d)).collect();
        shuffled.sort_by_key(|(slot, known)| (*known, -slot));
        let end = (10 + delays.len() as i64) * STEP - 1;
        let key = |lines: Vec<Line>| lines.into_iter().map(|(s, r, m, _)| (s, r, m)).collect::<Vec<_>>();
        prop_assert_eq!(key(run(&in_order, end)), key(run(&shuffled, end)));
    }

    /// A restart at any frontier fires exactly what the run without it fires from there on.
    #[test]
    fn a_restart_fires_the_rest(
        known in prop::collection::vec((10i64..22, 0i64..2400), 1..25), cut in 0i64..7000,
    ) {
        let mut log: Vec<_> = known.iter().map(|(s, delay)| (*s, s * STEP + delay)).collect();
        log.sort_by_key(|(slot, known)| (*known, *slot));
        let (frontier, end) = (10 * STEP + cut, 50 * STEP);
        let whole: Vec<_> = run(&log, end).into_iter().filter(|l| l.3 >= frontier).collect();
        // Run up to the frontier and take what a progress record holds ...
        let mut before = WindowBuffer::new(config());
        let next = log.iter().position(|(_, k)| *k >= frontier).unwrap_or(log.len());
        take(&mut before, &log[..next], 0);
        before.advance(at(frontier));
        let progress = Progress { frontier: at(frontier), state: before.state(), ..Default::default() };
        let oldest = before.oldest_records();
        let rewind = oldest.values().map(|(offset, _)| *offset as usize).min().unwrap_or(next);
        // ... and go on from it, reading again from the rewind offset.
        let mut after = WindowBuffer::restore(config(), &progress);
        for (offset, (slot, known)) in log.iter().enumerate().take(next).skip(rewind) {
            after.refill(frame(*slot, offset as i64), Origin::default(), at(*known));
        }
        let mut out = Vec::new();
        out.extend(lines(after.advance(at(frontier))));
        out.extend(take(&mut after, &log, next));
        out.extend(lines(after.advance(at(end))));
        prop_assert_eq!(out, whole);
    }

    /// Memory is bounded by the window and the horizon, whatever comes.
    #[test]
    fn state_is_bounded(slots in prop::collection::vec(0i64..500, 1..100)) {
        let mut windows = WindowBuffer::new(config());
        for slot in slots.iter().scan(0, |now, s| { *now += s % 3; Some(*now) }) {
            windows.advance(at(slot * STEP));
            push(&mut windows, slot, 0, at(slot * STEP));
            prop_assert!(windows.frames.len() <= 11 && windows.windows.len() <= 11);
        }
    }
}
