//! What a data file holds, written down beside its name: the bounds that readers of Delta skip files by, and, log by
//! log, what we skip files by and what is told of a table without reading it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, PrimitiveArray, RecordBatch, cast::AsArray};
use arrow::compute::{max, min};
use arrow::datatypes::{Int32Type, Int64Type, Schema, TimestampMicrosecondType};
use deltalake_core::kernel::{Action, Add};
use futures::TryStreamExt;
use serde_json::{Map, Value as Json, json};
use tidemark_kernel::event::Offset;
use tidemark_kernel::{Log, Time};

use super::read::read_in_order;
use super::{EventTable, TableError, layout};

/// What a file, or a table, holds of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStatistics {
    /// How many rows; at least one.
    pub rows: u64,
    /// The least offset.
    pub first: Offset,
    /// The greatest offset.
    pub last: Offset,
    /// The greatest event time; none in a table of dead letters.
    pub newest_event: Option<Time>,
    /// The greatest arrival time; none where no row has one, as dead letters may.
    pub newest_arrival: Option<Time>,
}

impl LogStatistics {
    /// Adds the statistics of other rows of the same log.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.newest_event = self.newest_event.max(other.newest_event);
        self.newest_arrival = self.newest_arrival.max(other.newest_arrival);
    }
}

/// What a file, or a table, holds of each log.
pub(super) type Logs = BTreeMap<Log, LogStatistics>;

/// Adds up what two of them hold.
pub(super) fn merge(into: &mut Logs, from: &Logs) {
    for (log, more) in from {
        into.entry(*log).and_modify(|held| held.merge(more)).or_insert(*more);
    }
}

impl EventTable {
    /// What the table holds of each log that has rows in it.
    ///
    /// Nothing is read but the table's log: data files are, two or three columns of them, only where an older
    /// version wrote them with rows of several logs.
    ///
    /// # Errors
    /// Fails where the table's log or such a file cannot be read.
    pub async fn log_statistics(&self) -> Result<BTreeMap<Log, LogStatistics>, TableError> {
        let mut held = Logs::new();
        for file in self.files()? {
            match &file.logs {
                Some(logs) => merge(&mut held, logs),
                None => merge(&mut held, &self.read_statistics(file.path).await?),
            }
        }
        Ok(held)
    }

    async fn read_statistics(&self, file: std::path::PathBuf) -> Result<Logs, TableError> {
        let stored = layout::stored(&self.schema);
        let wanted = [layout::LOG, layout::OFFSET, layout::EVENT_TIME, layout::ARRIVAL_TIME];
        let fields = wanted.iter().filter_map(|name| stored.field_with_name(name).ok().cloned());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut rows = read_in_order(file, schema).await?;
        let mut held = Logs::new();
        while let Some(batch) = rows.try_next().await? {
            merge(&mut held, &of_rows(&batch));
        }
        Ok(held)
    }

    /// How many rows of each log were committed since a time, as far as this handle has seen.
    ///
    /// Read from the newest commits of the table's log, back to the first that was made before `since` by the clock
    /// of whoever made it. A commit counts with all of its rows, however old their events are; merging files counts
    /// nothing. Commits of older versions with rows of several logs are left out.
    ///
    /// # Errors
    /// Fails where the table's log cannot be read.
    pub async fn recent(&self, since: Time) -> Result<BTreeMap<Log, u64>, TableError> {
        let mut rows = BTreeMap::new();
        for version in (0..=self.version()).rev() {
            let commit = self.log.actions(&self.folder, version).await?.unwrap_or_default();
            if committed_at(&commit).is_none_or(|time| time < since) {
                break;
            }
            // Files with what is left of others hold nothing new.
            if commit.iter().any(|action| matches!(action, Action::Remove(_))) {
                continue;
            }
            let added = commit.iter().filter_map(|action| match action {
                Action::Add(file) if file.data_change => of_file(file),
                _ => None,
            });
            for (log, held) in added.flatten() {
                *rows.entry(log).or_default() += held.rows;
            }
        }
        Ok(rows)
    }
}

