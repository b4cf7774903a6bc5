//! A PROJ string as its parameters.

use std::collections::BTreeMap;

use super::{CrsError, codes};

/// `+key=value` pairs in the order of their keys, EPSG codes resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Reads a PROJ string or an `EPSG:` code.
    ///
    /// # Errors
    /// [`CrsError::Missing`] for an empty text, [`CrsError::UnknownCode`], [`CrsError::Syntax`].
    pub fn parse(text: &str) -> Result<Self, CrsError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(CrsError::Missing);
        }
        if let Some(code) = codes::parse_code(text) {
            return Self::parse(&codes::proj_string(code).ok_or(CrsError::UnknownCode { code })?);
        }
        let mut map = BTreeMap::new();
        for word in text.split_whitespace() {
            let word = word.strip_prefix('+').unwrap_or(word);
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            map.insert(key.to_owned(), value.to_owned());
        }
        if map.get("proj").is_none_or(String::is_empty) {
            return Err(CrsError::Syntax { text: text.to_owned(), reason: "there is no `+proj=`".to_owned() });
        }
        Ok(Self(map))
    }

    /// Name of the projection.
    pub fn projection(&self) -> &str {
        self.text("proj").expect("there is a `+proj=`, without which nothing is parsed")
    }

    /// A parameter as text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// A parameter as a number.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.0.get(key)?.parse().ok()
    }

    /// Whether a flag or parameter is there.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The same with a parameter set.
    pub(super) fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.0.insert(key.to_owned(), value.to_string());
        self
    }

    /// The same without a parameter.
    pub(super) fn without(mut self, key: &str) -> Self {
        self.0.remove(key);
        self
    }

    /// As a PROJ string, `+proj` first.
    pub fn to_text(&self) -> String {
        let mut words = vec![format!("+proj={}", self.projection())];
        for (key, value) in self.0.iter().filter(|(key, _)| *key != "proj") {
            words.push(if value.is_empty() { format!("+{key}") } else { format!("+{key}={value}") });
        }
        words.join(" ")
    }

    /// A form that is equal for spellings that mean the same: keys in order, numbers rounded to
    /// 1e-9 of their size, defaults and what does not move a coordinate left out.
    pub fn canonical(&self) -> String {
        let mut words = Vec::new();
        for (key, value) in &self.0 {
            let key = match key.as_str() {
                "no_defs" | "title" | "type" | "wktext" | "over" => continue,
                "units" if value == "m" => continue,
                "k_0" => "k",
                "R" => "a",
                "b" if self.number("a") == self.number("b") => continue,
                other => other,
            };
            match value.parse::<f64>() {
                Ok(0.0) if matches!(key, "x_0" | "y_0" | "lon_0") => {}
                Ok(1.0) if key == "k" => {}
                Ok(number) => words.push(format!("{key}={number:.9e}")),
                Err(_) => words.push(format!("{key}={value}")),
            }
        }
        words.sort();
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_system_are_equal() {
        let a =
            Params::parse("+proj=stere +lat_0=90 +lat_ts=60 +a=6371288 +b=6371288 +x_0=380886.310 +units=m +no_defs");
        let b = Params::parse("+lat_ts=60 +proj=stere +lat_0=90.0 +R=6371288 +x_0=380886.31 +k=1");
        assert_eq!(a.unwrap().canonical(), b.unwrap().canonical());
        let c = Params::parse("+proj=stere +lat_0=90 +lat_ts=61 +R=6371288 +x_0=380886.31").unwrap();
        assert_ne!(Params::parse("+proj=stere +lat_0=90 +lat_ts=60 +R=6371288").unwrap().canonical(), c.canonical());
    }
}
