use std::sync::Arc;

use proptest::prelude::*;
use squall_fields::Station;

use super::super::{BuddyLimit, PersistenceLimit, StepLimit};
use super::*;

const SPEED: Quantity = Quantity::WindSpeed;
const HOUR: i64 = 3600;

fn input(offset: i64) -> InputRef {
    InputRef { topic: "obs".into(), partition: 0, offset, digest: "".into() }
}

fn station(id: &str, latitude: f64) -> Arc<Station> {
    Arc::new(Station { id: id.into(), name: None, place: Place::new(latitude, 25.0, None).ok() })
}

fn report(offset: i64, station: Arc<Station>, hour: i64, readings: &[(Quantity, f32)]) -> StationReport {
    let valid = ValidTime::from_unix_seconds(HOUR * hour);
    let readings = readings.iter().map(|(quantity, value)| Reading::new(*quantity, None, *value)).collect();
    StationReport { station, valid, readings, input: input(offset) }
}

fn speed(offset: i64, id: &str, hour: i64, value: f32) -> StationReport {
    report(offset, station(id, 60.0), hour, &[(SPEED, value)])
}

fn known(hour: i64) -> KnowledgeTime {
    KnowledgeTime::from_unix_ms(1000 * HOUR * hour)
}

/// Limits that are easy to reach.
fn config() -> ControlConfig {
    let limits = Thresholds {
        possible: (0.0, 75.0),
        usual: Some((0.0, 50.0)),
        step: Some(StepLimit { most: 10.0, within_seconds: 3600 }),
        persistence: Some(PersistenceLimit {
            tolerance: 0.0,
            suspect_after_seconds: 2 * 3600,
            fail_after_seconds: None,
            least_readings: 3,
            except: None,
        }),
        buddy: Some(BuddyLimit { radius_m: 50_000.0, elevation_m: None, least_neighbours: 2, most: 5.0, spreads: 1.0 }),
    };
    let thresholds = [(SPEED, limits)].into();
    ControlConfig { thresholds, horizon_seconds: 6 * 3600, future_tolerance_seconds: 600 }
}

/// Of each reading that came out: station, hour, value, and flags as text.
fn said(judgement: &Judgement) -> Vec<(String, i64, f32, String)> {
    let one = |(key, judged): &(ReadingKey, JudgedReading)| {
        let hour = key.valid.unix_seconds() / HOUR;
        (key.station.to_string(), hour, judged.reading.value, judged.reading.flags.to_string())
    };
    judgement.readings.iter().map(one).collect()
}

fn row(station: &str, hour: i64, value: f32, flags: &str) -> (String, i64, f32, String) {
    (station.into(), hour, value, flags.into())
}

#[test]
fn a_neighbour_that_comes_later_changes_what_is_thought_of_a_reading() {
    let mut control = Control::new(config());
    assert_eq!(said(&control.push(known(10), vec![speed(0, "a", 10, 20.0)])), [row("a", 10, 20.0, "good")]);
    // One neighbour is not enough: nothing is thought otherwise.
    assert_eq!(said(&control.push(known(10), vec![speed(1, "b", 10, 3.0)])), [row("b", 10, 3.0, "good")]);
    let both = control.push(known(10), vec![speed(2, "c", 10, 4.0)]);
    assert_eq!(
        said(&both),
        [row("a", 10, 20.0, "suspect by buddy"), row("b", 10, 3.0, "good"), row("c", 10, 4.0, "good")]
    );
    assert_eq!(both.readings[0].1.input.offset, 0, "where a reading came from stays");
    // A correction of the first, and all agree.
    let corrected = control.push(known(11), vec![speed(3, "a", 10, 2.0)]);
    assert_eq!(said(&corrected), [row("a", 10, 2.0, "good")]);
    assert_eq!(corrected.readings[0].1.input.offset, 3);
}

#[test]
fn what_is_far_away_or_at_another_time_is_no_neighbour() {
    let mut control = Control::new(config());
    let at = |offset, id: &str, latitude, hour| report(offset, station(id, latitude), hour, &[(SPEED, 3.0)]);
    let mut nowhere = speed(4, "e", 10, 3.0);
    nowhere.station = Arc::new(Station { id: "e".into(), name: None, place: None });
    let reports =
        vec![speed(0, "a", 10, 20.0), at(1, "b", 60.5, 10), at(2, "c", 60.1, 9), at(3, "d", 60.1, 10), nowhere];
    let judged = control.push(known(10), reports);
    let buddy = |id: &str| {
        let of = judged.readings.iter().find(|(key, _)| &*key.station == id);
        of.map(|(_, judged)| judged.reading.flags.get(Check::Buddy))
    };
    assert_eq!((buddy("a"), buddy("e")), (Some(Verdict::NotEvaluated), Some(Verdict::NotEvaluated)));
    assert_eq!(buddy("d"), Some(Verdict::Suspect), "a and b are near it, and the nearer says something else");
    // It moves into reach: both it and the others are judged anew.
    let moved = control.push(known(10), vec![at(5, "b", 60.2, 10)]);
    assert!(said(&moved).contains(&row("a", 10, 20.0, "suspect by buddy")));
    // And away again.
    let back = control.push(known(10), vec![at(6, "b", 61.0, 10)]);
    assert!(said(&back).contains(&row("a", 10, 20.0, "good")));
}

