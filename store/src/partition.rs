//! One partition of the store: its order, its index and its recent writes. Loaded when first touched.

use std::sync::Arc;

use huntaway_replica::order::Order;
use huntaway_wire::{Epoch, Oid, Partition, Pepoch, Refusal};

use crate::disk::Disk;
use crate::index::{Index, IndexError, IndexPlace, Loading};
use crate::memory::{Account, Memory};
use crate::replicated::Grant;

/// The directory that holds all partitions' directories.
pub(crate) const OBJECTS: &str = "objects";

/// A partition as far as it was looked at.
pub(crate) enum Slot {
    /// Not yet.
    Untouched,
    /// It is at work.
    Loaded(Box<PartitionState>),
    /// Its index cannot be used.
    Damaged,
}

/// When a partition's directory was made, as far as is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epochs {
    /// In the name of the newest directory that is there.
    pub(crate) found: Option<Epoch>,
    /// By the file `partitions`: then it must be there.
    pub(crate) known: Option<Epoch>,
    /// Of a directory that is made now.
    pub(crate) current: Epoch,
}

impl Epochs {
    /// The epoch of the directory that counts.
    pub(crate) fn of_directory(&self) -> Epoch {
        self.found.max(self.known).unwrap_or(self.current)
    }
}

/// A partition at work.
pub(crate) struct PartitionState {
    pub(crate) order: Order,
    pub(crate) index: Index,
    pub(crate) memory: Memory,
    pub(crate) grant: Grant,
    /// Where its objects are, relative to the disk's directory.
    pub(crate) directory: Arc<str>,
    /// Whether that directory is there, durably.
    pub(crate) has_directory: bool,
    /// A process that died left what its directory and index say, but perhaps not on stable storage: to be synced
    /// before anything is built on it. (What it left in object files is written again, for the log still has it.)
    pub(crate) is_inherited: bool,
    /// Files were removed, and a power loss may bring them back: their directory is not synced since.
    pub(crate) names_unsynced: bool,
}

impl PartitionState {
    /// Loads a partition. `memory` is what replay found, taken if it can be loaded; `lacks_log`: the log may have had more.
    pub(crate) fn load<D: Disk>(
        disk: &D,
        partition: Partition,
        epochs: Epochs,
        pepoch: Pepoch,
        (memory, lacks_log): (&mut Option<Memory>, bool),
        account: &Arc<Account>,
    ) -> Result<Self, IndexError> {
        let epoch = epochs.of_directory();
        let directory = directory_name(partition, epoch);
        let must_exist = epochs.known == Some(epoch);
        let place = IndexPlace { partition, epoch, directory: directory.clone(), must_exist };
        let has_directory = epochs.found.is_some();
        let is_inherited = memory.is_some() && has_directory;
        let index = match &*memory {
            // Without a directory there is nothing to mend.
            Some(memory) if has_directory => {
                let replayed = |oid: Oid| memory.object(oid).map(|recent| recent.first_version());
                let damaged = Loading::AfterDamage(&replayed);
                Index::load(disk, place, &if lacks_log { damaged } else { Loading::AfterCrash(&replayed) })?
            }
            _ => Index::load(disk, place, &Loading::Quiet)?,
        };
        let mut memory = memory.take().unwrap_or_else(|| Memory::new(account.clone()));
        memory.indexed(index.oids(None));
        Ok(Self {
            order: Order::new(partition, pepoch),
            index,
            memory,
            grant: Grant::default(),
            directory: directory.into(),
            has_directory,
            is_inherited,
            names_unsynced: false,
        })
    }

    /// Whether a request of a sender that believes in `pepoch` may be served.
    pub(crate) fn check_pepoch(&self, pepoch: Pepoch) -> Result<(), Refusal> {
        let newest = self.order.pepoch();
        match pepoch.cmp(&newest) {
            std::cmp::Ordering::Less => Err(Refusal::StaleEpoch { newest }),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(Refusal::NotServing),
        }
    }
}

/// The directory of a partition that this node got in `epoch`, relative to the disk's.
pub(crate) fn directory_name(partition: Partition, epoch: Epoch) -> String {
    format!("{OBJECTS}/{partition}.{}", epoch.0)
}

/// The partition and epoch that a name in [`OBJECTS`] stands for.
pub(crate) fn parse_directory_name(name: &str) -> Option<(Partition, Epoch)> {
    let (partition, epoch) = name.split_once('.')?;
    let partition = Partition::new(u16::from_str_radix(partition, 16).ok()?).ok()?;
    let epoch = Epoch(epoch.parse().ok()?);
    (directory_name(partition, epoch).strip_prefix(OBJECTS)?.strip_prefix('/')? == name)
        .then_some((partition, epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_names_tell_partition_and_epoch() {
        let partition = Partition::new(0xabc).unwrap();
        assert_eq!(directory_name(partition, Epoch(12)), "objects/abc.12");
        assert_eq!(parse_directory_name("abc.12"), Some((partition, Epoch(12))));
        for wrong in ["ABC.12", "abc.012", "abc", "1000.1", "abc.", "0abc.1", "lost+found"] {
            assert_eq!(parse_directory_name(wrong), None, "{wrong}");
        }
    }
}
