//! `squall inspect frontiers`.

use std::fmt::Write;

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value};

use crate::commands::{Usage, print};
use crate::http::get_text;

/// Arguments of `squall inspect frontiers`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the running instance serves its metrics (metrics.listen).
    #[arg(long, default_value = "127.0.0.1:9600", value_name = "ADDRESS:PORT")]
    address: String,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if !self.address.contains(':') {
            return Err(Usage(format!("--address: expected address:port, got {}", self.address)).into());
        }
        let asked = || format!("no instance answers on {} (metrics.listen)", self.address);
        let (code, body) = get_text(&self.address, "/frontiers").with_context(asked)?;
        anyhow::ensure!(code == 200, "{} answers {code}: {}", self.address, body.trim());
        if self.json {
            print(&format!("{}\n", body.trim()));
            return Ok(());
        }
        let answer: Value = serde_json::from_str(&body).with_context(asked)?;
        print(&describe(answer.as_object().context("the answer is not what was expected")?));
        Ok(())
    }
}

/// A line for each partition and operator; the operator that holds time back is marked.
fn describe(streams: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, stream) in streams {
        let _ = writeln!(text, "stream {name}");
        for (partition, time) in entries(stream, "partitions") {
            let _ = writeln!(text, "  known   {partition:<40} {}", shown(time));
        }
        let operators: Vec<_> = entries(stream, "operators").collect();
        let earliest = operators.iter().filter_map(|(_, time)| time.as_str()).min();
        for (operator, time) in &operators {
            let holds = time.as_str().is_some() && time.as_str() == earliest;
            let mark = if holds { "  <- holds time back" } else { "" };
            let _ = writeln!(text, "  passed  {operator:<40} {}{mark}", shown(time));
        }
    }
    text
}

fn entries<'v>(stream: &'v Value, kind: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    stream.get(kind).and_then(Value::as_object).into_iter().flatten()
}

fn shown(time: &Value) -> &str {
    time.as_str().unwrap_or("everything")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_operator_is_marked() {
        let answer = serde_json::json!({"rain": {
            "partitions": {"obs[0]": "2016-09-28T16:05:00.000Z"},
            "operators": {"decode": "2016-09-28T16:05:00.000Z", "infer": "2016-09-28T16:00:00.000Z", "source": null},
        }});
        insta::assert_snapshot!(describe(answer.as_object().unwrap()), @r##"
stream rain
  known   obs[0]                                   2016-09-28T16:05:00.000Z
  passed  decode                                   2016-09-28T16:05:00.000Z
  passed  infer                                    2016-09-28T16:00:00.000Z  <- holds time back
  passed  source                                   everything
"##);
    }
}
