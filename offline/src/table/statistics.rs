//! Statistics of a data file, stored with its name in the log: the bounds by which Delta readers skip files, and, for
//! each partition, the bounds by which we skip files and report the size of a table without reading it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, PrimitiveArray, RecordBatch, cast::AsArray};
use arrow::compute::{max, min};
use arrow::datatypes::{Int32Type, Int64Type, Schema, TimestampMicrosecondType};
use deltalake_core::kernel::{Action, Add};
use futures::TryStreamExt;
use serde_json::{Map, Value as Json, json};
use tidemark_kernel::event::Offset;
use tidemark_kernel::{Partition, Time};

use super::read::read_in_order;
use super::{EventTable, TableError, layout};

/// What a file, or a table, holds of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStatistics {
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

impl PartitionStatistics {
    /// Adds the statistics of other rows of the same partition.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.newest_event = self.newest_event.max(other.newest_event);
        self.newest_arrival = self.newest_arrival.max(other.newest_arrival);
    }
}

/// What a file, or a table, holds of each partition.
pub(super) type Partitions = BTreeMap<Partition, PartitionStatistics>;

/// Adds up what two of them hold.
pub(super) fn merge(into: &mut Partitions, from: &Partitions) {
    for (partition, more) in from {
        into.entry(*partition).and_modify(|held| held.merge(more)).or_insert(*more);
    }
}

impl EventTable {
    /// What the table holds of each partition that has rows in it.
    ///
    /// Nothing is read but the table's log: data files are, two or three columns of them, only where an older
    /// version wrote them with rows of several partitions.
    ///
    /// # Errors
    /// Fails where the table's log or such a file cannot be read.
    pub async fn partition_statistics(&self) -> Result<BTreeMap<Partition, PartitionStatistics>, TableError> {
        let mut held = Partitions::new();
        for file in self.files()? {
            match &file.partitions {
                Some(partitions) => merge(&mut held, partitions),
                None => merge(&mut held, &self.read_statistics(file.name).await?),
            }
        }
        Ok(held)
    }

    async fn read_statistics(&self, file: String) -> Result<Partitions, TableError> {
        let stored = layout::stored(&self.schema);
        let wanted = [layout::LOG, layout::OFFSET, layout::EVENT_TIME, layout::ARRIVAL_TIME];
        let fields = wanted.iter().filter_map(|name| stored.field_with_name(name).ok().cloned());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut rows = read_in_order(Arc::clone(self.storage()), file, schema).await?;
        let mut held = Partitions::new();
        while let Some(batch) = rows.try_next().await? {
            merge(&mut held, &of_rows(&batch));
        }
        Ok(held)
    }

    /// How many rows of each partition were committed since a time, as far as this handle has seen.
    ///
    /// Read from the newest commits of the table's log, back to the first that was made before `since` by the clock
    /// of its writer. A commit counts with all of its rows, however old their events are; merging files counts
    /// nothing. Commits of older versions with rows of several partitions are left out.
    ///
    /// # Errors
    /// Fails where the table's log cannot be read.
    pub async fn recent(&self, since: Time) -> Result<BTreeMap<Partition, u64>, TableError> {
        let mut rows = BTreeMap::new();
        for version in (0..=self.version()).rev() {
            let commit = self.log.actions(version).await?.unwrap_or_default();
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
            for (partition, held) in added.flatten() {
                *rows.entry(partition).or_default() += held.rows;
            }
        }
        Ok(rows)
    }
}

/// When a commit was made, by the clock of the process that made it; none where it does not say so.
pub(super) fn committed_at(commit: &[Action]) -> Option<Time> {
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
    partitions: Partitions,
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
        merge(&mut self.partitions, &of_rows(rows));
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
        let entry = |(partition, held): (&Partition, &PartitionStatistics)| {
            let times = (millis(held.newest_event), millis(held.newest_arrival));
            (partition.0.to_string(), json!([held.rows, held.first, held.last, times.0, times.1]))
        };
        Json::Object(self.partitions.iter().map(entry).collect()).to_string()
    }
}

fn range(column: &dyn Array) -> Option<(i64, i64)> {
    if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        return min(times).zip(max(times));
    }
    if let Some(partitions) = column.as_primitive_opt::<Int32Type>() {
        return min(partitions).map(i64::from).zip(max(partitions).map(i64::from));
    }
    column.as_primitive_opt::<Int64Type>().and_then(|offsets| min(offsets).zip(max(offsets)))
}

fn bound(value: i64, is_time: bool) -> Json {
    if is_time { json!(millis(value).to_string()) } else { json!(value) }
}

fn millis(micros: i64) -> Time {
    Time::from_millis(micros.div_euclid(1000))
}

