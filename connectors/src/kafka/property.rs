//! Settings that are passed on to librdkafka, some of them secret.
//!
//! A [`Secret`] can be read in this folder alone, where a client's configuration is made. Everywhere else it is
//! `***`: in a log line, in an error, in what `squall inspect config` prints.

use std::fmt;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use serde::{Serialize, Serializer};

/// A text that nobody may read.
///
/// ```
/// use squall_connectors::kafka::Secret;
/// let secret = Secret::new("hunter2");
/// assert_eq!(format!("{secret} {secret:?}"), "*** ***");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The value of a setting of librdkafka; whether it is secret follows from the setting's name.
///
/// ```
/// use squall_connectors::kafka::Property;
/// let password = Property::new("sasl.password", "hunter2");
/// assert_eq!(format!("{password} {password:?}"), "*** ***");
/// assert_eq!(Property::new("linger.ms", "5").to_string(), "5");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum Property {
    /// Anyone may read it.
    Plain(String),
    /// Nobody may.
    Secret(Secret),
}

/// Why librdkafka does not take a setting. Never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    /// It has no setting of that name.
    #[error("librdkafka has no such setting")]
    Unknown,
    /// It has, and does not take this value.
    #[error("librdkafka does not take this value{0}")]
    Refused(String),
}

/// Parts of the names of settings that hold secrets.
const SECRET: [&str; 9] =
    ["password", "passphrase", "secret", "token", "pem", "private.key", "credential", "jaas", "oauthbearer.config"];

impl Property {
    /// The value of the setting of that name.
    pub fn new(name: &str, value: impl Into<String>) -> Self {
        let name = name.to_ascii_lowercase().replace('_', ".");
        if SECRET.iter().any(|part| name.contains(part)) {
            Self::Secret(Secret::new(value))
        } else {
            Self::Plain(value.into())
        }
    }

    /// Asks librdkafka whether it has a setting of that name and takes this value. Connects to nothing.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, name: &str) -> Result<(), PropertyError> {
        match ClientConfig::new().set(name, self.expose()).create_native_config() {
            Ok(_) => Ok(()),
            Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => Err(PropertyError::Unknown),
            // What librdkafka says repeats the value.
            Err(_) if matches!(self, Self::Secret(_)) => Err(PropertyError::Refused(String::new())),
            Err(KafkaError::ClientConfig(_, reason, ..)) => Err(PropertyError::Refused(format!(": {reason}"))),
            Err(error) => Err(PropertyError::Refused(format!(": {error}"))),
        }
    }

    /// The value itself, for the configuration of a client.
    pub(super) fn expose(&self) -> &str {
        match self {
            Self::Plain(value) | Self::Secret(Secret(value)) => value,
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(value) => f.write_str(value),
            Self::Secret(secret) => secret.fmt(f),
        }
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Property {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafka_says_what_it_does_not_know_and_no_error_tells_a_secret() {
        let check = |name: &str, value: &str| Property::new(name, value).check(name);
        assert_eq!(check("sasl.password", "hunter2"), Ok(()));
        assert_eq!(check("linger.ms", "5"), Ok(()));
        assert_eq!(check("sasl.passwrd", "hunter2"), Err(PropertyError::Unknown));
        let refused = check("linger.ms", "soon").unwrap_err().to_string();
        assert!(
            refused.starts_with("librdkafka does not take this value: ") && refused.contains("Invalid value"),
            "{refused}"
        );
        let hidden = check("ssl.key.password", "hunter2\0").unwrap_err().to_string();
        assert_eq!(hidden, "librdkafka does not take this value");
    }

    #[test]
    fn every_setting_that_librdkafka_hides_is_secret() {
        // Marked as sensitive in librdkafka's own list, names of users and files apart.
        let hidden = [
            "sasl.password",
            "ssl.key.password",
            "ssl.key.pem",
            "ssl.ca.pem",
            "ssl.keystore.password",
            "sasl.oauthbearer.config",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.private.key.pem",
        ];
        for name in hidden.into_iter().chain(["SASL_PASSWORD"]) {
            assert!(matches!(Property::new(name, "x"), Property::Secret(_)), "{name}");
        }
        for name in ["sasl.username", "security.protocol", "ssl.ca.location", "linger.ms"] {
            assert!(matches!(Property::new(name, "x"), Property::Plain(_)), "{name}");
        }
    }
}
