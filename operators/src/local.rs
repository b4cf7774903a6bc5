//! Values that cross workers of one process and never leave it.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// Carries a value between the workers of one process as it is.
///
/// Timely asks that exchanged data can be serialised, for workers in other processes. Between the threads of one process
/// messages move without a copy. What is behind the windows of a stream stays at its home, and dense fields behind an `Arc`
/// should never be serialised by accident, so that doing so is an error.
#[derive(Clone, Debug)]
pub struct Local<T>(pub T);

impl<T> Serialize for Local<T> {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("a value of one process cannot be sent to another"))
    }
}

impl<'de, T> Deserialize<'de> for Local<T> {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("a value of one process cannot be received from another"))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn refuses_to_leave_the_process() {
        assert!(serde_json::to_string(&super::Local(1)).is_err());
        assert!(serde_json::from_str::<super::Local<u8>>("1").is_err());
    }
}
