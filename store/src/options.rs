//! What a store is told when it is opened: who it is, and how much it may use.

use huntaway_wire::{Epoch, NodeId, Pepoch};

use crate::superblock::{BootId, ClusterId, DiskId};

/// How reads are carried out that have to wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadEngine {
    /// By io_uring where that is allowed, by threads where it is not; at once if the file system is memory.
    #[default]
    Best,
    /// By io_uring, or the store is not opened.
    IoUring,
    /// By threads.
    Threads,
}

/// Identity and limits of a store. [`StoreOptions::default`] gives the limits; who it is must be said.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The disk's directory, as it is called in messages.
    pub directory: String,
    /// The cluster the store belongs to. A directory of another cluster is refused.
    pub cluster: ClusterId,
    /// The node the store runs on. A directory of another node is refused.
    pub node: NodeId,
    /// Names the disk if the directory is new; a directory that has a name keeps it.
    pub new_disk: DiskId,
    /// How many disks the node has, noted in a new directory.
    pub disks: u32,
    /// Make the disks of a node that has none. Otherwise that is an error: they may only not be mounted.
    pub make: bool,
    /// This boot of the kernel, noted with the pepoch: in another one, unsynced writes may have been lost.
    pub boot: BootId,
    /// The epoch in which this node got the partitions whose directories do not exist yet.
    pub epoch: Epoch,
    /// The least pepoch to serve. The store takes a higher one when this one may have been used before.
    pub pepoch: Pepoch,
    /// Most bytes of recent writes: data that is in the log and not in the object files, and what is kept in memory of where
    /// it is. Writes beyond that wait.
    pub memory_bytes: u64,
    /// Held bytes at which applying to the object files begins.
    pub apply_at_bytes: u64,
    /// Most bytes of write-ahead log, at least two segments. Writes beyond that wait. What the log has not taken of the
    /// disk yet is kept free for it.
    pub wal_bytes: u64,
    /// Size of one file of the write-ahead log, in bytes.
    pub wal_segment_bytes: u64,
    /// Most object files kept open, each with its table of 16 KiB.
    pub open_objects: usize,
    /// Bytes of the file system that are never promised to writes.
    pub space_reserve_bytes: u64,
    /// Most requests that wait for room; more are refused.
    pub waiting_requests: usize,
    /// Open although records of the log that were on stable storage cannot be read, with all others: for what lies below replicas,
    /// which are told whom that concerns ([`Store::is_log_damaged`](crate::Store::is_log_damaged)). A single copy is not opened.
    pub opens_damaged_log: bool,
    /// How reads are carried out that have to wait for the disk: for tests and measurements.
    pub read_engine: ReadEngine,
    /// What the store does wrong, on purpose.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<crate::planted::PlantedBug>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            directory: String::new(),
            cluster: ClusterId([0; 16]),
            node: NodeId([0; 16]),
            new_disk: DiskId([0; 16]),
            disks: 1,
            make: false,
            boot: BootId([0; 16]),
            epoch: Epoch(1),
            pepoch: Pepoch(1),
            memory_bytes: 64 << 20,
            apply_at_bytes: 24 << 20,
            wal_bytes: 256 << 20,
            wal_segment_bytes: 64 << 20,
            open_objects: 1024,
            space_reserve_bytes: 64 << 20,
            waiting_requests: 4096,
            opens_damaged_log: false,
            read_engine: ReadEngine::Best,
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}

#[cfg(feature = "planted-bugs")]
impl StoreOptions {
    /// Whether this is done wrong.
    pub(crate) fn has(&self, bug: crate::planted::PlantedBug) -> bool {
        self.planted == Some(bug)
    }
}
