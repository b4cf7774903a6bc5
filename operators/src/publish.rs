//! Makes the products, the file and the records of each forecast, on a thread of its own.
//!
//! Sorting millions of members and compressing them takes seconds on a large grid; a timely worker has no seconds.
//! The file goes to the store *before* its record reaches the sink, under a name that holds its digest: a crash
//! between the two leaves an orphan, never a dangling pointer.

use std::sync::Arc;
use std::time::Duration;

use squall_fields::{Chain, ErrorKind, Forecast};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use crate::control::Control;
use crate::encode::{self, EncodeConfig, StoredFile};
use crate::infer::{Inferred, Made};
use crate::local::Local;
use crate::note::{Note, Published};
use crate::offload::{Aside, Desk, Service};
use crate::order::frontier_of;
use crate::ports::{EncodeError, FieldStore, ForecastEncoder, Outgoing, StoreError};
use crate::products::{ProductField, ProductsConfig, products};
use crate::retry::{Backoff, retry};
use crate::stream::StreamContext;
use crate::verify::PublishedFile;
use crate::{Tick, events};

/// What is made of a forecast, and where it goes.
#[derive(Clone)]
pub struct Publisher {
    /// Which products.
    pub products: ProductsConfig,
    /// Which topics.
    pub encode: EncodeConfig,
    /// Where the file goes, and who writes it.
    pub files: (Arc<dyn FieldStore>, Arc<dyn ForecastEncoder>),
    /// Where it is computed, if nobody waits for it.
    pub aside: Aside,
}

/// Why a forecast was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The store did not take the file: unless it may later, nothing of this stream can be published.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This forecast cannot be written as a file, or not now.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// This forecast's fields cannot be packed.
    #[error("the fields of the forecast cannot be packed")]
    Pack(#[from] std::io::Error),
}

impl PublishError {
    /// Who can help.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Encode(error) => error.kind(),
            Self::Pack(_) => ErrorKind::Internal,
        }
    }

    /// Whether the same forecast may be published later.
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retriable(),
            Self::Encode(error) => error.is_retriable(),
            Self::Pack(_) => false,
        }
    }
}

impl Publisher {
    /// The records of a forecast, and the URL of its file, which is in the store when this returns.
    pub fn publish(&self, forecast: &Forecast) -> Result<(Vec<Outgoing>, String), PublishError> {
        let made = products(forecast, &self.products);
        let (store, encoder) = &self.files;
        // What writes the file has one thread; the tiles take the others meanwhile.
        let file = || put(forecast, &made, &**store, &**encoder);
        let (file, tiles) = rayon::join(file, || encode::tiles(&self.encode, forecast, &made));
        let file = file?;
        let mut records = vec![encode::index(&self.encode, forecast, &self.products, &file)];
        records.extend(tiles?);
        Ok((records, file.url))
    }

    /// Publishes, waiting for a store that is away, or a disk that is full, for as long as the stream goes on.
    fn insist(&self, forecast: &Forecast, control: &Control) -> Result<(Vec<Outgoing>, String), PublishError> {
        let passes = |error: &PublishError| {
            if error.is_retriable() {
                let (stream, reason) = (&*forecast.id.stream, Chain(error).to_string());
                events::BrokerTrouble { stream, what: "storing a forecast", reason }.emit();
            }
            error.is_retriable()
        };
        let backoff = Backoff { first: Duration::from_millis(100), ..Backoff::default() };
        retry(backoff, |wait| control.pause_until_done(wait), passes, || self.aside.run(|| self.publish(forecast)))
    }
}

fn put(
    forecast: &Forecast,
    products: &[ProductField<'_>],
    store: &dyn FieldStore,
    encoder: &dyn ForecastEncoder,
) -> Result<StoredFile, PublishError> {
    let bytes = encoder.encode(forecast, products)?;
    let name = encode::file_name(forecast, &bytes, encoder.extension());
    let url = store.put(&name, &bytes)?;
    Ok(StoredFile::new(url, encoder.content_type(), &bytes))
}

/// Forecasts that wait for the thread; a stream has no more in memory ([`crate::infer::Permits`]).
const WAITING: usize = 4;

/// Publishes each forecast and passes its records on to the sink.
pub fn publish<'scope>(
    forecasts: StreamVec<'scope, Tick, Local<Inferred>>,
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
                for Local(inferred) in batches.flat_map(|batch| batch.drain(..)) {
                    let made = match inferred {
                        Inferred::Made(made) => made,
                        Inferred::Skipped(decision) => {
                            output.session(&capability).give(Local(Note::Decided(decision)));
                            continue;
                        }
                    };
                    let forecast = made.forecast.clone();
                    if let Err(lost) = desk.submit(forecast, (capability.clone(), made)) {
                        stream.control.fail(lost.into());
                    }
                }
            });
            if stream.control.is_done() {
                desk.clear();
                return;
            }
            while let Some(((capability, made), answer)) = desk.poll() {
                match answer {
                    Ok(Ok((records, url))) => {
                        let published = Note::Published(made.published(records, url).into());
                        output.session(&capability).give(Local(published));
                    }
                    Ok(Err(error @ (PublishError::Encode(_) | PublishError::Pack(_)))) if !error.is_retriable() => {
                        let (issue_time, reason) = (made.forecast.id.issue_time, Chain(&error).to_string());
                        events::ForecastLost { stream: &stream.name, issue_time, reason: &reason }.emit();
                    }
                    Ok(Err(error)) => stream.fail(error.kind(), error),
                    Err(lost) => stream.control.fail(lost.into()),
                }
            }
        }
    })
}

