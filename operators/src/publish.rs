//! Makes the products, the file and the records of each forecast, on a thread of its own.
//!
//! Sorting millions of members and compressing them takes seconds on a large grid; a timely worker has no seconds.
//! The file goes to the store *before* its record reaches the sink, under a name that holds its digest: a crash
//! between the two leaves an orphan, never a dangling pointer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use squall_fields::Forecast;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use crate::control::Control;
use crate::encode::{self, EncodeConfig, StoredFile};
use crate::infer::Made;
use crate::local::Local;
use crate::note::{Note, Published};
use crate::order::frontier_of;
use crate::ports::{FieldStore, ForecastEncoder, Outgoing};
use crate::products::{ProductField, ProductsConfig, products};
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
        let made = products(forecast, &self.products);
        let (store, encoder) = &self.files;
        let file = put(forecast, &made, &**store, &**encoder)?;
        let mut records = vec![encode::index(&self.encode, forecast, &self.products, &file)];
        let tiles = encode::tiles(&self.encode, forecast, &made);
        records.extend(tiles.map_err(|e| PublishError::Forecast(e.to_string()))?);
        Ok(records)
    }

    /// Publishes, waiting for a store that is away for as long as the stream runs.
    fn insist(&self, forecast: &Forecast, control: &Control) -> Result<Vec<Outgoing>, PublishError> {
        let mut backoff = Duration::from_millis(100);
        loop {
            match self.publish(forecast) {
                Err(PublishError::Retriable(reason)) if !control.is_done() => {
                    events::BrokerTrouble { stream: &forecast.id.stream, what: "storing a forecast", reason }.emit();
                    std::thread::sleep(backoff);
                    backoff = (backoff * 2).min(Duration::from_secs(5));
                }
                other => return other,
            }
        }
    }
}

fn put(
    forecast: &Forecast,
    products: &[ProductField<'_>],
    store: &dyn FieldStore,
    encoder: &dyn ForecastEncoder,
) -> Result<StoredFile, PublishError> {
    let bytes = encoder.encode(forecast, products).map_err(|e| PublishError::Forecast(e.to_string()))?;
    let name = encode::file_name(forecast, &bytes, encoder.extension());
    let failed = |error: crate::ports::StoreError| match error.retriable {
        true => PublishError::Retriable(error.to_string()),
        false => PublishError::Store(error.to_string()),
    };
    let url = store.put(&name, &bytes).map_err(failed)?;
    Ok(StoredFile::new(url, encoder.content_type(), &bytes))
}

type Answer = (u64, Result<Vec<Outgoing>, PublishError>);

/// Publishes each forecast and passes its records on to the sink.
pub fn publish<'scope>(
    forecasts: StreamVec<'scope, Tick, Local<Made>>,
    publisher: Publisher,
    stream: Arc<str>,
    control: Arc<Control>,
) -> StreamVec<'scope, Tick, Local<Note>> {
    let worker = forecasts.scope().worker();
    forecasts.unary_frontier(Pipeline, "Publish", move |_capability, info| {
        let wake = worker.sync_activator_for(info.address.to_vec());
        control.register(worker.sync_activator_for(info.address.to_vec()));
        let (requests, inbox) = crossbeam_channel::unbounded::<(u64, Arc<Forecast>)>();
        let (outbox, answers) = crossbeam_channel::unbounded::<Answer>();
        let at_work = control.clone();
        let mut inbox = Some((inbox, outbox, wake, publisher));
        let mut running: BTreeMap<u64, (Capability<Tick>, Made)> = BTreeMap::new();
        let mut next_id = 0u64;
        move |(input, frontier), output| {
            control.report("publish", frontier_of(frontier));
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for Local(made) in batches.flat_map(|batch| batch.drain(..)) {
                    // The thread starts with the first forecast: workers without any have none.
                    if let Some((inbox, outbox, wake, publisher)) = inbox.take() {
                        let control = at_work.clone();
                        std::thread::spawn(move || {
                            for (id, forecast) in inbox {
                                let answer = publisher.insist(&forecast, &control);
                                drop(forecast);
                                if outbox.send((id, answer)).is_err() {
                                    return; // the dataflow is gone
                                }
                                let _ = wake.activate();
                            }
                        });
                    }
                    let _ = requests.send((next_id, made.forecast.clone()));
                    running.insert(next_id, (capability.clone(), made));
                    next_id += 1;
                }
            });
            if control.is_done() {
                running.clear();
                return;
            }
            for (id, answer) in answers.try_iter() {
                let Some((capability, made)) = running.remove(&id) else { continue };
                let Made { forecast, read_at_us, .. } = made;
                match answer {
                    Ok(records) => {
                        let published = Published {
                            id: forecast.id.clone(),
                            model: forecast.provenance.model.clone(),
                            degraded: forecast.is_degraded(),
                            read_at_us,
                            records,
                        };
                        output.session(&capability).give(Local(Note::Published(published.into())));
                    }
                    Err(error @ PublishError::Forecast(_)) => {
                        let (issue_time, reason) = (forecast.id.issue_time, error.to_string());
                        events::ForecastLost { stream: &stream, issue_time, reason: &reason }.emit();
                    }
                    Err(error) => control.fail(format!("stream {stream}: {error}")),
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::tests::{config, forecast};
    use crate::ports::{EncodeError, StoreError};
    use crate::products::PROBABILITIES;
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

        fn encode(&self, forecast: &Forecast, products: &[ProductField<'_>]) -> Result<Vec<u8>, EncodeError> {
            let names: Vec<_> = products.iter().map(|field| field.product.name).collect();
            Ok(format!("{} {}", forecast.id, names.join(" ")).into_bytes())
        }
    }

    fn publisher(shelf: Arc<Shelf>) -> Publisher {
        let products = ProductsConfig::new([&PROBABILITIES], |_| vec![1.0]);
        Publisher { products, encode: config(), files: (shelf, Arc::new(Text)) }
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
