//! `squall demo`.

use std::path::PathBuf;

use clap::Args;

use super::publish::{Speed, speed};
use super::{Overrides, print};
use crate::broker::DevBroker;
use crate::config::Layers;
use crate::connect;
use crate::dashboard::Dashboard;
use crate::demo::{Demo, event::Event};
use crate::signals::Stop;

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall demo
  SQUALL_DATA=~/radar squall demo --output out/fmi       the real event radar_fmi_20160928.nc, if it is there
  squall demo --broker kafka --workers 2                 through an Apache Kafka that it starts and stops
  squall demo --speed 100x --set streams.rain.members=16

Plays a storm through the whole pipeline: frames are published, forecasts are made, stored and committed, and read
again by the demo, which draws each one (observed, forecast, probability) and scores it against persistence.
The configuration is configs/demo.toml.";

const CONFIG: &str = include_str!("../../../configs/demo.toml");

/// Where the demo's log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Broker {
    /// In the process.
    Memory,
    /// In a real Apache Kafka, which is started for the demo.
    Kafka,
}

/// Arguments of `squall demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder for forecasts and maps.
    #[arg(short, long, default_value = "out/demo", value_name = "DIR")]
    output: PathBuf,
    /// Where the log is.
    #[arg(long, value_enum, default_value = "memory")]
    broker: Broker,
    /// A file with rain rates to play instead.
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Most frames to play.
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u16).range(4..))]
    frames: u16,
    /// Longest side in cells; a larger field is cut to where it rains most.
    #[arg(long, default_value_t = 384, value_name = "CELLS", value_parser = clap::value_parser!(u16).range(32..))]
    side: u16,
    /// How fast time passes: 100x, or max.
    #[arg(long, default_value = "max", value_name = "SPEED", value_parser = speed)]
    speed: Speed,
    /// Timely workers.
    #[arg(long, default_value_t = 1, value_name = "N")]
    workers: u16,
    #[command(flatten)]
    overrides: Overrides,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let stop = Stop::on_signal()?;
        let broker = match self.broker {
            Broker::Memory => None,
            Broker::Kafka => {
                println!("starting Apache Kafka ...");
                Some(DevBroker::start()?)
            }
        };
        let mut layers = Layers::from_text("configs/demo.toml", CONFIG)
            .set(format!("store.url={}", self.output.join("forecasts").display()))
            .set(format!("runtime.workers={}", self.workers));
        if let Some(broker) = &broker {
            layers = layers.set("log.kind=kafka").set(format!("log.bootstrap_servers={}", broker.bootstrap_servers()));
        }
        let config = self.overrides.apply(layers)?;
        let event = Event::choose(self.input.as_deref(), self.frames.into(), self.side.into())?;
        println!("playing {}", event.title);
        let (connect, store) = (connect::log(&config), connect::store(&config)?);
        let demo = Demo { config, event, speed: self.speed, output: self.output, connect, store };
        let outcome = demo.play(&Dashboard::new(), &stop)?;
        print(&outcome.summary(&demo.output));
        Ok(())
    }
}
