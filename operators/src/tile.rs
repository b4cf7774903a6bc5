//! The binary records of packed fields: probabilities, quantiles, means, precision.
//!
//! A field is cut into tiles so that no record exceeds 1 MB, however badly it compresses, and each record says all
//! that is needed to place and unpack it. A record's value is
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `SQT1` |
//! | 4 | length of the header, unsigned, little-endian |
//! | that many | header: JSON, UTF-8 |
//! | the rest | one zstd frame of the packed values, little-endian, in the order `[level, y, x]` |
//!
//! The header has the fields of [`TileHeader`]. A value is `raw * scale + offset`, except that `raw == missing` is a
//! missing value. `dtype` is a NumPy type, so that in Python a tile is
//! `numpy.frombuffer(zstandard.decompress(rest), header["dtype"]).reshape(header["shape"])`.

use std::sync::Arc;

use ndarray::{ArrayView3, s};
use serde::{Deserialize, Serialize};
use squall_fields::Grid;

/// First bytes of a record.
pub const MAGIC: &[u8; 4] = b"SQT1";
/// Most bytes of packed values in a tile before compression.
pub const MAX_RAW_BYTES: usize = 960_000;
/// Media type of a record.
pub const CONTENT_TYPE: &str = "application/x-squall-tile";

/// Which part of the grid a tile covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TilePlace {
    /// First row, from the north.
    pub row: usize,
    /// First column, from the west.
    pub column: usize,
    /// Which tile of the field this is, row by row from 0.
    pub index: usize,
    /// Tiles of the field.
    pub count: usize,
}

/// What a field is, the same in all its tiles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldHeader {
    /// Name of the stream.
    pub stream: Arc<str>,
    /// Digest of the model.
    pub model_digest: Arc<str>,
    /// Issue time, RFC 3339.
    pub issue_time: String,
    /// Issue time in seconds since 1970.
    pub issue_time_seconds: i64,
    /// Revision of the forecast.
    pub revision: u32,
    /// Whether the forecast is less than it should be.
    pub degraded: bool,
    /// Members of the ensemble.
    pub members: usize,
    /// Name of the variable, such as `rain_rate`.
    pub variable: String,
    /// What is made of it, such as `probability`: the word of a [product](crate::products::Tiles).
    pub product: String,
    /// Unit of the values: `1` for a probability.
    pub unit: String,
    /// The level of each `[y, x]` plane: thresholds (in `level_unit`) or quantiles; one entry, 0, where there is none.
    pub levels: Vec<f32>,
    /// Unit of the levels.
    pub level_unit: String,
    /// Lead in seconds.
    pub lead_seconds: i64,
    /// Valid time, RFC 3339.
    pub valid_time: String,
}

/// All that is needed to place and unpack a tile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TileHeader {
    /// What the field is.
    #[serde(flatten)]
    pub field: FieldHeader,
    /// `[level, y, x]` of this tile.
    pub shape: [usize; 3],
    /// NumPy type of the packed values: `|u1` or `<i2`.
    pub dtype: String,
    /// Value of one step.
    pub scale: f32,
    /// Value of raw 0.
    pub offset: f32,
    /// The raw value that means missing.
    pub missing: i32,
    /// Where the tile lies in the field.
    pub tile: TilePlace,
    /// The grid of the whole field. Row 0 is the northernmost.
    pub grid: Arc<Grid>,
}

/// How values become integers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Packing {
    /// 0 to 1 in steps of 1/200, 255 missing: exact for 2, 4, 5, 8, 10, 20, 25, 40, 50, 100 members.
    Share,
    /// 16 bits in steps of `scale`, -32768 missing, saturating.
    Steps {
        /// Value of one step.
        scale: f32,
    },
}

impl Packing {
    /// For values of a variable in its unit: steps of 0.01 mm/h, m/s or dBZ, up to +-327.67.
    pub const HUNDREDTHS: Self = Self::Steps { scale: 0.01 };

    const fn bytes(self) -> usize {
        match self {
            Self::Share => 1,
            Self::Steps { .. } => 2,
        }
    }

    /// NumPy type, value of one step, and the raw value that means missing.
    const fn described(self) -> (&'static str, f32, i32) {
        match self {
            Self::Share => ("|u1", 0.005, 255),
            Self::Steps { scale } => ("<i2", scale, i16::MIN as i32),
        }
    }

