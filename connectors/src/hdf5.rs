//! HDF5 bytes from outside: opened in memory, and looked over before anything reads them.
//!
//! An HDF5 file can name other files (external links, external and virtual storage), and filters
//! that are loaded as plug-ins. In bytes that came in a record none of that is followed: [`check`]
//! walks the whole file first and refuses it. It also bounds what a chunk may unpack to, since the
//! library allocates a chunk before it looks at its contents.

mod heap;

use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};

use hdf5_metno::filters::Filter;
use hdf5_metno::{File, Group, LinkType};
use hdf5_metno_sys::{h5f, h5p};

use crate::error::FileError;
use crate::options::Limits;

/// Depth of groups at which a file is given up: ODIM has four levels, NetCDF mostly one.
const MAX_DEPTH: usize = 8;
/// Objects at which a file is given up.
const MAX_OBJECTS: usize = 20_000;
/// The first bytes of every HDF5 file.
pub(crate) const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";

/// Opens bytes in memory, read-only. Nothing on disk is touched.
///
/// # Errors
/// [`FileError::TooLarge`], [`FileError::NotRecognised`], or [`FileError::Malformed`] if the library
/// cannot read the file's root.
pub(crate) fn open(bytes: &[u8], limits: &Limits) -> Result<File, FileError> {
    if bytes.len() > limits.max_bytes {
        let (got, limit) = (bytes.len() as u64, limits.max_bytes as u64);
        return Err(FileError::TooLarge { what: "size in bytes", got, limit });
    }
    if !bytes.starts_with(SIGNATURE) {
        let got = format!("bytes that begin with {:02x?}", &bytes[..bytes.len().min(8)]);
        return Err(FileError::NotRecognised { expected: "HDF5", got });
    }
    heap::check(bytes)?;
    hdf5_metno::silence_errors(true);
    open_image(bytes).map_err(|e| FileError::malformed("HDF5 bytes", e))
}

/// The `core` driver on a copy of the bytes.
fn open_image(bytes: &[u8]) -> hdf5_metno::Result<File> {
    /// Two images of one name would be taken for one file.
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = format!("squall-image-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
    let name = CString::new(name).map_err(|e| hdf5_metno::Error::Internal(e.to_string()))?;
    hdf5_metno::sync::sync(|| {
        // SAFETY: the lock of the library is held; every identifier is used before it is closed; the
        // library copies the bytes (no image callbacks are set), so their lifetime does not matter, and
        // it does not write to them although the parameter is mutable.
        unsafe {
            let access = h5p::H5Pcreate(*h5p::H5P_CLS_FILE_ACCESS);
            let set = access >= 0
                && h5p::H5Pset_fapl_core(access, 1 << 16, 0) >= 0
                && h5p::H5Pset_file_image(access, bytes.as_ptr().cast_mut().cast(), bytes.len()) >= 0;
            let id = if set { h5f::H5Fopen(name.as_ptr(), h5f::H5F_ACC_RDONLY, access) } else { -1 };
            if access >= 0 {
                h5p::H5Pclose(access);
            }
            if id < 0 {
                return Err(hdf5_metno::Error::query().unwrap_or_else(|e| e));
            }
            hdf5_metno::from_id(id)
        }
    })
}

/// Refuses what reaches outside the bytes, loads code, or unpacks to more than is allowed.
///
/// # Errors
/// [`FileError::Forbidden`], [`FileError::TooLarge`], or [`FileError::Malformed`].
pub(crate) fn check(file: &File, limits: &Limits) -> Result<(), FileError> {
    let mut seen = 0;
    check_group(file, limits, 0, &mut seen)
}

fn check_group(group: &Group, limits: &Limits, depth: usize, seen: &mut usize) -> Result<(), FileError> {
    let malformed = |e: hdf5_metno::Error| FileError::malformed("HDF5 bytes", e);
    let mut links = Vec::new();
    let room = MAX_OBJECTS.saturating_sub(*seen);
    group
        .iter_visit_default(|name, link| {
            if links.len() > room {
                return Err("too many objects".into());
            }
            links.push((name.to_owned(), link.link_type));
            Ok(())
        })
        .map_err(malformed)?;
    *seen += links.len();
    if *seen > MAX_OBJECTS || depth > MAX_DEPTH {
        return Err(FileError::TooLarge { what: "number of objects", got: *seen as u64, limit: MAX_OBJECTS as u64 });
    }
    for (name, link) in links {
        match link {
            LinkType::Hard => check_object(group, &name, limits, depth, seen)?,
            // A soft link leads to an object of this file, which is looked at under its own name.
            LinkType::Soft => {}
            LinkType::External => {
                return Err(FileError::Forbidden { feature: format!("the link `{name}` to another file") });
            }
        }
    }
    Ok(())
}

fn check_object(group: &Group, name: &str, limits: &Limits, depth: usize, seen: &mut usize) -> Result<(), FileError> {
    use hdf5_metno::LocationType;
    let malformed = |e: hdf5_metno::Error| FileError::malformed(name, e);
    match group.loc_type_by_name(name).map_err(malformed)? {
        LocationType::Group => check_group(&group.group(name).map_err(malformed)?, limits, depth + 1, seen),
        LocationType::Dataset => check_dataset(&group.dataset(name).map_err(malformed)?, name, limits),
        _ => Ok(()),
    }
}

fn check_dataset(dataset: &hdf5_metno::Dataset, name: &str, limits: &Limits) -> Result<(), FileError> {
    use hdf5_metno::dataset::Layout;
    let malformed = |e: hdf5_metno::Error| FileError::malformed(name, e);
    let forbidden = |feature: &str| Err(FileError::Forbidden { feature: format!("{feature} of `{name}`") });
    let plan = dataset.dcpl().map_err(malformed)?;
    if !plan.get_external().map_err(malformed)?.is_empty() {
        return forbidden("the external storage");
    }
    if matches!(plan.get_layout().map_err(malformed)?, Layout::Virtual) {
        return forbidden("the virtual storage");
    }
    if let Some(Filter::User(id, _)) = plan.get_filters().map_err(malformed)?.into_iter().find(is_user) {
        return forbidden(&format!("the filter {id}"));
    }
    if let Some(chunk) = dataset.chunk() {
        let size = dataset.dtype().map_err(malformed)?.size() as u64;
        let bytes = chunk.iter().fold(size, |n, len| n.saturating_mul(*len as u64));
        // A field in one chunk of f64 is as large as a chunk can usefully be.
        let limit = (limits.max_cells as u64).saturating_mul(8);
        if bytes > limit {
            return Err(FileError::TooLarge { what: "size of a chunk in bytes", got: bytes, limit });
        }
    }
    Ok(())
}

const fn is_user(filter: &Filter) -> bool {
    matches!(filter, Filter::User(..))
}
