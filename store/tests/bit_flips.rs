//! Bits of a stopped store flip, one by one and many at once: none of them is ever served, and each is reported unless
//! nothing looks at it.
//!
//! `HUNTAWAY_FLIPS` flips that many, `HUNTAWAY_FLIPS_FROM` is the seed of the places.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;

use huntaway_store::check::check_disk;
use huntaway_store::disk::{Crash, SeededRandom, SimulatedDisk};
use huntaway_store::{Store, StoreOptions};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, ByteRange, Durability, ObjectKind, ObjectRequest, Oid, Operation, Partition, Read,
    Request, Segments, Submission, Vid, piece_crcs,
};

/// Flips when nothing else is asked for.
const DEFAULT_FLIPS: u64 = 2_000;

/// Blocks of each object that are used.
const BLOCKS: u32 = 64;

/// What is looked at, by object and block: the byte that it is full of.
type Content = BTreeMap<(Oid, u32), u8>;

/// A store that was stopped.
struct Stopped {
    disk: SimulatedDisk,
    content: Content,
    /// Blocks that the log replaces.
    logged: Vec<(Oid, u32)>,
    /// Where the bytes are in the log's segment that are not applied.
    log: std::ops::Range<u64>,
}

/// What became of flips.
#[derive(Debug, Default)]
struct Counts {
    /// Something cannot be read, or the store cannot be opened.
    reported: u64,
    /// Another copy stands for what was hit.
    made_good: u64,
    /// Nothing looks at what was hit.
    unused: u64,
}

fn options() -> StoreOptions {
    let mut options = StoreOptions::default();
    (options.wal_bytes, options.wal_segment_bytes) = (10 << 20, 5 << 20);
    options
}

fn objects() -> impl Iterator<Item = Oid> {
    (1..=3).flat_map(|vid| {
        (0..2).map(move |index| Oid::new(ObjectKind::Data, Vid::new(vid).expect("it is small"), index))
    })
}

/// All disks are of one family.
fn partition(oid: Oid) -> Partition {
    Partition::of(Vid::new(1).expect("1 is a vid"), oid.index())
}

fn range(first_block: u32, blocks: u32) -> ByteRange {
    ByteRange::new(first_block * BLOCK_SIZE_BYTES, blocks * BLOCK_SIZE_BYTES).expect("it is in the object")
}

impl Stopped {
    /// Every kind of file, with something to be applied in the log.
    fn new() -> Self {
        let disk = Arc::new(SimulatedDisk::new(1 << 30));
        let mut stopped = Self {
            disk: SimulatedDisk::new(0),
            content: objects().flat_map(|oid| (0..BLOCKS).map(move |block| ((oid, block), 0))).collect(),
            logged: Vec::new(),
            log: 0..0,
        };
        let store = Store::open(disk.clone(), options()).expect("the disk is new");
        for (oid, number) in objects().zip(1..) {
            stopped.write(&store, oid, 0, 40, number);
            if number % 3 == 0 {
                stopped.ask(&store, oid, Operation::Reserve);
            }
            store.apply().expect("the disk is sound");
        }
        let first = objects().next().expect("there are some");
        stopped.ask(&store, first, Operation::Remove { durability: Durability::Logged });
        stopped.content.extend((0..BLOCKS).map(|block| ((first, block), 0)));
        store.apply().expect("the disk is sound");
        stopped.write(&store, first, 4, 30, 100);
        store.apply().expect("the disk is sound");
        let begin = store.sync().expect("the disk is sound");
        for (oid, number) in objects().zip(50..).skip(2) {
            // An even number of blocks: between such records there is nothing.
            stopped.write(&store, oid, 38, 4, number);
            stopped.logged.extend((38..42).map(|block| (oid, block)));
        }
        let end = store.sync().expect("the disk is sound");
        stopped.log = 4096 + begin.0..4096 + end.0;
        drop(store);
        disk.crash(Crash::Process, 0);
        stopped.disk = disk.copy();
        stopped
    }

    fn ask(&self, store: &Store<SimulatedDisk>, oid: Oid, operation: Operation) {
        let request = ObjectRequest { partition: partition(oid), pepoch: store.pepoch(), oid, operation };
        if let Submission::Waiting(mut receiver) = store.submit(Request::Object(request)) {
            store.apply().expect("the disk is sound");
            receiver.try_recv().expect("it was applied").expect("the disk is sound");
        }
    }

    fn write(&mut self, store: &Store<SimulatedDisk>, oid: Oid, first_block: u32, blocks: u32, byte: u8) {
        let range = range(first_block, blocks);
        let data = Segments::from_iter([vec![byte; range.length() as usize].into()]);
        let crcs = piece_crcs(range, &data);
        self.ask(store, oid, Operation::Write { range, data, crcs, durability: Durability::Logged });
        self.content.extend(range.blocks().map(|block| ((oid, block), byte)));
    }

