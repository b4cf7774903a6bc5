//! What stations said, as the topic of a stream's reports has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_connectors::station::StationDecoder;
use squall_fields::{KnowledgeTime, StationReport, ValidTime};
use squall_operators::ports::{Connect, ReportDecoder};
use squall_operators::stations::{Control, ReportReader};
use squall_operators::verify::{Hours, Places, PlacesConfig, latest_places};

use crate::config::{StationsConfig, StreamConfig};
use crate::gc::{IndexError, for_each_record};
use crate::graph;
use crate::topics::STATION_BYTES;

/// The latest of each reading that no check has failed, by valid time, from the topic of `inputs.stations` to its present end;
/// nothing of a stream that has none.
///
/// Readings are judged as by the verification of the stream, and never too old to be compared. Records that hold no report are
/// passed over: the stream has made dead letters of them.
///
/// # Errors
/// The topic cannot be read to its end.
pub fn places(connect: &dyn Connect, stream: &StreamConfig) -> Result<BTreeMap<ValidTime, Places>, IndexError> {
    let Some(stations) = &stream.inputs.stations else { return Ok(BTreeMap::new()) };
    let taken = PlacesConfig::at_any_time(stream.source.variables.clone(), stream.source.cadence);
    Ok(latest_places(reports(connect, stations)?, control(stream, stations), &taken))
}

/// What judges the readings of a stream's stations, as its verification does.
pub fn control(stream: &StreamConfig, stations: &StationsConfig) -> Control {
    let hours = stream.verification.as_ref().map_or(Hours { horizon_ms: 0 }, graph::hours);
    Control::new(graph::control(stations, hours))
}

/// The reports of a topic up to its present end, in the order of the log, each record's with when it became known. Records that
/// hold no report hold none.
///
/// # Errors
/// The topic cannot be read to its end.
pub fn reports(
    connect: &dyn Connect,
    stations: &StationsConfig,
) -> Result<Vec<(KnowledgeTime, Vec<StationReport>)>, IndexError> {
    let decoders: Vec<Arc<dyn ReportDecoder>> = vec![Arc::new(StationDecoder::default())];
    let reports = ReportReader::new(decoders, STATION_BYTES);
    let mut reader = connect.reader(STATION_BYTES)?;
    // By when they became known, partition and offset.
    let mut known: BTreeMap<(KnowledgeTime, i32, i64), Vec<StationReport>> = BTreeMap::new();
    for partition in reader.partitions(&stations.topic)? {
        let mut newest = KnowledgeTime::default();
        for_each_record(&mut *reader, &partition, |record| {
            newest = newest.max(KnowledgeTime::from_unix_ms(record.timestamp_ms));
            known.insert((newest, partition.partition, record.offset), reports.read(record).reports);
            Ok(())
        })?;
    }
    Ok(known.into_iter().map(|((at, ..), reports)| (at, reports)).collect())
}
