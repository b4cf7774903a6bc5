//! The progress record of a ledger, the same in every log: key is the ledger's name, value JSON.

use bytes::Bytes;
use serde::Deserialize;
use squall_operators::ports::{LedgerError, Outgoing};
use squall_operators::progress::{Claim, Progress};

/// The record that commits a progress under the name of its ledger.
pub fn progress_record(topic: &str, ledger: &str, progress: &Progress) -> Result<Outgoing, LedgerError> {
    let value = serde_json::to_vec(progress).map_err(|error| LedgerError::progress(ledger, error))?;
    Ok(Outgoing {
        topic: topic.into(),
        partition: Some(0),
        key: Some(Bytes::copy_from_slice(ledger.as_bytes())),
        headers: vec![("content-type".to_owned(), Some(Bytes::from_static(b"application/json")))],
        value: Some(Bytes::from(value)),
        timestamp_ms: None,
    })
}

/// Reads the value of a progress record.
pub fn read_progress(ledger: &str, value: &[u8]) -> Result<Progress, LedgerError> {
    serde_json::from_slice(value).map_err(|error| LedgerError::progress(ledger, error))
}

/// The generation that the value of a progress record claims; 0 if it claims none.
pub fn generation(value: &[u8]) -> u64 {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Claimed {
        claim: Claim,
    }
    serde_json::from_slice::<Claimed>(value).unwrap_or_default().claim.generation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        let progress = Progress { version: "1".into(), ..Default::default() };
        let record = progress_record("progress", "rain", &progress).unwrap();
        assert_eq!(read_progress("rain", record.value.as_ref().unwrap()).unwrap(), progress);
        assert!(read_progress("rain", b"{}").is_err());
        assert_eq!(generation(record.value.as_ref().unwrap()), 0);
        assert_eq!(generation(br#"{"claim":{"generation":7,"owner":"a","commits":1}}"#), 7);
        assert_eq!(generation(b"not JSON"), 0);
    }
}
