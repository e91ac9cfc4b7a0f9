//! Opening a store: whose it is, what the log still holds, which partitions it has.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};

use huntaway_wire::{Epoch, OBJECT_SIZE_BYTES, PARTITIONS, Partition, Pepoch};

use crate::backlog::Backlog;
use crate::dirty::DirtyPartitions;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::index::IndexError;
use crate::known::{self, KnownPartitions};
use crate::locking::lock;
use crate::memory::{Account, Memory, Stamp};
use crate::metrics::Metrics;
use crate::object::ObjectCache;
use crate::options::StoreOptions;
use crate::partition::{Epochs, OBJECTS, PartitionState, Slot, directory_name, parse_directory_name};
use crate::reads::Reads;
use crate::replicated::{Consequence, LogDamage, Replay};
use crate::room::{LogSize, Room};
use crate::store::{RungBell, Store};
use crate::superblock::{BootId, DATA_NAMES, HARMLESS_NAMES, Superblock};
use crate::waiters::Waiters;
use crate::wal::{Change, Lsn, RecordHeader, Wal, WalOptions};

/// Least size of a segment of the log, in bytes: a record of a whole object must fit.
const MIN_SEGMENT_BYTES: u64 = OBJECT_SIZE_BYTES as u64 + (1 << 20);

/// Fewest segments that the log may have, whatever its bound.
const MIN_SEGMENTS: u64 = 2;

/// What replay found, by partition.
type Replayed = BTreeMap<Partition, Memory>;

impl<D: Disk> Store<D> {
    /// Opens the store on `disk`, or makes one if the disk is empty. What was in the log and not in the object files is
    /// among the recent writes afterwards (up to the log's bound): [`Store::apply`] takes it from there.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing that was acknowledged is lost by trying.
    pub fn open(disk: Arc<D>, options: StoreOptions) -> Result<Self, OpenError> {
        let opening @ Opening { superblock, is_complete, .. } = open_superblock(&*disk, &options)?;
        let mut known = if is_complete {
            KnownPartitions::load(&*disk, superblock.disk)?
        } else {
            disk.create_dir(OBJECTS).map_err(OpenError::io("create", OBJECTS))?;
            KnownPartitions::create(&*disk, superblock.disk).map_err(OpenError::io("create", known::PATH))?
        };
        disk.sync_dir("").map_err(OpenError::io("sync", "the directory"))?;
        let directories = find_directories(&*disk, &known, options.epoch)?;
        let account = Arc::<Account>::default();
        let (wal, replayed, replicas) = replay(&disk, &options, &opening, &account)?;
        let (recovered, trails) = replicas.recovered();
        let (dirty, metrics) = (DirtyPartitions::new(), Metrics::new(&options.directory));
        let room = Room::new(options.space_reserve_bytes, log_size(&options));
        let mut partitions: Box<[_]> = (0..PARTITIONS).map(|_| Mutex::new(Slot::Untouched)).collect();
        let mut damage = LogDamage::new(wal.holes());
        for (partition, memory) in replayed {
            let (mut memory, epochs) = (Some(memory), directories[partition.index()]);
            let left = (&mut memory, damage.concerns(partition));
            let loading = (partition, epochs, superblock.pepoch);
            let slot = load_replayed(&*disk, loading, left, &account, &metrics)?;
            if let Slot::Loaded(state) = &mut *lock(&slot) {
                room.promise_anyway(state.memory.promise_all());
                dirty.insert(partition);
                if lock(&state.index.log()).exists() {
                    known.renew(partition, epochs.of_directory());
                }
            } else if let Some(memory) = memory.filter(|_| options.opens_damaged_log) {
                damage.keep(partition, memory, wal.released());
            } else {
                trails.give_up(partition);
            }
            partitions[partition.index()] = slot;
        }
        room.refresh(&*disk);
        superblock.store(&*disk).map_err(OpenError::io("write", crate::superblock::PATH))?;
        Ok(Self {
            objects: ObjectCache::new(options.open_objects),
            backlog: Backlog::new(options.waiting_requests, options.memory_bytes),
            waiters: Waiters::new(wal.written()),
            reads: Reads::default(),
            metrics,
            applying: Mutex::new(()),
            draining: Mutex::new(()),
            failed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            rung: RungBell::default(),
            #[cfg(feature = "planted-bugs")]
            kept_back: crate::planted::KeptBack::default(),
            bell: OnceLock::new(),
            on_failure: OnceLock::new(),
            disk,
            options,
            superblock,
            damage,
            wal,
            partitions,
            directories,
            known: Mutex::new(known),
            account,
            dirty,
            trails,
            suspects: Mutex::default(),
            applied: AtomicU64::new(0),
            recovered: Mutex::new(recovered),
            room,
        })
    }

