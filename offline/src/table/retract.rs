//! Retractions: rows that should never have been ingested are deleted for good.
//!
//! The rows are deleted, and the table's properties name the retraction, in one commit: no reader sees one without the
//! other, and a reader that does not know retractions does not see the rows either. Positions stay as they are. States
//! that were made before the retraction still hold the rows; the position in [`Partition::RETRACTIONS`] at which their generation
//! was begun identifies them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use deltalake_core::kernel::Add;
use futures::stream::StreamExt;
use tidemark_kernel::{Offset, Partition, Position};
use tokio::runtime::Handle;

use super::log::Outcome;
use super::read::read_in_order;
use super::{DataFile, EventTable, Positions, Properties, TableError, layout, statistics};

/// The property that names all retractions of a source, oldest first: `PARTITION:FROM..TO@AT`, separated by commas.
pub const RETRACTED: &str = "retracted";

/// Records of one partition that were taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Retraction {
    /// The partition.
    pub partition: Partition,
    /// The first offset.
    pub from: Position,
    /// The position after the last one.
    pub to: Position,
    /// The offset of the retraction's own entry in the file partition. No two retractions of a source have the same.
    pub at: Offset,
}

impl fmt::Display for Retraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}..{}@{}", self.partition.0, self.from.0, self.to.0, self.at)
    }
}

impl Retraction {
    fn parse(text: &str) -> Option<Self> {
        let (partition, rest) = text.split_once(':')?;
        let (span, at) = rest.split_once('@')?;
        let (from, to) = span.split_once("..")?;
        let position = |text: &str| text.parse().ok().map(Position);
        let partition = Partition(partition.parse().ok()?);
        Some(Self { partition, from: position(from)?, to: position(to)?, at: at.parse().ok()? })
    }

    /// Whether a record is one of them.
    #[must_use]
    pub fn holds(&self, partition: Partition, offset: Offset) -> bool {
        self.partition == partition && (self.from.0..self.to.0).contains(&offset)
    }

    /// The rows, stored or not, that are none of them.
    ///
    /// # Errors
    /// Fails where the rows have no partition or no offset.
    pub fn without(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        layout::filter(rows, |partition, offset| !self.holds(partition, offset))
    }
}

/// The retractions that properties name, oldest first. None where a newer version has written them in another form.
#[must_use]
pub fn retractions(properties: &Properties) -> Option<Vec<Retraction>> {
    named(properties).map(Retraction::parse).collect()
}

/// The position in [`Partition::RETRACTIONS`] of a table with these properties.
#[must_use]
pub fn retracted(properties: &Properties) -> Position {
    Position(named(properties).count() as i64)
}

/// The properties with one retraction more.
#[must_use]
pub fn with_retraction(properties: &Properties, retraction: &Retraction) -> Properties {
    let mut properties = properties.clone();
    let all = named(&properties).map(str::to_owned).chain([retraction.to_string()]).collect::<Vec<_>>();
    properties.insert(RETRACTED.to_owned(), all.join(","));
    properties
}

fn named(properties: &Properties) -> impl Iterator<Item = &str> {
    let all = properties.get(RETRACTED).map_or("", String::as_str);
    all.split(',').filter(|one| !one.is_empty())
}

/// The files that hold rows to be taken back, and what takes their place.
#[derive(Default)]
struct Cut {
    files: Vec<DataFile>,
    rests: Vec<Add>,
    /// How many rows the files have and the rests have not.
    rows: u64,
}

impl EventTable {
    /// The retractions of the source as this handle has seen them, oldest first.
    ///
    /// # Errors
    /// [`TableError::Newer`] where a newer version has written them in another form.
    pub fn retractions(&self) -> Result<Vec<Retraction>, TableError> {
        let unreadable = || {
            let detail = format!("its property tidemark.{RETRACTED} has another form");
            TableError::Newer { path: self.folder().to_owned(), detail }
        };
        retractions(self.properties()).ok_or_else(unreadable)
    }

    /// Deletes the rows of a retraction and adds it to the table's properties, in one commit. How many rows that were; none
    /// where the properties name it already, and nothing is changed then.
    ///
    /// Others may append and compact meanwhile. Readers that have begun before go on reading the files that held the rows,
    /// until [`vacuum`](Self::vacuum).
    ///
    /// # Errors
    /// Fails where the table cannot be read or written. The commit may be in; the next call finds out.
    pub async fn retract(&mut self, retraction: Retraction) -> Result<Option<u64>, TableError> {
        let mut cut = Cut::default();
        let outcome = self.try_retract(retraction, &mut cut).await;
        if !matches!(outcome, Ok(Some(_))) {
            for rest in &cut.rests {
                self.discard(rest).await;
            }
        }
        outcome
    }

