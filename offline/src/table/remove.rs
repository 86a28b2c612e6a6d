//! Removing single rows, such as dead letters that became events after a retry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, cast::AsArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::error::ArrowError;
use deltalake_core::kernel::Add;
use futures::TryStreamExt;
use tidemark_kernel::Partition;
use tidemark_kernel::event::Offset;

use super::log::Outcome;
use super::read::read_in_order;
use super::{DataFile, EventTable, TableError, layout};

/// Rows by their places: for each partition, offsets.
pub type Places = BTreeMap<Partition, BTreeSet<Offset>>;

impl EventTable {
    /// Removes the rows at these places in one commit; positions stay as they are. How many rows that was: a row that is
    /// not there is none. Rows whose [`layout::REASON`] is one of `except` stay.
    ///
    /// # Errors
    /// Fails where the table cannot be read or written; then none was removed, or all, as the same call finds out.
    pub async fn remove(&mut self, places: &Places, except: &[&str]) -> Result<u64, TableError> {
        loop {
            self.reload().await?;
            let (cut, mut rests, removed) = self.write_without(places, except).await?;
            if removed == 0 {
                return Ok(0);
            }
            // What others append meanwhile has other places. Files that they have merged are read again, and so are those of
            // which a rest was removed before it was committed.
            let committed = loop {
                match self.log.cut(&cut, rests.clone()).await {
                    Ok(Outcome::Committed(_)) => break Ok(true),
                    Ok(Outcome::LostRace) => match self.go_on(&cut, &mut rests).await {
                        Ok(true) => {}
                        other => break other,
                    },
                    Err(error) => break Err(error),
                }
            };
            if let Ok(true) = committed {
                return Ok(removed);
            }
            for rest in &rests {
                self.discard(rest).await;
            }
            committed?;
        }
    }

    /// The files with rows at these places; for each, if it has any others, a file with these; and how many rows are left out.
    pub(super) async fn write_without(
        &self,
        places: &Places,
        except: &[&str],
    ) -> Result<(Vec<DataFile>, Vec<Add>, u64), TableError> {
        let schema = self.log.stored_columns()?;
        let (mut cut, mut rests, mut removed) = (Vec::new(), Vec::new(), 0);
        for file in self.files()?.into_iter().filter(|file| may_hold(file, places)) {
            let rows = read_in_order(Arc::clone(self.storage()), file.name.clone(), schema.clone()).await?;
            let rows: Vec<_> = rows.try_collect().await?;
            let left = rows.iter().map(|rows| without(rows, places, except)).collect::<Result<Vec<_>, _>>();
            let left = left.map_err(TableError::rows(self.folder()))?;
            let count = |rows: &[RecordBatch]| rows.iter().map(|rows| rows.num_rows() as u64).sum::<u64>();
            let gone = count(&rows) - count(&left);
            if gone == 0 {
                continue;
            }
            removed += gone;
            if count(&left) > 0 {
                let left = left.into_iter().map(Ok);
                rests.push(self.write_in_place_of(&file, schema.clone(), left).await?);
            }
            cut.push(file);
        }
        Ok((cut, rests, removed))
    }
}

/// Whether a file may have a row at one of these places, as far as its statistics tell.
fn may_hold(file: &DataFile, places: &Places) -> bool {
    file.partitions.as_ref().is_none_or(|partitions| {
        let wanted = |partition: &Partition, first, last| {
            places.get(partition).is_some_and(|offsets| offsets.range(first..=last).next().is_some())
        };
        partitions.iter().any(|(partition, held)| wanted(partition, held.first, held.last))
    })
}

/// The rows, as they are stored, that are at none of these places, or there for one of the reasons in `except`.
fn without(rows: &RecordBatch, places: &Places, except: &[&str]) -> Result<RecordBatch, ArrowError> {
    let reasons = rows.column_by_name(layout::REASON).and_then(|reasons| reasons.as_string_opt::<i32>());
    let stays = |row| reasons.is_some_and(|reasons| except.contains(&reasons.value(row)));
    let partitions = rows.column(rows.schema().index_of(layout::LOG)?).as_primitive::<Int32Type>();
    let offsets = rows.column(rows.schema().index_of(layout::OFFSET)?).as_primitive::<Int64Type>();
    let is_gone =
        |partition, offset| places.get(&Partition(partition)).is_some_and(|gone| gone.contains(&offset));
    let rows_kept = partitions.values().iter().zip(offsets.values()).enumerate();
    let kept = rows_kept.map(|(row, (partition, offset))| !is_gone(*partition, *offset) || stays(row));
    filter_record_batch(rows, &BooleanArray::from_iter(kept.map(Some)))
}