impl Made {
    /// The forecast as it will be committed.
    fn published(&self, records: Vec<Outgoing>, url: String) -> Published {
        let Self { forecast, read_at_us, decision, .. } = self;
        let file = PublishedFile::of(forecast, url);
        Published {
            id: forecast.id.clone(),
            model: forecast.provenance.model.clone(),
            degraded: forecast.is_degraded(),
            read_at_us: *read_at_us,
            decision: decision.clone(),
            file,
            records,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::tests::{config, forecast};
    use crate::products::PROBABILITIES;
    use bytes::Bytes;
    use squall_fields::Cause;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Shelf(Mutex<Vec<String>>, bool);

    impl FieldStore for Shelf {
        fn put(&self, name: &str, _: &[u8]) -> Result<String, StoreError> {
            if self.1 {
                return Err(StoreError::Refused { name: name.into(), cause: Cause::new("no rights") });
            }
            self.0.lock().unwrap().push(name.to_owned());
            Ok(format!("mem:///{name}"))
        }

        fn get(&self, url: &str, _: u64) -> Result<Bytes, StoreError> {
            Err(StoreError::Missing { name: url.into() })
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

        fn encode(&self, forecast: &Forecast, products: &[ProductField<'_>]) -> Result<Vec<u8>, EncodeError> {
            let names: Vec<_> = products.iter().map(|field| field.product.name).collect();
            Ok(format!("{} {}", forecast.id, names.join(" ")).into_bytes())
        }
    }

    fn publisher(shelf: Arc<Shelf>) -> Publisher {
        let products = ProductsConfig::new([&PROBABILITIES], |_| vec![1.0]);
        Publisher { products, encode: config(), files: (shelf, Arc::new(Text)), aside: Aside::default() }
    }

    #[test]
    fn the_file_is_stored_under_its_digest_and_pointed_at() {
        let shelf = Arc::new(Shelf::default());
        let (records, url) = publisher(shelf.clone()).publish(&forecast(300, 0)).unwrap();
        let names = shelf.0.lock().unwrap();
        assert!(names[0].starts_with("rain/19700101T000500Z/r0-") && names[0].ends_with(".txt"), "{names:?}");
        let index = String::from_utf8_lossy(records[0].value.as_ref().unwrap());
        assert!(index.contains(&format!("mem:///{}", names[0])) && url.ends_with(&*names[0]));
        assert_eq!(records.len(), 3, "the index and two leads");
    }

    /// Writes on a disk that is full twice.
    #[derive(Default)]
    struct Full(std::sync::atomic::AtomicUsize);

    impl ForecastEncoder for Full {
        fn content_type(&self) -> &'static str {
            Text.content_type()
        }

        fn extension(&self) -> &'static str {
            Text.extension()
        }

        fn encode(&self, forecast: &Forecast, products: &[ProductField<'_>]) -> Result<Vec<u8>, EncodeError> {
            match self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0 | 1 => Err(EncodeError::new("text", ErrorKind::Device, "no room")),
                _ => Text.encode(forecast, products),
            }
        }
    }

    #[test]
    fn a_forecast_waits_for_room_on_the_disk() {
        let publisher =
            Publisher { files: (Arc::new(Shelf::default()), Arc::<Full>::default()), ..publisher(Arc::default()) };
        let (records, _) = publisher.insist(&forecast(300, 0), &Control::new()).unwrap();
        assert_eq!(records.len(), 3);
    }

    #[test]
    fn a_store_that_refuses_is_told_apart_from_a_bad_forecast() {
        let shelf = Arc::new(Shelf(Mutex::default(), true));
        let error = publisher(shelf).publish(&forecast(300, 0)).unwrap_err();
        assert!(matches!(error, PublishError::Store(_)));
    }
}
