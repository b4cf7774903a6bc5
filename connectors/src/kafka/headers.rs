//! Headers between Squall and librdkafka.

use std::ffi::CStr;
use std::ptr;

use bytes::Bytes;
use rdkafka::bindings::rd_kafka_header_get_all;
use rdkafka::message::{BorrowedHeaders, Header, OwnedHeaders};
use rdkafka::types::RDKafkaHeaders;
use squall_operators::ports::Headers;

/// Headers as librdkafka wants them.
pub(super) fn owned(headers: &Headers) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |owned, (key, value)| {
        owned.insert(Header { key, value: value.as_deref() })
    })
}

/// The headers of a record that was read. The library's own way panics at a name that is no UTF-8, which whoever may
/// write to the topic can send; here what is wrong in a name is replaced by U+FFFD.
pub(super) fn read(headers: &BorrowedHeaders) -> Headers {
    // The library makes its reference from this very pointer, and makes the pointer from it again.
    let native = ptr::from_ref(headers).cast::<RDKafkaHeaders>();
    let mut read = Vec::new();
    loop {
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers live as long as the reference; the three results live on this stack.
        let found =
            unsafe { rd_kafka_header_get_all(native, read.len(), &raw mut name, &raw mut value, &raw mut length) };
        if found as i32 != 0 || name.is_null() {
            return read;
        }
        // SAFETY: librdkafka ends names with a zero, and both live as long as the headers.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        // SAFETY: librdkafka gives the length of the value that it points at; a null value is a null pointer.
        let value = (!value.is_null()).then(|| unsafe { std::slice::from_raw_parts(value.cast::<u8>(), length) });
        read.push((name, value.map(Bytes::copy_from_slice)));
    }
}
