//! Types of stored numbers.

/// How a file stores a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NumberType {
    /// 8 bits, signed.
    I8,
    /// 8 bits, unsigned.
    U8,
    /// 16 bits, signed.
    I16,
    /// 16 bits, unsigned.
    U16,
    /// 32 bits, signed.
    I32,
    /// 32 bits, unsigned.
    U32,
    /// 64 bits, signed.
    I64,
    /// 64 bits, unsigned.
    U64,
    /// Floating point of 32 bits.
    F32,
    /// Floating point of 64 bits.
    F64,
}

impl NumberType {
    /// Name as in Rust.
    pub const fn name(self) -> &'static str {
        match self {
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I16 => "i16",
            Self::U16 => "u16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// Whether it is floating point.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// How wide a type is in the order of the NetCDF Users Guide: floating point beyond every integer, signed and
    /// unsigned alike.
    pub const fn rank(self) -> u8 {
        match self {
            Self::I8 | Self::U8 => 0,
            Self::I16 | Self::U16 => 1,
            Self::I32 | Self::U32 => 2,
            Self::I64 | Self::U64 => 3,
            Self::F32 => 4,
            Self::F64 => 5,
        }
    }

    /// Bits of an integer.
    const fn bits(self) -> i32 {
        8 << self.rank()
    }

    /// The unsigned integer of the same width.
    pub const fn unsigned(self) -> Self {
        match self {
            Self::I8 => Self::U8,
            Self::I16 => Self::U16,
            Self::I32 => Self::U32,
            Self::I64 => Self::U64,
            other => other,
        }
    }

    /// The signed integer of the same width.
    pub const fn signed(self) -> Self {
        match self {
            Self::U8 => Self::I8,
            Self::U16 => Self::I16,
            Self::U32 => Self::I32,
            Self::U64 => Self::I64,
            other => other,
        }
    }

    /// Least and greatest number of an integer type; all numbers for floating point.
    fn range(self) -> (f64, f64) {
        if self.is_float() {
            return (f64::NEG_INFINITY, f64::INFINITY);
        }
        let values = 2f64.powi(self.bits());
        if self.unsigned() == self { (0.0, values - 1.0) } else { (-values / 2.0, values / 2.0 - 1.0) }
    }

    /// A number as this type holds it: rounded to f32, or `None` for an integer type that cannot hold it.
    ///
    /// ```
    /// use squall_connectors::gridded::NumberType;
    /// assert_eq!(NumberType::F32.hold(-999.9), Some(f64::from(-999.9f32)));
    /// assert_eq!((NumberType::U8.hold(255.0), NumberType::U8.hold(-1.0), NumberType::I16.hold(0.5)), (Some(255.0), None, None));
    /// ```
    pub fn hold(self, value: f64) -> Option<f64> {
        match self {
            Self::F32 => Some(f64::from(value as f32)),
            Self::F64 => Some(value),
            _ => {
                let (least, greatest) = self.range();
                (value.fract() == 0.0 && (least..=greatest).contains(&value)).then_some(value)
            }
        }
    }

    /// A number of the other signedness, with the same bits: the -1 of an `i16` is the 65535 of a `u16`.
    pub fn with_bits_of(self, value: f64) -> f64 {
        let (least, greatest) = self.range();
        match 2f64.powi(self.bits()) {
            _ if self.is_float() => value,
            values if value < least && value >= least - values / 2.0 => value + values,
            values if value > greatest && value <= greatest + values / 2.0 => value - values,
            _ => value,
        }
    }
}

/// An attribute with the type of its numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// Text.
    Text(String),
    /// Numbers, as f64, and the type that they are stored in.
    Numbers(Vec<f64>, NumberType),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_with_another_sign() {
        assert_eq!(NumberType::U16.with_bits_of(-1.0), 65_535.0);
        assert_eq!(NumberType::U16.with_bits_of(-6.0), 65_530.0);
        assert_eq!(NumberType::U8.with_bits_of(-1.0), 255.0);
        assert_eq!(NumberType::I8.with_bits_of(255.0), -1.0);
        // What the type holds already, or a wider attribute that was given unsigned, stays.
        for (kind, value) in [(NumberType::U16, 65_535.0), (NumberType::U16, 7.0), (NumberType::U8, -999.0)] {
            assert_eq!(kind.with_bits_of(value), value);
        }
        assert_eq!(NumberType::F32.with_bits_of(-1.0), -1.0);
    }
}
