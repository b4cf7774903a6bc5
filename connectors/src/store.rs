//! The object store: large fields outside the log, in a local folder or in S3.
//!
//! The dataflow's threads are synchronous and the store is asynchronous, so this is a blocking facade.
//! A local folder needs no runtime; S3 gets a small one of its own. An object appears whole or not at
//! all (a temporary file and a rename, or a single request), and is never written over: names hold the
//! digest of the contents, so a second write of the same name is the same object.

use std::future::Future;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use squall_fields::Cause;
use squall_fields::error::AnyError;
use squall_operators::ports::{FieldStore, StoreError};
use url::Url;

/// What names of objects look like.
const RELATIVE: &str = "expected a relative name such as `stream/issue/digest.nc`";

/// One place of the store: a folder or a bucket, and the prefix in it.
struct Place {
    /// URL of the prefix, with a slash at its end.
    base: String,
    store: Arc<dyn ObjectStore>,
    /// Prefix within the store; empty for a folder, which is the store's root itself.
    prefix: String,
}

/// A store to write to, and the places that may be read.
pub struct ObjectFieldStore {
    /// `None` if it is for reading only.
    home: Option<Place>,
    readable: Vec<Place>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// It cannot be opened as it was asked for.
fn refused(name: &str, cause: impl Into<AnyError>) -> StoreError {
    StoreError::Refused { name: name.to_owned(), cause: Cause::new(cause) }
}

/// A name or URL that leads elsewhere.
fn outside(url: &str, reason: impl Into<String>) -> StoreError {
    StoreError::Outside { name: url.to_owned(), reason: reason.into() }
}

fn misused(name: &str, reason: &'static str) -> StoreError {
    StoreError::Misused { name: name.to_owned(), reason }
}

impl ObjectFieldStore {
    /// Opens a store by URL: a folder (`out/fields` or `file:///srv/fields`, created if it is missing)
    /// or, built with the feature `s3`, `s3://bucket/prefix` with credentials from the environment.
    ///
    /// ```
    /// use squall_connectors::store::ObjectFieldStore;
    /// use squall_operators::ports::FieldStore;
    /// let folder = tempfile::tempdir()?;
    /// let store = ObjectFieldStore::open(folder.path().to_str().unwrap())?;
    /// let url = store.put("radar/20160928T1445Z/ab12.nc", b"bytes")?;
    /// assert!(url.starts_with("file:///"));
    /// assert_eq!(store.get(&url, 100)?, &b"bytes"[..]);
    /// assert!(store.get("file:///etc/hostname", 100).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`StoreError`] if the folder cannot be made, the URL is of no known kind, or S3 was not built in.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let place = open_place(url, true)?;
        let runtime = runtime_for(std::slice::from_ref(&place))?;
        Ok(Self { home: Some(place), readable: Vec::new(), runtime })
    }

    /// A store that only reads, from the places given to [`ObjectFieldStore::also_reads`].
    pub const fn read_only() -> Self {
        Self { home: None, readable: Vec::new(), runtime: None }
    }

    /// Lets objects below further URLs be read, such as the folder that notifications point into.
    ///
    /// # Errors
    /// As [`ObjectFieldStore::open`]; a folder must exist.
    pub fn also_reads(mut self, url: &str) -> Result<Self, StoreError> {
        self.readable.push(open_place(url, false)?);
        if self.runtime.is_none() {
            self.runtime = runtime_for(&self.readable)?;
        }
        Ok(self)
    }

    /// Whether there is an object of this relative name.
    ///
    /// # Errors
    /// [`StoreError`] if the name is no relative name or the store does not answer.
    pub fn exists(&self, name: &str) -> Result<bool, StoreError> {
        let home = self.home(name)?;
        let path = home.path_of(name)?;
        match self.wait(home.store.head(&path)) {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(home.failed(name, error)),
        }
    }

    fn home(&self, name: &str) -> Result<&Place, StoreError> {
        self.home.as_ref().ok_or_else(|| misused(name, "the store is for reading only"))
    }

