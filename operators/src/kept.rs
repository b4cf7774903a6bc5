//! Records of the topic of progress besides the progress itself: what a start must find again, by key.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::ports::Outgoing;

/// What is kept under a key from now on; without a value, no more.
///
/// ```
/// let record = squall_operators::kept::record(&"progress".into(), "squall/rain/decisions/7".to_owned(), Some(&[1, 2]));
/// assert_eq!((record.partition, record.value.as_deref()), (Some(0), Some(&b"[1,2]"[..])));
/// ```
///
/// # Panics
/// If the value has no JSON form, such as a map whose keys are no text.
pub fn record(topic: &Arc<str>, key: String, value: Option<&impl Serialize>) -> Outgoing {
    let json = |value| Bytes::from(serde_json::to_vec(value).expect("times, numbers and names have a JSON form"));
    Outgoing {
        topic: topic.clone(),
        partition: Some(0),
        key: Some(Bytes::from(key)),
        headers: vec![("content-type".to_owned(), Some(Bytes::from_static(b"application/json")))],
        value: value.map(json),
        timestamp_ms: None,
    }
}
