//! The columns of event tables, in memory and in files.
//!
//! In memory, times are the kernel's: milliseconds, UTC. In the files they are Delta's `timestamp`: microseconds, UTC.
//! The conversion is here and nowhere else.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::array::{TimestampMicrosecondArray, TimestampMillisecondArray, cast::AsArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::datatypes::{TimestampMicrosecondType, TimestampMillisecondType};
use arrow::error::ArrowError;
use deltalake_core::kernel::{DataType as DeltaType, StructField, StructType};
use tidemark_kernel::value::{Type, arrow::data_type};
use tidemark_kernel::{Offset, Partition, SourcePlan};

use super::Positions;

/// When the event happened: timestamp, never null.
pub const EVENT_TIME: &str = "_event_time";
/// When the system could first have known it: timestamp, null only for dead letters without any.
pub const ARRIVAL_TIME: &str = "_arrival_time";
/// The partition it came from: int32, never null.
pub const LOG: &str = "_log";
/// Its place in that partition: int64, never null.
pub const OFFSET: &str = "_offset";
/// The payload as received, where the source says `raw: keep`: binary.
pub const RAW: &str = "_raw";
/// Why a dead letter is none: a short stable code.
pub const REASON: &str = "reason";
/// Why a dead letter is none, for people.
pub const DETAIL: &str = "detail";
/// Where a dead letter came from: file and line, or topic, partition and offset.
pub const PLACE: &str = "place";
/// The payload of a dead letter.
pub const DEAD_RAW: &str = "raw";
/// How the payload of a dead letter is read, with what was received beside it, in JSON. Null where nothing was received, and
/// in rows of versions that kept no such thing.
pub const DEAD_FORM: &str = "form";

/// The columns of a source's `events`: its declared fields, all nullable, then the event's times and place, and its
/// payload where the source keeps it. Rows are handed over, and read back, with exactly these types.
#[must_use]
pub fn events(source: &SourcePlan) -> SchemaRef {
    let declared = source.fields.iter().map(|field| Field::new(&field.name, data_type(field.ty), true));
    let mut fields: Vec<Field> = declared.collect();
    fields.extend([
        Field::new(EVENT_TIME, data_type(Type::Timestamp), false),
        Field::new(ARRIVAL_TIME, data_type(Type::Timestamp), false),
        Field::new(LOG, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
    ]);
    if source.keep_raw {
        fields.push(Field::new(RAW, DataType::Binary, true));
    }
    Arc::new(Schema::new(fields))
}

/// The columns of every source's `dead_letters`.
#[must_use]
pub fn dead_letters() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(LOG, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(REASON, DataType::Utf8, false),
        Field::new(DETAIL, DataType::Utf8, true),
        Field::new(PLACE, DataType::Utf8, true),
        Field::new(DEAD_RAW, DataType::Binary, true),
        Field::new(ARRIVAL_TIME, data_type(Type::Timestamp), true),
        Field::new(DEAD_FORM, DataType::Utf8, true),
    ]))
}

fn stored_type(ty: &DataType) -> DataType {
    match ty {
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => other.clone(),
    }
}

/// The columns as they are in the files.
pub(crate) fn stored(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let ty = stored_type(field.data_type());
        Field::new(field.name(), ty, field.is_nullable())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns as Delta's metadata names them.
pub(super) fn delta(schema: &Schema) -> Vec<StructField> {
    let field = |field: &Arc<Field>| {
        let ty = match field.data_type() {
            DataType::Boolean => DeltaType::BOOLEAN,
            DataType::Int32 => DeltaType::INTEGER,
            DataType::Int64 => DeltaType::LONG,
            DataType::Float64 => DeltaType::DOUBLE,
            DataType::Timestamp(_, _) => DeltaType::TIMESTAMP,
            DataType::Binary => DeltaType::BINARY,
            _ => DeltaType::STRING,
        };
        StructField::new(field.name(), ty, field.is_nullable())
    };
    schema.fields().iter().map(field).collect()
}

/// The kernel's type of a column, by Delta's metadata; none for a column of integers that no field can have.
pub(super) fn type_of(column: &DeltaType) -> Option<Type> {
    let types = [
        (DeltaType::BOOLEAN, Type::Bool),
        (DeltaType::LONG, Type::Int64),
        (DeltaType::DOUBLE, Type::Float64),
        (DeltaType::TIMESTAMP, Type::Timestamp),
        (DeltaType::BINARY, Type::Bytes),
        (DeltaType::STRING, Type::String),
    ];
    types.into_iter().find_map(|(delta, ty)| (delta == *column).then_some(ty))
}

/// What a table must change to hold these columns.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Columns that the table has with another type, as we have them. It can change where no row holds one.
    pub(super) retyped: Vec<StructField>,
    /// Columns that the table lacks.
    pub(super) added: Vec<StructField>,
}

