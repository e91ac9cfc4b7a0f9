//! A store in a temporary directory, and a short way to ask it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use huntaway_wire::{
    Answer, BLOCK_SIZE_BYTES, ByteRange, Durability, MappedRun, ObjectKind, ObjectRequest, Oid, Operation,
    Partition, Read, Reply, Request, Segments, Submission, Vid, piece_crcs, pieces,
};
use tempfile::TempDir;

use crate::disk::{Disk, FileDisk, Ring, SimulatedDisk};
use crate::{Store, StoreOptions};

/// A store and where it is.
pub(super) struct Harness<D: Disk = FileDisk> {
    pub(super) place: Place<D>,
    pub(super) store: Store<D>,
}

/// What outlives a store.
pub(super) struct Place<D> {
    directory: Option<TempDir>,
    pub(super) disk: Arc<D>,
}

/// The data object `index` of the first disk.
pub(super) fn oid(index: u32) -> Oid {
    Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), index)
}

pub(super) fn partition(oid: Oid) -> Partition {
    Partition::of(oid.vid(), oid.index())
}

/// How many times the usual number of crashes a test is to try: `HUNTAWAY_CRASHES`.
pub(super) fn crash_factor() -> u64 {
    std::env::var("HUNTAWAY_CRASHES").map_or(1, |text| text.parse().expect("the setting is a number"))
}

pub(super) fn options() -> StoreOptions {
    StoreOptions {
        make: true,
        directory: "the disk".into(),
        wal_segment_bytes: 6 << 20,
        wal_bytes: 24 << 20,
        space_reserve_bytes: 0,
        ..StoreOptions::default()
    }
}

/// Waits for an answer that other threads give.
pub(super) fn wait(submission: Submission) -> Answer {
    match submission {
        Submission::Done(answer) => answer,
        Submission::Waiting(receiver) => receiver.blocking_recv().unwrap(),
    }
}

/// Whether this machine lets the test use io_uring; if not, that is said aloud.
pub(super) fn io_uring_is_allowed() -> bool {
    let refused = Ring::<()>::new().err();
    if let Some(error) = &refused {
        assert!(std::env::var_os("HUNTAWAY_REQUIRE_TOOLS").is_none(), "no io_uring: {error}");
        eprintln!("skipped: no io_uring here: {error}");
    }
    refused.is_none()
}

/// Bytes that differ from place to place.
pub(super) fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|place| (place as u32 * 31 + (place as u32 >> 8) * 7) as u8 ^ seed).collect()
}

impl Harness {
    pub(super) fn new() -> Self {
        Self::with(options())
    }

    pub(super) fn with(options: StoreOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(FileDisk::new(directory.path()).unwrap());
        Self::open(Place { directory: Some(directory), disk }, options)
    }

    pub(super) fn directory(&self) -> &Path {
        self.place.directory.as_ref().unwrap().path()
    }

    pub(super) fn object_path(&self, oid: Oid) -> PathBuf {
        self.directory().join(format!("objects/{}.1/{oid}", partition(oid)))
    }
}

impl Harness<SimulatedDisk> {
    /// A store on a disk in memory, of so many bytes.
    pub(super) fn simulated(bytes: u64, options: StoreOptions) -> Self {
        Self::on(SimulatedDisk::new(bytes), options)
    }
}

impl<D: Disk> Harness<D> {
    /// A store on that disk.
    pub(super) fn on(disk: D, options: StoreOptions) -> Self {
        Self::open(Place { directory: None, disk: Arc::new(disk) }, options)
    }

    /// A store on a disk that was there before.
    pub(super) fn on_old(disk: Arc<D>) -> Self {
        Self::open(Place { directory: None, disk }, options())
    }

    fn open(place: Place<D>, options: StoreOptions) -> Self {
        let store = Store::open(place.disk.clone(), options).unwrap();
        Self { place, store }
    }

    /// Stops the store as kill -9 does, and opens it again.
    pub(super) fn restart(self) -> Self {
        let options = self.store.options.clone();
        let Self { place, store } = self;
        drop(store);
        Self::open(place, options)
    }

