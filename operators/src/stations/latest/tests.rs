use std::sync::{Arc, Mutex};

use differential_dataflow::consolidation::consolidate_updates;
use squall_fields::{InputRef, Quantity, Reading, Station, ValidTime};
use timely::dataflow::InputHandle;
use timely::dataflow::operators::{Input, Probe};

use super::*;

type Update = ((ReadingKey, JudgedReading), Tick, isize);

fn reading(offset: i64, station: &str, hour: i64, value: f32) -> (ReadingKey, JudgedReading) {
    let id: Arc<str> = station.into();
    let valid = ValidTime::from_unix_seconds(3600 * hour);
    let key = ReadingKey { station: id.clone(), quantity: Quantity::RainRate, period_seconds: Some(3600), valid };
    let input = InputRef { topic: "obs".into(), partition: 0, offset, digest: "".into() };
    let station = Arc::new(Station { id, name: None, place: None });
    (key, JudgedReading { input, station, reading: Reading::new(Quantity::RainRate, Some(3600), value) })
}

/// Every change of the collection, when readings become known at these times. Each is given to a worker in turn.
fn changes(workers: usize, known: &[(Tick, (ReadingKey, JudgedReading))]) -> Vec<Update> {
    let seen: Arc<Mutex<Vec<Update>>> = Arc::default();
    let (sink, known) = (seen.clone(), known.to_vec());
    let config = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    let guards = timely::execute(config, move |worker| {
        let sink = sink.clone();
        let mut input = InputHandle::new();
        let probe = worker.dataflow::<Tick, _, _>(|scope| {
            let judged = scope.input_from(&mut input);
            let latest = latest(judged).inspect(move |update| sink.lock().unwrap().push(update.clone()));
            latest.inner.probe().0
        });
        for (place, (time, reading)) in known.iter().enumerate() {
            input.advance_to(*time);
            if place % worker.peers() == worker.index() {
                let (key, reading) = reading.clone();
                input.send((key, Some(reading)));
            }
            worker.step();
        }
        input.close();
        while !probe.done() {
            worker.step();
        }
    });
    guards.unwrap().join().into_iter().for_each(|outcome| outcome.unwrap());
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    consolidate_updates(&mut seen);
    seen
}

#[test]
fn a_correction_takes_back_the_reading_that_it_replaces_and_no_other() {
    let (first, other, corrected) = (reading(0, "a", 1, 0.2), reading(1, "b", 1, 0.3), reading(2, "a", 1, 0.5));
    let mut expected =
        vec![(first.clone(), 100, 1), (other.clone(), 100, 1), (first.clone(), 150, -1), (corrected.clone(), 150, 1)];
    expected.sort();
    assert_eq!(changes(1, &[(100, first), (100, other), (150, corrected)]), expected);
}

#[test]
fn a_change_of_flags_is_a_correction_and_the_same_again_is_none() {
    let first = reading(0, "a", 1, 0.2);
    let mut flagged = first.clone();
    flagged.1.reading.flags =
        flagged.1.reading.flags.with(squall_fields::Check::Buddy, squall_fields::Verdict::Suspect);
    let all = [(100, first.clone()), (150, first.clone()), (200, flagged.clone()), (250, flagged.clone())];
    let mut expected = vec![(first.clone(), 100, 1), (first, 200, -1), (flagged, 200, 1)];
    expected.sort();
    assert_eq!(changes(1, &all), expected);
}

#[test]
fn of_two_at_one_time_the_later_in_the_log_counts_for_any_number_of_workers() {
    let mut known = Vec::new();
    for step in 0..120i64 {
        let (station, hour) = (["a", "b", "c", "d", "e"][(step % 5) as usize], step % 7);
        // Three at each time, the later in the log handed over first.
        let offset = step - 2 * (step % 3);
        known.push((50 * (step / 3) as Tick, reading(offset, station, hour, (step % 11) as f32)));
    }
    let ties = [reading(500, "z", 1, 1.0), reading(501, "z", 1, 0.5), reading(499, "z", 1, 9.0)];
    known.extend(ties.into_iter().map(|reading| (3000, reading)));
    let one = changes(1, &known);
    assert_eq!(one, changes(3, &known));
    let z: Vec<f32> =
        one.iter().filter(|((key, _), ..)| &*key.station == "z").map(|((_, r), ..)| r.reading.value).collect();
    assert_eq!(z, [0.5]);
    // Whatever was added and not taken back is the newest of its key.
    let mut left: Vec<_> = one.iter().map(|(reading, _, change)| (reading.clone(), (), *change)).collect();
    consolidate_updates(&mut left);
    let keys: std::collections::BTreeSet<_> = left.iter().map(|((key, _), ..)| key.clone()).collect();
    assert_eq!((left.len(), keys.len()), (36, 36));
    assert!(left.iter().all(|(_, (), change)| *change == 1));
}
