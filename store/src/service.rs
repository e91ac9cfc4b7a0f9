//! The store of a directory of this machine, at work: [`Store`] with a lock on the directory and two threads.
//!
//! `wal-sync` puts the log on stable storage when somebody waits for it; `apply` moves what is in the log to the object
//! files; while it does, [`FileDisk`] gives it a few short-lived threads more. Unless the file system is memory, others
//! carry out reads that wait for the disk. All sleep without waking up while there is nothing to do.

mod gathering;
mod reading;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use huntaway_wire::{Error, Peer, Pepoch, Read, Request, Submission};
use prometheus::Registry;
use rustix::fs::FlockOperation;

use self::gathering::{Gathering, Wait};
use crate::disk::{Bell, FileDisk, Ring};
use crate::error::OpenError;
use crate::locking::lock;
use crate::metrics::{self, LevelCollector, Levels};
use crate::options::StoreOptions;
use crate::store::{DiskStopped, Store, Task};
use crate::superblock::{BootId, DiskId};

/// The file in the directory that whoever uses it has locked.
const LOCK_FILE: &str = "lock";

/// How long a write stays unapplied when nothing presses.
const APPLY_DELAY: Duration = Duration::from_secs(1);

/// How long application waits after the disk had no room.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A store at work. Dropping it without [`LocalStore::close`] leaves everything acknowledged in the log.
pub struct LocalStore {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: File,
}

struct Shared {
    store: Store<FileDisk>,
    stopping: AtomicBool,
}

/// One of the threads panicked.
#[derive(Debug, thiserror::Error)]
#[error("the thread {name} died")]
struct ThreadDied {
    name: &'static str,
}

/// The threads to wake.
struct Bells {
    sync: Thread,
    apply: Thread,
    read: Option<Bell>,
}

impl LocalStore {
    /// Opens the store in `directory`, making it if there is none, and shows its metrics in `registry`. The
    /// directory's name, the disk's and the boot's id in `options` are filled in if they are not given. At most half of
    /// the files that the process may have open are used for objects.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(directory: &Path, options: StoreOptions, registry: &Registry) -> Result<Self, OpenError> {
        let name = directory.display().to_string();
        fs::create_dir_all(directory).map_err(OpenError::io("create", &name))?;
        let lock = lock_directory(directory)?;
        Self::open_locked(directory, lock, options, registry)
    }

    /// As [`LocalStore::open`], in an existing directory whose `lock` the caller holds.
    pub(crate) fn open_locked(
        directory: &Path,
        lock: File,
        options: StoreOptions,
        registry: &Registry,
    ) -> Result<Self, OpenError> {
        Self::open_with(directory, lock, options, registry, Ring::new)
    }

    /// The same with a way to make the ring that reads by io_uring.
    pub(crate) fn open_with(
        directory: &Path,
        lock: File,
        options: StoreOptions,
        registry: &Registry,
        new_ring: impl FnOnce() -> io::Result<Ring<reading::Owner>>,
    ) -> Result<Self, OpenError> {
        let name = directory.display().to_string();
        let options = fill_in(options, &name)?;
        let probe = || FileDisk::new(directory)?.asked_first(&File::open(directory.join(LOCK_FILE))?);
        let disk = Arc::new(probe().map_err(OpenError::io("open", &name))?);
        let store = Store::open(disk, options)?;
        let shared = Arc::new(Shared { store, stopping: AtomicBool::new(false) });
        register(&shared, registry)?;
        let sync = spawn("wal-sync", &shared, Shared::sync_until_stopped)?;
        let apply = spawn("apply", &shared, Shared::apply_until_stopped)?;
        let reading = reading::start(&shared, new_ring)?;
        let engine = reading.name();
        metrics::register_engine(&shared.store.options.directory, engine, registry).map_err(no_metrics)?;
        let bells = Bells { sync: sync.thread().clone(), apply: apply.thread().clone(), read: reading.bell };
        shared.store.on_work(move |task| match task {
            Task::Sync => bells.sync.unpark(),
            Task::Apply => bells.apply.unpark(),
            Task::Read => bells.read.iter().for_each(Bell::ring),
        });
        if let Some(lane) = reading.lane {
            shared.store.reads.serve(lane);
        }
        tracing::info!(disk = name, engine, "what carries out reads that wait for the disk");
        let threads = [sync, apply].into_iter().chain(reading.threads).collect();
        Ok(Self { shared, threads: Mutex::new(threads), _lock: lock })
    }

    /// The pepoch that requests must carry.
    pub fn pepoch(&self) -> Pepoch {
        self.shared.store.pepoch()
    }

    /// The store itself.
    pub fn store(&self) -> &Store<FileDisk> {
        &self.shared.store
    }

    /// Takes no more requests, applies everything and stops the threads. The next start has nothing to replay then. A
    /// request that still waits, because the disk has no room, is answered by `NotServing`.
    ///
    /// # Errors
    /// The disk has failed, now or before; what was acknowledged is in the log as far as the disk holds it. A disk
    /// without room is no error: what could not be applied stays in the log.
    pub fn close(&self) -> Result<(), DiskStopped> {
        let store = &self.shared.store;
        store.stop();
        self.stop_threads();
        let finished = self.finish();
        store.end();
        finished
    }

    fn stop_threads(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.store.reads.close();
        self.shared.store.ring(Task::Read);
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            thread.thread().unpark();
            // A thread that panicked has said so itself; the store can be closed without it.
            drop(thread.join());
        }
    }

    fn finish(&self) -> Result<(), DiskStopped> {
        let store = &self.shared.store;
        store.sync()?;
        while store.has_unapplied() {
            if store.apply()?.objects_without_room > 0 {
                break;
            }
        }
        store.apply()?;
        store.checkpoint()
    }
}

