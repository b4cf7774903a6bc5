//! Nothing that a record holds ends the program: whatever its headers are, its dead letter is one that the topic takes.

use squall_tests::rain::Rain;
use squall_tests::topics::Topics;
use squall_tests::{Kafka, Seen, Sent, Setting, forecasts};

fn text_header(name: &str, bytes: usize) -> (String, Vec<u8>) {
    (name.to_owned(), vec![b'x'; bytes])
}

/// Bad records with everything too long that can be, to be known at a time.
fn bad(known_ms: i64) -> Vec<Sent> {
    let with = |headers: Vec<(String, Vec<u8>)>| Sent {
        partition: 0,
        timestamp_ms: known_ms,
        key: vec![b'k'; 100_000],
        headers,
        value: vec![7; 400_000],
    };
    let kind = |text: &str| ("content-type".to_owned(), text.as_bytes().to_vec());
    // SAFETY: it goes to librdkafka alone, which takes the bytes of a name as they are.
    let broken = unsafe { String::from_utf8_unchecked(b"br\xffken".to_vec()) };
    vec![
        with(vec![kind("application/x-netcdf"), text_header("large", 1_500_000)]),
        with(vec![kind("application/x-netcdf"), text_header(&"n".repeat(1_500_000), 1)]),
        with(vec![kind(&"t".repeat(1_500_000))]),
        with((0..5_000).map(|n| text_header(&format!("h{n}"), 300)).collect()),
        with(vec![kind("application/x-netcdf"), (broken, b"kept".to_vec())]),
        with(vec![kind("application/x-netcdf"), ("dead-letter-offset".to_owned(), b"-1".to_vec())]),
    ]
}

fn goes_on_with(setting: &Setting, bad: fn(i64) -> Vec<Sent>, limit: usize) -> Vec<Seen> {
    let (rain, mut records) = Rain::observed(setting.prefix(), 6);
    let bad = bad(records[3].timestamp_ms);
    let first = 4;
    records.splice(first..first, bad.iter().cloned());
    Kafka::shared().create(&setting.topic("observations"), 1);
    Kafka::shared().write(&setting.topic("observations"), &records);
    setting.run();
    let issue_times: Vec<_> = forecasts::published(setting).into_iter().map(|p| p.issue_time).collect();
    assert_eq!(issue_times, rain.full_windows(3), "the stream goes on");
    let letters = Kafka::shared().read(&setting.topic("dead-letters"));
    let offsets: Vec<_> = letters.iter().map(|letter| letter.header("dead-letter-offset")).collect();
    let expected: Vec<_> = (first..first + bad.len()).map(|offset| offset.to_string()).collect();
    assert_eq!(offsets, expected, "each is a dead letter with its place");
    for letter in &letters {
        assert_eq!(letter.header("dead-letter-topic"), setting.topic("observations"));
        assert_eq!(letter.header("dead-letter-bytes"), "400000");
        let headers: usize = letter.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(headers + letter.key.len() + letter.value.len() < limit);
        assert!(letter.value.iter().all(|byte| *byte == 7) && !letter.value.is_empty());
    }
    letters
}

#[test]
fn no_header_ends_the_program_and_what_is_cut_is_named() {
    let letters = goes_on_with(&Setting::new("hostile"), bad, 400_000);
    let cut = |index: usize| letters[index].header("dead-letter-headers-cut");
    assert_eq!(cut(0), "large");
    assert_eq!(letters[0].header("large").len(), 4096);
    assert!(cut(1).starts_with("nnn") && cut(1).len() < 300, "{}", cut(1));
    assert_eq!(cut(2), "content-type");
    assert!(cut(3).contains("h64, h65") && cut(3).ends_with(" more"), "{}", cut(3));
    assert_eq!(letters[4].header("br\u{fffd}ken"), "kept");
    assert_eq!(cut(5), "dead-letter-offset");
}

#[test]
fn a_dead_letter_topic_of_small_records_gets_small_dead_letters() {
    let setting = Setting::new("hostile-small");
    let settings = [("max.message.bytes", "20000")];
    Topics::of(Kafka::shared().address()).create(&setting.topic("dead-letters"), 1, &settings);
    // Together they make one batch of the client, which has the same limit: they have to go one by one.
    let letters = goes_on_with(&setting, bad, 20_000);
    assert!(letters[3].header("dead-letter-headers-cut").ends_with(" more"));
}
