//! Attributes as producers write them.

use std::collections::BTreeMap;

use super::*;

fn number(value: f64, kind: NumberType) -> Attribute {
    Attribute::Numbers(vec![value], kind)
}

fn of(stored: NumberType, attributes: &[(&str, Attribute)]) -> Result<Packing, FileError> {
    let map: BTreeMap<&str, Attribute> = attributes.iter().cloned().collect();
    Packing::of_cf("rain", stored, |key| map.get(key), &mut Notes::default())
}

fn values(packing: &Packing) -> Vec<f64> {
    packing.missing.iter().map(|sentinel| sentinel.value).collect()
}

use NumberType::{F32, F64, I8, I16, I32, U8, U16};

#[test]
fn unsigned_numbers_in_a_signed_type() {
    let yes = ("_Unsigned", Attribute::Text("true".into()));
    let goes = of(
        I16,
        &[
            yes.clone(),
            ("_FillValue", number(-1.0, I16)),
            ("scale_factor", number(0.001_526, F32)),
            ("valid_range", Attribute::Numbers(vec![0.0, -6.0], I16)),
        ],
    )
    .unwrap();
    assert_eq!((goes.stored, values(&goes), goes.valid), (U16, vec![65_535.0], (0.0, 65_530.0)));
    let bytes = of(I8, &[yes.clone(), ("_FillValue", number(255.0, I16))]).unwrap();
    assert_eq!((bytes.stored, values(&bytes), bytes.default_fill), (U8, vec![255.0], false));
    let signed = of(U8, &[("_Unsigned", Attribute::Text("False".into())), ("missing_value", number(255.0, U8))]);
    assert_eq!(values(&signed.unwrap()), [-1.0]);
    assert_eq!(of(F32, &[yes]).unwrap().stored, F32);
    let declared = of(U8, &[("_FillValue", number(-1.0, I8)), ("missing_value", number(-2.0, F64))]).unwrap();
    assert_eq!(values(&declared), [255.0], "the bits of a byte, and no number of bytes");
}

#[test]
fn what_is_missing_is_compared_in_the_type_of_the_field() {
    let single = of(F32, &[("missing_value", number(-999.9, F64))]).unwrap();
    assert!(single.missing[0].is(f64::from(-999.9f32)));
    let double = of(F64, &[("missing_value", number(f64::from(-999.9f32), F32))]).unwrap();
    assert!(double.missing[0].is(-999.9) && double.missing[0].is(f64::from(-999.9f32)));
    assert!(!double.missing[0].is(-999.8));
    let vector = of(F32, &[("missing_value", Attribute::Numbers(vec![-999.0, -99.0, f64::NAN, -33.0], F32))]).unwrap();
    assert_eq!((values(&vector), vector.default_fill), (vec![-999.0, -99.0, -33.0], true));
    let twice = of(I16, &[("_FillValue", number(-9.0, I16)), ("missing_value", number(-9.0, F64))]).unwrap();
    assert_eq!((values(&twice), twice.default_fill), (vec![-9.0], false));
    let text = of(I16, &[("missing_value", Attribute::Text("-9".into()))]).unwrap();
    assert_eq!(values(&text), [-9.0]);
}

#[test]
fn what_no_stored_number_is_means_nothing_or_is_unpacked() {
    let mut notes = Notes::default();
    let attributes = BTreeMap::from([("missing_value", number(-9999.0, F32)), ("scale_factor", number(0.1, F32))]);
    let bytes = Packing::of_cf("rain", U8, |key| attributes.get(key), &mut notes).unwrap();
    assert!(bytes.missing.is_empty() && notes.iter().any(|note| note.text.contains("-9999")), "{notes:?}");
    let unpacked = of(I16, &[("missing_value", number(-99.9, F64)), ("scale_factor", number(0.1, F64))]).unwrap();
    assert_eq!(values(&unpacked), [-999.0]);
}

#[test]
fn a_range_of_the_unpacked_type_is_in_unpacked_units() {
    let scale = ("scale_factor", number(0.01, F64));
    let range = |low: f64, high: f64, kind| ("valid_range", Attribute::Numbers(vec![low, high], kind));
    let of = |stored, attributes: &[(&str, Attribute)]| of(stored, attributes).unwrap().valid;
    assert_eq!(of(I16, &[scale.clone(), range(0.0, 200.0, F64)]), (0.0, 20_000.0));
    assert_eq!(of(I16, &[scale.clone(), range(0.0, 20_000.0, I16)]), (0.0, 20_000.0));
    assert_eq!(of(I16, &[scale.clone(), ("valid_max", number(200.0, F64))]), (f64::NEG_INFINITY, 20_000.0));
    // Packed by the rule: neither of the two types, or no wider than the field.
    assert_eq!(of(I16, &[scale.clone(), range(0.0, 200.0, F32)]), (0.0, 200.0));
    assert_eq!(of(F64, &[scale.clone(), range(0.0, 200.0, F64)]), (0.0, 200.0));
    let down = [("scale_factor", number(-0.5, F32)), ("add_offset", number(10.0, F32)), range(-10.0, 10.0, F32)];
    assert_eq!(of(I32, &down), (0.0, 40.0));
    let float = of(F32, &[("valid_max", number(0.1, F64))]);
    assert!(float.1 == f64::from(0.1f32));
}

#[test]
fn what_cannot_be_understood_is_refused_by_name() {
    for (key, attribute) in [
        ("scale_factor", Attribute::Text("a hundredth".into())),
        ("scale_factor", number(0.0, F64)),
        ("scale_factor", number(f64::NAN, F64)),
        ("scale_factor", Attribute::Numbers(vec![1.0, 2.0], F32)),
        ("scale_factor", Attribute::Text(String::new())),
        ("add_offset", number(f64::INFINITY, F64)),
        ("add_offset", Attribute::Text("0,5 mm".into())),
        ("valid_range", number(5.0, F32)),
        ("missing_value", Attribute::Text("none".into())),
    ] {
        let error = of(I16, &[(key, attribute.clone())]).unwrap_err().to_string();
        assert!(error.contains(&format!("rain:{key}")), "{attribute:?}: {error}");
    }
    let nothing = of(I16, &[("valid_min", number(5.0, I16)), ("valid_max", number(1.0, I16))]).unwrap_err();
    assert!(nothing.to_string().contains("valid range"), "{nothing}");
    assert_eq!(of(I16, &[("scale_factor", Attribute::Text("0.01".into()))]).unwrap().scale, 0.01);
}

#[test]
fn values_are_unpacked_in_f32_only_where_every_number_is_f32() {
    let single = |stored, attributes: &[(&str, Attribute)]| of(stored, attributes).unwrap().single;
    let (scale, offset) = ([("scale_factor", number(0.01, F32))], [("add_offset", number(1.0, F32))]);
    let with = |offset: Attribute| [scale[0].clone(), ("add_offset", offset)];
    for stored in [I8, U8, I16, U16, F32] {
        assert!(single(stored, &scale) && single(stored, &offset));
        assert!(single(stored, &with(number(1.0, F32))) && single(stored, &[]));
        assert!(!single(stored, &[("scale_factor", number(0.01, F64))]));
        assert!(!single(stored, &with(number(1.0, F64))));
        assert!(!single(stored, &with(number(1.0, I16))));
        assert!(!single(stored, &[("scale_factor", Attribute::Text("0.01".into()))]));
    }
    assert!(!single(I32, &scale) && !single(F64, &scale));
}