    /// The blocks that cannot be read; panics if one is read wrongly.
    fn unreadable(&self, store: &Store<SimulatedDisk>, told: &str) -> Vec<(Oid, u32)> {
        let read = |oid, first_block, blocks| {
            let range = range(first_block, blocks);
            let mut bytes = vec![0xee; range.length() as usize];
            let read = Read { partition: partition(oid), pepoch: store.pepoch(), oid, range };
            store.read_now(&read, &mut bytes, None).expect("nothing waits").ok()?;
            for (block, bytes) in range.blocks().zip(bytes.chunks(BLOCK_SIZE_BYTES as usize)) {
                let expected = self.content[&(oid, block)];
                assert!(bytes.iter().all(|byte| *byte == expected), "{told}: {oid} block {block} is wrong");
            }
            Some(())
        };
        let whole = objects().filter(|oid| read(*oid, 0, BLOCKS).is_none());
        let blocks = whole.flat_map(|oid| (0..BLOCKS).map(move |block| (oid, block)));
        blocks.filter(|(oid, block)| read(*oid, *block, 1).is_none()).collect()
    }

    /// Whether nothing looks at this byte (`store/FORMAT.md`).
    fn is_unused(&self, path: &str, offset: u64) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        match objects().find(|oid| oid.to_string() == name) {
            Some(oid) => {
                let block = match offset {
                    0..512 => return false,
                    512..4096 => return true,
                    4096..20480 => (offset - 4096) / 16,
                    _ => (offset - 20480) / 4096,
                };
                self.logged.contains(&(oid, block as u32))
            }
            None if path == "superblock" => offset % 4096 >= 512,
            None if path.starts_with("wal/0") => offset >= 48 && !self.log.contains(&offset),
            None => false,
        }
    }

    /// Whether another copy stands for this byte.
    fn is_kept_twice(&self, path: &str, offset: u64) -> bool {
        match path {
            "superblock" => offset % 4096 < 512,
            "partitions" | "wal/released" => true,
            _ => false,
        }
    }

    /// Flips one bit anywhere.
    fn flip_one(&self, random: &mut SeededRandom, counts: &mut Counts) {
        let files = self.disk.files();
        let path = &files[random.below(files.len() as u64) as usize];
        let pages = self.disk.stored_pages(path);
        if pages.is_empty() {
            return;
        }
        // More of it at the beginning, where headers and tables are.
        let page = pages[random.below(random.clone().below(pages.len() as u64) + 1) as usize];
        let (offset, bit) = (page + random.below(4096), random.below(8) as u32);
        let disk = Arc::new(self.disk.copy());
        if !disk.flip(path, offset, bit) {
            return;
        }
        let told = format!("bit {bit} of byte {offset} of {path}");
        let is_noted = !check_disk(&*disk).expect("it can be listed").findings.is_empty();
        let Ok(store) = Store::open(disk.clone(), options()) else {
            assert!(is_noted, "{told}: not opened, but the check finds nothing");
            counts.reported += 1;
            return;
        };
        if !self.unreadable(&store, &told).is_empty() {
            assert!(is_noted, "{told}: not readable, but the check finds nothing");
            counts.reported += 1;
            return;
        }
        store.apply().expect("the disk is sound");
        store.checkpoint().expect("the disk is sound");
        drop(store);
        disk.crash(Crash::Process, 0);
        let store = Store::open(disk, options()).unwrap_or_else(|error| panic!("{told}: {error}"));
        assert_eq!(self.unreadable(&store, &told), [], "{told}: only after application");
        match (self.is_unused(path, offset), self.is_kept_twice(path, offset)) {
            (true, _) => counts.unused += 1,
            (false, true) => counts.made_good += 1,
            // Of a block that is not read here.
            (false, false) if is_noted => counts.reported += 1,
            (false, false) => panic!("{told} was not noticed"),
        }
    }

    /// Flips one bit of the data or of the table entry of every other block or so.
    fn flip_many(&self, random: &mut SeededRandom, counts: &mut Counts) {
        let disk = Arc::new(self.disk.copy());
        let mut hit = Vec::new();
        for &(oid, block) in self.content.keys().filter(|place| !self.logged.contains(place)) {
            let path = format!("objects/{}.1/{oid}", partition(oid));
            let (start, length) = match random.below(4) {
                0 | 1 => continue,
                2 => (4096 + u64::from(block) * 16, 16),
                _ => (20480 + u64::from(block) * 4096, 4096),
            };
            if disk.flip(&path, start + random.below(length), random.below(8) as u32) {
                hit.push((oid, block));
            }
        }
        let store = Store::open(disk, options()).expect("objects do not keep a store from being opened");
        let unreadable = self.unreadable(&store, "many");
        let missed = hit.iter().find(|place| !unreadable.contains(place));
        assert_eq!(missed, None, "a block that was hit can be read");
        counts.reported += hit.len() as u64;
    }
}

#[test]
fn no_flipped_bit_is_served_and_each_that_matters_is_reported() {
    let setting = |name: &str| env::var(name).ok().map(|text| text.parse().expect("it is a number"));
    let flips: u64 = setting("HUNTAWAY_FLIPS").unwrap_or(DEFAULT_FLIPS);
    let mut random = SeededRandom::new(setting("HUNTAWAY_FLIPS_FROM").unwrap_or(0));
    let stopped = Stopped::new();
    let mut counts = Counts::default();
    while counts.reported + counts.made_good + counts.unused < flips {
        // As many one by one as in bulk would take too long.
        (0..10).for_each(|_| stopped.flip_one(&mut random, &mut counts));
        stopped.flip_many(&mut random, &mut counts);
    }
    println!("{flips} flips: {counts:?}, none served");
    assert!(counts.made_good > 0 && counts.unused > 0);
}