    async fn try_retract(
        &mut self,
        retraction: Retraction,
        cut: &mut Cut,
    ) -> Result<Option<u64>, TableError> {
        loop {
            self.reload().await?;
            if self.retractions()?.contains(&retraction) {
                return Ok(None);
            }
            self.cut(retraction, cut).await?;
            let properties = with_retraction(self.properties(), &retraction);
            let rests = cut.rests.clone();
            let taken_back = self.log.take_back(&cut.files, rests, &Positions::new(), &properties).await?;
            if let Outcome::Committed(_) = taken_back {
                return Ok(Some(cut.rows));
            }
        }
    }

    /// Writes what is left of the files that hold rows of a retraction. What was written for an earlier try is used again
    /// where the files are still the same.
    async fn cut(&self, retraction: Retraction, cut: &mut Cut) -> Result<(), TableError> {
        let mut files = self.files()?;
        files.retain(|file| may_hold(file, retraction));
        // The rests get other names: `vacuum` may have had its eye on the old ones.
        if files == cut.files && self.renew_all(&mut cut.rests).await? {
            return Ok(());
        }
        // What was written before is in no commit: `vacuum` removes it some day.
        *cut = Cut { files, ..Cut::default() };
        for file in &cut.files {
            let (rest, removed) = self.write_rest(file, retraction).await?;
            cut.rests.extend(rest);
            cut.rows += removed;
        }
        Ok(())
    }

    /// A file with the rows of another that are not taken back, if there are any, and how many are.
    async fn write_rest(
        &self,
        file: &DataFile,
        retraction: Retraction,
    ) -> Result<(Option<Add>, u64), TableError> {
        let schema = self.log.stored_columns()?;
        let mut rows =
            read_in_order(Arc::clone(self.storage()), file.name.clone(), Arc::clone(&schema)).await?;
        let removed = Arc::new(AtomicU64::new(0));
        let (runtime, folder, count) = (Handle::current(), self.folder().to_owned(), Arc::clone(&removed));
        let rest = std::iter::from_fn(move || runtime.block_on(rows.next())).map(move |rows| {
            let rows = rows?;
            let rest = retraction.without(&rows).map_err(TableError::rows(&folder))?;
            count.fetch_add((rows.num_rows() - rest.num_rows()) as u64, Ordering::Relaxed);
            Ok(rest)
        });
        let rest = self.write_in_place_of(file, schema, rest).await?;
        let removed = removed.load(Ordering::Relaxed);
        if statistics::of_file(&rest).is_some_and(|held| held.is_empty()) {
            self.storage().remove(&rest.path).await?;
            return Ok((None, removed));
        }
        Ok((Some(rest), removed))
    }
}

/// Whether a file may hold rows of a retraction, as far as its statistics tell.
fn may_hold(file: &DataFile, retraction: Retraction) -> bool {
    file.partitions.as_ref().is_none_or(|partitions| {
        let held = partitions.get(&retraction.partition);
        held.is_some_and(|held| retraction.from.0 <= held.last && held.first < retraction.to.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_name_retractions_in_their_order() {
        let one = Retraction { partition: Partition::FILE, from: Position(0), to: Position(3), at: 3 };
        let two = Retraction { partition: Partition(7), from: Position(10), to: Position(12), at: 9 };
        let properties = with_retraction(&with_retraction(&Properties::new(), &one), &two);
        assert_eq!(properties[RETRACTED], "-1:0..3@3,7:10..12@9");
        assert_eq!((retractions(&properties), retracted(&properties)), (Some(vec![one, two]), Position(2)));
        assert_eq!(
            (retractions(&Properties::new()), retracted(&Properties::new())),
            (Some(vec![]), Position(0))
        );
        let other = Properties::from([(RETRACTED.to_owned(), "-1:0..3@3,{}".to_owned())]);
        assert_eq!((retractions(&other), retracted(&other)), (None, Position(2)));
        assert!(two.holds(Partition(7), 10) && two.holds(Partition(7), 11));
        assert!(!two.holds(Partition(7), 12) && !two.holds(Partition(7), 9) && !two.holds(Partition(6), 10));
    }
}
