//! Fields as bytes that take little room: bytes of equal weight together, then zstd. Exact.

use bytemuck::cast_slice;

/// The fastest level: what is kept is read a few times and thrown away.
const LEVEL: i32 = 1;
const WIDTH: usize = size_of::<f32>();

/// Packs values.
///
/// # Errors
/// The memory does not suffice.
pub fn pack(values: &[f32]) -> std::io::Result<Vec<u8>> {
    let bytes: &[u8] = cast_slice(values);
    let mut shuffled = vec![0; bytes.len()];
    for (place, plane) in shuffled.chunks_mut(values.len().max(1)).enumerate() {
        plane.iter_mut().zip(bytes.as_chunks::<WIDTH>().0).for_each(|(to, value)| *to = value[place]);
    }
    zstd::bulk::compress(&shuffled, LEVEL)
}

/// The values that were packed, of which there are so many.
///
/// # Errors
/// The bytes are others, or of another number of values.
pub fn unpack(packed: &[u8], count: usize) -> std::io::Result<Vec<f32>> {
    let shuffled = zstd::bulk::decompress(packed, count * WIDTH)?;
    if shuffled.len() != count * WIDTH {
        let (got, wanted) = (shuffled.len() / WIDTH, count);
        return Err(std::io::Error::other(format!("{got} values, expected {wanted}")));
    }
    let (first, last) = shuffled.split_at(2 * count);
    let ((a, b), (c, d)) = (first.split_at(count), last.split_at(count));
    let value = |(((a, b), c), d): (((&u8, &u8), &u8), &u8)| f32::from_ne_bytes([*a, *b, *c, *d]);
    Ok(a.iter().zip(b).zip(c).zip(d).map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_to_the_last_bit_and_nothing_else_does() {
        let values: Vec<f32> = [0.0, -0.0, f32::NAN, 1e-40, 3.7, f32::INFINITY].repeat(50);
        let packed = pack(&values).unwrap();
        assert!(packed.len() < values.len());
        let back = unpack(&packed, values.len()).unwrap();
        assert!(values.iter().zip(&back).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert!(unpack(&packed, 7).is_err() && unpack(&packed[1..], values.len()).is_err());
        assert_eq!(unpack(&pack(&[]).unwrap(), 0).unwrap(), Vec::<f32>::new());
    }
}
