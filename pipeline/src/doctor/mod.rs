//! Whether everything that Squall needs works here: one finding for each thing, none of which stops the next.
//!
//! A stream that does not run has one cause and a dozen symptoms. So each part is tried by itself, in the order in which
//! they depend on each other, and what could not be tried says so instead of failing for another's fault.

mod broker;
mod compute;
mod host;
mod store;

use serde::Serialize;
use squall_fields::ErrorKind;

use crate::config::{Config, Faults};

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It works.
    Ok,
    /// It works, and something about it may surprise.
    Note,
    /// It does not work.
    Failed,
    /// It was not tried.
    Skipped,
}

impl Status {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// What was found of one part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The part.
    pub part: String,
    /// How it is.
    pub status: Status,
    /// What was found, in a sentence or several, separated by `; `.
    pub found: String,
    /// Of one that failed: who can help, which decides the exit code.
    #[serde(skip)]
    pub kind: Option<ErrorKind>,
}

impl Finding {
    fn new(part: &str, status: Status, found: impl Into<String>) -> Self {
        Self { part: part.to_owned(), status, found: found.into(), kind: None }
    }

    fn ok(part: &str, found: impl Into<String>) -> Self {
        Self::new(part, Status::Ok, found)
    }

    fn note(part: &str, found: impl Into<String>) -> Self {
        Self::new(part, Status::Note, found)
    }

    fn skipped(part: &str, why: impl Into<String>) -> Self {
        Self::new(part, Status::Skipped, why)
    }

    fn failed(part: &str, kind: ErrorKind, found: impl Into<String>) -> Self {
        Self { kind: Some(kind), ..Self::new(part, Status::Failed, found) }
    }
}

/// Something does not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} of {tried} parts {}: {}", failed.len(), if failed.len() == 1 { "does not work" } else { "do not work" }, failed.join(", "))]
pub struct Unhealthy {
    failed: Vec<String>,
    tried: usize,
    kind: ErrorKind,
}

impl Unhealthy {
    /// Of the findings; none if nothing failed. The first that failed decides who can help: what comes after may follow
    /// from it.
    pub fn of(findings: &[Finding]) -> Option<Self> {
        let kind = findings.iter().find_map(|finding| finding.kind)?;
        let names = findings.iter().filter(|finding| finding.status == Status::Failed);
        let tried = findings.iter().filter(|finding| finding.status != Status::Skipped).count();
        Some(Self { failed: names.map(|finding| finding.part.clone()).collect(), tried, kind })
    }

    /// Who can help.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// Tries everything. Without a configuration, what belongs to none; with one that has faults, those are found, too.
pub fn examine(config: Option<Result<Config, Faults>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let config = match config {
        None => {
            findings.push(Finding::skipped("configuration", "none was given"));
            None
        }
        Some(Ok(config)) => {
            let (sources, streams) = (config.sources.len(), config.streams.len());
            findings
                .push(Finding::ok("configuration", format!("{}: {sources} sources, {streams} streams", config.name)));
            Some(config)
        }
        Some(Err(faults)) => {
            let lines = faults.to_string().replace('\n', "; ");
            findings.push(Finding::failed("configuration", ErrorKind::User, lines));
            None
        }
    };
    findings.extend([host::cpu(), host::threads(config.as_ref()), host::data()]);
    findings.extend(compute::findings(config.as_ref()));
    match &config {
        Some(config) => {
            findings.extend(broker::findings(config));
            findings.push(store::finding(config));
        }
        None => findings.extend(
            ["broker", "topics", "clock", "store"].map(|part| Finding::skipped(part, "there is no configuration")),
        ),
    }
    findings
}

/// The findings as a table.
pub fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.part.chars().count()).max().unwrap_or(0);
    let row = |finding: &Finding| {
        let lines = finding.found.split("; ").collect::<Vec<_>>().join(&format!("\n{:width$}", "", width = width + 11));
        format!("{:<8} {:<width$}  {lines}\n", finding.status.name(), finding.part)
    };
    findings.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_decides_who_can_help_and_all_are_named() {
        let findings = [
            Finding::ok("cpu", "2 cores"),
            Finding::failed("broker", ErrorKind::Broker, "is away"),
            Finding::skipped("topics", "the broker is away"),
            Finding::failed("store", ErrorKind::Device, "is full"),
        ];
        let unhealthy = Unhealthy::of(&findings).unwrap();
        assert_eq!(unhealthy.kind(), ErrorKind::Broker);
        assert_eq!(unhealthy.to_string(), "2 of 3 parts do not work: broker, store");
        assert_eq!(Unhealthy::of(&findings[..1]), None);
    }

    #[test]
    fn a_table_has_a_line_for_each_sentence() {
        let findings = [Finding::ok("cpu", "2 cores; avx2"), Finding::note("SQUALL_DATA", "is not set")];
        let expected = "ok       cpu          2 cores\n                      avx2\nnote     SQUALL_DATA  is not set\n";
        assert_eq!(table(&findings), expected);
    }
}