impl Peer for LocalStore {
    fn submit(&self, request: Request) -> Submission {
        self.shared.store.submit(request)
    }

    fn read_now(&self, read: &Read, into: &mut [u8], crcs: Option<&mut [u32]>) -> Option<Result<(), Error>> {
        self.shared.store.read_now(read, into, crcs)
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn sync_until_stopped(&self) {
        let mut gathering = Gathering::default();
        while !self.is_stopping() {
            if !self.store.sync_is_due() {
                thread::park();
                continue;
            }
            if let Some(wait) = gathering.wait() {
                gathering.waited(self.wait_for_writers(wait));
            }
            let begun = Instant::now();
            if self.store.sync().is_err() {
                return;
            }
            let took = begun.elapsed();
            gathering.synced(self.store.waiters.crowd(), took);
            self.store.metrics.wal_sync_seconds.observe(took.as_secs_f64());
        }
    }

    /// Lets others go on until enough of them wait for stable storage; whether they do. To sleep would take longer.
    fn wait_for_writers(&self, wait: Wait) -> bool {
        let begun = Instant::now();
        while self.store.waiters.for_durable() < wait.crowd {
            if begun.elapsed() >= wait.longest {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    fn apply_until_stopped(&self) {
        while !self.is_stopping() {
            if !self.store.apply_is_due() {
                if self.store.rests() {
                    thread::park();
                    continue;
                }
                self.park_until_due(APPLY_DELAY);
            }
            if self.is_stopping() {
                return;
            }
            let begun = Instant::now();
            match self.store.apply() {
                Ok(applied) if applied.objects_without_room > 0 => self.park_for(RETRY_DELAY),
                Ok(_) => {}
                Err(DiskStopped) => return,
            }
            self.store.metrics.apply_seconds.observe(begun.elapsed().as_secs_f64());
        }
    }

    /// Waits, but no longer than until something presses.
    fn park_until_due(&self, delay: Duration) {
        let end = Instant::now() + delay;
        while !self.is_stopping() && !self.store.apply_is_due() {
            let Some(rest) = end.checked_duration_since(Instant::now()) else { return };
            thread::park_timeout(rest);
        }
    }

    /// Waits although it presses.
    fn park_for(&self, delay: Duration) {
        let end = Instant::now() + delay;
        while !self.is_stopping() {
            let Some(rest) = end.checked_duration_since(Instant::now()) else { return };
            thread::park_timeout(rest);
        }
    }
}

fn register(shared: &Arc<Shared>, registry: &Registry) -> Result<(), OpenError> {
    let weak = Arc::downgrade(shared);
    let levels = LevelCollector::new(&shared.store.options.directory, move || {
        weak.upgrade().map(|shared| levels(&shared.store))
    });
    let registered =
        shared.store.metrics.register(registry).and_then(|()| registry.register(Box::new(levels)));
    registered.map_err(no_metrics)
}

fn no_metrics(error: prometheus::Error) -> OpenError {
    OpenError::io("register", "the store's metrics")(io::Error::other(error))
}

fn levels(store: &Store<FileDisk>) -> Levels {
    let space = store.space();
    Levels {
        memory_bytes: store.memory_bytes(),
        wal_bytes: store.wal_bytes(),
        open_objects: store.open_objects() as u64,
        waiting_requests: store.waiting_requests() as u64,
        waiting_reads: store.waiting_reads() as u64,
        free_bytes: space.free_bytes,
        total_bytes: space.total_bytes,
        has_failed: store.has_failed(),
    }
}

fn spawn(
    name: &'static str,
    shared: &Arc<Shared>,
    run: impl FnOnce(&Shared) + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    let shared = shared.clone();
    let thread = thread::Builder::new().name(name.into()).spawn(move || {
        if panic::catch_unwind(AssertUnwindSafe(|| run(&shared))).is_err() {
            // Without it nobody would be answered any more, and nobody would know.
            shared.store.fail(&ThreadDied { name });
        }
    });
    thread.map_err(OpenError::io("start the thread", name))
}

/// Makes sure that no other process uses the directory, until the file is closed.
///
/// # Errors
/// [`OpenError::InUse`] when one does.
pub(crate) fn lock_directory(directory: &Path) -> Result<File, OpenError> {
    let path: PathBuf = directory.join(LOCK_FILE);
    let name = path.display().to_string();
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(OpenError::io("open", &name))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(OpenError::InUse { directory: directory.display().to_string() })
        }
        Err(error) => Err(OpenError::io("lock", &name)(error.into())),
    }
}

fn fill_in(mut options: StoreOptions, directory: &str) -> Result<StoreOptions, OpenError> {
    if options.directory.is_empty() {
        options.directory = directory.to_owned();
    }
    if options.new_disk == DiskId([0; 16]) {
        options.new_disk = new_disk_id()?;
    }
    options.open_objects = options.open_objects.min(files_allowed() / 2);
    if options.boot == BootId([0; 16]) {
        options.boot = boot_id().unwrap_or(options.boot);
    }
    Ok(options)
}

/// Names a new disk, at random.
pub(crate) fn new_disk_id() -> Result<DiskId, OpenError> {
    let mut id = DiskId([0; 16]);
    let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut id.0));
    random.map_err(OpenError::io("read", "/dev/urandom"))?;
    Ok(id)
}

/// How many files this process may have open.
pub(crate) fn files_allowed() -> usize {
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    allowed.and_then(|allowed| allowed.try_into().ok()).unwrap_or(usize::MAX)
}

/// This boot's id, if the kernel tells it.
pub(crate) fn boot_id() -> Option<BootId> {
    let text: io::Result<String> = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let digits: String = text.ok()?.trim().replace('-', "");
    u128::from_str_radix(&digits, 16).ok().map(|value| BootId(value.to_be_bytes()))
}
