//! Whether a classic NetCDF file is as long as its header says.
//!
//! The library reads what lies beyond the end of a classic file as zeros: a file that was cut in half is a field of
//! no rain. So the header is read here first (NetCDF classic format specification: CDF-1, CDF-2 and CDF-5), and what
//! it promises is compared with the length of the file.

use std::io::{self, BufRead};

use crate::error::FileError;

/// Refuses a classic file that is shorter than its header says.
///
/// # Errors
/// [`FileError::Malformed`] with both lengths, or if the header itself ends early or cannot be read.
pub(super) fn check_length(input: impl BufRead, len: u64) -> Result<(), FileError> {
    let malformed = |reason: String| FileError::malformed("classic NetCDF", reason);
    let needed = Header { input, at: 0, wide_offsets: false, wide_counts: false }.needed(len);
    match needed {
        Ok(needed) if needed <= len => Ok(()),
        Ok(needed) => Err(malformed(format!("the file is truncated: it has {len} bytes, by its header {needed}"))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(malformed(format!("the file is truncated: it ends within its header, after {len} bytes")))
        }
        Err(error) => Err(malformed(format!("its header cannot be read: {error}"))),
    }
}

/// Bytes of a value of an external type; `None` for a type that there is none of.
const fn type_size(kind: u32) -> Option<u64> {
    Some(match kind {
        1 | 2 | 7 => 1,
        3 | 8 => 2,
        4 | 5 | 9 => 4,
        6 | 10 | 11 => 8,
        _ => return None,
    })
}

/// Entries of one list at which a header is given up.
const MAX_ENTRIES: u64 = 1 << 20;

struct Header<R> {
    input: R,
    at: u64,
    /// Offsets of 64 bits (CDF-2, CDF-5).
    wide_offsets: bool,
    /// Counts of 64 bits (CDF-5).
    wide_counts: bool,
}

/// Where a variable begins, and the bytes of one record of it, or of all of it.
struct Extent {
    begin: u64,
    bytes: u64,
    is_record: bool,
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

impl<R: BufRead> Header<R> {
    /// The length that the header says, without the padding behind the last value.
    fn needed(mut self, len: u64) -> io::Result<u64> {
        let magic = self.bytes(4)?;
        (self.wide_offsets, self.wide_counts) = (magic[3] != 1, magic[3] == 5);
        let records = self.count()?;
        let streaming = records == if self.wide_counts { u64::MAX } else { u64::from(u32::MAX) };
        let dimensions = self.dimensions()?;
        self.attributes()?;
        let variables = self.variables(&dimensions)?;
        let in_records = variables.iter().filter(|variable| variable.is_record);
        // Records of one variable alone are packed; those of several are padded to four bytes each.
        let padded = |bytes: u64| bytes.div_ceil(4).saturating_mul(4);
        let record = match in_records.clone().count() {
            1 => in_records.map(|variable| variable.bytes).sum(),
            _ => in_records.fold(0u64, |sum, variable| sum.saturating_add(padded(variable.bytes))),
        };
        let end = |variable: &Extent| {
            let skipped = match (variable.is_record, records) {
                (false, _) => 0,
                // A file that was not closed does not say how many records it has: as many as are there.
                (true, _) if streaming => return self.at.min(len),
                (true, 0) => return 0,
                (true, records) => record.saturating_mul(records - 1),
            };
            variable.begin.saturating_add(skipped).saturating_add(variable.bytes)
        };
        Ok(variables.iter().map(end).max().unwrap_or(0).max(self.at))
    }

    /// Whether each dimension is the record dimension (length 0), and its length.
    fn dimensions(&mut self) -> io::Result<Vec<u64>> {
        let entries = self.list(10)?;
        (0..entries)
            .map(|_| {
                self.name()?;
                self.count()
            })
            .collect()
    }

    fn attributes(&mut self) -> io::Result<()> {
        for _ in 0..self.list(12)? {
            self.name()?;
            let size = self.type_size()?;
            let count = self.count()?;
            self.skip(count.checked_mul(size).ok_or_else(|| invalid("an attribute is too long"))?)?;
        }
        Ok(())
    }

    fn variables(&mut self, dimensions: &[u64]) -> io::Result<Vec<Extent>> {
        let entries = self.list(11)?;
        (0..entries).map(|_| self.variable(dimensions)).collect()
    }

    fn variable(&mut self, dimensions: &[u64]) -> io::Result<Extent> {
        self.name()?;
        let (mut is_record, mut cells) = (false, 1u64);
        for place in 0..self.entries()? {
            let dimension = usize::try_from(self.count()?).ok().and_then(|index| dimensions.get(index));
            match dimension.ok_or_else(|| invalid("a variable has a dimension that there is none of"))? {
                0 if place == 0 => is_record = true,
                len => cells = cells.saturating_mul(*len),
            }
        }
        self.attributes()?;
        let size = self.type_size()?;
        // The header's own size of the variable is what overflows in files of more than 4 GiB.
        self.count()?;
        let begin = if self.wide_offsets { self.u64()? } else { u64::from(self.u32()?) };
        Ok(Extent { begin, bytes: cells.saturating_mul(size), is_record })
    }

    /// The number of entries of a list with a tag, 0 for an absent one.
    fn list(&mut self, tag: u32) -> io::Result<u64> {
        let found = self.u32()?;
        let entries = self.entries()?;
        match (found, entries) {
            (0, 0) => Ok(0),
            (found, entries) if found == tag => Ok(entries),
            _ => Err(invalid("a list has the wrong tag")),
        }
    }

