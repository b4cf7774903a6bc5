//! From a configuration to the log and the store that it names.

use std::sync::Arc;

use squall_operators::ports::Connect;

use crate::commands::Usage;
use crate::config::{Config, LogKind};

/// The log of a configuration.
///
/// # Errors
/// The log's client refuses the configuration.
pub fn connect(config: &Config) -> anyhow::Result<Arc<dyn Connect>> {
    match config.log.kind {
        LogKind::Memory | LogKind::Kafka => Err(Usage("this build has no log".into()).into()),
    }
}
