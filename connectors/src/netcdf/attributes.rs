//! Attributes of the NetCDF library as plain text and numbers.

use ::netcdf::AttributeValue;
use squall_fields::crs::{CfAttributes, CfValue};

/// Longest text that is kept of an attribute: well-known text has a few thousand characters.
const MAX_TEXT: usize = 1 << 16;

/// All attributes that can be read, by name.
pub(super) fn collect<'a>(attributes: impl Iterator<Item = ::netcdf::Attribute<'a>>) -> CfAttributes {
    attributes.filter_map(|attribute| Some((attribute.name().to_owned(), plain(attribute.value().ok()?)))).collect()
}

fn plain(value: AttributeValue) -> CfValue {
    use AttributeValue as A;
    let numbers = |values: Vec<f64>| CfValue::Numbers(values);
    match value {
        A::Str(text) => CfValue::Text(text.chars().take(MAX_TEXT).collect()),
        A::Strs(texts) => CfValue::Text(texts.join(" ").chars().take(MAX_TEXT).collect()),
        A::Uchar(v) => numbers(vec![f64::from(v)]),
        A::Schar(v) => numbers(vec![f64::from(v)]),
        A::Ushort(v) => numbers(vec![f64::from(v)]),
        A::Short(v) => numbers(vec![f64::from(v)]),
        A::Uint(v) => numbers(vec![f64::from(v)]),
        A::Int(v) => numbers(vec![f64::from(v)]),
        A::Ulonglong(v) => numbers(vec![v as f64]),
        A::Longlong(v) => numbers(vec![v as f64]),
        A::Float(v) => numbers(vec![f64::from(v)]),
        A::Double(v) => numbers(vec![v]),
        A::Uchars(v) => numbers(v.into_iter().map(f64::from).collect()),
        A::Schars(v) => numbers(v.into_iter().map(f64::from).collect()),
        A::Ushorts(v) => numbers(v.into_iter().map(f64::from).collect()),
        A::Shorts(v) => numbers(v.into_iter().map(f64::from).collect()),
        A::Uints(v) => numbers(v.into_iter().map(f64::from).collect()),
        A::Ints(v) => numbers(v.into_iter().map(f64::from).collect()),
        A::Ulonglongs(v) => numbers(v.into_iter().map(|v| v as f64).collect()),
        A::Longlongs(v) => numbers(v.into_iter().map(|v| v as f64).collect()),
        A::Floats(v) => numbers(v.into_iter().map(f64::from).collect()),
        A::Doubles(v) => numbers(v),
    }
}

/// A text attribute.
pub(super) fn text<'a>(attributes: &'a CfAttributes, key: &str) -> Option<&'a str> {
    match attributes.get(key)? {
        CfValue::Text(text) => Some(text),
        CfValue::Numbers(_) => None,
    }
}

/// The numbers of an attribute; empty if there is none.
pub(super) fn numbers<'a>(attributes: &'a CfAttributes, key: &str) -> &'a [f64] {
    match attributes.get(key) {
        Some(CfValue::Numbers(numbers)) => numbers,
        _ => &[],
    }
}

/// The first number of an attribute.
pub(super) fn number(attributes: &CfAttributes, key: &str) -> Option<f64> {
    numbers(attributes, key).first().copied()
}
