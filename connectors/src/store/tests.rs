//! What is put can be had, inside its bounds; what is outside cannot.

use squall_fields::{Chain, ErrorKind};

use super::*;

fn store() -> (tempfile::TempDir, ObjectFieldStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = ObjectFieldStore::open(&folder.path().join("a/b").display().to_string()).unwrap();
    (folder, store)
}

#[test]
fn a_second_write_changes_nothing_and_one_of_other_bytes_replaces_what_is_damaged() {
    let (folder, store) = store();
    assert!(!store.exists("s/i/d.nc").unwrap());
    let url = store.put("s/i/d.nc", b"one").unwrap();
    assert_eq!(store.put("s/i/d.nc", b"one").unwrap(), url);
    // A loss of power has left a part of it.
    std::fs::write(folder.path().join("a/b/s/i/d.nc"), b"on").unwrap();
    assert_eq!(store.put("s/i/d.nc", b"one").unwrap(), url);
    assert_eq!(std::fs::read(folder.path().join("a/b/s/i/d.nc")).unwrap(), b"one");
    assert!(store.exists("s/i/d.nc").unwrap());
    // No temporary file is left beside it.
    assert_eq!(std::fs::read_dir(folder.path().join("a/b/s/i")).unwrap().count(), 1);
}

#[test]
fn names_and_urls_stay_inside() {
    let (folder, store) = store();
    std::fs::write(folder.path().join("secret"), b"x").unwrap();
    for name in ["", "/etc/passwd", "../secret", "a/../../secret", "a//b", "a\\b"] {
        assert!(store.put(name, b"x").is_err(), "{name}");
    }
    let base = store.put("inside", b"ok").unwrap().replace("inside", "");
    for url in [
        format!("{base}../secret"),
        format!("{base}%2e%2e/secret"),
        format!("{base}..%2fsecret"),
        "file:///etc/hostname".into(),
        "https://example.org/x".into(),
        "inside".into(),
    ] {
        assert!(store.get(&url, 100).is_err(), "{url}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.path().join("secret"), folder.path().join("a/b/link")).unwrap();
        assert!(store.get(&format!("{base}link"), 100).unwrap_err().to_string().contains("leads out"));
    }
}

#[test]
fn size_is_bounded_before_it_is_read() {
    let (_folder, store) = store();
    let url = store.put("big", &[0; 1000]).unwrap();
    assert!(store.get(&url, 999).unwrap_err().to_string().contains("at most 999"));
    assert_eq!(store.get(&url, 1000).unwrap().len(), 1000);
    let error = store.get(&url.replace("big", "none"), 10).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }) && !error.is_retriable(), "{error}");
}

#[test]
fn other_places_are_read_when_allowed() {
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("obs 1.nc"), b"obs").unwrap();
    let place = Url::from_directory_path(other.path().canonicalize().unwrap()).unwrap();
    let url = place.join("obs 1.nc").unwrap();
    let (_folder, store) = store();
    assert!(store.get(url.as_str(), 10).is_err());
    let store = store.also_reads(place.as_str()).unwrap();
    assert_eq!(store.get(url.as_str(), 10).unwrap(), &b"obs"[..]);
    let reader = ObjectFieldStore::read_only().also_reads(place.as_str()).unwrap();
    assert!(reader.put("x", b"x").unwrap_err().to_string().contains("reading only"));
}

#[test]
fn a_full_or_missing_disk_may_be_mended_and_a_file_in_the_way_not() {
    let (folder, store) = store();
    std::fs::write(folder.path().join("file"), b"x").unwrap();
    let error = ObjectFieldStore::open(&folder.path().join("file/below").display().to_string()).err().unwrap();
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::User, false), "{error}");
    std::fs::write(folder.path().join("a/b/s"), b"x").unwrap();
    let error = store.put("s/i/d.nc", b"one").unwrap_err();
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Device, true), "{error}");
    assert!(std::error::Error::source(&error).is_some_and(|cause| cause.is::<std::io::Error>()));
}

#[cfg(not(feature = "s3"))]
#[test]
fn without_s3_the_error_says_how_to_get_it() {
    let error = ObjectFieldStore::open("s3://bucket/prefix").err().unwrap();
    assert!(Chain(&error).to_string().contains("--features s3"), "{error}");
    let error = ObjectFieldStore::open("ftp://host/x").err().unwrap();
    assert!(Chain(&error).to_string().contains("s3://"), "{error}");
}
