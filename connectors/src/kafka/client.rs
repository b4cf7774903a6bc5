//! What every client shares: its log lines, and the errors that it reports beside its calls.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use squall_operators::ports::{Headers, LogError};

/// Passes librdkafka's log lines on, and keeps the newest error that no retry mends, and failed deliveries.
#[derive(Clone, Default)]
pub(super) struct Context {
    fatal: Arc<Mutex<Option<String>>>,
    undelivered: Arc<Mutex<Option<KafkaError>>>,
}

impl Context {
    /// An error such as wrong credentials, if one was reported.
    pub(super) fn check(&self) -> Result<(), LogError> {
        match &*self.fatal.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => Err(LogError::Fatal(reason.clone())),
            None => Ok(()),
        }
    }

    /// The first delivery that failed since this was asked last.
    pub(super) fn take_undelivered(&self) -> Option<KafkaError> {
        self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).take()
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
        tracing::warn!(target: "squall::kafka", %error, "{reason}");
        if error.rdkafka_error_code().is_some_and(is_hopeless) {
            *self.fatal.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error}: {reason}"));
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}

/// Whether no retry mends it.
fn is_hopeless(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::UnsupportedVersion
            | RDKafkaErrorCode::Fatal
            | RDKafkaErrorCode::SSL
    )
}

/// An error of a call, told apart by whether a retry can help.
pub(super) fn log_error(what: &str, error: &KafkaError) -> LogError {
    let text = format!("{what}: {error}");
    match error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => LogError::Fatal(text),
        error if error.rdkafka_error_code().is_some_and(is_hopeless) => LogError::Fatal(text),
        _ => LogError::Retriable(text),
    }
}

/// Headers as librdkafka wants them.
pub(super) fn owned_headers(headers: &Headers) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |owned, (key, value)| {
        owned.insert(Header { key, value: value.as_deref() })
    })
}
