//! Global heaps of HDF5 bytes, looked over before the library walks them.
//!
//! A global heap holds texts of variable length, as objects that lie one behind the other. HDF5 1.10 goes from one to the
//! next without a look at the size that it reads: an object of no size keeps it in place for ever, one of a size near
//! 2^64 leads it backwards. A helper process would be lost for as long as the decoder is patient, for one bad record.

use crate::error::FileError;

/// How a collection of objects begins; then a version and three zeros.
const SIGNATURE: &[u8; 8] = b"GCOL\x01\0\0\0";
/// Of a collection, and of each object in it.
const HEADER: usize = 16;

/// Refuses a heap whose objects do not lead to its end.
///
/// # Errors
/// [`FileError::Malformed`] says where it lies.
pub(super) fn check(bytes: &[u8]) -> Result<(), FileError> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == SIGNATURE[0]) {
        let at = from + at;
        if bytes[at..].starts_with(SIGNATURE) && !leads_to_its_end(&bytes[at..]) {
            return Err(FileError::malformed("HDF5 bytes", format!("the global heap at byte {at} is damaged")));
        }
        from = at + 1;
    }
    Ok(())
}

fn leads_to_its_end(heap: &[u8]) -> bool {
    let number = |at: usize| {
        let bytes = heap.get(at..at + 8)?;
        Some(bytes.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte)))
    };
    // One that reaches beyond the bytes is refused by the library, as a file that was cut.
    let Some(end) = number(8).and_then(|len| usize::try_from(len).ok()).filter(|end| *end <= heap.len()) else {
        return true;
    };
    let mut at = HEADER;
    while at + HEADER <= end {
        let (Some(size), is_free) = (number(at + 8), heap[at..at + 2] == [0, 0]) else { return false };
        // Free space counts its header in; an object is padded to eight bytes behind its own.
        let len = if is_free { Some(size) } else { size.checked_next_multiple_of(8).and_then(|n| n.checked_add(16)) };
        match len.and_then(|len| usize::try_from(len).ok()).filter(|len| *len > 0 && *len <= end - at) {
            Some(len) => at += len,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A collection of 128 bytes: an object of 11 bytes, and free space.
    fn heap() -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend(128u64.to_le_bytes());
        bytes.extend([1, 0, 1, 0, 0, 0, 0, 0]);
        bytes.extend(11u64.to_le_bytes());
        bytes.extend(b"hello world\0\0\0\0\0");
        bytes.extend([0; 8]);
        bytes.extend((128u64 - 48).to_le_bytes());
        bytes.resize(128, 0);
        bytes
    }

    #[test]
    fn objects_that_lead_nowhere_are_refused() {
        let within = |heap: Vec<u8>| [b"GGCOL".to_vec(), heap, vec![7; 9]].concat();
        assert!(check(&within(heap())).is_ok());
        for (at, size) in [(56, 0), (24, u64::MAX), (24, u64::MAX - 20), (24, 4096), (56, 200)] {
            let mut damaged = heap();
            damaged[at..at + 8].copy_from_slice(&u64::to_le_bytes(size));
            let error = check(&within(damaged)).unwrap_err().to_string();
            assert!(error.contains("heap at byte 5"), "{at} {size}: {error}");
        }
        let cut = &within(heap())[..100];
        assert!(check(cut).is_ok(), "that is for the library to say");
    }
}