/// What rows, as they are stored, hold of each partition.
fn of_rows(rows: &RecordBatch) -> Partitions {
    let mut held = Partitions::new();
    let column = |name| rows.column_by_name(name);
    let partitions = column(layout::LOG).and_then(|partitions| partitions.as_primitive_opt::<Int32Type>());
    let offsets = column(layout::OFFSET).and_then(|offsets| offsets.as_primitive_opt::<Int64Type>());
    let (Some(partitions), Some(offsets)) = (partitions, offsets) else { return held };
    let times = |name| column(name).and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let (events, arrivals) = (times(layout::EVENT_TIME), times(layout::ARRIVAL_TIME));
    for row in 0..rows.num_rows() {
        let time = |times: Option<&PrimitiveArray<TimestampMicrosecondType>>| {
            times.filter(|times| times.is_valid(row)).map(|times| millis(times.value(row)))
        };
        let offset = offsets.value(row);
        let (newest_event, newest_arrival) = (time(events), time(arrivals));
        let one = PartitionStatistics { rows: 1, first: offset, last: offset, newest_event, newest_arrival };
        held.entry(Partition(partitions.value(row))).and_modify(|held| held.merge(&one)).or_insert(one);
    }
    held
}

/// The tag of a data file that says what it holds of each partition: JSON, by partition the rows, the least and the greatest
/// offset, and the greatest event and arrival time in milliseconds.
pub(super) const TAG: &str = "tidemark.logs";

/// What a file holds of each partition, as far as the table's log tells.
pub(super) fn of_file(file: &Add) -> Option<Partitions> {
    let tag = file.tags.as_ref().and_then(|tags| tags.get(TAG)?.as_deref());
    tag.and_then(from_tag).or_else(|| from_delta(file.stats.as_deref()?))
}

fn from_tag(tag: &str) -> Option<Partitions> {
    type Entry = (u64, Offset, Offset, Option<i64>, Option<i64>);
    let entries: BTreeMap<i32, Entry> = serde_json::from_str(tag).ok()?;
    let held = |(partition, (rows, first, last, event, arrival)): (i32, Entry)| {
        let (newest_event, newest_arrival) = (event.map(Time::from_millis), arrival.map(Time::from_millis));
        (Partition(partition), PartitionStatistics { rows, first, last, newest_event, newest_arrival })
    };
    Some(entries.into_iter().map(held).collect())
}

/// Older versions wrote no tag, but of a file with a single partition the statistics of Delta say as much.
fn from_delta(statistics: &str) -> Option<Partitions> {
    let statistics: Json = serde_json::from_str(statistics).ok()?;
    let bound = |side: &str, name: &str| statistics[side][name].as_i64();
    let partition = bound("minValues", layout::LOG)
        .filter(|partition| bound("maxValues", layout::LOG) == Some(*partition))?;
    let newest = |name: &str| match statistics["maxValues"][name].as_str() {
        Some(time) => Time::parse(time).map(Some),
        None => Some(None),
    };
    let held = PartitionStatistics {
        rows: statistics["numRecords"].as_u64()?,
        first: bound("minValues", layout::OFFSET)?,
        last: bound("maxValues", layout::OFFSET)?,
        newest_event: newest(layout::EVENT_TIME)?,
        newest_arrival: newest(layout::ARRIVAL_TIME)?,
    };
    Some(Partitions::from([(Partition(i32::try_from(partition).ok()?), held)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_is_told_by_its_tag_or_by_delta() {
        let times = (Some(Time::from_millis(1500)), None);
        let held = PartitionStatistics {
            rows: 3,
            first: 7,
            last: 11,
            newest_event: times.0,
            newest_arrival: times.1,
        };
        let partitions = Partitions::from([
            (Partition::FILE, held),
            (Partition(12), PartitionStatistics { newest_event: None, ..held }),
        ]);
        let statistics = Statistics { partitions: partitions.clone(), ..Statistics::default() };
        assert_eq!(statistics.tag(), r#"{"-1":[3,7,11,1500,null],"12":[3,7,11,null,null]}"#);
        assert_eq!(from_tag(&statistics.tag()), Some(partitions));
        assert_eq!(from_tag("no JSON"), None);

        let bounds = |offset, time: &str| json!({ "_log": 12, "_offset": offset, "_event_time": time });
        let (least, greatest) = (bounds(7, "1970-01-01T00:00:00Z"), bounds(11, "1970-01-01T00:00:01.5Z"));
        let delta = json!({ "numRecords": 3, "minValues": least, "maxValues": greatest });
        assert_eq!(from_delta(&delta.to_string()), Some(Partitions::from([(Partition(12), held)])));
        let mut two = delta;
        two["minValues"]["_log"] = json!(3);
        assert_eq!(from_delta(&two.to_string()), None, "of several partitions it does not tell");
    }
}
