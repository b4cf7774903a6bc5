//! Nothing that a record holds ends the program: whatever its headers are, its dead letter is one that the topic takes.
//! And what a batch unpacks to is bounded before it comes: the broker takes none that is larger than a record may be.

use std::sync::{Mutex, PoisonError};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
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

/// Why each record was refused; nothing for one that was taken.
#[derive(Default)]
struct Answers(Mutex<Vec<Option<KafkaError>>>);

impl ClientContext for Answers {}

impl ProducerContext for Answers {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        let refused = result.as_ref().err().map(|(error, _)| error.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(refused);
    }
}

/// Sends records, known at a time, as one batch that is packed with gzip, and tells what the broker answers of each.
fn send_packed(topic: &str, known_ms: i64, values: &[Vec<u8>]) -> Vec<Option<KafkaError>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", Kafka::shared().address()).set("compression.type", "gzip");
    // Long enough for all to be there, and room for them.
    config.set("linger.ms", "5000").set("batch.size", "268435456").set("message.max.bytes", "268435456");
    let producer: BaseProducer<Answers> = config.create_with_context(Answers::default()).expect("a producer");
    for value in values {
        let next = BaseRecord::<(), Vec<u8>>::to(topic).partition(0).timestamp(known_ms).payload(value);
        let sent = producer.send(next);
        assert!(sent.is_ok(), "{topic}: {:?}", sent.err().map(|(error, _)| error));
    }
    producer.flush(LIMIT).unwrap_or_else(|error| panic!("{topic}: {error}"));
    let mut answers = producer.context().0.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *answers)
}

#[test]
fn a_batch_that_unpacks_to_more_than_its_topic_takes_is_refused_and_all_else_is_as_if_it_had_not_been() {
    const MIB: usize = 1 << 20;
    let mut setting = Setting::new("hostile-packed");
    setting.source = "max_record_bytes = \"4 MiB\"\n".to_owned();
    let (rain, records) = Rain::observed(setting.prefix(), 6);
    let (early, late) = records.split_at(4);
    let known_ms = early[3].timestamp_ms;
    setting.start(&["topics", "create", &setting.config()]).success(LIMIT);
    let (kafka, topics) = (Kafka::shared(), Topics::of(Kafka::shared().address()));
    let topic = setting.topic("observations");

    // Some 30 kB as it is sent: what bounds it so alone takes it.
    let (zeros, taken) = (vec![vec![0; MIB]; 32], vec![None; 32]);
    let (as_sent, most) = (setting.topic("as-sent"), topics.setting(&topic, "max.message.bytes"));
    topics.create(&as_sent, 1, &[("max.message.bytes", most.as_str())]);
    assert_eq!(send_packed(&as_sent, known_ms, &zeros), taken);

    kafka.write(&topic, early);
    let refused = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
    assert_eq!(send_packed(&topic, known_ms, &zeros), vec![Some(refused); 32], "its sender is told");
    // The largest record that may be is still one that can be sent.
    assert_eq!(send_packed(&topic, known_ms, &[vec![0; 4 * MIB]]), [None]);
    kafka.write(&topic, late);
    assert_eq!(kafka.read(&topic).len(), records.len() + 1);

    let said = setting.run();
    assert!(!said.contains("compression.type"), "{said}");
    let issue_times: Vec<_> = forecasts::published(&setting).into_iter().map(|p| p.issue_time).collect();
    assert_eq!(issue_times, rain.full_windows(3));
    let letters = kafka.read(&setting.topic("dead-letters"));
    let bytes: Vec<_> = letters.iter().map(|letter| letter.header("dead-letter-bytes")).collect();
    assert_eq!(bytes, [(4 * MIB).to_string()], "and of what is no frame the dead letter");
}
