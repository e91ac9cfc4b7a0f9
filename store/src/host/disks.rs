//! The disks of the node, and what they remember of its processes.

use std::path::Path;
use std::sync::{Arc, Mutex};

use huntaway_ledger::{Memory, StartId};
use huntaway_membership::Driver as _;
use huntaway_membership::local::shared::{NodeStart, RemoteDriver};
use huntaway_wire::Partition;
use prometheus::Registry;

use super::starts::{Remembered, worse};
use crate::disk::FileDisk;
use crate::locking::lock;
use crate::service::boot_id;
use crate::store::Store;
use crate::{BootId, ClusterId, DiskDirectory, DiskStatus, DisksStopped, NodeStore, OpenError, StoreOptions};

/// All of them.
pub(super) struct Disks {
    store: NodeStore,
    boot: BootId,
    /// What all disks that serve remember, once the process has begun.
    remembered: Mutex<Option<Remembered>>,
}

impl Disks {
    pub(super) fn open(
        state: &Path,
        disks: &[DiskDirectory],
        options: StoreOptions,
        ledger: &RemoteDriver,
        registry: &Registry,
    ) -> Result<Arc<Self>, OpenError> {
        let boot = if options.boot == BootId([0; 16]) { boot_id() } else { Some(options.boot) };
        let options = StoreOptions {
            cluster: ClusterId(ledger.cluster()),
            node: ledger.node(),
            epoch: ledger.state().epoch(),
            opens_damaged_log: true,
            boot: boot.unwrap_or(options.boot),
            ..options
        };
        let boot = options.boot;
        Ok(Self::over(NodeStore::open(state, disks, options, registry)?, boot))
    }

    fn over(store: NodeStore, boot: BootId) -> Arc<Self> {
        let disks = Arc::new(Self { store, boot, remembered: Mutex::new(None) });
        for store in disks.store.opened() {
            let disks = Arc::downgrade(&disks);
            store.on_failure(move || disks.upgrade().iter().for_each(|disks| disks.has_failed()));
        }
        disks
    }

    /// A disk failed: what it was given since it was synced last may be lost, which the next process has to know, also in this boot.
    fn has_failed(&self) {
        let mut remembered = lock(&self.remembered);
        // Whoever begins later looks whether a disk has failed.
        let Some(remembered) = &mut *remembered else { return };
        remembered.memory = worse(remembered.memory, Memory::Stable);
        // What failed is asked for nothing: it may take a minute to say no.
        let disks = [self.store.state()].into_iter().chain(self.all().map(Store::disk));
        let noted = disks.filter(|disk| remembered.store(*disk).is_ok()).count();
        if noted == 0 {
            tracing::error!(
                "that a disk has failed is noted nowhere: restart the machine before this node starts again"
            );
        }
    }

    /// What the ledger is to be told of the process that starts: it is on the disks already.
    ///
    /// # Errors
    /// They cannot be read or written, or there is no randomness.
    pub(super) fn begin(&self) -> Result<NodeStart, OpenError> {
        let mut remembered = lock(&self.remembered);
        let boot = self.boot;
        let mut all: Option<Remembered> = None;
        for store in self.all() {
            let name = store.name();
            let found = Remembered::load(store.disk()).map_err(OpenError::io("read the starts of", name))?;
            let mut found = found.unwrap_or_else(|| Remembered::nothing(boot));
            if found.boot != boot || boot == BootId([0; 16]) {
                // Another boot of the kernel, or it is not known which: what was not flushed may be lost.
                found.memory = worse(found.memory, Memory::Stable);
            }
            if Partition::all().any(|partition| store.is_log_damaged(partition)) {
                found.memory = Memory::Damaged;
            }
            all = Some(match all {
                None => found,
                // What one of them does not know of, it lacks: it is another disk, or an old copy.
                Some(known) => Remembered {
                    boot,
                    memory: worse(known.memory, found.memory),
                    starts: known.starts.known_to(&found.starts),
                },
            });
        }
        let mut begun = all.unwrap_or_else(|| Remembered::nothing(boot));
        begun.boot = boot;
        // Where a disk that failed is told of, though it may not have taken that itself.
        let state = self.store.state();
        let name = state.directory().display().to_string();
        let noted = Remembered::load(state).map_err(OpenError::io("read the starts of", &name))?;
        if let Some(noted) = noted.filter(|noted| noted.boot == boot) {
            begun.memory = worse(begun.memory, noted.memory);
        }
        if self.store.opened().any(Store::has_failed) {
            begun.memory = worse(begun.memory, Memory::Stable);
        }
        let mut id = [0; 8];
        let random = getrandom::fill(&mut id).map_err(|error| std::io::Error::other(error.to_string()));
        random.map_err(OpenError::io("draw", "random numbers"))?;
        let start = StartId(u64::from_le_bytes(id));
        let after = begun.starts.begin(start);
        begun.starts.proposed();
        let begun = remembered.insert(begun);
        self.write(begun)?;
        Ok(NodeStart { memory: begun.memory, start, after })
    }