    /// Packs values, in order, row by row.
    pub fn pack(self, field: ArrayView3<'_, f32>) -> Vec<u8> {
        let mut out = vec![0u8; field.len() * self.bytes()];
        let mut gathered: Vec<f32> = Vec::new();
        for (row, out) in field.rows().into_iter().zip(out.chunks_exact_mut((field.dim().2 * self.bytes()).max(1))) {
            match row.as_slice() {
                Some(row) => self.pack_row(row, out),
                None => {
                    gathered.clear();
                    gathered.extend(row.iter().copied());
                    self.pack_row(&gathered, out);
                }
            }
        }
        out
    }

    fn pack_row(self, row: &[f32], out: &mut [u8]) {
        match self {
            Self::Share => {
                let one = |v: f32| if v.is_nan() { 255 } else { rounded(v * 200.0, 0.0, 200.0) as u8 };
                out.iter_mut().zip(row).for_each(|(out, v)| *out = one(*v));
            }
            Self::Steps { scale } => {
                let one = |v: f32| if v.is_nan() { i16::MIN } else { rounded(v / scale, -32767.0, 32767.0) as i16 };
                out.as_chunks_mut::<2>().0.iter_mut().zip(row).for_each(|(out, v)| *out = one(*v).to_le_bytes());
            }
        }
    }
}

/// The nearest whole number within bounds, halves away from 0: as `round` has it, which is a call for each value on plain
/// x86-64, while this is done in vector registers.
fn rounded(value: f32, least: f32, most: f32) -> i32 {
    // The number before 1/2: with it what lies just below a half stays there.
    const NEARLY_HALF: f32 = 0.5 - f32::EPSILON / 4.0;
    let value = value.clamp(least, most);
    (value + NEARLY_HALF.copysign(value)) as i32
}

/// A tile, ready to be sent.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Where it lies.
    pub place: TilePlace,
    /// The record's value.
    pub value: Vec<u8>,
}

/// Cuts and packs a field `[level, y, x]` of a grid.
pub fn tiles(
    field: ArrayView3<'_, f32>,
    packing: Packing,
    header: &FieldHeader,
    grid: &Arc<Grid>,
) -> std::io::Result<Vec<Tile>> {
    let (levels, rows, columns) = field.dim();
    let (dtype, scale, missing) = packing.described();
    let (tile_rows, tile_columns) = tile_shape(levels, rows, columns, packing.bytes());
    let across = columns.div_ceil(tile_columns);
    let count = rows.div_ceil(tile_rows) * across;
    let one = |index: usize| {
        let (row, column) = (index / across * tile_rows, index % across * tile_columns);
        let (end_row, end_column) = ((row + tile_rows).min(rows), (column + tile_columns).min(columns));
        let part = field.slice(s![.., row..end_row, column..end_column]);
        let place = TilePlace { row, column, index, count };
        let shape = [levels, end_row - row, end_column - column];
        let payload = zstd::bulk::compress(&packing.pack(part), 3)?;
        let json = serde_json::to_vec(&TileHeader {
            field: header.clone(),
            shape,
            dtype: dtype.to_owned(),
            scale,
            offset: 0.0,
            missing,
            tile: place,
            grid: grid.clone(),
        })?;
        let mut value = Vec::with_capacity(8 + json.len() + payload.len());
        value.extend_from_slice(MAGIC);
        value.extend_from_slice(&(json.len() as u32).to_le_bytes());
        value.extend_from_slice(&json);
        value.extend_from_slice(&payload);
        Ok(Tile { place, value })
    };
    (0..count).map(one).collect()
}

/// Rows and columns of a tile: as large as fits, near to square, in multiples of 16.
fn tile_shape(levels: usize, rows: usize, columns: usize, bytes: usize) -> (usize, usize) {
    let cells = MAX_RAW_BYTES / (levels.max(1) * bytes);
    if rows * columns <= cells {
        return (rows.max(1), columns.max(1));
    }
    let edge = ((cells as f64).sqrt() as usize / 16 * 16).max(16);
    (edge.min(rows), edge.min(columns))
}

