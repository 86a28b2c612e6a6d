//! Leader epochs: they show a reader whether a partition of a topic still has the records that were read from it.
//!
//! After an unclean leader election, or on a broker restored from a copy, a partition may have lost records that were read and
//! have others at the same offsets. The leader that writes a record puts its epoch, a number that grows with each election, into
//! it, and brokers report where the records of an epoch end. So the epoch of a record that was read, with the position
//! after it, tells whether that record is still there.

use std::collections::BTreeMap;

use tidemark_kernel::{Partition, Position};

use super::{EventTable, TableError};

/// The leader epoch of the last record that was read of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The epoch.
    pub number: i32,
    /// The position right after the record. The position that the partition was read up to may be greater: transaction markers,
    /// which no reader sees, can follow the record, and can have a later epoch. The end of this epoch is before them.
    pub until: Position,
}

/// The leader epochs of partitions; one that is not named is not known.
pub type Epochs = BTreeMap<Partition, Epoch>;

impl EventTable {
    /// The leader epochs that these partitions were last [appended](Self::append) with, as far as this handle has seen.
    /// A writer that knows no epochs may have moved a partition on since: what is told here is then older than its position,
    /// and still true.
    ///
    /// # Errors
    /// Fails where the table's log cannot be read.
    pub async fn epochs(&self, partitions: &[Partition]) -> Result<Epochs, TableError> {
        let mut epochs = Epochs::new();
        for partition in partitions {
            if let Some(epoch) = self.log.epoch(*partition).await? {
                epochs.insert(*partition, epoch);
            }
        }
        Ok(epochs)
    }
}
