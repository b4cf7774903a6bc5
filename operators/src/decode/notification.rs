//! WIS2 notifications: messages that point at a file instead of holding it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256, Sha512};
use squall_fields::Chain;

use super::{Fault, media_type};
use crate::dead_letter::Reason;
use crate::ports::{FieldStore, StoreError};
use crate::retry::{Backoff, retry};

/// Media type of a WIS2 notification.
pub const NOTIFICATION: &str = "application/geo+json";

/// Most bytes of a notification: it holds a few links, and what it says of itself.
const MAX_BYTES: usize = 1 << 20;

/// How often a file is asked for, from a store that is away for a moment.
const TRIES: u32 = 4;

/// Type and bytes of the file that a notification points at. `pause` waits between tries and says whether to go on.
pub(super) fn fetch(
    store: &dyn FieldStore,
    notification: &[u8],
    max_bytes: u64,
    pause: impl FnMut(Duration) -> bool,
) -> Result<(String, Bytes), Fault> {
    if notification.len() > MAX_BYTES {
        return Err((
            Reason::Oversized,
            format!("a notification of {} bytes, at most {MAX_BYTES}", notification.len()),
        ));
    }
    let notification: Notification = serde_json::from_slice(notification)
        .map_err(|e| (Reason::Undecodable, format!("not a WIS2 notification: {e}")))?;
    let mut links = notification.links.iter().filter(|l| matches!(l.rel.as_str(), "canonical" | "update"));
    let Some(link) = links.next() else {
        return Err((Reason::Undecodable, "no link with rel canonical or update".into()));
    };
    let Some(content_type) = &link.content_type else {
        return Err((Reason::ContentType, "the link has no type".into()));
    };
    if let Some(length) = link.length.filter(|length| *length > max_bytes) {
        return Err((Reason::Oversized, format!("the link says {length} bytes, at most {max_bytes}")));
    }
    let bytes = get(store, &link.href, max_bytes, pause)?;
    if let Some(length) = link.length.filter(|l| *l != bytes.len() as u64) {
        return Err((Reason::Integrity, format!("the link says {length} bytes, {} came", bytes.len())));
    }
    if let Some(integrity) = &notification.properties.integrity {
        integrity.check(&bytes)?;
    }
    Ok((media_type(content_type), bytes))
}

fn get(
    store: &dyn FieldStore,
    url: &str,
    max_bytes: u64,
    mut pause: impl FnMut(Duration) -> bool,
) -> Result<Bytes, Fault> {
    let mut tries = 0;
    let mut again = |wait| {
        tries += 1;
        tries < TRIES && pause(wait)
    };
    let backoff = Backoff { first: Duration::from_millis(100), ..Backoff::default() };
    let bytes = retry(backoff, &mut again, StoreError::is_retriable, || store.get(url, max_bytes))
        .map_err(|error| (Reason::from(&error), Chain(&error).to_string()))?;
    if bytes.len() as u64 > max_bytes {
        return Err((Reason::Oversized, format!("{} bytes, at most {max_bytes}", bytes.len())));
    }
    Ok(bytes)
}

#[derive(Deserialize)]
struct Notification {
    properties: Properties,
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Properties {
    integrity: Option<Integrity>,
}

#[derive(Deserialize)]
struct Integrity {
    method: String,
    value: String,
}

#[derive(Deserialize)]
struct Link {
    href: String,
    rel: String,
    #[serde(rename = "type")]
    content_type: Option<String>,
    length: Option<u64>,
}

impl Integrity {
    fn check(&self, bytes: &[u8]) -> Result<(), Fault> {
        let digest = match self.method.as_str() {
            "sha512" => STANDARD.encode(Sha512::digest(bytes)),
            "sha256" => STANDARD.encode(Sha256::digest(bytes)),
            other => return Err((Reason::Integrity, format!("method {other}; expected sha512 or sha256"))),
        };
        if digest == self.value {
            return Ok(());
        }
        Err((Reason::Integrity, format!("{} is {digest}, the notification says {}", self.method, self.value)))
    }
}