    /// Waits for an answer; S3 needs its runtime, a folder answers at once.
    fn wait<F: Future>(&self, work: F) -> F::Output {
        match &self.runtime {
            Some(runtime) => runtime.block_on(work),
            None => futures::executor::block_on(work),
        }
    }

    fn fetch(&self, place: &Place, path: &Path, url: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        let failed = |error| place.failed(url, error);
        let found = self.wait(place.store.get(path)).map_err(failed)?;
        if found.meta.size > max_bytes {
            return Err(StoreError::TooLarge { name: url.to_owned(), bytes: found.meta.size, limit: max_bytes });
        }
        self.wait(found.bytes()).map_err(failed)
    }
}

impl FieldStore for ObjectFieldStore {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<String, StoreError> {
        let home = self.home(name)?;
        let path = home.path_of(name)?;
        let url = format!("{}{path}", home.base_of_store());
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.wait(home.store.put_opts(&path, Bytes::copy_from_slice(bytes).into(), options)) {
            Ok(_) => Ok(url),
            Err(object_store::Error::AlreadyExists { .. }) => {
                let there = self.fetch(home, &path, &url, u64::MAX)?;
                if there == bytes { Ok(url) } else { Err(StoreError::Taken { name: url }) }
            }
            Err(error) => Err(home.failed(name, error)),
        }
    }

    fn get(&self, url: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        let wanted = Url::parse(url).map_err(|error| outside(url, format!("expected a URL: {error}")))?;
        let places = self.home.iter().chain(&self.readable);
        for place in places {
            // `Url` has resolved `..` by now, also where it was percent-encoded.
            let Some(rest) = wanted.as_str().strip_prefix(&place.base) else { continue };
            let path = Path::from_url_path(format!("{}{rest}", place.prefix))
                .map_err(|error| outside(url, error.to_string()))?;
            place.check_inside(&path, url)?;
            return self.fetch(place, &path, url, max_bytes);
        }
        Err(outside(url, "it lies outside the places that may be read"))
    }
}

impl Place {
    /// Path of a relative name.
    fn path_of(&self, name: &str) -> Result<Path, StoreError> {
        let parts = name.split('/');
        if name.is_empty() || parts.clone().any(|part| matches!(part, "" | "." | "..")) || name.contains('\\') {
            return Err(misused(name, RELATIVE));
        }
        Path::parse(format!("{}{name}", self.prefix)).map_err(|_| misused(name, RELATIVE))
    }

    /// URL of the store's root: `base` without the prefix.
    fn base_of_store(&self) -> &str {
        self.base.strip_suffix(self.prefix.as_str()).unwrap_or(&self.base)
    }

    /// For a folder: the file that a link leads to lies in it too.
    fn check_inside(&self, path: &Path, url: &str) -> Result<(), StoreError> {
        let Some(root) = Url::parse(&self.base).ok().and_then(|base| base.to_file_path().ok()) else { return Ok(()) };
        let file = path.parts().fold(root.clone(), |file, part| file.join(part.as_ref()));
        match file.canonicalize() {
            Ok(file) if !file.starts_with(&root) => Err(outside(url, "it leads out of the folder")),
            _ => Ok(()),
        }
    }

    /// What an error means. What the disk or the network says may change; what is wrong with the name or the rights
    /// will not.
    fn failed(&self, name: &str, error: object_store::Error) -> StoreError {
        use object_store::Error as E;
        let name = name.to_owned();
        match error {
            E::NotFound { .. } => StoreError::Missing { name },
            error @ (E::Generic { .. } | E::JoinError { .. }) if self.is_folder() => {
                StoreError::Disk { name, cause: Cause::new(error) }
            }
            error @ (E::Generic { .. } | E::JoinError { .. }) => StoreError::Away { name, cause: Cause::new(error) },
            error => StoreError::Refused { name, cause: Cause::new(error) },
        }
    }

    fn is_folder(&self) -> bool {
        self.base.starts_with("file:")
    }
}