#[test]
fn what_is_impossible_or_called_wrong_is_no_evidence() {
    let mut control = Control::new(config());
    let mut wrong = speed(2, "b", 10, 30.0);
    wrong.readings[0].flags = Flags::default().with(Check::Producer, Verdict::Fail);
    let reports = vec![speed(0, "a", 9, 200.0), speed(1, "a", 10, 5.0), wrong, speed(3, "c", 10, f32::NAN)];
    let judged = control.push(known(10), reports);
    let flags: Vec<Flags> = judged.readings.iter().map(|(_, judged)| judged.reading.flags).collect();
    let texts: Vec<String> = flags.iter().map(Flags::to_string).collect();
    assert_eq!(texts, ["fail by range", "good", "fail by producer", "missing by range"]);
    assert_eq!(flags[1].get(Check::Step), Verdict::NotEvaluated);
    assert_eq!(flags[1].get(Check::Buddy), Verdict::NotEvaluated);
    // What others found before is not taken over; what the producer says is.
    let mut flagged = speed(4, "d", 10, 5.0);
    flagged.readings[0].flags = Flags::default().with(Check::Step, Verdict::Fail).with(Check::Producer, Verdict::Good);
    assert_eq!(said(&control.push(known(10), vec![flagged])), [row("d", 10, 5.0, "good")]);
}

#[test]
fn the_reading_between_two_comes_last() {
    let mut control = Control::new(config());
    control.push(known(12), vec![speed(0, "a", 10, 7.0), speed(1, "a", 12, 7.0)]);
    let judged = control.push(known(12), vec![speed(2, "a", 11, 7.0)]);
    assert_eq!(said(&judged), [row("a", 11, 7.0, "good"), row("a", 12, 7.0, "suspect by persistence")]);
}

#[test]
fn the_same_again_says_nothing_and_the_later_of_two_counts() {
    let mut control = Control::new(config());
    let judged = control.push(known(10), vec![speed(5, "a", 10, 2.0), speed(4, "a", 10, 1.0)]);
    assert_eq!(said(&judged), [row("a", 10, 2.0, "good")]);
    assert_eq!(control.push(known(10), vec![speed(6, "a", 10, 2.0)]), Judgement::default());
    assert_eq!(said(&control.push(known(10), vec![speed(7, "a", 10, f32::NAN)])).len(), 1);
    assert_eq!(control.push(known(10), vec![speed(8, "a", 10, f32::NAN)]), Judgement::default());
}

#[test]
fn a_report_from_the_future_is_refused_and_takes_no_room() {
    let mut control = Control::new(config());
    let judged = control.push(known(10), vec![speed(0, "a", 11, 2.0), speed(1, "b", 10, 2.0)]);
    assert_eq!((judged.readings.len(), control.held()), (1, 1));
    let (input, (reason, detail)) = &judged.refused[0];
    assert_eq!((input.offset, *reason), (0, Reason::Future));
    assert!(detail.contains("a is valid at 1970-01-01T11:00:00Z, 3600 s after it was known, at most 600"), "{detail}");
}

#[test]
fn memory_ends_and_what_comes_after_it_is_judged_by_its_value_alone() {
    let mut control = Control::new(config());
    // Six hours of judging, and two that they look back.
    assert_eq!(control.config.memory_seconds(), 8 * HOUR);
    for hour in 0..100 {
        let reports = ["a", "b", "c"].map(|id| speed(hour, id, hour, (hour % 7) as f32)).to_vec();
        control.push(known(hour), reports);
        assert!(control.held() <= 3 * 9, "{}", control.held());
    }
    let late = control.push(known(99), vec![speed(200, "a", 50, 60.0)]);
    assert_eq!(said(&late), [row("a", 50, 60.0, "suspect by range")]);
    // Within the memory and beyond the horizon it is judged by what is there, and others are left as they were.
    let late = control.push(known(99), vec![speed(201, "a", 92, 40.0)]);
    assert_eq!(said(&late).len(), 1);
    control.advance(known(200));
    assert_eq!(control.held(), 0);
    assert!(control.memory.get(&late.readings[0].0).is_none());
}

