//! Opening a node's disks: by the table in its state directory, which is made the first time.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16};

use prometheus::Registry;

use super::budget::share;
use super::probe::{Found, Probed, check_distinct, check_paths, probe_existing, probe_for_new};
use super::{DiskDirectory, DisksError, NodeDisk, NodeDisks, NodeStore, Service};
use crate::disk::{Disk, FileDisk};
use crate::disk_table::{self, DiskEntry, DiskTable, MAX_DISKS};
use crate::error::OpenError;
use crate::metrics;
use crate::options::StoreOptions;
use crate::service::{LocalStore, boot_id, new_disk_id};
use crate::superblock::{self, BootId};

/// Where the table is, as it is called in messages.
struct TablePlace {
    disk: FileDisk,
    name: String,
}

impl NodeStore {
    /// Opens the disks of a node, which must hold its ledger; makes them if the node has none and `options` says so. The
    /// table of disks is kept in `state`, which may be one of the directories. The limits in `options` are for all disks
    /// together, except those of the log. Metrics are shown in `registry`, with a label for each disk.
    ///
    /// Disks that the table lists and that cannot be opened are absent: their partitions answer with an error.
    ///
    /// # Errors
    /// The directories are not the node's disks, one is in use, or none can be opened; see [`OpenError`].
    pub fn open(
        state: &Path,
        disks: &[DiskDirectory],
        mut options: StoreOptions,
        registry: &Registry,
    ) -> Result<Self, OpenError> {
        if !(1..=MAX_DISKS).contains(&disks.len()) {
            return Err(DisksError::Count { given: disks.len() }.into());
        }
        if options.boot == BootId([0; 16]) {
            options.boot = boot_id().unwrap_or(options.boot);
        }
        let directory = state.display().to_string();
        fs::create_dir_all(state).map_err(OpenError::io("create", &directory))?;
        let state = FileDisk::new(state).map_err(OpenError::io("open", &directory))?;
        let name = state.directory().join(disk_table::PATH).display().to_string();
        let place = TablePlace { disk: state, name };
        let table = DiskTable::load(&place.disk).map_err(DisksError::table(&place.name))?;
        if let Some(table) = &table
            && table.node != options.node
        {
            return Err(OpenError::OtherNode { found: table.node, expected: options.node });
        }
        match table {
            Some(table) if table.is_complete => open_existing(place, disks, table, &options, registry),
            unfinished if options.make || is_from_before_tables(&unfinished, disks) => {
                make(place, disks, unfinished, &options, registry)
            }
            Some(_) => Err(DisksError::Unfinished { table: place.name }.into()),
            None => Err(DisksError::NoTable { table: place.name }.into()),
        }
    }

    /// Whether the node whose state directory this is has its disks.
    ///
    /// # Errors
    /// Its table of disks cannot be read.
    pub fn is_made(state: &Path) -> Result<bool, OpenError> {
        let disk = match FileDisk::new(state) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            disk => disk.map_err(OpenError::io("open", &state.display().to_string()))?,
        };
        let name = state.join(disk_table::PATH).display().to_string();
        let table = DiskTable::load(&disk).map_err(DisksError::table(&name))?;
        Ok(table.is_some_and(|table| table.is_complete))
    }
}

/// Makes the node's disks, or goes on with that: until the table is complete, none of them was served. A store of the
/// only directory that was there before tables were is taken as it is.
fn make(
    place: TablePlace,
    given: &[DiskDirectory],
    unfinished: Option<DiskTable>,
    options: &StoreOptions,
    registry: &Registry,
) -> Result<NodeStore, OpenError> {
    for disk in given {
        let name = disk.path.display().to_string();
        fs::create_dir_all(&disk.path).map_err(OpenError::io("create", &name))?;
    }
    check_paths(given)?;
    let in_directory = |disk: &DiskDirectory, error| in_directory(given.len(), disk, error);
    let mut probed = Vec::new();
    for disk in given {
        probed.push(probe_for_new(disk, options).map_err(|error| in_directory(disk, error))?);
    }
    check_distinct(&probed)?;
    match &unfinished {
        None => check_adoptable(&place, &probed)?,
        Some(table) => check_begun(table, &probed)?,
    }
    let mut table = DiskTable {
        node: options.node,
        boot: options.boot,
        is_complete: false,
        disks: probed.iter().map(new_entry).collect::<Result<_, _>>()?,
        routes: None,
    };
    if table.disks.iter().all(|disk| disk.weight == 0) {
        return Err(DisksError::NoWeight.into());
    }
    let is_adopted = unfinished.is_none() && probed.iter().any(|probed| probed.superblock().is_some());
    if !is_adopted {
        // Whoever takes this up later knows which stores are of its making.
        store(&place, &table)?;
    }
    let mut disks = Vec::new();
    for (probed, entry) in probed.into_iter().zip(&table.disks) {
        let disk = probed.given;
        let opened = open_disk(probed, entry, given.len(), options, registry);
        let service = Service::Serving(opened.map_err(|error| in_directory(disk, error))?);
        disks.push(NodeDisk {
            directory: disk.path.clone(),
            id: entry.id,
            weight: entry.weight,
            partitions: AtomicU16::new(0),
            leaves: AtomicBool::new(entry.leaves),
            fills: AtomicBool::new(entry.fills),
            service,
        });
    }
    table.is_complete = true;
    serve(place, table, disks, options, registry)
}

