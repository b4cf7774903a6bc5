//! `squall demo`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use squall_fields::Chain;

use super::publish::{Speed, speed};
use super::{Overrides, duration, print};
use crate::broker::DevBroker;
use crate::config::Layers;
use crate::connect;
use crate::dashboard::Dashboard;
use crate::demo::{Demo, compare, event::Event};
use crate::signals::Stop;

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall demo
  SQUALL_DATA=~/radar squall demo --output out/fmi       the real event radar_fmi_20160928.nc, if it is there
  squall demo --broker kafka --workers 2                 through an Apache Kafka that it starts and stops
  squall demo --speed 100x --set streams.rain.members=16

Plays a storm through the whole pipeline: frames are published, forecasts are made, stored and committed, and read
again by the demo, which draws each one (observed, forecast, probability) and scores it against persistence.
The configuration is configs/demo.toml. Then CogDPM, a trained model, forecasts some of the same issue times, as many as
fit in --model-time, and both models and persistence are drawn and scored side by side.";

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
    /// Trained model to compare with; default: models/weights/cogdpm-rain.safetensors from here or above the program.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// How long the trained model may forecast, but at least one issue time; "0 s" leaves it out.
    #[arg(long, default_value = "2 min", value_name = "DURATION", value_parser = duration)]
    model_time: Duration,
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
        if self.model_time.is_zero() || stop.is_set() || outcome.board.forecasts() == 0 {
            return Ok(());
        }
        let Some(weights) = self.weights.clone().or_else(compare::shipped_weights) else {
            let text = "CogDPM is left out: models/weights/cogdpm-rain.safetensors is neither here nor above the program \
                        (--weights FILE names it)";
            println!("\n{text}");
            return Ok(());
        };
        println!("\nthe same by {}, for at most {:.0} s", weights.display(), self.model_time.as_secs_f64());
        match demo.compare(&weights, self.model_time, &outcome, &Dashboard::new(), &stop) {
            Ok(compared) => print(&compared.summary()),
            // What nobody asked for must not spoil what was.
            Err(error) if self.weights.is_none() => println!("it is left out: {}", Chain(error.as_ref())),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
