//! The simulated disk of a journal: its content outlives the process.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::world::World;

#[derive(Clone, Debug)]
pub(crate) struct Disk {
    world: Arc<World>,
    image: Arc<Mutex<Vec<u8>>>,
    /// One more for each process that has it open.
    leases: Arc<()>,
}

impl Disk {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self { world: Arc::clone(world), image: Arc::default(), leases: Arc::default() }
    }

    /// Whether a process has it open.
    pub(crate) fn is_open(&self) -> bool {
        Arc::strong_count(&self.leases) > 1
    }

    fn room(&self) -> io::Result<()> {
        if self.world.weather().journal_full {
            self.world.fault("journal full", "");
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.image.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.image.lock()[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.image.lock().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.room()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        let start = offset as usize;
        self.image.lock()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}
