//! Transactions at random, the same on both logs.

use super::{LIMIT, Other, Reading, Twin, places, record};

/// What is done to a topic of two partitions.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A record outside any transaction, to a partition.
    Plain(i32),
    /// A record in the transaction of a writer, to a partition.
    Send(usize, i32),
    /// The end of a writer's transaction, and whether it is a commit.
    End(usize, bool),
    /// Another takes the id of a writer.
    Open(usize),
}

/// Steps at random, for each seed the same.
fn steps(seed: u64) -> Vec<Step> {
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let step = |_| {
        let (writer, partition) = (random(2) as usize, random(2) as i32);
        match random(10) {
            0..=2 => Step::Plain(partition),
            3..=5 => Step::Send(writer, partition),
            6..=7 => Step::End(writer, true),
            8 => Step::End(writer, false),
            _ => Step::Open(writer),
        }
    };
    (0..40).map(step).collect()
}

/// A log on which steps were taken, some transactions still open.
struct Played {
    reading: Reading,
    writers: [Box<dyn Other>; 2],
}

impl Played {
    fn on(twin: &Twin, steps: &[Step]) -> Self {
        let topic = twin.topic("t", 2);
        let ids = ["a", "b"];
        let (mut plain, mut writers) = (twin.log.writer().expect("a writer"), ids.map(|id| twin.other(id)));
        for (number, step) in steps.iter().enumerate() {
            let numbered = |partition| record(&topic, partition, &number.to_string());
            match *step {
                Step::Plain(partition) => {
                    plain.send(numbered(partition)).expect("room for a record");
                    plain.flush(LIMIT).expect("an acknowledgement");
                }
                Step::Send(writer, partition) => {
                    writers[writer].write(&numbered(partition)).expect("an open transaction");
                }
                Step::End(writer, is_committed) => {
                    writers[writer].end(is_committed).expect("an end of the transaction");
                }
                Step::Open(writer) => writers[writer] = twin.other(ids[writer]),
            }
        }
        Self { reading: twin.reading(&topic), writers }
    }

    fn end_all(&mut self) {
        for (writer, is_committed) in self.writers.iter_mut().zip([true, false]) {
            writer.end(is_committed).expect("an end of the transaction");
        }
    }
}

fn assert_same(seed: u64) {
    let steps = steps(seed);
    let [mut memory, mut kafka] = [Twin::memory(), Twin::kafka()].map(|twin| Played::on(&twin, &steps));

    // With transactions open. The position of Kafka's reader stays before an aborted record whose control record lies
    // behind an open transaction, so records are counted.
    let ends = memory.reading.ends();
    let seen = memory.reading.up_to(&ends);
    kafka.reading.await_ends(&ends);
    assert_eq!(places(&kafka.reading.take(seen.len())), places(&seen), "seed {seed}: {steps:?}");
    kafka.reading.assert_nothing_comes();

    // And once all have ended.
    memory.end_all();
    kafka.end_all();
    let ends = memory.reading.ends();
    let rest = memory.reading.up_to(&ends);
    assert_eq!(places(&kafka.reading.up_to(&ends)), places(&rest), "seed {seed}: {steps:?}");
    assert!(seen.len() + rest.len() > 10, "seed {seed} shows little: {steps:?}");
}

#[test]
fn what_readers_see_of_random_transactions_is_the_same_in_both() {
    // At the same time, since each mostly waits for the broker.
    std::thread::scope(|scope| {
        for seed in 1..=5 {
            scope.spawn(move || assert_same(seed));
        }
    });
}
