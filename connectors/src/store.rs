//! The object store: large fields outside the log, in a local folder or in S3.
//!
//! The dataflow's threads are synchronous and the store is asynchronous, so this is a blocking facade.
//! A local folder needs no runtime; S3 gets a small one of its own. An object appears whole or not at
//! all (a temporary file and a rename, or a single request), and it lasts once it is written. Names hold the digest
//! of the contents, so a second write of the same name is the same object; whatever else has the name is a damaged
//! copy, and is replaced.

mod folder;
mod scratch;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use squall_fields::Cause;
use squall_fields::error::AnyError;
use squall_operators::ports::{FieldStore, StoreError};
use url::Url;

use self::folder::{Folder, Put};

pub use self::folder::Stored;
pub use self::scratch::ScratchFiles;

/// What names of objects look like.
const RELATIVE: &str = "expected a relative name such as `stream/issue/digest.nc`";

/// One place of the store: a folder or a bucket, and the prefix in it.
struct Place {
    /// URL of the prefix, with a slash at its end.
    base: String,
    store: Arc<dyn ObjectStore>,
    /// The folder, if it is one: it writes by itself, since what lasts is more than what the library promises.
    folder: Option<Folder>,
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

    /// Every object of the store, in no order.
    ///
    /// # Errors
    /// [`StoreError`] if the store is for reading only or does not answer.
    pub fn list(&self) -> Result<Vec<Stored>, StoreError> {
        let home = self.home("its list")?;
        if let Some(folder) = &home.folder {
            return folder.list().map_err(|error| disk_error(&home.base, error));
        }
        let prefix = Path::from(home.prefix.as_str());
        let found: Vec<_> =
            self.wait(home.store.list(Some(&prefix)).try_collect()).map_err(|error| home.failed(&home.base, error))?;
        let stored = |object: object_store::ObjectMeta| {
            let name = object.location.as_ref().strip_prefix(home.prefix.as_str())?.to_owned();
            Some(Stored { name, bytes: object.size, written: object.last_modified.into(), temporary: false })
        };
        Ok(found.into_iter().filter_map(stored).collect())
    }

    /// Removes an object by its relative name, and folders that are empty without it. One that is gone is gone.
    ///
    /// # Errors
    /// [`StoreError`] if the name is no relative name or the store does not do it.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let home = self.home(name)?;
        let path = home.path_of(name)?;
        if let Some(folder) = &home.folder {
            return folder.remove(&below(FsPath::new(""), &path)).map_err(|error| disk_error(name, error));
        }
        match self.wait(home.store.delete(&path)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(home.failed(name, error)),
        }
    }

    /// URL of the store, with a slash at its end; `None` if it is for reading only.
    pub fn url(&self) -> Option<&str> {
        self.home.as_ref().map(|home| home.base.as_str())
    }

    /// One request that makes the object, or, where it is damaged, another that replaces it.
    fn put_remote(&self, home: &Place, path: &Path, bytes: &[u8]) -> Result<Put, StoreError> {
        let put = |mode| {
            let options = PutOptions { mode, ..PutOptions::default() };
            self.wait(home.store.put_opts(path, Bytes::copy_from_slice(bytes).into(), options))
        };
        match put(PutMode::Create) {
            Ok(_) => Ok(Put::New),
            Err(object_store::Error::AlreadyExists { .. }) => {
                match self.fetch(home, path, path.as_ref(), bytes.len() as u64) {
                    Ok(there) if there == bytes => Ok(Put::There),
                    Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::Missing { .. }) => put(PutMode::Overwrite)
                        .map(|_| Put::Replaced)
                        .map_err(|error| home.failed(path.as_ref(), error)),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(home.failed(path.as_ref(), error)),
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
        let put = match &home.folder {
            Some(folder) => folder.put(&below(FsPath::new(""), &path), bytes).map_err(|error| disk_error(name, error)),
            None => self.put_remote(home, &path, bytes),
        };
        if put? == Put::Replaced {
            tracing::warn!(url, "another object had this name, which holds the digest of this one; it is replaced");
        }
        Ok(url)
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

    /// For a folder: what a link leads to lies in it too, and is a file: a pipe would be waited for.
    fn check_inside(&self, path: &Path, url: &str) -> Result<(), StoreError> {
        let Some(root) = self.folder.as_ref().map(Folder::root) else { return Ok(()) };
        match below(root, path).canonicalize() {
            Ok(file) if !file.starts_with(root) => Err(outside(url, "it leads out of the folder")),
            Ok(file) if !file.is_file() => Err(outside(url, "it is no file")),
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

/// The folder that the URL of a store means, if it means one.
///
/// ```
/// use std::path::PathBuf;
/// use squall_connectors::store::folder_of;
/// assert_eq!(folder_of("out/fields"), Some(PathBuf::from("out/fields")));
/// assert_eq!(folder_of("file:///srv/a%20b"), Some(PathBuf::from("/srv/a b")));
/// assert_eq!(folder_of("s3://bucket/prefix"), None);
/// ```
pub fn folder_of(url: &str) -> Option<PathBuf> {
    match Url::parse(url) {
        Ok(parsed) if parsed.scheme() == "file" => parsed.to_file_path().ok(),
        // A single letter is a drive, not a scheme.
        Ok(parsed) if parsed.scheme().len() > 1 => None,
        _ => Some(PathBuf::from(url)),
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

fn open_folder(path: &FsPath, create: bool) -> Result<Place, StoreError> {
    let name = path.display().to_string();
    let folder = Folder::open(path, create).map_err(|error| refused(&name, error))?;
    let store = LocalFileSystem::new_with_prefix(folder.root()).map_err(|error| refused(&name, error))?;
    let base = Url::from_directory_path(folder.root()).map_err(|()| refused(&name, "it has no URL"))?;
    Ok(Place { base: base.into(), store: Arc::new(store), folder: Some(folder), prefix: String::new() })
}

/// The file of an object below a folder.
fn below(folder: &FsPath, path: &Path) -> PathBuf {
    path.parts().fold(folder.to_owned(), |file, part| file.join(part.as_ref()))
}

/// What an error of the disk means: most may be mended while the stream waits, rights and names will not change.
fn disk_error(name: &str, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput => {
            refused(name, error)
        }
        _ => StoreError::Disk { name: name.to_owned(), cause: Cause::new(error) },
    }
}

#[cfg(feature = "s3")]
fn open_s3(url: &Url) -> Result<Place, StoreError> {
    let store = object_store::aws::AmazonS3Builder::from_env().with_url(url.as_str()).build();
    let store = store.map_err(|error| refused(url.as_str(), error))?;
    let bucket = url.host_str().ok_or_else(|| refused(url.as_str(), "expected s3://bucket/prefix"))?;
    let prefix = url.path().trim_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let base = format!("s3://{bucket}/{prefix}");
    Ok(Place { base, store: Arc::new(store), folder: None, prefix })
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
