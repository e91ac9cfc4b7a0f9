//! The `local` driver: the ledger of a cluster of one process, in a file of its own. For several see [`shared`].
//!
//! `DIR/epoch/log` holds the records ([`read()`] shows them and changes nothing), `DIR/epoch/lock` is locked with
//! flock(2) as long as the driver lives and names the process that holds it. No daemon, no clock, no network:
//!
//! - G1, G7: the lock admits one process, a mutex one proposer.
//! - G2: a record is written and fsynced before [`Driver::propose`] or [`Driver::state`] shows it.
//! - G3: the one node is the only voter. G5: a proposal returns the state that has it. G6: the lease is the lock.
//! - G8: each open records a new incarnation first.

mod directory;
mod error;
mod lock;
mod log;
mod log_file;
pub mod shared;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use huntaway_ledger::{
    Cluster, EpochRecord, FollowError, Incarnation, Ledger, Member, MemberState, Name, Next, Operation,
    Record, State,
};
use huntaway_wire::{Epoch, NodeId};

pub use self::error::{Damage, LogError, OpenError};
use self::lock::DirectoryLock;
use self::log::Log;
pub use self::log_file::{LedgerFile, MAX_LOG_BYTES};
use self::log_file::{MAX_OPERATIONS_BYTES, Visited};
use crate::{Driver, ProposeError};

/// The weight of the only node.
const WEIGHT: u32 = 1;

/// How a ledger is made, and what its node is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalOptions {
    /// The cluster's name. An existing ledger must be of that name.
    pub cluster_name: Name,
    /// The node's name. Another one than in the ledger is recorded in a new epoch.
    pub node_name: Name,
    /// The node's zone. Another one than in the ledger is recorded in a new epoch.
    pub zone: Name,
    /// Make a ledger where there is none. Otherwise that is an error: it may lie on a disk that is not mounted.
    pub make: bool,
}

/// The ledger of one directory, held by this process until it is dropped.
#[derive(Debug)]
pub struct LocalDriver {
    node: NodeId,
    cluster: [u8; 16],
    writer: Mutex<Writer>,
    state: RwLock<Arc<State>>,
    /// Dropped last: another process may open the file when this one has closed it.
    _lock: DirectoryLock,
}

#[derive(Debug)]
struct Writer {
    ledger: Ledger,
    log: Log<std::fs::File>,
}

impl LocalDriver {
    /// Opens the ledger in `dir`, or makes both if `options` says so, and records that a new process (incarnation) of the
    /// node started.
    /// What the last process was about to write when it died is kept if it is whole, else cut off.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way and what to do; the ledger is then as it was.
    pub fn open(dir: &Path, options: LocalOptions) -> Result<Self, OpenError> {
        if options.make {
            directory::make(dir)?;
        } else if !log_file::exists(dir)? {
            directory::check_unused(dir)?;
            return Err(OpenError::None { dir: dir.into() });
        }
        let lock = DirectoryLock::acquire(dir)?;
        if options.make && !log_file::exists(dir)? {
            directory::check_unused(dir)?;
            make_ledger(dir, &options)?;
        }
        let found = log_file::load(dir, |_| ())?;
        let node = found.node;
        let (name, wanted) = (cluster_of(found.ledger.state())?.name.clone(), options.cluster_name.clone());
        if name != wanted {
            return Err(OpenError::OtherCluster { dir: dir.into(), found: name, wanted });
        }
        let cluster = cluster_of(found.ledger.state())?.uuid;
        let mut log = log_file::open_for_append(dir, &found)?;
        let mut ledger = found.ledger;
        let mut bytes = Vec::new();
        for record in records_of_a_start(ledger.state(), node, &options) {
            let next = ledger.follow(&record)?;
            bytes.extend(next.bytes);
            ledger = next.ledger;
        }
        log.append(&bytes, &ledger, MAX_LOG_BYTES)?;
        let state = Arc::clone(ledger.state());
        tracing::info!(%node, cluster = %name, epoch = state.epoch().0, record = state.number(), "ledger open");
        Ok(Self {
            node,
            cluster,
            writer: Mutex::new(Writer { ledger, log }),
            state: RwLock::new(state),
            _lock: lock,
        })
    }
}

impl Driver for LocalDriver {
    fn node(&self) -> NodeId {
        self.node
    }