#[test]
fn the_components_of_the_wind_follow_and_are_as_good_as_what_they_follow_from() {
    let direction = Quantity::WindFromDirection;
    let mut control = Control::new(ControlConfig::default());
    let of = |offset, readings: &[(Quantity, f32)]| report(offset, station("a", 60.0), 10, readings);
    let quantities = |judgement: &Judgement| -> Vec<(Quantity, f32, String)> {
        let one = |j: &JudgedReading| (j.reading.quantity, j.reading.value, j.reading.flags.to_string());
        judgement.readings.iter().map(|(_, judged)| one(judged)).collect()
    };
    assert_eq!(control.push(known(10), vec![of(0, &[(SPEED, 60.0)])]).readings.len(), 1);
    let both = control.push(known(10), vec![of(1, &[(direction, 180.0)])]);
    let found = quantities(&both);
    assert_eq!(found.len(), 3);
    assert_eq!((found[2].0, found[2].1, found[2].2.as_str()), (Quantity::NorthwardWind, 60.0, "suspect by range"));
    assert_eq!(both.readings[2].1.input.offset, 1, "the newer of the two that it follows from");
    // A correction of the speed corrects them.
    let corrected = quantities(&control.push(known(10), vec![of(2, &[(SPEED, 6.0)])]));
    assert_eq!((corrected.len(), corrected[2].1, corrected[2].2.as_str()), (3, 6.0, "good"));
    // A direction that is none leaves no components.
    let gone = quantities(&control.push(known(10), vec![of(3, &[(direction, 400.0)])]));
    assert!(gone.iter().skip(1).all(|(_, value, flags)| value.is_nan() && flags.starts_with("missing")), "{gone:?}");
    // Those that are reported are taken as they are.
    let reported = quantities(&control.push(known(10), vec![of(4, &[(Quantity::NorthwardWind, 5.0)])]));
    let northward: Vec<f32> = reported.iter().filter(|r| r.0 == Quantity::NorthwardWind).map(|r| r.1).collect();
    assert_eq!(northward, [5.0]);
    assert!(reported.iter().all(|(quantity, ..)| *quantity != SPEED));
}

/// What all judgements leave: the newest of each key.
fn left(judgements: impl IntoIterator<Item = Judgement>) -> BTreeMap<ReadingKey, JudgedReading> {
    judgements.into_iter().flat_map(|judgement| judgement.readings).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The oracle: everything known at once.
    #[test]
    fn flags_are_those_of_all_reports_known_at_once(
        reports in prop::collection::vec((0..6usize, 0..8i64, prop::sample::select(&[0.0f32, 3.0, 3.0, 9.0, 15.0, 80.0, f32::NAN][..]), 0..360i32), 1..60),
        ticks in prop::collection::vec(1..5usize, 60),
    ) {
        let ids = ["a", "b", "c", "d", "e", "f"];
        let all: Vec<StationReport> = reports.iter().enumerate().map(|(offset, (id, hour, value, direction))| {
            // The last one has moved once.
            let latitude = 60.0 + 0.15 * *id as f64 + if *id == 5 && offset > 20 { 0.4 } else { 0.0 };
            let readings = [(SPEED, *value), (Quantity::WindFromDirection, *direction as f32)];
            report(offset as i64, station(ids[*id], latitude), *hour, &readings[..1 + offset % 2])
        }).collect();
        // Everything is within the horizon of hour 10, whenever it becomes known.
        let config = ControlConfig { horizon_seconds: 20 * 3600, ..config() };
        let at_once = Control::new(config.clone()).push(known(10), all.clone());
        let mut control = Control::new(config);
        let (mut rest, mut judgements, mut at) = (all.as_slice(), Vec::new(), 0);
        for count in ticks {
            let (now, later) = rest.split_at(count.min(rest.len()));
            at += 1;
            let known_at = KnowledgeTime::from_unix_ms(1000 * HOUR * 10 + 50 * at);
            // The order in which they are handed over within one time does not matter.
            judgements.push(control.push(known_at, now.iter().rev().cloned().collect()));
            rest = later;
        }
        let (incremental, batch) = (left(judgements), left([at_once]));
        prop_assert_eq!(incremental.keys().collect::<Vec<_>>(), batch.keys().collect::<Vec<_>>());
        for (key, one) in &incremental {
            prop_assert_eq!(one.reading, batch[key].reading, "{:?}", key);
            prop_assert_eq!(&one.station, &batch[key].station);
        }
    }
}
