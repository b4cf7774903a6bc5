//! Reading a type that says by itself, through serde, what it looks like: the settings of a model, a training run.
//!
//! serde stops at the first fault. Here a value that does not fit is noted and then counts as a *hole*, which fits
//! every type, and the reading begins again: so one pass finds one fault, and the last pass finds none. A setting that
//! a type does not know is noted and left out. What was read with a hole in it is never given out.

mod access;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use figment::value::{Dict, Value};
use serde::de::Visitor;
use serde::forward_to_deserialize_any;

use access::{Entries, Items, Variant};

use super::context::Context;
use super::fault::{one_of, quoted, unknown};
use super::file::{index, join};
use super::section::{describe, number};

/// Reads a value at a path; `None` if it has faults, which are all noted. What a type does not know is noted, too.
pub(super) fn read<T>(
    context: &Context<'_>,
    path: &str,
    value: &Value,
    read: impl Fn(Reader<'_>) -> Result<T, Error>,
) -> Option<T> {
    let mut holes = BTreeSet::new();
    loop {
        let reader = Reader { context, holes: &holes, value: Some(value), path: path.to_owned() };
        let error = match read(reader) {
            Ok(read) => return holes.is_empty().then_some(read),
            Err(error) => error,
        };
        let place = error.place.unwrap_or_else(|| path.to_owned());
        context.fault(&place, error.message);
        let hole = error.missing.map_or_else(|| place.clone(), |field| join(&place, field));
        // A type that refuses even a hole hides what else may be wrong with it.
        if !holes.insert(hole) {
            return None;
        }
    }
}

/// What does not fit, and where.
#[derive(Debug)]
pub(crate) struct Error {
    place: Option<String>,
    missing: Option<&'static str>,
    message: String,
}

impl Error {
    /// Adds the place, if none further inside is known.
    fn at(mut self, place: &str) -> Self {
        self.place.get_or_insert_with(|| place.to_owned());
        self
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self { place: None, missing: None, message: message.to_string() }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::custom(format!("{field} is missing")) }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("{field}: {}", unknown(field, expected.iter().copied())))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(one_of(variant, expected.iter().copied()))
    }
}

/// A value that is read; `None` is a hole.
#[derive(Clone)]
pub(crate) struct Reader<'r> {
    context: &'r Context<'r>,
    holes: &'r BTreeSet<String>,
    value: Option<&'r Value>,
    path: String,
}

impl<'r> Reader<'r> {
    /// A value inside this one; a hole if it was found not to fit.
    fn inside(&self, path: String, value: Option<&'r Value>) -> Self {
        let value = value.filter(|_| !self.holes.contains(&path));
        Self { value, path, ..self.clone() }
    }

    fn wrong<T>(&self, expected: impl Display) -> Result<T, Error> {
        let found = self.value.map_or_else(|| "nothing".to_owned(), describe);
        let wrong: Error = serde::de::Error::custom(format!("expected {expected}, got {found}"));
        Err(wrong.at(&self.path))
    }

    fn whole<'de, V: Visitor<'de>>(self, range: RangeInclusive<i128>, visitor: V) -> Result<V::Value, Error> {
        let Some(value) = self.value else { return visitor.visit_u64(1) };
        match value.to_i128().filter(|number| range.contains(number)) {
            Some(number) if number >= 0 => visitor.visit_u64(number as u64),
            Some(number) => visitor.visit_i64(number as i64),
            None if *range.end() >= i128::from(i64::MAX) && *range.start() == 0 => {
                self.wrong("a whole number of at least 0")
            }
            None if *range.end() >= i128::from(i64::MAX) => self.wrong("a whole number"),
            None => self.wrong(format!("a whole number from {} to {}", range.start(), range.end())),
        }
    }