/// Reads a record: its header and its values `[level, y, x]`, NaN where missing. The inverse of [`tiles`].
pub fn read(value: &[u8]) -> Result<(TileHeader, ndarray::Array3<f32>), String> {
    let rest = value.strip_prefix(MAGIC).ok_or("no SQT1 at the beginning")?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or("no length")?;
    let length = u32::from_le_bytes(*length) as usize;
    let (json, payload) = rest.split_at_checked(length).ok_or("shorter than its header")?;
    let header: TileHeader = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let raw = zstd::bulk::decompress(payload, MAX_RAW_BYTES).map_err(|e| e.to_string())?;
    let unpack = |raw: i32| if raw == header.missing { f32::NAN } else { raw as f32 * header.scale + header.offset };
    let values: Vec<f32> = match header.dtype.as_str() {
        "|u1" => raw.iter().map(|b| unpack(i32::from(*b))).collect(),
        "<i2" => raw.chunks_exact(2).map(|b| unpack(i32::from(i16::from_le_bytes([b[0], b[1]])))).collect(),
        other => return Err(format!("dtype {other}")),
    };
    let values = ndarray::Array3::from_shape_vec(header.shape, values).map_err(|e| e.to_string())?;
    Ok((header, values))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ndarray::Array3;
    use proptest::prelude::*;
    use squall_fields::Axis;

    fn grid(rows: usize, columns: usize) -> Arc<Grid> {
        let axis = |step: f64, len| Axis { first: 0.0, step, len };
        Grid { proj: "+proj=utm".into(), wkt: None, x: axis(1.0, columns), y: axis(-1.0, rows) }.into()
    }

    fn header() -> FieldHeader {
        FieldHeader {
            stream: "rain".into(),
            model_digest: "abc".into(),
            issue_time: "1970-01-01T00:00:00Z".into(),
            issue_time_seconds: 0,
            revision: 0,
            degraded: false,
            members: 8,
            variable: "rain_rate".into(),
            product: "probability".into(),
            unit: "1".into(),
            levels: vec![0.1, 1.0],
            level_unit: "mm h-1".into(),
            lead_seconds: 300,
            valid_time: "1970-01-01T00:05:00Z".into(),
        }
    }

    #[test]
    fn halves_are_rounded_away_from_zero() {
        let numbers =
            (-70_000..70_000).map(|i| i as f32 / 16.0).chain([0.499_999_97, -0.499_999_97, 2.500_000_2, 32767.4]);
        for value in numbers {
            assert_eq!(rounded(value, -32767.0, 32767.0), value.round().clamp(-32767.0, 32767.0) as i32, "{value}");
        }
    }

    #[test]
    fn tiles_cover_the_field_once_and_stay_small() {
        let (rows, columns) = (1226, 760);
        let field = Array3::from_shape_fn((2, rows, columns), |(l, r, c)| ((l + r * 7 + c * 13) % 9) as f32 / 8.0);
        let tiles = tiles(field.view(), Packing::Share, &header(), &grid(rows, columns)).unwrap();
        let mut back = Array3::from_elem((2, rows, columns), -1.0f32);
        for tile in &tiles {
            assert!(tile.value.len() < 1_000_000);
            let (found, values) = read(&tile.value).unwrap();
            assert_eq!((&found.field, &found.grid), (&header(), &grid(rows, columns)));
            let TilePlace { row, column, .. } = found.tile;
            let [_, height, width] = found.shape;
            let mut part = back.slice_mut(s![.., row..row + height, column..column + width]);
            assert!(part.iter().all(|v| *v == -1.0), "no cell twice");
            part.assign(&values);
        }
        let worst = back.iter().zip(&field).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-6, "eighths are exact: {worst}");
    }

    proptest! {
        #[test]
        fn packing_is_within_half_a_step(values in prop::collection::vec(prop::num::f32::NORMAL, 12)) {
            let values: Vec<f32> = values.iter().map(|v| if *v < 0.0 { f32::NAN } else { v.min(1e9) % 300.0 }).collect();
            let field = Array3::from_shape_vec((1, 3, 4), values).unwrap();
            let tiles = tiles(field.view(), Packing::Steps { scale: 0.01 }, &header(), &grid(3, 4)).unwrap();
            let (_, back) = read(&tiles[0].value).unwrap();
            for (a, b) in back.iter().zip(&field) {
                prop_assert!(a.is_nan() == b.is_nan() && (b.is_nan() || (a - b).abs() <= 0.005_1));
            }
        }

        #[test]
        fn hostile_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut value = MAGIC.to_vec();
            value.extend(bytes);
            prop_assert!(read(&value).is_err());
        }
    }
}
