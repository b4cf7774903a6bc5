//! The store: whether it can be written to and read from, and how much room there is.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use squall_fields::{Chain, ErrorKind};

use super::Finding;
use crate::config::{Config, format_bytes};
use crate::{connect, exit};

/// What is written: always the same, so that it never adds up.
const PROBE: &[u8] = b"squall doctor was here\n";

/// Room below which a day of forecasts may not fit.
const LEAST_ROOM: u64 = 1 << 30;

pub(super) fn finding(config: &Config) -> Finding {
    let url = &config.store.url;
    match write_and_read(config) {
        Err(error) => {
            let kind = exit::kind(&error).unwrap_or(ErrorKind::Broker);
            Finding::failed("store", kind, format!("{url}: {}", Chain(error.as_ref())))
        }
        Ok(file) => match file.as_deref().and_then(room) {
            Some(free) if free < LEAST_ROOM => {
                Finding::note("store", format!("{url}: writable, {} free: little", format_bytes(free)))
            }
            Some(free) => Finding::ok("store", format!("{url}: writable, {} free", format_bytes(free))),
            None => Finding::ok("store", format!("{url}: writable")),
        },
    }
}

/// Writes the probe and reads it back; of a folder the file is taken away again, and its folder is given.
fn write_and_read(config: &Config) -> anyhow::Result<Option<PathBuf>> {
    let store = connect::store(config)?;
    let name = format!("doctor/{}", hex::encode(Sha256::digest(PROBE)));
    let url = store.put(&name, PROBE)?;
    let read = store.get(&url, PROBE.len() as u64);
    // URLs are encoded, paths are not.
    let file = match config.store.url.contains("://") {
        false => Some(Path::new(&config.store.url).join(&name)),
        true => url.strip_prefix("file://").map(PathBuf::from),
    };
    if let Some(file) = &file {
        std::fs::remove_file(file)?;
        // Empty, unless someone else has put something there.
        let folder = file.parent();
        let _ = folder.map(std::fs::remove_dir);
    }
    anyhow::ensure!(read? == PROBE, "{url}: what was read is not what was written");
    Ok(file.and_then(|file| Some(file.parent()?.parent()?.to_owned())))
}

/// Bytes that are free where a folder lies, for whoever is not root.
fn room(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: a struct of integers, for which zeros are valid, filled by the call, which is given a text that ends with 0.
    let (done, found) = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut found), found)
    };
    (done == 0).then(|| found.f_bavail * found.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_in_a_folder_that_is_and_none_is_known_of_one_that_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(room(folder.path()).is_some_and(|bytes| bytes > 0));
        assert_eq!(room(&folder.path().join("no such folder")), None);
    }
}
