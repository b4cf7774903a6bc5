//! The HTTP endpoint: `/metrics` for Prometheus, `/live` and `/ready` for a supervisor, `/frontiers` for a person.
//!
//! It runs on a thread of its own and reads only: nothing that comes in over it can change or stop a forecast.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use squall_fields::{Chain, Failure};
use tokio::sync::oneshot;

/// Why an instance does not forecast yet, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Unready {
    /// A stream has failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// It was told to stop, or its log is over.
    #[error("stream {stream} ends")]
    Ends {
        /// The stream that ends.
        stream: Arc<str>,
    },
    /// A device does not answer.
    #[error("{0}")]
    Device(Failure),
}

/// What the running instance says about itself.
pub trait Status: Send + Sync + 'static {
    /// Why it should be restarted, if it should: a worker or a device thread has ended.
    fn live(&self) -> Result<(), Failure>;

    /// Why it does not forecast yet, or no longer, if it does not.
    fn ready(&self) -> Result<(), Unready>;

    /// Knowledge time of each source, frontier of each operator, committed frontier of each stream.
    fn frontiers(&self) -> serde_json::Value;

    /// Sets the gauges that are true at this moment only; called before metrics are given out.
    fn observe(&self) {}
}

/// Seconds that histograms of durations are cut at: from a commit of a millisecond to a model of two minutes.
const DURATIONS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 120.0];

/// Starts collecting metrics in this process.
///
/// # Errors
/// They are being collected already.
pub fn collect_metrics() -> anyhow::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &DURATIONS)?;
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_requests".into()), &[1.0, 2.0, 4.0, 8.0, 16.0])?;
    builder.install_recorder().context("cannot collect metrics")
}

/// The endpoint, until it is dropped.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    metrics: PrometheusHandle,
    status: Arc<dyn Status>,
}

impl Endpoint {
    /// Listens on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(listen: SocketAddr, metrics: PrometheusHandle, status: Arc<dyn Status>) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind(listen)
            .with_context(|| format!("cannot serve metrics on {listen} (metrics.listen)"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let routes = routes(Shared { metrics, status });
        let serve = move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let server = axum::serve(listener, routes).with_graceful_shutdown(async {
                    let _ = stopped.await;
                });
                std::future::IntoFuture::into_future(server).await
            });
            if let Err(error) = served {
                tracing::error!(%error, "the metrics endpoint ended");
            }
            // A scrape that hangs does not keep the program alive.
            runtime.shutdown_timeout(Duration::from_millis(200));
        };
        let thread = std::thread::Builder::new().name("http".into()).spawn(serve)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/live", get(move |State(shared): State<Shared>| async move { health(&shared.status.live()) }))
        .route("/ready", get(move |State(shared): State<Shared>| async move { health(&shared.status.ready()) }))
        .route("/frontiers", get(|State(shared): State<Shared>| async move { Json(shared.status.frontiers()) }))
        .with_state(shared)
}

fn health<E: Error>(state: &Result<(), E>) -> (StatusCode, String) {
    match state {
        Ok(()) => (StatusCode::OK, "yes\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("no: {}\n", Chain(error))),
    }
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    shared.status.observe();
    shared.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.metrics.render())
}

/// A GET of a path on an endpoint, for `squall inspect frontiers`: status code and body.
///
/// # Errors
/// Nobody answers there, or not in HTTP.
pub fn get_text(address: &str, path: &str) -> anyhow::Result<(u16, String)> {
    use std::io::{Read, Write};
    use std::net::{TcpStream, ToSocketAddrs};
    let limit = Duration::from_secs(5);
    let target = address.to_socket_addrs()?.next().with_context(|| format!("{address} is no address"))?;
    let mut stream = TcpStream::connect_timeout(&target, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 << 20).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let code = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).context("the answer is not HTTP")?;
    Ok((code, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use squall_fields::ErrorKind;

    use super::*;

    struct Half;

    impl Status for Half {
        fn live(&self) -> Result<(), Failure> {
            Ok(())
        }
        fn ready(&self) -> Result<(), Unready> {
            Err(Unready::Failed(Failure::new(ErrorKind::Broker, "stream rain").because("no model yet")))
        }
        fn frontiers(&self) -> serde_json::Value {
            serde_json::json!({"streams": [{"name": "rain"}]})
        }
    }

    #[test]
    fn what_it_serves() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || metrics::counter!("squall_records_total").increment(3));
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = Endpoint::start(listen, recorder.handle(), Arc::new(Half)).unwrap();
        let get = |path| get_text(&endpoint.address().to_string(), path).unwrap();
        assert_eq!(get("/live"), (200, "yes\n".into()));
        assert_eq!(get("/ready"), (503, "no: stream rain: no model yet\n".into()));
        assert_eq!(get("/frontiers"), (200, r#"{"streams":[{"name":"rain"}]}"#.into()));
        let (code, text) = get("/metrics");
        assert!(code == 200 && text.contains("squall_records_total 3"), "{text}");
        assert_eq!(get("/shutdown").0, 404);
        let second = Endpoint::start(endpoint.address(), recorder.handle(), Arc::new(Half));
        assert!(second.unwrap_err().to_string().contains("metrics.listen"));
    }
}
