//! A full disk.

use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use super::*;

/// A disk in memory with room for `room` bytes.
#[derive(Clone, Debug)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    room: Arc<AtomicU64>,
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = offset as usize;
        let bytes = self.bytes.lock();
        let read = bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if length > self.room.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.lock().resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = offset as usize;
        let mut bytes = self.bytes.lock();
        bytes.get_mut(at..at + data.len()).ok_or(io::ErrorKind::StorageFull)?.copy_from_slice(data);
        Ok(())
    }
}

fn mount(disk: &Disk) -> EmbeddedStore {
    let file = File::open_backend(Path::new("data/online.redb"), disk.clone()).unwrap();
    EmbeddedStore::prepare(file, Arc::new(Time::default)).unwrap()
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_half_written() {
    let disk = Disk { bytes: Arc::default(), room: Arc::new(AtomicU64::new(3 << 20)) };
    let store = mount(&disk);
    let generation = begin(&store).await;
    let mut at = 0;
    let error = loop {
        let before = contents(&store).await.unwrap();
        match advance(&store, &generation, at, 2000 << at).await {
            Ok(()) => at += 1,
            Err(error) => break (error, before),
        }
    };
    let (error, before) = error;
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(at > 0 && error.to_string().contains("data/online.redb"), "{error}");
    let again = advance(&store, &generation, at, 1).await.unwrap_err();
    assert!(matches!(again, StoreError::Full { .. }), "the same error until the store is opened again");
    drop(store);

    disk.room.store(u64::MAX, Ordering::Relaxed);
    let store = mount(&disk);
    assert_eq!(contents(&store).await.unwrap(), before);
    store.check().await.unwrap();
    advance(&store, &generation, at, 2000 << at).await.unwrap();
}
