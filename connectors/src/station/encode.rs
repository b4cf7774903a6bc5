//! From reports to JSON.

use serde_json::to_vec;
use squall_fields::{Check, Quantity, Reading, StationReport, Verdict};

use super::document::{ReadingDocument, ReportDocument, StationDocument};

/// Reports as the value of a record: one alone as it is, several as a list. The decoder gives the same reports, with the
/// flags of the producer and without those of other checks; the same reports give the same bytes.
pub fn reports_json(reports: &[StationReport]) -> Vec<u8> {
    let written = match reports {
        [one] => to_vec(&document(one)),
        many => to_vec(&many.iter().map(document).collect::<Vec<_>>()),
    };
    written.expect("texts and numbers can be written as JSON")
}

fn document(report: &StationReport) -> ReportDocument<ReadingDocument> {
    let station = &report.station;
    let place = station.place;
    ReportDocument {
        station: StationDocument {
            id: station.id.to_string(),
            name: station.name.as_deref().map(str::to_owned),
            latitude: place.map(|place| place.latitude()),
            longitude: place.map(|place| place.longitude()),
            elevation_m: place.and_then(|place| place.elevation_m()),
        },
        time: report.valid.to_rfc3339(),
        readings: report.readings.iter().map(reading).collect(),
    }
}

fn reading(reading: &Reading) -> ReadingDocument {
    let Reading { quantity, period_seconds, value, flags } = *reading;
    let verdict = flags.get(Check::Producer);
    ReadingDocument {
        standard_name: Quantity::standard_name(quantity).to_owned(),
        // By its shortest decimal text: 0.1 and not 0.10000000149011612, which is the same in single precision.
        value: if reading.is_missing() { None } else { value.to_string().parse().ok() },
        units: quantity.unit().to_owned(),
        period_seconds,
        quality: (verdict != Verdict::NotEvaluated).then(|| verdict.name().to_owned()),
    }
}
