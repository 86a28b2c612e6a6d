//! A disk without room for the event tables.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::leave_out;
use crate::world::{Setup, World, pause};

/// What the disk holds.
const BYTES: usize = 12 << 20;

/// A small disk of its own.
struct Disk(TempDir);

impl Disk {
    /// None where this user may not mount one.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={BYTES}"), "tmpfs"]).arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no byte free.
    fn fill(&self) {
        // Fails as it meets the end, having written as much as there was room for.
        drop(fs::write(self.path().join("filler"), vec![0; BYTES]));
    }

    fn free(&self) {
        fs::remove_file(self.path().join("filler")).expect("removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.path()).status());
    }
}

#[test]
fn a_full_disk_is_waited_for() {
    let Some(disk) = Disk::mount() else {
        return leave_out("a full disk under the event tables", "this user may not mount a small one");
    };
    let offline = Some(disk.path().join("offline"));
    let world = World::of(Setup { offline, ..Setup::new() });
    let mut worker = world.worker();
    world.produce(500);
    world.wait_until_in();
    world.with_traffic(|| {
        disk.fill();
        worker.wait_until_it_waits_for("No space left");
        pause(Duration::from_millis(500));
        worker.check();
        disk.free();
        worker.wait_until_ready();
    });
    world.wait_until_in();
    // Killed as it waits.
    world.with_traffic(|| {
        disk.fill();
        worker.wait_until_it_waits_for("No space left");
        worker.kill();
        disk.free();
    });
    world.wait_until_idle();
}
