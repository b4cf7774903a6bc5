//! Makes the products, the file and the records of each forecast, on a thread of its own.
//!
//! Sorting millions of members and compressing them takes seconds on a large grid; a timely worker has no seconds.
//! The file goes to the store *before* its record reaches the sink, under a name that holds its digest: a crash
//! between the two leaves an orphan, never a dangling pointer.

use std::sync::Arc;
use std::time::Duration;

use squall_fields::{ErrorKind, Forecast};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use crate::control::Control;
use crate::encode::{self, EncodeConfig, StoredFile};
use crate::failure::Failure;
use crate::infer::Made;
use crate::local::Local;
use crate::note::{Note, Published};
use crate::offload::{Desk, Service};
use crate::order::frontier_of;
use crate::ports::{FieldStore, ForecastEncoder, Outgoing};
use crate::products::{ProductsConfig, products};
use crate::retry::{Backoff, retry};
use crate::stream::StreamContext;
use crate::{Tick, events};

/// What is made of a forecast, and where it goes.
#[derive(Clone)]
pub struct Publisher {
    /// Which products.
    pub products: ProductsConfig,
    /// Which topics.
    pub encode: EncodeConfig,
    /// Where the file goes, and who writes it; `None` keeps no files.
    pub files: Option<(Arc<dyn FieldStore>, Arc<dyn ForecastEncoder>)>,
}

/// Why a forecast was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The store is away for a while.
    #[error("{0}")]
    Retriable(String),
    /// The store refuses: nothing of this stream can be published.
    #[error("{0}")]
    Store(String),
    /// This forecast cannot be written.
    #[error("{0}")]
    Forecast(String),
}

impl Publisher {
    /// The records of a forecast; its file is in the store when this returns.
    pub fn publish(&self, forecast: &Forecast) -> Result<Vec<Outgoing>, PublishError> {
        let file = self.files.as_ref().map(|(store, encoder)| put(forecast, &**store, &**encoder)).transpose()?;
        let made: Vec<_> = forecast.ensembles.iter().map(|e| products(e, &self.products)).collect();
        let mut records = vec![encode::index(&self.encode, forecast, &self.products, file.as_ref())];
        let tiles = encode::tiles(&self.encode, forecast, &self.products, &made);
        records.extend(tiles.map_err(|e| PublishError::Forecast(e.to_string()))?);
        Ok(records)
    }

    /// Publishes, waiting for a store that is away for as long as the stream goes on.
    fn insist(&self, forecast: &Forecast, control: &Control) -> Result<Vec<Outgoing>, PublishError> {
        let passes = |error: &PublishError| {
            let PublishError::Retriable(reason) = error else { return false };
            let reason = reason.clone();
            events::BrokerTrouble { stream: &forecast.id.stream, what: "storing a forecast", reason }.emit();
            true
        };
        let backoff = Backoff { first: Duration::from_millis(100), ..Backoff::default() };
        retry(backoff, |wait| control.pause_until_done(wait), passes, || self.publish(forecast))
    }
}

fn put(forecast: &Forecast, store: &dyn FieldStore, encoder: &dyn ForecastEncoder) -> Result<StoredFile, PublishError> {
    let bytes = encoder.encode(forecast).map_err(|e| PublishError::Forecast(e.to_string()))?;
    let name = encode::file_name(forecast, &bytes, encoder.extension());
    let failed = |error: crate::ports::StoreError| match error.retriable {
        true => PublishError::Retriable(error.to_string()),
        false => PublishError::Store(error.to_string()),
    };
    let url = store.put(&name, &bytes).map_err(failed)?;
    Ok(StoredFile::new(url, encoder.content_type(), &bytes))
}

/// Forecasts that wait for the thread; a stream has no more in memory ([`crate::infer::Permits`]).
const WAITING: usize = 4;