    pub(super) fn submit(&self, oid: Oid, operation: Operation) -> Submission {
        let pepoch = self.store.pepoch();
        self.store.submit(Request::Object(ObjectRequest {
            partition: partition(oid),
            pepoch,
            oid,
            operation,
        }))
    }

    pub(super) fn submit_any(&self, request: Request) -> Submission {
        self.store.submit(request)
    }

    /// Asks and does all the work that the answer waits for.
    pub(super) fn ask(&self, oid: Oid, operation: Operation) -> Answer {
        self.settle(self.submit(oid, operation))
    }

    pub(super) fn settle(&self, submission: Submission) -> Answer {
        match submission {
            Submission::Done(answer) => answer,
            Submission::Waiting(mut receiver) => {
                let _ = self.store.sync();
                if let Ok(answer) = receiver.try_recv() {
                    return answer;
                }
                let _ = self.store.apply();
                let _ = self.store.sync();
                receiver.try_recv().expect("there is nothing left to wait for")
            }
        }
    }

    pub(super) fn write(&self, oid: Oid, offset: u32, data: &[u8]) {
        assert_eq!(self.ask(oid, write(offset, data, Durability::Logged)), Ok(Reply::Done));
    }

    pub(super) fn discard(&self, oid: Oid, offset: u32, length: u32) {
        let range = ByteRange::new(offset, length).unwrap();
        let discard = Operation::Discard { range, durability: Durability::Logged };
        assert_eq!(self.ask(oid, discard), Ok(Reply::Done));
    }

    /// Reads both ways, which must agree; the CRCs of whole blocks must be theirs.
    pub(super) fn read(&self, oid: Oid, offset: u32, length: u32) -> Result<Vec<u8>, huntaway_wire::Error> {
        let range = ByteRange::new(offset, length).unwrap();
        let mut bytes = vec![0xee; length as usize];
        let read = Read { partition: partition(oid), pepoch: self.store.pepoch(), oid, range };
        let mut crcs = vec![0; range.blocks().len()];
        let at_once = self.store.read_now(&read, &mut bytes, Some(&mut crcs)).expect("nothing waits");
        let at_once = at_once.map(|()| bytes);
        let whole = pieces(range).zip(crcs).filter(|(piece, _)| piece.len() == BLOCK_SIZE_BYTES as usize);
        for ((piece, crc), bytes) in whole.zip(at_once.iter().cycle()) {
            let block = &bytes[(piece.start - offset) as usize..(piece.end - offset) as usize];
            assert_eq!(crc32c::crc32c(block), crc, "{oid} {piece:?}");
        }
        let submitted = self.ask(oid, Operation::Read { range }).map(|reply| match reply {
            Reply::Data(segments) => segments.concat(),
            other => panic!("{other:?} is no data"),
        });
        assert_eq!(at_once, submitted);
        at_once
    }

    /// Whether a block can be read, asked in one way only.
    pub(super) fn read_only(&self, oid: Oid) -> Result<(), huntaway_wire::Error> {
        let range = ByteRange::new(0, huntaway_wire::BLOCK_SIZE_BYTES).unwrap();
        self.ask(oid, Operation::Read { range }).map(|_| ())
    }

    pub(super) fn map(&self, oid: Oid) -> Vec<MappedRun> {
        let range = ByteRange::new(0, huntaway_wire::OBJECT_SIZE_BYTES).unwrap();
        match self.ask(oid, Operation::Map { range }) {
            Ok(Reply::Map(runs)) => runs,
            other => panic!("{other:?} is no map"),
        }
    }

    pub(super) fn apply(&self) {
        self.store.apply().unwrap();
        assert!(!self.store.has_unapplied());
    }
}

pub(super) fn write(offset: u32, data: &[u8], durability: Durability) -> Operation {
    let range = ByteRange::new(offset, data.len() as u32).unwrap();
    let data = Segments::from_iter([Bytes::copy_from_slice(data)]);
    let crcs = piece_crcs(range, &data);
    Operation::Write { range, data, crcs, durability }
}