fn committed_at(commit: &[Action]) -> Option<Time> {
    commit.iter().find_map(|action| match action {
        Action::CommitInfo(info) => info.timestamp.map(Time::from_millis),
        _ => None,
    })
}

/// The system columns whose least and greatest values Delta's readers find in the log.
const BOUNDED: [&str; 4] = [layout::EVENT_TIME, layout::ARRIVAL_TIME, layout::LOG, layout::OFFSET];

/// What rows hold that were seen one batch after the other, as they are stored.
#[derive(Default)]
pub(super) struct Statistics {
    rows: usize,
    bounds: BTreeMap<&'static str, Bounds>,
    logs: Logs,
}

#[derive(Default)]
struct Bounds {
    range: Option<(i64, i64)>,
    nulls: usize,
    is_time: bool,
}

impl Statistics {
    pub(super) fn add(&mut self, rows: &RecordBatch) {
        self.rows += rows.num_rows();
        merge(&mut self.logs, &of_rows(rows));
        for name in BOUNDED {
            let Some(column) = rows.column_by_name(name) else { continue };
            let bounds = self.bounds.entry(name).or_default();
            let ranges = bounds.range.into_iter().chain(range(column.as_ref()));
            bounds.range = ranges.reduce(|(low, high), (least, most)| (low.min(least), high.max(most)));
            bounds.nulls += column.null_count();
            bounds.is_time = column.data_type().is_temporal();
        }
    }

    /// The statistics that Delta keeps of a file.
    pub(super) fn delta(&self) -> Json {
        let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
        for (name, bounds) in &self.bounds {
            if let Some((low, high)) = bounds.range {
                least.insert((*name).into(), bound(low, bounds.is_time));
                greatest.insert((*name).into(), bound(high, bounds.is_time));
            }
            nulls.insert((*name).into(), json!(bounds.nulls));
        }
        json!({ "numRecords": self.rows, "minValues": least, "maxValues": greatest, "nullCount": nulls })
    }

    /// The value of the file's [`TAG`].
    pub(super) fn tag(&self) -> String {
        let millis = |time: Option<Time>| time.map(Time::millis);
        let entry = |(log, held): (&Log, &LogStatistics)| {
            let times = (millis(held.newest_event), millis(held.newest_arrival));
            (log.0.to_string(), json!([held.rows, held.first, held.last, times.0, times.1]))
        };
        Json::Object(self.logs.iter().map(entry).collect()).to_string()
    }
}

fn range(column: &dyn Array) -> Option<(i64, i64)> {
    if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        return min(times).zip(max(times));
    }
    if let Some(logs) = column.as_primitive_opt::<Int32Type>() {
        return min(logs).map(i64::from).zip(max(logs).map(i64::from));
    }
    column.as_primitive_opt::<Int64Type>().and_then(|offsets| min(offsets).zip(max(offsets)))
}

fn bound(value: i64, is_time: bool) -> Json {
    if is_time { json!(millis(value).to_string()) } else { json!(value) }
}

fn millis(micros: i64) -> Time {
    Time::from_millis(micros.div_euclid(1000))
}

/// What rows, as they are stored, hold of each log.
fn of_rows(rows: &RecordBatch) -> Logs {
    let mut held = Logs::new();
    let column = |name| rows.column_by_name(name);
    let logs = column(layout::LOG).and_then(|logs| logs.as_primitive_opt::<Int32Type>());
    let offsets = column(layout::OFFSET).and_then(|offsets| offsets.as_primitive_opt::<Int64Type>());
    let (Some(logs), Some(offsets)) = (logs, offsets) else { return held };
    let times = |name| column(name).and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let (events, arrivals) = (times(layout::EVENT_TIME), times(layout::ARRIVAL_TIME));
    for row in 0..rows.num_rows() {
        let time = |times: Option<&PrimitiveArray<TimestampMicrosecondType>>| {
            times.filter(|times| times.is_valid(row)).map(|times| millis(times.value(row)))
        };
        let offset = offsets.value(row);
        let (newest_event, newest_arrival) = (time(events), time(arrivals));
        let one = LogStatistics { rows: 1, first: offset, last: offset, newest_event, newest_arrival };
        held.entry(Log(logs.value(row))).and_modify(|held| held.merge(&one)).or_insert(one);
    }
    held
}

