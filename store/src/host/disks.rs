//! The disks of the node, and what they remember of its processes.

use std::path::Path;
use std::sync::Mutex;

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
    /// What all disks that serve remember, once the process has begun.
    remembered: Mutex<Remembered>,
}

impl Disks {
    pub(super) fn open(
        state: &Path,
        disks: &[DiskDirectory],
        options: StoreOptions,
        ledger: &RemoteDriver,
        registry: &Registry,
    ) -> Result<Self, OpenError> {
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
        let store = NodeStore::open(state, disks, options, registry)?;
        Ok(Self { store, remembered: Mutex::new(Remembered::nothing(boot)) })
    }

    /// What the ledger is to be told of the process that starts: it is on the disks already.
    ///
    /// # Errors
    /// They cannot be read or written, or there is no randomness.
    pub(super) fn begin(&self) -> Result<NodeStart, OpenError> {
        let mut remembered = lock(&self.remembered);
        let boot = remembered.boot;
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
        let mut id = [0; 8];
        let random = getrandom::fill(&mut id).map_err(|error| std::io::Error::other(error.to_string()));
        random.map_err(OpenError::io("draw", "random numbers"))?;
        let start = StartId(u64::from_le_bytes(id));
        let after = begun.starts.begin(start);
        begun.starts.proposed();
        *remembered = begun;
        self.write(&remembered)?;
        Ok(NodeStart { memory: remembered.memory, start, after })
    }

    /// The ledger has the start.
    ///
    /// # Errors
    /// The disks cannot be written.
    pub(super) fn recorded(&self) -> Result<(), OpenError> {
        let mut remembered = lock(&self.remembered);
        remembered.starts.recorded();
        remembered.memory = Memory::Kept;
        self.write(&remembered)?;
        self.all().for_each(Store::log_damage_is_known);
        Ok(())
    }

    fn write(&self, remembered: &Remembered) -> Result<(), OpenError> {
        for store in self.all() {
            remembered.store(store.disk()).map_err(OpenError::io("write the starts of", store.name()))?;
        }
        Ok(())
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
