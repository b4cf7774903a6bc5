//! The identity of a topic, which the client library's Rust side does not ask for: one call of its C interface.

use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use squall_operators::ports::LogError;

use super::client::{Context, log_error};

/// As brokers from before there were ids say it.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// A pointer of the library that is given back when it goes out of scope.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the pointer came from the library together with the function that destroys it, and nobody else has it.
            unsafe { (self.1)(self.0) };
        }
    }
}

/// The id of a topic, as Kafka's tools print it; `None` if the broker gives none.
///
/// # Errors
/// There is no such topic; the broker does not answer within the time, or refuses.
pub(super) fn topic_id(client: &Client<Context>, topic: &str, limit: Duration) -> Result<Option<Arc<str>>, LogError> {
    let what = || format!("asking for the id of {topic}");
    let failed = |code: rd::rd_kafka_resp_err_t| match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            LogError::NoTopic { topic: topic.to_owned() }
        }
        code => log_error(&what(), KafkaError::AdminOp(code)),
    };
    let name = CString::new(topic).map_err(|error| LogError::settings(what(), error))?;
    let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    let kafka = client.native_ptr();
    let mut text = [0; 256];
    let mut names = [name.as_ptr()];
    // SAFETY: `kafka` is alive as long as `client`. Options, collection, queue and event are each destroyed once, by
    // `Owned`, in the opposite order; the library keeps what a request under way needs of them. Names and the error text
    // live on this stack and are only used within the calls. Descriptions, errors and ids belong to the event and are
    // copied before it goes.
    unsafe {
        let api = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = Owned(rd::rd_kafka_AdminOptions_new(kafka, api), rd::rd_kafka_AdminOptions_destroy);
        rd::rd_kafka_AdminOptions_set_request_timeout(options.0, limit_ms, text.as_mut_ptr(), text.len());
        let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned(topics, rd::rd_kafka_TopicCollection_destroy);
        let queue = Owned(rd::rd_kafka_queue_new(kafka), rd::rd_kafka_queue_destroy);
        rd::rd_kafka_DescribeTopics(kafka, topics.0, options.0, queue.0);
        let event = Owned(rd::rd_kafka_queue_poll(queue.0, limit_ms), rd::rd_kafka_event_destroy);
        if event.0.is_null() {
            return Err(LogError::away(what(), "no answer in time"));
        }
        let code = rd::rd_kafka_event_error(event.0);
        if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(code));
        }
        let result = rd::rd_kafka_event_DescribeTopics_result(event.0);
        let mut count = 0;
        let described = match result.is_null() {
            true => std::ptr::null_mut(),
            false => rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count),
        };
        if described.is_null() || count == 0 {
            return Err(LogError::failed(what(), "an answer of another kind"));
        }
        let described = *described;
        let error = rd::rd_kafka_TopicDescription_error(described);
        let code = match error.is_null() {
            true => rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            false => rd::rd_kafka_error_code(error),
        };
        if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(code));
        }
        let id = rd::rd_kafka_TopicDescription_topic_id(described);
        let id = if id.is_null() { std::ptr::null() } else { rd::rd_kafka_Uuid_base64str(id) };
        if id.is_null() {
            return Ok(None);
        }
        let id = CStr::from_ptr(id).to_string_lossy();
        Ok(Some(id).filter(|id| *id != NO_ID && !id.is_empty()).map(|id| Arc::from(&*id)))
    }
}