/// Compares a table's columns with ours. A column of the table that we lack stays: new rows have null there.
pub(super) fn compare(table: &StructType, ours: &Schema) -> Change {
    let mut change = Change::default();
    for field in delta(ours) {
        match table.field(field.name()) {
            None => change.added.push(field),
            Some(theirs) if theirs.data_type() != field.data_type() => change.retyped.push(field),
            Some(_) => {}
        }
    }
    change
}

/// Rows as they are stored. `stored` is their [`stored`] schema.
pub(super) fn to_stored(rows: &RecordBatch, stored: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = rows.columns().iter().map(to_micros).collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(stored), columns)
}

fn to_micros(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let Some(millis) = column.as_primitive_opt::<TimestampMillisecondType>() else {
        return Ok(Arc::clone(column));
    };
    let micros = millis.try_unary::<_, TimestampMicrosecondType, _>(|millis| {
        let out_of_range =
            || ArrowError::InvalidArgumentError(format!("the time {millis} ms is out of range"));
        millis.checked_mul(1000).ok_or_else(out_of_range)
    })?;
    Ok(Arc::new(micros.with_timezone("UTC")) as ArrayRef)
}

/// The rows, stored or not, that are before `to`, or of a partition that it does not name.
pub(super) fn before(rows: &RecordBatch, to: &Positions) -> Result<RecordBatch, ArrowError> {
    filter(rows, |partition, offset| to.get(&partition).is_none_or(|to| to.covers(offset)))
}

/// The rows, stored or not, of the partitions and offsets that are wanted.
pub(super) fn filter(
    rows: &RecordBatch,
    is_wanted: impl Fn(Partition, Offset) -> bool,
) -> Result<RecordBatch, ArrowError> {
    let partitions = rows.column(rows.schema().index_of(LOG)?).as_primitive::<Int32Type>();
    let offsets = rows.column(rows.schema().index_of(OFFSET)?).as_primitive::<Int64Type>();
    let kept = partitions.values().iter().zip(offsets.values());
    let kept = kept.map(|(partition, offset)| is_wanted(Partition(*partition), *offset));
    filter_record_batch(rows, &BooleanArray::from_iter(kept.map(Some)))
}

/// Rows as they are handed out: stored columns with the kernel's times.
pub(crate) fn from_stored(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<ArrayRef> = rows.columns().iter().map(to_millis).collect();
    let schema = rows.schema();
    let fields = schema.fields().iter().zip(&columns);
    let fields: Vec<Field> = fields
        .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), field.is_nullable()))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn to_millis(column: &ArrayRef) -> ArrayRef {
    let Some(micros) = column.as_primitive_opt::<TimestampMicrosecondType>() else {
        return Arc::clone(column);
    };
    let millis: TimestampMillisecondArray =
        TimestampMicrosecondArray::unary(micros, |micros| micros.div_euclid(1000));
    Arc::new(millis.with_timezone("UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_there_and_back() {
        let schema = Arc::new(Schema::new(vec![Field::new("t", data_type(Type::Timestamp), true)]));
        let times = TimestampMillisecondArray::from(vec![Some(-1), None, Some(253_402_300_799_999)]);
        let rows =
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(times.with_timezone("UTC"))]).unwrap();
        let files = to_stored(&rows, &stored(&schema)).unwrap();
        assert_eq!(files.column(0).as_primitive::<TimestampMicrosecondType>().value(0), -1000);
        assert_eq!(from_stored(&files).unwrap(), rows);
    }

    #[test]
    fn what_a_table_must_change_is_told() {
        let field = |name: &str, ty| Field::new(name, data_type(ty), true);
        let schema = |fields: Vec<Field>| Schema::new(fields);
        let table =
            StructType::try_new(delta(&schema(vec![field("a", Type::Int64), field(RAW, Type::Bytes)])))
                .unwrap();
        let compare = |fields| compare(&table, &schema(fields));
        let change = |retyped: Vec<Field>, added: Vec<Field>| Change {
            retyped: delta(&schema(retyped)),
            added: delta(&schema(added)),
        };
        assert_eq!(compare(vec![field("a", Type::Int64)]), change(vec![], vec![]));
        let (same, new) = (field("a", Type::Int64), field("b", Type::String));
        assert_eq!(compare(vec![same, new.clone()]), change(vec![], vec![new.clone()]));
        assert_eq!(compare(vec![new.clone()]), change(vec![], vec![new]), "what we lack stays");
        let retyped = field("a", Type::String);
        assert_eq!(compare(vec![retyped.clone()]), change(vec![retyped], vec![]));
    }

    #[test]
    fn every_type_is_found_again() {
        for ty in [Type::Bool, Type::Int64, Type::Float64, Type::String, Type::Timestamp, Type::Bytes] {
            let columns = delta(&Schema::new(vec![Field::new("a", data_type(ty), true)]));
            assert_eq!(type_of(columns[0].data_type()), Some(ty));
        }
    }
}