fn open_place(url: &str, create: bool) -> Result<Place, StoreError> {
    match Url::parse(url) {
        Ok(parsed) if parsed.scheme() == "file" => {
            let path = parsed.to_file_path().map_err(|()| refused(url, "expected file:///path"))?;
            open_folder(&path, create)
        }
        Ok(parsed) if parsed.scheme() == "s3" => open_s3(&parsed),
        // A single letter is a drive, not a scheme.
        Ok(parsed) if parsed.scheme().len() > 1 => {
            Err(refused(url, "expected a folder, file:///path or s3://bucket/prefix"))
        }
        _ => open_folder(FsPath::new(url), create),
    }
}

fn open_folder(folder: &FsPath, create: bool) -> Result<Place, StoreError> {
    let name = folder.display().to_string();
    let failed = |error: std::io::Error| refused(&name, error);
    if create {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let root: PathBuf = folder.canonicalize().map_err(failed)?;
    let store = LocalFileSystem::new_with_prefix(&root).map_err(|error| refused(&name, error))?;
    let base = Url::from_directory_path(&root).map_err(|()| refused(&name, "it has no URL"))?;
    Ok(Place { base: base.into(), store: Arc::new(store), prefix: String::new() })
}

#[cfg(feature = "s3")]
fn open_s3(url: &Url) -> Result<Place, StoreError> {
    let store = object_store::aws::AmazonS3Builder::from_env().with_url(url.as_str()).build();
    let store = store.map_err(|error| refused(url.as_str(), error))?;
    let bucket = url.host_str().ok_or_else(|| refused(url.as_str(), "expected s3://bucket/prefix"))?;
    let prefix = url.path().trim_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let base = format!("s3://{bucket}/{prefix}");
    Ok(Place { base, store: Arc::new(store), prefix })
}

#[cfg(not(feature = "s3"))]
fn open_s3(url: &Url) -> Result<Place, StoreError> {
    Err(refused(url.as_str(), "this build has no S3: build with `--features s3`, or use a folder"))
}

/// A runtime if a place needs one.
fn runtime_for(places: &[Place]) -> Result<Option<tokio::runtime::Runtime>, StoreError> {
    let Some(remote) = places.iter().find(|place| !place.is_folder()) else { return Ok(None) };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("squall-store").enable_all().build();
    runtime.map(Some).map_err(|error| refused(&remote.base, error))
}

#[cfg(test)]
mod tests {
    use squall_fields::{Chain, ErrorKind};

    use super::*;

    fn store() -> (tempfile::TempDir, ObjectFieldStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = ObjectFieldStore::open(&folder.path().join("a/b").display().to_string()).unwrap();
        (folder, store)
    }

    #[test]
    fn a_second_write_changes_nothing() {
        let (folder, store) = store();
        assert!(!store.exists("s/i/d.nc").unwrap());
        let url = store.put("s/i/d.nc", b"one").unwrap();
        assert_eq!(store.put("s/i/d.nc", b"one").unwrap(), url);
        let error = store.put("s/i/d.nc", b"two").unwrap_err();
        assert!(matches!(error, StoreError::Taken { .. }) && !error.is_retriable(), "{error}");
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
        // A file where a folder is needed is what the local store calls a generic error, as a full disk is.
        std::fs::write(folder.path().join("a/b/s"), b"x").unwrap();
        let error = store.put("s/i/d.nc", b"one").unwrap_err();
        assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Device, true), "{error}");
        assert!(std::error::Error::source(&error).is_some_and(|cause| cause.is::<object_store::Error>()));
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn without_s3_the_error_says_how_to_get_it() {
        let error = ObjectFieldStore::open("s3://bucket/prefix").err().unwrap();
        assert!(Chain(&error).to_string().contains("--features s3"), "{error}");
        let error = ObjectFieldStore::open("ftp://host/x").err().unwrap();
        assert!(Chain(&error).to_string().contains("s3://"), "{error}");
    }
}
