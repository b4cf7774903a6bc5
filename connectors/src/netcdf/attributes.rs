//! Attributes of the NetCDF library as plain text and numbers.

use std::collections::BTreeMap;

use ::netcdf::AttributeValue;
use squall_fields::crs::{CfAttributes, CfValue};

use crate::gridded::{Attribute, NumberType};

/// Longest text that is kept of an attribute: well-known text has a few thousand characters.
const MAX_TEXT: usize = 1 << 16;

/// Attributes by name.
pub type Attributes = BTreeMap<String, Attribute>;

/// All attributes that can be read, by name.
pub(super) fn collect<'a>(attributes: impl Iterator<Item = ::netcdf::Attribute<'a>>) -> Attributes {
    attributes.filter_map(|attribute| Some((attribute.name().to_owned(), plain(attribute.value().ok()?)))).collect()
}

fn plain(value: AttributeValue) -> Attribute {
    use AttributeValue as A;
    use NumberType::{F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
    fn numbers<T: Copy>(values: &[T], as_f64: impl Fn(T) -> f64, kind: NumberType) -> Attribute {
        Attribute::Numbers(values.iter().map(|value| as_f64(*value)).collect(), kind)
    }
    let text = |text: &str| Attribute::Text(text.chars().take(MAX_TEXT).collect());
    match value {
        A::Str(one) => text(&one),
        A::Strs(many) => text(&many.join(" ")),
        A::Uchar(v) => numbers(&[v], f64::from, U8),
        A::Schar(v) => numbers(&[v], f64::from, I8),
        A::Ushort(v) => numbers(&[v], f64::from, U16),
        A::Short(v) => numbers(&[v], f64::from, I16),
        A::Uint(v) => numbers(&[v], f64::from, U32),
        A::Int(v) => numbers(&[v], f64::from, I32),
        A::Ulonglong(v) => numbers(&[v], |v| v as f64, U64),
        A::Longlong(v) => numbers(&[v], |v| v as f64, I64),
        A::Float(v) => numbers(&[v], f64::from, F32),
        A::Double(v) => numbers(&[v], |v| v, F64),
        A::Uchars(v) => numbers(&v, f64::from, U8),
        A::Schars(v) => numbers(&v, f64::from, I8),
        A::Ushorts(v) => numbers(&v, f64::from, U16),
        A::Shorts(v) => numbers(&v, f64::from, I16),
        A::Uints(v) => numbers(&v, f64::from, U32),
        A::Ints(v) => numbers(&v, f64::from, I32),
        A::Ulonglongs(v) => numbers(&v, |v| v as f64, U64),
        A::Longlongs(v) => numbers(&v, |v| v as f64, I64),
        A::Floats(v) => numbers(&v, f64::from, F32),
        A::Doubles(v) => numbers(&v, |v| v, F64),
    }
}

/// A text attribute.
pub(super) fn text<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a str> {
    match attributes.get(key)? {
        Attribute::Text(text) => Some(text),
        Attribute::Numbers(..) => None,
    }
}

/// The same without the types of numbers, as reference systems need them.
pub(super) fn for_crs(attributes: &Attributes) -> CfAttributes {
    let plain = |attribute: &Attribute| match attribute {
        Attribute::Text(text) => CfValue::Text(text.clone()),
        Attribute::Numbers(numbers, _) => CfValue::Numbers(numbers.clone()),
    };
    attributes.iter().map(|(name, attribute)| (name.clone(), plain(attribute))).collect()
}
