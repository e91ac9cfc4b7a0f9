//! What a disk lost when it was shrunk never comes back: not when it grows again, and not after a crash at any moment.

use std::sync::Arc;

use bytes::Bytes;
use huntaway_gateway::{Router, Volume};
use huntaway_store::disk::{Crash, SimulatedDisk};
use huntaway_store::{Store, StoreOptions};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, ByteRange, Durability, Error, OBJECT_SIZE_BYTES, ObjectKind, ObjectRequest, Oid,
    Operation, PARTITIONS, Partition, Peer, Read, Reply, Request, Segments, Submission, Vid, piece_crcs,
};

/// Objects that the disk has before it is shrunk.
const OBJECTS: u32 = 3;

/// Where it ends afterwards: within a block of the second object.
const NEW_END_BYTES: u64 = OBJECT_SIZE_BYTES as u64 + 5 * BLOCK_SIZE_BYTES as u64 + 512;

/// No removal takes more operations of the disk than this.
const MAX_OPERATIONS: u64 = 500;

/// Places that are looked at in every object: in blocks before, at and after the new end, and at the object's end.
const PLACES: [u32; 4] = [0, 5, 6, OBJECT_SIZE_BYTES / BLOCK_SIZE_BYTES - 1];

fn vid() -> Vid {
    Vid::new(1).expect("1 is a vid")
}

fn object(index: u32) -> (Partition, Oid) {
    (Partition::of(vid(), index), Oid::new(ObjectKind::Data, vid(), index))
}

fn block(number: u32) -> ByteRange {
    ByteRange::new(number * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES).expect("the block is in the object")
}

/// The store of a simulated disk, which does at once what an answer waits for.
struct Worked {
    store: Store<SimulatedDisk>,
    /// A bug: of the object in which the removed part begins, nothing is discarded.
    forgets_tails: bool,
}

impl Worked {
    fn open(disk: &Arc<SimulatedDisk>) -> Arc<Self> {
        let options = StoreOptions {
            wal_bytes: 10 << 20,
            wal_segment_bytes: 5 << 20,
            space_reserve_bytes: 0,
            ..StoreOptions::default()
        };
        let store = Store::open(disk.clone(), options).expect("the disk can be opened");
        Arc::new(Self { store, forgets_tails: false })
    }

    fn remove(self: &Arc<Self>, size_bytes: u64, from_bytes: u64) -> Result<(), Error> {
        let pepoch = self.store.pepoch();
        let router = Arc::new(Router::to_one(Arc::clone(self) as Arc<dyn Peer>, |_| pepoch));
        let volume = Volume::new(vid(), vid(), size_bytes, router);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(volume.remove(from_bytes))
    }

    fn fill(&self) {
        for index in 0..OBJECTS {
            for place in PLACES {
                let (partition, oid) = object(index);
                let (range, data) = (block(place), Segments::from_iter([Bytes::from(vec![7; 4096])]));
                let crcs = piece_crcs(range, &data);
                let operation = Operation::Write { range, data, crcs, durability: Durability::Logged };
                let pepoch = self.store.pepoch();
                let request = Request::Object(ObjectRequest { partition, pepoch, oid, operation });
                assert!(matches!(self.submit(request), Submission::Done(Ok(Reply::Done))));
            }
        }
        self.store.sync().expect("the disk is sound");
    }

    /// The first place that does not hold what it should.
    fn wrong(&self) -> Option<String> {
        for (index, place) in (0..OBJECTS).flat_map(|index| PLACES.map(|place| (index, place))) {
            let (partition, oid) = object(index);
            let mut found = vec![0xee; BLOCK_SIZE_BYTES as usize];
            let read = Read { partition, pepoch: self.store.pepoch(), oid, range: block(place) };
            self.store.read_now(&read, &mut found, None).expect("nothing waits").expect("it can be read");
            let start = u64::from(index * OBJECT_SIZE_BYTES + place * BLOCK_SIZE_BYTES);
            let kept = NEW_END_BYTES.saturating_sub(start).min(found.len() as u64) as usize;
            let expected = [vec![7; kept], vec![0; found.len() - kept]].concat();
            if found != expected {
                return Some(format!("block {place} of object {index}"));
            }
        }
        None
    }
}