    /// Says that nothing is to be replayed at the next start, as far as everything is applied.
    ///
    /// # Errors
    /// The disk has failed.
    pub fn checkpoint(&self) -> Result<(), crate::store::DiskStopped> {
        self.wal.checkpoint().map_err(|error| {
            self.fail(&error);
            crate::store::DiskStopped
        })
    }
}

/// How large the log may become.
fn log_size(options: &StoreOptions) -> LogSize {
    let segment_bytes = options.wal_segment_bytes.max(MIN_SEGMENT_BYTES);
    let segments = (options.wal_bytes / segment_bytes).max(MIN_SEGMENTS);
    // What replicas know may need one more, or the log could not be released.
    LogSize { segments: segments + u64::from(options.opens_damaged_log), segment_bytes }
}

/// What is known of a store before its log is read.
#[derive(Debug, Clone, Copy)]
struct Opening {
    /// Of the next incarnation. It is not written yet: first everything else must be found to be in order.
    superblock: Superblock,
    /// The store was made to the end.
    is_complete: bool,
    /// The machine has not lost power since the store was opened last.
    is_same_boot: bool,
}

/// Reads the superblock, or makes one.
fn open_superblock<D: Disk>(disk: &D, options: &StoreOptions) -> Result<Opening, OpenError> {
    let Some(old) = Superblock::load(disk)? else {
        check_unused(disk)?;
        let new = Superblock {
            cluster: options.cluster,
            node: options.node,
            disk: options.new_disk,
            boot: options.boot,
            incarnation: 0,
            pepoch: options.pepoch,
            disks: options.disks,
        };
        new.create(disk).map_err(OpenError::io("create", crate::superblock::PATH))?;
        let superblock = Superblock { incarnation: 1, ..new };
        return Ok(Opening { superblock, is_complete: false, is_same_boot: false });
    };
    if old.cluster != options.cluster {
        return Err(OpenError::OtherCluster { found: old.cluster, expected: options.cluster });
    }
    if old.node != options.node {
        return Err(OpenError::OtherNode { found: old.node, expected: options.node });
    }
    let next = old.pepoch.0.checked_add(1).ok_or(OpenError::NoPepochLeft)?;
    let next = Superblock {
        boot: options.boot,
        incarnation: old.incarnation + 1,
        pepoch: options.pepoch.max(Pepoch(next)),
        ..old
    };
    let is_same_boot = old.boot == options.boot && options.boot != BootId([0; 16]);
    Ok(Opening { superblock: next, is_complete: old.is_complete(), is_same_boot })
}

/// Whether a store may be made on a disk that has no superblock.
///
/// # Errors
/// There is something on it: a store's data, or anything else.
pub(crate) fn check_unused<D: Disk>(disk: &D) -> Result<(), OpenError> {
    let names = disk.list("").map_err(OpenError::io("list", "the directory"))?;
    for name in DATA_NAMES.into_iter().filter(|data| names.iter().any(|name| name == data)) {
        if !disk.list(name).map_err(OpenError::io("list", name))?.is_empty() {
            return Err(OpenError::LostSuperblock { name });
        }
    }
    match names.into_iter().find(|name| !HARMLESS_NAMES.contains(&name.as_str())) {
        Some(name) => Err(OpenError::NotAStore { name }),
        None => Ok(()),
    }
}

/// The epochs of each partition's directory: the newest that is there, where there are several.
fn find_directories<D: Disk>(
    disk: &D,
    known: &KnownPartitions<D>,
    current: Epoch,
) -> Result<Box<[Epochs]>, OpenError> {
    let names = disk.list(OBJECTS).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => OpenError::Missing { name: OBJECTS },
        _ => OpenError::io("list", OBJECTS)(source),
    })?;
    // A process that died may have left names that are not on stable storage.
    disk.sync_dir(OBJECTS).map_err(OpenError::io("sync", OBJECTS))?;
    let mut directories = vec![Epochs { found: None, known: None, current }; PARTITIONS.into()];
    for (partition, epoch) in known.all() {
        directories[partition.index()].known = Some(epoch);
    }
    for (partition, epoch) in names.iter().filter_map(|name| parse_directory_name(name)) {
        let found = &mut directories[partition.index()].found;
        *found = (*found).max(Some(epoch));
    }
    Ok(directories.into())
}