/// Whether the only directory holds a store, for which there is no table yet.
fn is_from_before_tables(table: &Option<DiskTable>, given: &[DiskDirectory]) -> bool {
    table.is_none() && matches!(given, [only] if only.path.join(superblock::PATH).exists())
}

/// Without a table there are either no stores at all, or there is one from before tables were.
fn check_adoptable(place: &TablePlace, probed: &[Probed<'_>]) -> Result<(), DisksError> {
    for store in probed {
        let Some(superblock) = store.superblock() else { continue };
        let directory = store.name();
        if superblock.disks > 1 {
            return Err(DisksError::LostTable {
                directory,
                disks: superblock.disks,
                table: place.name.clone(),
            });
        }
        if probed.len() > 1 {
            return Err(DisksError::Single { directory });
        }
    }
    Ok(())
}

/// Stores that are there are those that were made before this was interrupted.
fn check_begun(table: &DiskTable, probed: &[Probed<'_>]) -> Result<(), DisksError> {
    for store in probed {
        if let Some(superblock) = store.superblock()
            && !table.disks.iter().any(|entry| entry.id == superblock.disk)
        {
            let disks = table.disks.len();
            return Err(DisksError::Stranger { directory: store.name(), id: superblock.disk, disks });
        }
    }
    Ok(())
}

/// A disk that has no name yet gets a new one, also if the table foresaw one: who has that may be elsewhere.
fn new_entry(probed: &Probed<'_>) -> Result<DiskEntry, OpenError> {
    let id = match probed.superblock() {
        Some(superblock) => superblock.disk,
        None => new_disk_id()?,
    };
    let weight = match probed.given.weight {
        Some(weight) => weight,
        None => size_gib(&probed.given.path)?,
    };
    Ok(DiskEntry::new(id, weight))
}

pub(super) fn size_gib(path: &Path) -> Result<u32, OpenError> {
    let space = FileDisk::new(path).and_then(|disk| disk.space());
    let space = space.map_err(OpenError::io("ask for the size of", &path.display().to_string()))?;
    Ok(u32::try_from(space.total_bytes >> 30).unwrap_or(u32::MAX).max(1))
}

/// Opens what the table lists, as far as it is there.
fn open_existing(
    place: TablePlace,
    given: &[DiskDirectory],
    mut table: DiskTable,
    options: &StoreOptions,
    registry: &Registry,
) -> Result<NodeStore, OpenError> {
    check_paths(given)?;
    let mut probed = Vec::new();
    for disk in given {
        let found = probe_existing(disk, options).map_err(|error| in_directory(given.len(), disk, error))?;
        probed.push(found);
    }
    check_distinct(&probed)?;
    take_out(&mut table, &probed);
    let matched = match_disks(&table, probed)?;
    let may_hold_writes = table.boot == options.boot;
    let mut disks = Vec::new();
    let mut first_error = None;
    for (entry, probed) in table.disks.iter_mut().zip(matched) {
        let disk = probed.given;
        let service = match open_disk(probed, entry, given.len(), options, registry) {
            Ok(local) => Service::Serving(local),
            Err(error @ OpenError::InUse { .. }) => return Err(in_directory(given.len(), disk, error)),
            Err(error) if error.is_shortage() => return Err(in_directory(given.len(), disk, error)),
            Err(error) => {
                let (name, reason) = (disk.path.display().to_string(), error.in_full());
                tracing::error!(disk = name, id = %entry.id, reason, "a disk cannot be used: the others are served");
                metrics::register_absent(&name, registry).map_err(|error| {
                    OpenError::io("register", "the store's metrics")(std::io::Error::other(error))
                })?;
                first_error.get_or_insert(error);
                // A boot ago, all that was not flushed might have been lost anyway.
                Service::Absent { reason, may_owe: entry.may_owe && may_hold_writes }
            }
        };
        entry.may_owe = !matches!(service, Service::Absent { may_owe: false, .. });
        disks.push(NodeDisk {
            directory: disk.path.clone(),
            id: entry.id,
            weight: entry.weight,
            partitions: AtomicU16::new(0),
            leaves: AtomicBool::new(entry.leaves),
            fills: AtomicBool::new(entry.fills),
            service,
        });
    }
    let none_serves = disks.iter().all(|disk| matches!(disk.service, Service::Absent { .. }));
    match first_error {
        Some(error) if disks.len() == 1 => Err(error),
        Some(_) if none_serves => Err(DisksError::AllAbsent { reasons: reasons(&disks) }.into()),
        _ => serve(place, table, disks, options, registry),
    }
}

/// Disks that were to be taken away, or had just been added, have nothing, and are not given, are not the node's any more.
fn take_out(table: &mut DiskTable, probed: &[Probed<'_>]) {
    let is_given = |entry: &DiskEntry| {
        probed.iter().any(|probed| probed.superblock().is_some_and(|superblock| superblock.disk == entry.id))
    };
    while table.disks.len() > probed.len()
        && let Some(routes) = &mut table.routes
        && let Some(place) = (0..table.disks.len()).rev().find(|place| {
            let entry = &table.disks[*place];
            (entry.leaves || entry.fills)
                && !is_given(entry)
                && !routes.iter().any(|route| usize::from(*route) == *place)
        })
    {
        let entry = table.disks.remove(place);
        routes.iter_mut().filter(|route| usize::from(**route) > place).for_each(|route| *route -= 1);
        tracing::info!(id = %entry.id, "a disk is the node's no longer: nothing was on it, and it is not given");
    }
}

fn reasons(disks: &[NodeDisk]) -> String {
    let reason = |disk: &NodeDisk| match &disk.service {
        Service::Absent { reason, .. } => Some(format!("{}: {reason}", disk.directory.display())),
        Service::Serving(_) => None,
    };
    disks.iter().filter_map(reason).collect::<Vec<_>>().join("; ")
}

/// The directory of each disk of the table, in its order: the one that holds the disk; for disks that are nowhere, what is
/// left of the directories.
///
/// # Errors
/// There are more or fewer, one holds another disk, or is given another weight.
fn match_disks<'a>(table: &DiskTable, probed: Vec<Probed<'a>>) -> Result<Vec<Probed<'a>>, DisksError> {
    let disks = table.disks.len();
    let (mut stores, mut others): (Vec<_>, Vec<_>) =
        probed.into_iter().partition(|probed| probed.superblock().is_some());
    for store in &stores {
        if let Some(superblock) = store.superblock()
            && !table.disks.iter().any(|entry| entry.id == superblock.disk)
        {
            return Err(DisksError::Stranger { directory: store.name(), id: superblock.disk, disks });
        }
    }
    let given = stores.len() + others.len();
    if given > disks {
        let extra: Vec<String> = others.iter().map(Probed::name).collect();
        return Err(DisksError::Added { disks, given, extra: extra.join(" or ") });
    }
    if given < disks {
        return Err(DisksError::Removed { disks, given });
    }
    let mut matched = Vec::new();
    others.reverse();
    for entry in &table.disks {
        let holds_it =
            |store: &Probed<'_>| store.superblock().is_some_and(|superblock| superblock.disk == entry.id);
        let found = match stores.iter().position(holds_it) {
            Some(position) => Some(stores.swap_remove(position)),
            None => others.pop(),
        };
        // There are as many as disks, and each store is one of them.
        let found = found.ok_or(DisksError::Removed { disks, given })?;
        if let Some(weight) = found.given.weight
            && weight != entry.weight
        {
            return Err(DisksError::Weight { directory: found.name(), given: weight, weight: entry.weight });
        }
        matched.push(found);
    }
    Ok(matched)
}

pub(super) fn open_disk(
    probed: Probed<'_>,
    entry: &DiskEntry,
    disks: usize,
    options: &StoreOptions,
    registry: &Registry,
) -> Result<LocalStore, OpenError> {
    let lock = match probed.found {
        Found::Store { lock, .. } | Found::Nothing { lock } => lock,
        Found::Unusable(error) => return Err(error),
    };
    let directory = probed.given.path.display().to_string();
    let options =
        StoreOptions { directory, new_disk: entry.id, disks: disks as u32, ..share(options, disks) };
    LocalStore::open_locked(&probed.given.path, lock, options, registry)
}

/// Notes what is opened, and serves it.
fn serve(
    place: TablePlace,
    table: DiskTable,
    mut disks: Vec<NodeDisk>,
    options: &StoreOptions,
    registry: &Registry,
) -> Result<NodeStore, OpenError> {
    let table = DiskTable { boot: options.boot, ..table };
    store(&place, &table)?;
    let routes = table.routes().ok_or(DisksError::NoWeight)?;
    for (disk, number) in disks.iter_mut().zip(0..) {
        *disk.partitions.get_mut() = routes.iter().filter(|route| **route == number).count() as u16;
    }
    let routes = routes.iter().map(|disk| AtomicU8::new(*disk)).collect();
    Ok(NodeStore {
        disks: NodeDisks::new(disks),
        routes,
        least_pepoch: options.pepoch,
        state: place.disk,
        table: Mutex::new(table),
        options: options.clone(),
        registry: registry.clone(),
    })
}

fn store(place: &TablePlace, table: &DiskTable) -> Result<(), OpenError> {
    table.store(&place.disk).map_err(OpenError::io("write", &place.name))
}

/// Says which directory it was, where there are several.
fn in_directory(directories: usize, disk: &DiskDirectory, error: OpenError) -> OpenError {
    if directories == 1 {
        return error;
    }
    OpenError::InDirectory { directory: disk.path.display().to_string(), source: Box::new(error) }
}