    /// The ledger has the start.
    ///
    /// # Errors
    /// The disks cannot be written.
    pub(super) fn recorded(&self) -> Result<(), OpenError> {
        let mut guard = lock(&self.remembered);
        let Some(remembered) = &mut *guard else { return Ok(()) };
        remembered.starts.recorded();
        let told = remembered.memory;
        let has_failed = self.store.opened().any(Store::has_failed);
        remembered.memory = if has_failed { Memory::Stable } else { Memory::Kept };
        self.write(remembered)?;
        // A disk that fails from here on is noted.
        drop(guard);
        match told {
            Memory::Damaged => self.all().for_each(Store::log_damage_is_known),
            Memory::Kept | Memory::Stable => self.all().for_each(Store::no_log_damage_was_told),
        }
        Ok(())
    }

    fn write(&self, remembered: &Remembered) -> Result<(), OpenError> {
        for store in self.all() {
            remembered.store(store.disk()).map_err(OpenError::io("write the starts of", store.name()))?;
        }
        let state = self.store.state();
        let name = state.directory().display().to_string();
        remembered.store(state).map_err(OpenError::io("write the starts of", &name))
    }

    /// How many disks the node has.
    pub(super) fn count(&self) -> usize {
        self.store.count()
    }

    /// Which disk the partition is on.
    pub(super) fn number(&self, partition: Partition) -> usize {
        self.store.number_of(partition)
    }

    /// The store of the disk that the partition is on; `None` if it failed or is absent.
    pub(super) fn store(&self, partition: Partition) -> Option<&Store<FileDisk>> {
        self.by_number(self.number(partition))
    }

    pub(super) fn by_number(&self, disk: usize) -> Option<&Store<FileDisk>> {
        self.store.store_of(disk)
    }

    /// Those that serve.
    pub(super) fn all(&self) -> impl Iterator<Item = &Store<FileDisk>> {
        (0..self.count()).filter_map(|disk| self.by_number(disk))
    }

    pub(super) fn status(&self) -> Vec<DiskStatus> {
        self.store.disks()
    }

    pub(super) fn close(&self) -> Result<(), DisksStopped> {
        self.store.close()
    }
}

#[cfg(test)]
mod tests {
    use huntaway_wire::Broken;
    use tempfile::TempDir;

    use super::*;

    const BOOT: BootId = BootId([3; 16]);

    /// What a process that starts now tells the ledger that is left.
    fn begin(dir: &TempDir, boot: BootId) -> (Arc<Disks>, Memory) {
        let path = dir.path().join("disk");
        let disk = DiskDirectory { path, weight: None };
        let options = StoreOptions { make: true, boot, ..StoreOptions::default() };
        let store = NodeStore::open(&dir.path().join("state"), &[disk], options, &Registry::new()).unwrap();
        let disks = Disks::over(store, boot);
        let memory = disks.begin().unwrap().memory;
        (disks, memory)
    }

    #[test]
    fn a_disk_that_failed_is_told_of_by_the_next_process_and_by_none_after_it() {
        let dir = TempDir::new().unwrap();
        let (disks, memory) = begin(&dir, BOOT);
        assert_eq!(memory, Memory::Kept);
        disks.recorded().unwrap();
        drop(disks);
        let (disks, memory) = begin(&dir, BOOT);
        assert_eq!(memory, Memory::Kept);
        disks.recorded().unwrap();
        disks.by_number(0).unwrap().fail(&Broken::DiskFailed { disk: "disk".into() });
        drop(disks);
        // It may not have been able to take it.
        std::fs::remove_file(dir.path().join("disk").join(super::super::starts::PATH)).unwrap();
        let (disks, memory) = begin(&dir, BOOT);
        assert_eq!(memory, Memory::Stable);
        disks.recorded().unwrap();
        drop(disks);
        assert_eq!(begin(&dir, BOOT).1, Memory::Kept);
    }

    #[test]
    fn a_disk_that_fails_while_the_process_starts_is_told_of_by_the_next_one() {
        let dir = TempDir::new().unwrap();
        let (disks, _) = begin(&dir, BOOT);
        disks.by_number(0).unwrap().fail(&Broken::DiskFailed { disk: "disk".into() });
        disks.recorded().unwrap();
        drop(disks);
        assert_eq!(begin(&dir, BOOT).1, Memory::Stable);
    }
}