    fn entries(&mut self) -> io::Result<u64> {
        self.count().and_then(|n| if n <= MAX_ENTRIES { Ok(n) } else { Err(invalid("a list is too long")) })
    }

    fn name(&mut self) -> io::Result<()> {
        let len = self.count()?;
        self.skip(len)
    }

    fn type_size(&mut self) -> io::Result<u64> {
        type_size(self.u32()?).ok_or_else(|| invalid("an unknown type"))
    }

    fn count(&mut self) -> io::Result<u64> {
        if self.wide_counts { self.u64() } else { self.u32().map(u64::from) }
    }

    fn u32(&mut self) -> io::Result<u32> {
        let bytes = self.bytes(4)?;
        Ok(bytes.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    fn bytes(&mut self, count: usize) -> io::Result<[u8; 4]> {
        let mut bytes = [0; 4];
        self.input.read_exact(&mut bytes[..count])?;
        self.at += count as u64;
        Ok(bytes)
    }

    /// Passes over bytes that are padded to a multiple of four.
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let mut left = count.checked_next_multiple_of(4).ok_or_else(|| invalid("a length is too large"))?;
        self.at = self.at.saturating_add(left);
        while left > 0 {
            let there = self.input.fill_buf()?.len() as u64;
            if there == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let taken = there.min(left);
            self.input.consume(taken as usize);
            left -= taken;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The header of a file with `x(4)`, and for each variable its type, whether it has the record dimension first,
    /// and where it begins.
    fn header(version: u8, records: u64, variables: &[(u32, bool, u64)]) -> Vec<u8> {
        let mut out = vec![b'C', b'D', b'F', version];
        let count = |out: &mut Vec<u8>, n: u64| match version {
            5 => out.extend(n.to_be_bytes()),
            _ => out.extend((n as u32).to_be_bytes()),
        };
        let name = |out: &mut Vec<u8>, name: &str| {
            count(out, name.len() as u64);
            out.extend(name.bytes());
            out.resize(out.len().next_multiple_of(4), 0);
        };
        count(&mut out, records);
        out.extend(10u32.to_be_bytes());
        count(&mut out, 2);
        for (dimension, len) in [("time", 0), ("x", 4)] {
            name(&mut out, dimension);
            count(&mut out, len);
        }
        out.extend(12u32.to_be_bytes());
        count(&mut out, 1);
        name(&mut out, "title");
        out.extend(2u32.to_be_bytes());
        name(&mut out, "a test");
        out.extend(11u32.to_be_bytes());
        count(&mut out, variables.len() as u64);
        for (kind, is_record, begin) in variables {
            name(&mut out, "rain");
            let dimensions: &[u64] = if *is_record { &[0, 1] } else { &[1] };
            count(&mut out, dimensions.len() as u64);
            dimensions.iter().for_each(|index| count(&mut out, *index));
            out.extend([0; 4]);
            count(&mut out, 0);
            out.extend(kind.to_be_bytes());
            count(&mut out, 0);
            match version {
                1 => out.extend((*begin as u32).to_be_bytes()),
                _ => out.extend(begin.to_be_bytes()),
            }
        }
        out
    }

    fn check(header: &[u8], len: u64) -> Result<(), String> {
        check_length(header, len).map_err(|error| error.to_string())
    }

    #[test]
    fn lengths_by_the_header() {
        for version in [1, 2, 5] {
            // Two records of one variable of bytes are packed; beside a second variable they are padded.
            for (variables, needed) in [
                (vec![(5, false, 1000)], 1016),
                (vec![(1, true, 1000)], 1000 + 4 + 4),
                (vec![(3, true, 1000)], 1000 + 8 + 8),
                (vec![(1, true, 1000), (3, true, 1004)], 1000 + 12 + 12),
                (vec![(1, true, 1008), (6, false, 976)], 1008 + 4 + 4),
            ] {
                let header = header(version, 2, &variables);
                assert_eq!(check(&header, needed), Ok(()), "{version} {variables:?}");
                let error = check(&header, needed - 1).unwrap_err();
                assert!(error.contains("truncated") && error.contains(&needed.to_string()), "{version}: {error}");
            }
            assert_eq!(check(&header(version, 0, &[(6, true, 1000)]), 1000), Ok(()), "no record yet");
            let streaming = if version == 5 { u64::MAX } else { u64::from(u32::MAX) };
            assert_eq!(check(&header(version, streaming, &[(6, true, 1000)]), 1000), Ok(()), "not closed");
        }
    }

    #[test]
    fn a_header_that_ends_early_is_a_truncated_file() {
        for version in [1, 2, 5] {
            let whole = header(version, 2, &[(5, false, 1000)]);
            for len in 4..whole.len() {
                let error = check(&whole[..len], len as u64).unwrap_err();
                assert!(error.contains("truncated"), "{len}: {error}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_header_is_checked_without_harm(
            version in prop::sample::select(vec![1u8, 2, 5]), changes in prop::collection::vec((4usize..200, any::<u8>()), 0..8),
        ) {
            let mut bytes = header(version, 2, &[(5, false, 1000), (1, true, 2000)]);
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = if at < 4 { bytes[at] } else { value };
            }
            let _ = check(&bytes, 3000);
        }
    }
}