/// The tag of a data file that says what it holds of each log: JSON, by log the rows, the least and the greatest
/// offset, and the greatest event and arrival time in milliseconds.
pub(super) const TAG: &str = "tidemark.logs";

/// What a file holds of each log, as far as the table's log tells.
pub(super) fn of_file(file: &Add) -> Option<Logs> {
    let tag = file.tags.as_ref().and_then(|tags| tags.get(TAG)?.as_deref());
    tag.and_then(from_tag).or_else(|| from_delta(file.stats.as_deref()?))
}

fn from_tag(tag: &str) -> Option<Logs> {
    type Entry = (u64, Offset, Offset, Option<i64>, Option<i64>);
    let entries: BTreeMap<i32, Entry> = serde_json::from_str(tag).ok()?;
    let held = |(log, (rows, first, last, event, arrival)): (i32, Entry)| {
        let (newest_event, newest_arrival) = (event.map(Time::from_millis), arrival.map(Time::from_millis));
        (Log(log), LogStatistics { rows, first, last, newest_event, newest_arrival })
    };
    Some(entries.into_iter().map(held).collect())
}

/// Older versions wrote no tag, but of a file with a single log the statistics of Delta say as much.
fn from_delta(statistics: &str) -> Option<Logs> {
    let statistics: Json = serde_json::from_str(statistics).ok()?;
    let bound = |side: &str, name: &str| statistics[side][name].as_i64();
    let log = bound("minValues", layout::LOG).filter(|log| bound("maxValues", layout::LOG) == Some(*log))?;
    let newest = |name: &str| match statistics["maxValues"][name].as_str() {
        Some(time) => Time::parse(time).map(Some),
        None => Some(None),
    };
    let held = LogStatistics {
        rows: statistics["numRecords"].as_u64()?,
        first: bound("minValues", layout::OFFSET)?,
        last: bound("maxValues", layout::OFFSET)?,
        newest_event: newest(layout::EVENT_TIME)?,
        newest_arrival: newest(layout::ARRIVAL_TIME)?,
    };
    Some(Logs::from([(Log(i32::try_from(log).ok()?), held)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_is_told_by_its_tag_or_by_delta() {
        let times = (Some(Time::from_millis(1500)), None);
        let held =
            LogStatistics { rows: 3, first: 7, last: 11, newest_event: times.0, newest_arrival: times.1 };
        let logs = Logs::from([(Log::FILE, held), (Log(12), LogStatistics { newest_event: None, ..held })]);
        let statistics = Statistics { logs: logs.clone(), ..Statistics::default() };
        assert_eq!(statistics.tag(), r#"{"-1":[3,7,11,1500,null],"12":[3,7,11,null,null]}"#);
        assert_eq!(from_tag(&statistics.tag()), Some(logs));
        assert_eq!(from_tag("no JSON"), None);

        let bounds = |offset, time: &str| json!({ "_log": 12, "_offset": offset, "_event_time": time });
        let (least, greatest) = (bounds(7, "1970-01-01T00:00:00Z"), bounds(11, "1970-01-01T00:00:01.5Z"));
        let delta = json!({ "numRecords": 3, "minValues": least, "maxValues": greatest });
        assert_eq!(from_delta(&delta.to_string()), Some(Logs::from([(Log(12), held)])));
        let mut two = delta;
        two["minValues"]["_log"] = json!(3);
        assert_eq!(from_delta(&two.to_string()), None, "of several logs it does not tell");
    }
}