fn replay<D: Disk>(
    disk: &Arc<D>,
    options: &StoreOptions,
    opening: &Opening,
    account: &Arc<Account>,
) -> Result<(Wal<D>, Replayed, Replay), OpenError> {
    let wal_options = WalOptions {
        disk_uuid: opening.superblock.disk.0,
        segment_bytes: options.wal_segment_bytes.max(MIN_SEGMENT_BYTES),
        bound_bytes: options.wal_bytes,
        may_be_new: !opening.is_complete,
        skips_damage: options.opens_damaged_log,
        is_same_boot: opening.is_same_boot,
    };
    #[cfg(feature = "planted-bugs")]
    let wal_options = WalOptions {
        is_same_boot: opening.is_same_boot && !options.has(crate::PlantedBug::TornTailAfterKill),
        ..wal_options
    };
    let mut replayed = Replayed::new();
    let mut replicas = Replay::default();
    #[cfg(feature = "planted-bugs")]
    {
        replicas.forgets_known = options.has(crate::PlantedBug::KnownNotReplayed);
    }
    let wal = Wal::open(disk.clone(), wal_options, &mut |lsn, record| -> Result<(), OpenError> {
        let partition = record.header.partition;
        let mut consequence = Consequence::None;
        if let Change::Replicated { meta, crcs } = record.header.change {
            let known = replicas.take(lsn, &record.header, (meta, crcs, &record.payload));
            consequence = known.ok_or(OpenError::UnknownRecord { end: lsn.0 })?;
            if matches!(consequence, Consequence::None) {
                return Ok(());
            }
        }
        let memory = replayed.entry(partition).or_insert_with(|| Memory::new(account.clone()));
        match consequence {
            Consequence::None => remember(memory, lsn, &record.header),
            Consequence::Changed(effect) => memory.replicate(record.header.oid, lsn, effect),
            Consequence::Forgotten => memory.forget_replayed(lsn),
        }
        Ok(())
    })?;
    #[cfg(feature = "planted-bugs")]
    if options.has(crate::PlantedBug::ReplayedOnce) {
        wal.release(wal.durable()).and_then(|()| wal.checkpoint())?;
    }
    Ok((wal, replayed, replicas))
}

/// Loads a partition of which the log said something. If its index is damaged, the partition answers that it is damaged, and the
/// others are served.
fn load_replayed<D: Disk>(
    disk: &D,
    (partition, epochs, pepoch): (Partition, Epochs, Pepoch),
    (memory, lacks_log): (&mut Option<Memory>, bool),
    account: &Arc<Account>,
    metrics: &Metrics,
) -> Result<Mutex<Slot>, OpenError> {
    let (objects, blocks) = memory.as_ref().map(Memory::counts).unwrap_or_default();
    match PartitionState::load(disk, partition, epochs, pepoch, (memory, lacks_log), account) {
        Ok(state) => Ok(Mutex::new(Slot::Loaded(Box::new(state)))),
        // Nothing is given up for what may succeed the next time.
        Err(error @ IndexError::Io(_)) => {
            Err(OpenError::index(&directory_name(partition, epochs.of_directory()))(error))
        }
        Err(error) => {
            metrics.damaged_indexes.inc();
            tracing::error!(
                %partition, %error, objects, blocks,
                "the index of a partition cannot be used, nor acknowledged changes that were not applied yet"
            );
            Ok(Mutex::new(Slot::Damaged))
        }
    }
}

/// Puts into memory what a record says, as the request that made it did.
fn remember(memory: &mut Memory, lsn: Lsn, header: &RecordHeader<'_>) {
    let oid = header.oid;
    let stamp = Stamp { lsn, version: header.version };
    match &header.change {
        Change::Write { first_block, crcs } => {
            memory.write(oid, *first_block, header.payload_at(lsn), crcs, stamp);
        }
        Change::Discard { blocks } => memory.discard(oid, blocks.clone(), stamp),
        Change::Reserve => memory.reserve(oid, stamp),
        Change::Remove => memory.remove(oid, stamp),
        // It says more than what happens to blocks.
        Change::Replicated { .. } => {}
    }
}