/// Publishes each forecast and passes its records on to the sink.
pub fn publish<'scope>(
    forecasts: StreamVec<'scope, Tick, Local<Made>>,
    publisher: Publisher,
    stream: StreamContext,
) -> StreamVec<'scope, Tick, Local<Note>> {
    let worker = forecasts.scope().worker();
    forecasts.unary_frontier(Pipeline, "Publish", move |_capability, info| {
        let waker = || worker.sync_activator_for(info.address.to_vec());
        stream.control.register(waker());
        let control = stream.control.clone();
        let name = format!("publish {}", stream.name);
        // It starts with the first forecast: workers without any have none.
        let start = move || {
            let at_work = control.clone();
            let answer = move |forecast: Arc<Forecast>| publisher.insist(&forecast, &at_work);
            let service = Service::each(&name, WAITING, answer)?;
            service.health().attach(&control);
            Ok(service)
        };
        let mut desk: Desk<_, _, (Capability<Tick>, Made)> = Desk::starting(start, Some(waker()));
        move |(input, frontier), output| {
            stream.frontiers.report("publish", frontier_of(frontier));
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for Local(made) in batches.flat_map(|batch| batch.drain(..)) {
                    let forecast = made.forecast.clone();
                    if let Err(lost) = desk.submit(forecast, (capability.clone(), made)) {
                        stream.fail(lost);
                    }
                }
            });
            if stream.control.is_done() {
                desk.clear();
                return;
            }
            while let Some(((capability, made), answer)) = desk.poll() {
                match answer {
                    Ok(Ok(records)) => {
                        let published = Note::Published(made.published(records).into());
                        output.session(&capability).give(Local(published));
                    }
                    Ok(Err(PublishError::Forecast(reason))) => {
                        let issue_time = made.forecast.id.issue_time;
                        events::ForecastLost { stream: &stream.name, issue_time, reason: &reason }.emit();
                    }
                    Ok(Err(error)) => stream.fail(error),
                    Err(lost) => stream.fail(lost),
                }
            }
        }
    })
}

impl Made {
    /// The forecast as it will be committed.
    fn published(&self, records: Vec<Outgoing>) -> Published {
        let Self { forecast, read_at_us, .. } = self;
        Published {
            id: forecast.id.clone(),
            model: forecast.provenance.model.clone(),
            degraded: forecast.is_degraded(),
            read_at_us: *read_at_us,
            records,
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let kind = match error {
            PublishError::Retriable(_) | PublishError::Store(_) => ErrorKind::Device,
            PublishError::Forecast(_) => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::tests::{config, forecast};
    use crate::ports::{EncodeError, StoreError};
    use bytes::Bytes;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Shelf(Mutex<Vec<String>>, bool);

    impl FieldStore for Shelf {
        fn put(&self, name: &str, _: &[u8]) -> Result<String, StoreError> {
            if self.1 {
                return Err(StoreError { name: name.into(), reason: "full".into(), retriable: false });
            }
            self.0.lock().unwrap().push(name.to_owned());
            Ok(format!("mem:///{name}"))
        }

        fn get(&self, url: &str, _: u64) -> Result<Bytes, StoreError> {
            Err(StoreError { name: url.into(), reason: "write only".into(), retriable: false })
        }
    }

    struct Text;

    impl ForecastEncoder for Text {
        fn content_type(&self) -> &'static str {
            "text/plain"
        }

        fn extension(&self) -> &'static str {
            "txt"
        }

        fn encode(&self, forecast: &Forecast) -> Result<Vec<u8>, EncodeError> {
            Ok(forecast.id.to_string().into_bytes())
        }
    }

    fn publisher(shelf: Arc<Shelf>) -> Publisher {
        let products = ProductsConfig { mean: false, quantiles: vec![], thresholds: vec![1.0] };
        Publisher { products, encode: config(), files: Some((shelf, Arc::new(Text))) }
    }

    #[test]
    fn the_file_is_stored_under_its_digest_and_pointed_at() {
        let shelf = Arc::new(Shelf::default());
        let records = publisher(shelf.clone()).publish(&forecast(300, 0)).unwrap();
        let names = shelf.0.lock().unwrap();
        assert!(names[0].starts_with("rain/19700101T000500Z/r0-") && names[0].ends_with(".txt"), "{names:?}");
        let index = String::from_utf8_lossy(records[0].value.as_ref().unwrap());
        assert!(index.contains(&format!("mem:///{}", names[0])));
        assert_eq!(records.len(), 3, "the index and two leads");
    }

    #[test]
    fn a_store_that_refuses_is_told_apart_from_a_bad_forecast() {
        let shelf = Arc::new(Shelf(Mutex::default(), true));
        let error = publisher(shelf).publish(&forecast(300, 0)).unwrap_err();
        assert!(matches!(error, PublishError::Store(_)));
    }
}
