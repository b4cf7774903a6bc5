//! Dead letters are bounded whatever they are made of, and say what they are.

use std::collections::BTreeSet;

use super::*;
use crate::ports::PartitionId;

fn record(headers: Headers, value: usize) -> Record {
    Record {
        partition: PartitionId::new("obs", 2),
        offset: 41,
        timestamp_ms: 7,
        key: None,
        headers,
        value: Some(vec![1u8; value].into()),
        value_bytes: value as u64,
    }
}

fn outgoing(record: Record, detail: &str, to: &DeadLetters) -> Outgoing {
    DeadLetter::new(record.into(), Default::default(), Reason::ContentType, detail).outgoing(to)
}

/// As text, of the last header of that name.
fn header(out: &Outgoing, name: &str) -> Option<String> {
    let (_, value) = out.headers.iter().rev().find(|(n, _)| n == name)?;
    Some(String::from_utf8_lossy(value.as_ref()?).into_owned())
}

/// Bytes of the record as Kafka counts them, or a few more.
fn size(out: &Outgoing) -> usize {
    let key = out.key.as_ref().map_or(0, Bytes::len);
    ENVELOPE_BYTES + key + bytes_of(&out.headers) + out.value.as_ref().map_or(0, Bytes::len)
}

#[test]
fn keeps_a_bounded_beginning_and_says_what_it_was() {
    let headers = vec![("content-type".into(), Some("text/plain".into())), ("none".into(), None)];
    let out = outgoing(record(headers, 2 * KEPT_BYTES), "x", &"dead".into());
    let header = |name: &str| header(&out, name);
    assert_eq!(out.value.as_ref().map(Bytes::len), Some(KEPT_BYTES));
    assert_eq!(header("dead-letter-offset").as_deref(), Some("41"));
    assert_eq!(header("dead-letter-bytes").as_deref(), Some("524288"));
    assert_eq!(header("content-type").as_deref(), Some("text/plain"));
    assert_eq!(header("dead-letter-sha256").map(|h| h.len()), Some(64));
    assert!(out.headers.contains(&("none".into(), None)));
    assert_eq!(header("dead-letter-headers-cut"), None);
}

#[test]
fn headers_are_bounded_in_number_and_size_and_what_was_cut_is_named() {
    let mut headers = vec![
        ("large".to_owned(), Some(vec![b'x'; 1_500_000].into())),
        ("dead-letter-reason".into(), Some("none at all".into())),
        ("é".repeat(1_000_000), Some("short".into())),
        ("small".into(), Some("kept".into())),
    ];
    headers.extend((0..300).map(|n| (format!("h{n}"), Some(vec![0; 3000].into()))));
    let out = outgoing(record(headers, 10), &"ü".repeat(2_000_000), &"dead".into());
    assert!(size(&out) < 100_000, "{}", size(&out));
    assert_eq!(header(&out, "large").map(|h| h.len()), Some(VALUE_BYTES));
    assert_eq!(header(&out, &"é".repeat(NAME_BYTES / 2)).as_deref(), Some("short"));
    assert_eq!(header(&out, "small").as_deref(), Some("kept"));
    assert_eq!(header(&out, "dead-letter-reason").as_deref(), Some("content-type"), "nothing passes for its own");
    assert_eq!(header(&out, "dead-letter-detail").map(|h| h.len()), Some(DETAIL_BYTES));
    let cut = header(&out, "dead-letter-headers-cut").unwrap();
    assert!(cut.starts_with("large, dead-letter-reason, éé") && cut.ends_with(" more"), "{cut}");
    assert!(cut.len() <= DETAIL_BYTES && !cut.contains("small"), "{cut}");
}

#[test]
fn a_topic_of_small_records_gets_small_dead_letters() {
    let headers: Headers = (0..64).map(|n| (format!("h{n}"), Some(vec![0; 4096].into()))).collect();
    for (limit, at_most) in
        [(None, 1_000_000), (Some(u64::MAX), 1_000_000), (Some(50_000), 50_000), (Some(6_000), 6_000)]
    {
        let to = DeadLetters::new("dead".into(), limit);
        let out = outgoing(record(headers.clone(), 1 << 20), &"x".repeat(5000), &to);
        assert!(size(&out) <= at_most, "{} of {at_most}", size(&out));
        assert!(out.value.as_ref().is_some_and(|value| !value.is_empty()), "{limit:?}: something of the value is kept");
        assert_eq!(header(&out, "dead-letter-bytes").as_deref(), Some("1048576"));
        assert!(header(&out, "dead-letter-headers-cut").is_some());
    }
}

/// The words of the arms of [`Reason::name`], and those of the table: a new reason is in the first by itself.
#[test]
fn the_table_of_reasons_is_what_goes_on_the_wire() {
    let arms = include_str!("../dead_letter.rs").lines().filter_map(|line| {
        let word = line.trim().strip_prefix("Self::")?.split_once(" => \"")?.1;
        word.split('"').next()
    });
    let wire: BTreeSet<&str> = arms.collect();
    assert!(wire.contains(Reason::Empty.name()) && wire.contains(Reason::TooMuchMissing.name()), "{wire:?}");
    let document = include_str!("../../../docs/formats.md");
    let rows = document.lines().skip_while(|line| !line.starts_with("| reason | meaning |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let documented: BTreeSet<&str> =
        rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2)).collect();
    assert_eq!(documented, wire);
}
