//! What stands inside a list, a table or a variant, handed to serde piece by piece.

use figment::value::Value;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::{Error, Reader};
use crate::config::file::join;

pub(super) struct Items<'r>(std::vec::IntoIter<Reader<'r>>);

impl<'r> Items<'r> {
    pub(super) fn new(items: Vec<Reader<'r>>) -> Self {
        Self(items.into_iter())
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|item| deserialize(seed, item)).transpose()
    }
}

pub(super) struct Entries<'r> {
    entries: std::vec::IntoIter<(String, Reader<'r>)>,
    value: Option<Reader<'r>>,
}

impl<'r> Entries<'r> {
    pub(super) fn new(entries: Vec<(String, Reader<'r>)>) -> Self {
        Self { entries: entries.into_iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let key: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        deserialize(seed, self.value.take().expect("serde asks for a key before its value"))
    }
}

/// A variant by name, alone (`"dpm2m"`) or with its content (`{ ghvb = 2.0 }`).
pub(super) struct Variant<'r> {
    name: String,
    content: Option<&'r Value>,
    reader: Reader<'r>,
}

impl<'r> Variant<'r> {
    pub(super) fn new(name: &str, content: Option<&'r Value>, reader: Reader<'r>) -> Self {
        Self { name: name.to_owned(), content, reader }
    }

    fn content(self) -> Result<Reader<'r>, Error> {
        let name = &self.name;
        if self.content.is_none() && self.reader.value.is_some() {
            return self.reader.wrong(format!("{{ {name} = ... }}"));
        }
        Ok(self.reader.inside(join(&self.reader.path, name), self.content))
    }
}

impl<'de, 'r> EnumAccess<'de> for Variant<'r> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.name.as_str().into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        if self.content.is_some() { self.reader.wrong(format!("\"{}\" alone", self.name)) } else { Ok(()) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        deserialize(seed, self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        let content = self.content()?;
        let path = content.path.clone();
        serde::Deserializer::deserialize_tuple(content, len, visitor).map_err(|error| error.at(&path))
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        let content = self.content()?;
        let path = content.path.clone();
        serde::Deserializer::deserialize_struct(content, "", fields, visitor).map_err(|error| error.at(&path))
    }
}

fn deserialize<'de, T: DeserializeSeed<'de>>(seed: T, reader: Reader<'_>) -> Result<T::Value, Error> {
    let path = reader.path.clone();
    seed.deserialize(reader).map_err(|error| error.at(&path))
}
