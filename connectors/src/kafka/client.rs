//! What every client shares: its log lines, and the errors that it reports beside its calls.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, Timestamp};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use squall_operators::ports::LogError;

use super::advice::with_advice;
use super::clock::{Stamped, now_ms};

/// Passes librdkafka's log lines on, and keeps the newest error that no retry mends, failed deliveries, and the broker's
/// newest stamp.
#[derive(Clone, Default)]
pub(super) struct Context {
    fatal: Arc<Mutex<Option<LogError>>>,
    undelivered: Arc<Mutex<Vec<(usize, KafkaError)>>>,
    stamped: Arc<Mutex<Option<Stamped>>>,
    said: Arc<Mutex<Said>>,
}

/// After this a trouble that lasts is said again.
const AGAIN: Duration = Duration::from_secs(30);

/// What was logged last: a broker that is away is reported many times a second.
#[derive(Default)]
struct Said(Option<(String, Instant)>);

impl Said {
    /// Whether something is new, or was said long enough ago.
    fn is_news(&mut self, reason: &str, now: Instant) -> bool {
        let is_known = |(said, at): &(String, Instant)| said == reason && now.duration_since(*at) < AGAIN;
        let is_news = !self.0.as_ref().is_some_and(is_known);
        if is_news {
            self.0 = Some((reason.to_owned(), now));
        }
        is_news
    }
}

impl Context {
    /// An error such as wrong credentials, if one was reported.
    pub(super) fn check(&self) -> Result<(), LogError> {
        match &*self.fatal.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// The deliveries that failed since this was asked last: the number that each record was sent with, and why.
    pub(super) fn take_undelivered(&self) -> Vec<(usize, KafkaError)> {
        std::mem::take(&mut *self.undelivered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest record that the broker has stamped itself since this was asked last.
    pub(super) fn take_stamped(&self) -> Option<Stamped> {
        self.stamped.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(target: "squall::kafka", facility, "{message}");
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::info!(target: "squall::kafka", facility, "{message}");
            }
            _ => tracing::debug!(target: "squall::kafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(RDKafkaErrorCode::PartitionEOF) = error.rdkafka_error_code() {
            return; // asked for, and no error
        }
        if self.said.lock().unwrap_or_else(PoisonError::into_inner).is_news(reason, Instant::now()) {
            tracing::warn!(target: "squall::kafka", %error, "{reason}");
        }
        if is_disconnect(reason) {
            return; // it is tried again
        }
        let error = log_error(&with_advice(error.rdkafka_error_code(), reason), error);
        if !error.is_retriable() {
            *self.fatal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(message) => {
                if let Timestamp::LogAppendTime(timestamp_ms) = message.timestamp() {
                    let stamped = Stamped { number, timestamp_ms, answered_ms: now_ms() };
                    *self.stamped.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamped);
                }
            }
            Err((error, _)) => {
                self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).push((number, error.clone()));
            }
        }
    }
}

/// Whether what librdkafka calls an error of security says that a broker went away amid the greeting.
fn is_disconnect(reason: &str) -> bool {
    let signs =
        ["Local: Broker transport failure", "Local: Timed out", "unexpected eof while reading", "SSL transport error"];
    signs.iter().any(|sign| reason.contains(sign))
}

/// An error about a setting repeats its value, which may be a secret.
fn without_value(error: KafkaError) -> KafkaError {
    match error {
        KafkaError::ClientConfig(result, reason, name, value) if !value.is_empty() => {
            KafkaError::ClientConfig(result, reason.replace(&value, "***"), name, "***".to_owned())
        }
        error => error,
    }
}

/// An error of a call, told apart by who can help: the broker by itself, after a while, unless the code says otherwise.
pub(super) fn log_error(what: &str, error: KafkaError) -> LogError {
    use RDKafkaErrorCode as Code;
    let error = without_value(error);
    match (&error, error.rdkafka_error_code()) {
        (KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_), _) => {
            LogError::settings(what, error)
        }
        (
            _,
            Some(
                Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::InvalidTopic
                | Code::MessageSizeTooLarge
                | Code::SSL,
            ),
        ) => LogError::refused(what, error),
        (_, Some(Code::UnsupportedVersion | Code::Fatal)) => LogError::failed(what, error),
        _ => LogError::away(what, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_goes_amid_the_greeting_is_away_and_one_that_refuses_is_not() {
        let told = |reason: &str| {
            let context = Context::default();
            context.error(KafkaError::Global(RDKafkaErrorCode::Authentication), reason);
            context.check().is_err()
        };
        let gone = "SASL SCRAM-SHA-256 mechanism handshake failed: Local: Broker transport failure: broker's supported mechanisms: ";
        assert!(!told(gone));
        assert!(!told("SaslAuthenticateRequest failed: Local: Timed out"));
        assert!(told("SASL authentication error: Authentication failed due to invalid credentials"));
    }

    #[test]
    fn what_lasts_is_said_now_and_then() {
        let (mut said, start) = (Said::default(), Instant::now());
        let news = [("away", 0), ("away", 1), ("refused", 2), ("away", 3), ("away", 32), ("away", 33)];
        let news = news.map(|(reason, second)| said.is_news(reason, start + Duration::from_secs(second)));
        assert_eq!(news, [true, false, true, true, false, true]);
    }
}