    fn cluster(&self) -> [u8; 16] {
        self.cluster
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn propose(&self, operation: Operation) -> Result<Arc<State>, ProposeError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let uuid = random_uuid().map_err(ProposeError::Entropy)?;
        let record = writer.ledger.state().record_for(operation, uuid).map_err(FollowError::from)?;
        let Next { bytes, ledger } = writer.ledger.follow(&record)?;
        writer.log.append(&bytes, &ledger, MAX_OPERATIONS_BYTES)?;
        let state = Arc::clone(ledger.state());
        writer.ledger = ledger;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&state);
        Ok(state)
    }
}

/// Reads the ledger in `dir` and changes nothing: for tools that look at a directory offline. Needs no lock; a record
/// that a running process is just writing may be missing.
///
/// # Errors
/// [`OpenError`] says what is in the way and what to do.
pub fn read(dir: &Path) -> Result<LedgerFile, OpenError> {
    let mut records = Vec::new();
    let found = log_file::load(dir, |visited| {
        if let Visited::Record(record, _, _) = visited {
            records.push(record);
        }
    })?;
    cluster_of(found.ledger.state())?;
    Ok(LedgerFile { node: found.node, state: Arc::clone(found.ledger.state()), records })
}

fn make_ledger(dir: &Path, options: &LocalOptions) -> Result<(), OpenError> {
    let node = NodeId(random_uuid().map_err(OpenError::Entropy)?);
    let uuid = random_uuid().map_err(OpenError::Entropy)?;
    let member = Member {
        node,
        name: options.node_name.clone(),
        incarnation: Incarnation(0),
        addresses: Vec::new(),
        zone: options.zone.clone(),
        weight: WEIGHT,
        state: MemberState::Up,
    };
    let cluster = Cluster { uuid, name: options.cluster_name.clone() };
    let first = EpochRecord { number: Epoch(1), cluster, members: vec![member], voters: vec![node] };
    let next = Ledger::default().follow(&Record::Epoch(first))?;
    log_file::create(dir, node, &next)?;
    Ok(())
}

/// A ledger that is open, and nobody else's until the lock is dropped.
#[derive(Debug)]
struct Opened {
    ledger: Ledger,
    log: Log<std::fs::File>,
    /// Whose it is.
    node: NodeId,
    lock: DirectoryLock,
}

/// Opens the ledger in `dir` for a process that is no node of its own. All that it finds is on stable storage.
fn open_to_keep(
    dir: &Path,
    make: impl FnOnce(&Path) -> Result<(), OpenError>,
    visit: impl FnMut(Visited<'_>),
) -> Result<Opened, OpenError> {
    let lock = DirectoryLock::acquire(dir)?;
    if !log_file::exists(dir)? {
        directory::check_unused(dir)?;
        make(dir)?;
    }
    let found = log_file::load(dir, visit)?;
    cluster_of(found.ledger.state())?;
    let mut log = log_file::open_for_append(dir, &found)?;
    log.append(&[], &found.ledger, u64::MAX)?;
    Ok(Opened { ledger: found.ledger, log, node: found.node, lock })
}

/// What a start adds: an epoch if the node is called otherwise by now, and the new incarnation.
fn records_of_a_start(state: &State, node: NodeId, options: &LocalOptions) -> Vec<Record> {
    let mut records = Vec::new();
    let known = |member: &Member| {
        member.node != node || (member.name == options.node_name && member.zone == options.zone)
    };
    if let Some(cluster) = state.cluster()
        && !state.members().iter().all(known)
    {
        let mut members = state.members().to_vec();
        for member in members.iter_mut().filter(|member| member.node == node) {
            member.name = options.node_name.clone();
            member.zone = options.zone.clone();
        }
        records.push(Record::Epoch(EpochRecord {
            number: Epoch(state.epoch().0 + 1),
            cluster: cluster.clone(),
            members,
            voters: state.voters().to_vec(),
        }));
    }
    let last = state.member(node).map_or(0, |member| member.incarnation.0);
    records.push(Record::Incarnation { node, incarnation: Incarnation(last.saturating_add(1)) });
    records
}

fn cluster_of(state: &State) -> Result<&Cluster, OpenError> {
    state.cluster().ok_or(OpenError::Empty)
}

/// A random uuid (RFC 9562 §5.4, version 4).
fn random_uuid() -> Result<[u8; 16], getrandom::Error> {
    let mut uuid = [0; 16];
    getrandom::fill(&mut uuid)?;
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}