impl Peer for Worked {
    fn submit(&self, request: Request) -> Submission {
        if let Request::Object(ObjectRequest { operation: Operation::Discard { .. }, .. }) = &request
            && self.forgets_tails
        {
            return Submission::Done(Ok(Reply::Done));
        }
        let submission = self.store.submit(request);
        if let Submission::Waiting(_) = submission {
            // Who waits is told if the disk failed.
            let _ = self.store.sync();
        }
        submission
    }
}

/// Shrinks the disk, which dies at operation `at`; goes on with that after `crash`, and looks after a power loss. Returns
/// whether it died.
fn shrink(at: u64, is_applied: bool, crash: Crash, seed: u64) -> bool {
    let told = format!("died at {at}, {crash:?}, applied: {is_applied}, seed {seed}");
    let size_bytes = u64::from(OBJECTS * OBJECT_SIZE_BYTES);
    let disk = Arc::new(SimulatedDisk::new(1 << 30));
    let worked = Worked::open(&disk);
    worked.fill();
    if is_applied {
        worked.store.apply().expect("the disk is sound");
    }
    disk.die_after(at);
    let removed = worked.remove(size_bytes, NEW_END_BYTES);
    if removed.is_ok() {
        let _ = worked.store.apply();
    }
    let died = disk.is_dead();
    drop(worked);
    disk.crash(crash, seed);
    let worked = Worked::open(&disk);
    if removed.is_err() {
        worked.remove(size_bytes, NEW_END_BYTES).expect("it can be gone on with");
    }
    assert_eq!(worked.wrong(), None, "{told}");
    drop(worked);
    disk.crash(Crash::Power, seed);
    assert_eq!(Worked::open(&disk).wrong(), None, "{told}, after the power loss");
    died
}

#[test]
fn what_was_removed_is_gone_whenever_the_process_dies() {
    for (crash, is_applied, seed) in [Crash::Process, Crash::Power]
        .into_iter()
        .flat_map(|crash| [false, true].map(|applied| (crash, applied)))
        .flat_map(|(crash, applied)| (0..4).map(move |seed| (crash, applied, seed)))
    {
        let end = (0..MAX_OPERATIONS).find(|at| !shrink(*at, is_applied, crash, seed));
        assert!(end.is_some_and(|end| end > 10), "the disk was not shrunk: {end:?}");
    }
}

#[test]
fn a_tail_that_is_not_discarded_is_noticed() {
    let disk = Arc::new(SimulatedDisk::new(1 << 30));
    let honest = Worked::open(&disk);
    honest.fill();
    let store = Arc::into_inner(honest).expect("nobody else has it").store;
    let forgetful = Arc::new(Worked { store, forgets_tails: true });
    forgetful.remove(u64::from(OBJECTS * OBJECT_SIZE_BYTES), NEW_END_BYTES).expect("it forgets");
    assert_eq!(forgetful.wrong().as_deref(), Some("block 5 of object 1"));
}

#[test]
fn a_large_thin_disk_is_removed_without_a_word_in_the_log() {
    let disk = Arc::new(SimulatedDisk::new(1 << 30));
    let worked = Worked::open(&disk);
    worked.fill();
    worked.store.apply().expect("the disk is sound");
    worked.store.checkpoint().expect("the disk is sound");
    let before = disk.operations();
    worked.remove(1 << 40, 1 << 30).expect("nothing is there");
    assert_eq!(worked.store.wal_bytes(), 0);
    // Each partition's index is looked for once, whatever the size of the disk.
    let operations = disk.operations() - before;
    assert!(operations <= 2 * u64::from(PARTITIONS), "{operations} operations for nothing");
    worked.remove(1 << 40, 0).expect("the disk is sound");
    let (partition, oid) = object(0);
    let read = Read { partition, pepoch: worked.store.pepoch(), oid, range: block(0) };
    let mut found = vec![0xee; 4096];
    worked.store.read_now(&read, &mut found, None).expect("nothing waits").expect("it can be read");
    assert!(found.iter().all(|byte| *byte == 0));
}
