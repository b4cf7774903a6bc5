//! The program `squall` as a library: configuration, graph, run time, commands.
//!
//! The crates below hold mechanisms; what is decided for a user (defaults, topics, exit codes) is here.
//!
//! A whole run, as `squall run` does it, on a log in memory: a simulated storm in, forecasts out.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use squall_connectors::memory::MemoryLog;
//! use squall_models::simulate::StormSettings;
//! use squall_operators::ports::Connect;
//! use squall_pipeline::commands::simulate::frames;
//! use squall_pipeline::config::Layers;
//! use squall_pipeline::publish::{Arrivals, Format, end_of_log, record};
//! use squall_pipeline::{connect, runtime::Runtime, topics};
//!
//! let store = tempfile::tempdir()?;
//! let text = r#"
//!     [runtime]
//!     clock = "log"        # a replay: time is what the records say
//!     until_marker = true
//!     [[sources]]
//!     name = "radar"
//!     variables = ["rain_rate"]
//!     cadence = "5 min"
//!     [[streams]]
//!     name = "rain"
//!     source = "radar"
//!     window_frames = 3
//!     leads = 2
//!     members = 2
//!     thresholds = [1.0]
//!     model = { name = "extrapolation" }
//! "#;
//! let layers = Layers::from_text("example.toml", text).set(format!("store.url={}", store.path().display()));
//! let config = layers.load()?;
//! let log = Arc::new(MemoryLog::new());
//! topics::ensure(&config, &*log)?;
//!
//! let source = &config.sources[0];
//! let settings = StormSettings { rows: 64, columns: 64, ..StormSettings::default() };
//! let storm = frames(settings, 5, &source.variables);
//! let mut writer = log.writer()?;
//! for frame in &storm {
//!     let arrival = Arrivals::default().of(frame.slot);
//!     writer.send(record(&config, source, frame, arrival, Some(0), Format::Netcdf)?)?;
//! }
//! writer.send(end_of_log(source, 0, Arrivals::default().of(storm[4].slot)))?;
//! writer.flush(Duration::from_secs(10))?;
//!
//! Runtime::start(&config, log.clone(), connect::store(&config)?)?.join()?;
//!
//! // A window of three frames is complete three times: three forecasts, each one record of the index.
//! let mut reader = log.reader(1 << 20)?;
//! let index = reader.partitions(&config.streams[0].topics.index)?.remove(0);
//! reader.assign(&[(index.clone(), 0)])?;
//! let mut forecasts = Vec::new();
//! while reader.position(&index)? < reader.end_offset(&index)? {
//!     forecasts.extend(reader.poll(Duration::from_millis(100))?);
//! }
//! assert_eq!(forecasts.len(), 3);
//! assert_eq!(forecasts[0].header("degraded"), Some("false"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod archive;
pub mod backtest;
pub mod broker;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod connect;
pub mod dashboard;
pub mod demo;
pub mod devices;
pub mod doctor;
pub mod event_list;
pub mod exit;
pub mod font;
pub mod frames;
pub mod gc;
pub mod graph;
pub mod http;
pub mod inputs;
pub mod logging;
pub mod maps;
pub mod memory;
pub mod once;
pub mod publish;
pub mod runtime;
pub mod scratch;
pub mod series;
pub mod signals;
pub mod supervise;
pub mod threads;
pub mod topics;
pub mod training;
pub mod verify;
pub mod watch;