    fn table(&self) -> Result<Option<&'r Dict>, Error> {
        match self.value {
            None => Ok(None),
            Some(Value::Dict(_, values)) => Ok(Some(values)),
            Some(_) => self.wrong("a table"),
        }
    }

    fn items(&self, expected: impl Display, len: Option<usize>) -> Result<Vec<Self>, Error> {
        let inside = |(place, value)| self.inside(index(&self.path, place), value);
        match self.value {
            None => Ok((0..len.unwrap_or(0)).map(|place| inside((place, None))).collect()),
            Some(Value::Array(_, items)) if len.is_none_or(|len| len == items.len()) => {
                Ok(items.iter().map(Some).enumerate().map(inside).collect())
            }
            Some(_) => self.wrong(expected),
        }
    }

    fn entries<'k>(&self, keys: impl IntoIterator<Item = &'k str>, values: Option<&'r Dict>) -> Entries<'r> {
        let entry = |key: &str| (key.to_owned(), self.inside(join(&self.path, key), values.and_then(|v| v.get(key))));
        let entries: Vec<_> = keys.into_iter().map(entry).collect();
        Entries::new(entries)
    }
}

macro_rules! whole_numbers {
    ($($method:ident $type:ty),+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.whole(i128::from(<$type>::MIN)..=i128::from(<$type>::MAX), visitor)
        })+
    };
}

impl<'de> serde::Deserializer<'de> for Reader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            None | Some(Value::Empty(..)) => visitor.visit_unit(),
            Some(Value::String(..) | Value::Char(..)) => self.deserialize_str(visitor),
            Some(Value::Bool(..)) => self.deserialize_bool(visitor),
            Some(Value::Num(..)) if self.value.is_some_and(|value| value.to_i128().is_some()) => {
                self.deserialize_i64(visitor)
            }
            Some(Value::Num(..)) => self.deserialize_f64(visitor),
            Some(Value::Array(..)) => self.deserialize_seq(visitor),
            Some(Value::Dict(..)) => self.deserialize_map(visitor),
        }
    }

    whole_numbers!(
        deserialize_u8 u8, deserialize_u16 u16, deserialize_u32 u32, deserialize_u64 u64,
        deserialize_i8 i8, deserialize_i16 i16, deserialize_i32 i32, deserialize_i64 i64
    );

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value.map(number) {
            None => visitor.visit_f64(1.0),
            Some(Some(number)) => visitor.visit_f64(number),
            Some(None) => self.wrong("a finite number"),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value.map(Value::to_bool) {
            None => visitor.visit_bool(false),
            Some(Some(flag)) => visitor.visit_bool(flag),
            Some(None) => self.wrong("true or false"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value.map(Value::as_str) {
            None => visitor.visit_str(""),
            Some(Some(text)) => visitor.visit_str(text),
            Some(None) => self.wrong("text"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_some() { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items::new(self.items("a list", None)?))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items::new(self.items(format!("a list of {len}"), Some(len))?))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let values = self.table()?;
        let keys = values.into_iter().flat_map(|values| values.keys().map(String::as_str));
        visitor.visit_map(self.entries(keys, values))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let values = self.table()?;
        fields.iter().for_each(|field| self.context.ask(&self.path, field));
        if let Some(values) = values {
            self.context.refuse_unknown(&self.path, values.keys().map(String::as_str));
        }
        let is_given = |field: &&str| match values {
            Some(values) => values.contains_key(*field) || self.holes.contains(&join(&self.path, field)),
            None => true,
        };
        visitor.visit_map(self.entries(fields.iter().copied().filter(is_given), values))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (name, content) = match self.value {
            None => (*variants.first().expect("an enum that can be read has a variant"), None),
            Some(Value::String(_, name)) => (name.as_str(), None),
            Some(Value::Dict(_, values)) if values.len() == 1 => {
                let (name, value) = values.first_key_value().expect("it has one entry");
                (name.as_str(), Some(value))
            }
            Some(_) => return self.wrong(format!("one of {}", quoted(variants.iter().copied()))),
        };
        if !variants.contains(&name) {
            return Err(serde::de::Error::unknown_variant(name, variants));
        }
        visitor.visit_enum(Variant::new(name, content, self))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct identifier }
}
