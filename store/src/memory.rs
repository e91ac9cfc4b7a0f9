//! What was written lately and is not in the object files yet, ahead of the files in every read. Its data stays in the log:
//! here is where it lies.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use huntaway_replica::SET_ASIDE_VERSION;
use huntaway_wire::{BLOCK_SIZE_BYTES, BLOCKS_PER_OBJECT, Oid, Version};

use crate::object::{Change, NEW_OBJECT_BYTES};
use crate::wal::Lsn;

/// What a block's place in memory is reckoned to cost, in bytes.
const BLOCK_OVERHEAD_BYTES: u64 = 128;

/// What an object's place in memory is reckoned to cost beside its blocks, in bytes.
const OBJECT_OVERHEAD_BYTES: u64 = 640;

/// A bit for each block of an object.
type BlockBits = [u64; BLOCKS_PER_OBJECT as usize / 64];

/// Counts what recent writes hold: the data that waits in the log, and what is kept of it in memory.
#[derive(Debug, Default)]
pub(crate) struct Account {
    held_bytes: AtomicU64,
}

impl Account {
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    fn change(&self, more: u64, less: u64) {
        self.held_bytes.fetch_add(more.wrapping_sub(less), Ordering::Relaxed);
    }
}

/// The recent writes of one partition, by object.
pub(crate) struct Memory {
    account: Arc<Account>,
    objects: BTreeMap<Oid, RecentObject>,
    /// Where the record ends by which nothing was left of the partition, while it is not known of which objects that is true.
    forgotten: Option<Lsn>,
}

/// What happened to one object since it was last applied.
#[derive(Debug)]
pub(crate) struct RecentObject {
    /// The first of it all.
    first_version: Version,
    /// A bit for each block whose change may be in the file already, in part.
    in_doubt: Option<Box<BlockBits>>,
    blocks: BTreeMap<u32, RecentBlock>,
    /// All that the file holds is gone; what is there now is in `blocks`.
    erased: Option<Stamp>,
    /// Whether its space is to be set aside, if that changed.
    reservation: Option<(Stamp, bool)>,
    /// Where the records end of those who wait for its space to be set aside, in order.
    reservers: Vec<Lsn>,
    /// Bytes of disk that its application was promised.
    promised_bytes: u64,
    /// It is a replica's: see [`Memory::replicate`].
    is_replicated: bool,
}

/// One block's newest content.
#[derive(Debug)]
struct RecentBlock {
    lsn: Lsn,
    change: Change,
}

/// Which record did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Where the record ends in the log.
    pub(crate) lsn: Lsn,
    pub(crate) version: Version,
}

/// What memory knows of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Recent {
    /// It holds what lies in the log from `at` on.
    Data {
        at: Lsn,
        /// CRC32C of the block.
        crc: u32,
    },
    /// It reads as zeroes.
    Zero,
    /// No replica has what it held.
    Lost,
    /// Nothing: look into the file.
    Unknown,
}

/// What an entry of a replica does to an object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effect {
    /// What was there before is gone, whatever state it was in.
    pub(crate) replaces: bool,
    /// Whether space is set aside for it from here on, if that changes.
    pub(crate) reserves: Option<bool>,
    /// What blocks become.
    pub(crate) blocks: Vec<(u32, Change)>,
}

/// A copy of all that is to be applied to one object.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    pub(crate) oid: Oid,
    /// In order of the blocks.
    pub(crate) changes: Vec<(u32, Change)>,
    pub(crate) erased: Option<Stamp>,
    pub(crate) reservation: Option<(Stamp, bool)>,
    /// Where the records end of those who wait for the reservation.
    pub(crate) reservers: Vec<Lsn>,
    pub(crate) promised_bytes: u64,
    /// It is a replica's: see [`Memory::replicate`].
    pub(crate) is_replicated: bool,
    /// The newest version in it.
    pub(crate) version: Version,
    /// Where its newest record ends.
    pub(crate) lsn: Lsn,
    lsns: Vec<Lsn>,
}

impl Memory {
    pub(crate) fn new(account: Arc<Account>) -> Self {
        Self { account, objects: BTreeMap::new(), forgotten: None }
    }

    /// Of how many objects something is here, and of how many blocks.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.objects.len(), self.objects.values().map(|object| object.blocks.len()).sum())
    }

    /// Whether nothing is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether anything happened to the object.
    pub(crate) fn object(&self, oid: Oid) -> Option<&RecentObject> {
        self.objects.get(&oid)
    }

    /// The blocks from `first_block` on hold what lies in the log from `payload` on, and have these CRCs.
    pub(crate) fn write(&mut self, oid: Oid, first_block: u32, payload: Lsn, crcs: &[u32], stamp: Stamp) {
        let object = entry(&mut self.objects, &self.account, oid, stamp);
        let places = (payload.0..).step_by(BLOCK_SIZE_BYTES as usize).map(Lsn);
        let data = |((block, crc), at): ((u32, &u32), Lsn)| {
            (block, Change::Data { at, crc: *crc, version: stamp.version })
        };
        object.set(&self.account, stamp.lsn, (first_block..).zip(crcs).zip(places).map(data));
    }

    /// The blocks read as zeroes.
    pub(crate) fn discard(&mut self, oid: Oid, blocks: Range<u32>, stamp: Stamp) {
        if blocks == (0..BLOCKS_PER_OBJECT) {
            self.erase(oid, stamp);
            return;
        }
        let object = entry(&mut self.objects, &self.account, oid, stamp);
        let hole = |block| (block, Change::Hole { version: stamp.version });
        object.set(&self.account, stamp.lsn, blocks.map(hole));
    }

    /// The object's space is to be set aside.
    pub(crate) fn reserve(&mut self, oid: Oid, stamp: Stamp) {
        let object = entry(&mut self.objects, &self.account, oid, stamp);
        object.reservation = Some((stamp, true));
        object.reservers.push(stamp.lsn);
    }

    /// The object and its reservation are gone.
    pub(crate) fn remove(&mut self, oid: Oid, stamp: Stamp) {
        self.erase(oid, stamp);
        let object = entry(&mut self.objects, &self.account, oid, stamp);
        object.reservation = Some((stamp, false));
        // They come about with the removal: the object was reserved before.
        object.reservers.clear();
    }

    /// What an entry of a replica does to an object, whose record ends at `lsn`. The object is a replica's from here on: holes
    /// count as something, and versions go down as well as up.
    pub(crate) fn replicate(&mut self, oid: Oid, lsn: Lsn, effect: Effect) {
        let least = effect.blocks.iter().map(|(_, change)| change.version()).min();
        let stamp = Stamp { lsn, version: Version::NEVER };
        if effect.replaces {
            self.remove(oid, stamp);
        }
        let first = Stamp { lsn, version: least.unwrap_or_default() };
        let object = entry(&mut self.objects, &self.account, oid, first);
        object.first_version = object.first_version.min(first.version);
        object.is_replicated = true;
        if let Some(reserves) = effect.reserves {
            let version = if reserves { SET_ASIDE_VERSION } else { Version::NEVER };
            object.reservation = Some((Stamp { lsn, version }, reserves));
        }
        object.set(&self.account, lsn, effect.blocks.into_iter());
    }

    /// Nothing is left of the partition, which has these objects in its index, by the record that ends at `lsn`.
    pub(crate) fn forget_all(&mut self, lsn: Lsn, indexed: Vec<Oid>) {
        let oids: BTreeSet<Oid> = self.objects.keys().copied().chain(indexed).collect();
        oids.into_iter()
            .for_each(|oid| self.replicate(oid, lsn, Effect { replaces: true, ..Effect::default() }));
    }

    /// As [`Memory::forget_all`], but what the index has will be known later.
    pub(crate) fn forget_replayed(&mut self, lsn: Lsn) {
        self.forget_all(lsn, Vec::new());
        self.forgotten = Some(lsn);
    }

    /// The index was found to have these objects.
    pub(crate) fn indexed(&mut self, oids: impl Iterator<Item = Oid>) {
        let Some(lsn) = self.forgotten.take() else { return };
        let stamp = Stamp { lsn, version: Version::NEVER };
        for oid in oids {
            let object = entry(&mut self.objects, &self.account, oid, stamp);
            if object.erased.is_none() {
                // What is known of it came later.
                object.erased = Some(stamp);
                object.reservation.get_or_insert((stamp, false));
            }
            (object.first_version, object.is_replicated) = (Version::NEVER, true);
        }
    }

    /// Objects after `after` of which something is here, in order.
    pub(crate) fn oids(&self, after: Option<Oid>) -> impl Iterator<Item = Oid> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.objects.range((from, Bound::Unbounded)).map(|(oid, _)| *oid)
    }

    fn erase(&mut self, oid: Oid, stamp: Stamp) {
        let object = entry(&mut self.objects, &self.account, oid, stamp);
        self.account.change(0, object.held_bytes());
        object.blocks.clear();
        object.erased = Some(stamp);
    }

    /// Notes that applying the object may take this much more of the disk.
    pub(crate) fn promise(&mut self, oid: Oid, bytes: u64) {
        if let Some(object) = self.objects.get_mut(&oid) {
            object.promised_bytes += bytes;
        }
    }

    /// Notes for every object the most that applying it may take of the disk, and that it may have been begun, and returns the
    /// sum: after replay.
    pub(crate) fn promise_all(&mut self) -> u64 {
        let promise = |object: &mut RecentObject| {
            let blocks = if object.reservation() == Some(true) {
                BLOCKS_PER_OBJECT as usize
            } else {
                object.blocks.len()
            };
            object.doubt();
            object.promised_bytes = NEW_OBJECT_BYTES + blocks as u64 * u64::from(BLOCK_SIZE_BYTES);
            object.promised_bytes
        };
        self.objects.values_mut().map(promise).sum()
    }

    /// Copies out all that is to be applied. What was promised for it goes with the copy.
    pub(crate) fn capture(&mut self) -> Vec<Captured> {
        self.objects.iter_mut().map(|(&oid, object)| object.capture(oid)).collect()
    }

    /// Application of the object was begun and came to nothing.
    pub(crate) fn doubt(&mut self, oid: Oid) {
        self.objects.get_mut(&oid).into_iter().for_each(RecentObject::doubt);
    }

    /// Forgets what was applied, unless something newer took its place.
    pub(crate) fn forget(&mut self, applied: &Captured) {
        let Some(object) = self.objects.get_mut(&applied.oid) else { return };
        let mut less = 0;
        for ((block, _), lsn) in applied.changes.iter().zip(&applied.lsns) {
            if let Entry::Occupied(found) = object.blocks.entry(*block)
                && found.get().lsn == *lsn
            {
                less += found.remove().held_bytes();
            }
        }
        self.account.change(0, less);
        if object.erased == applied.erased {
            object.erased = None;
        }
        if object.reservation == applied.reservation {
            object.reservation = None;
        }
        object.reservers.retain(|lsn| *lsn > applied.lsn);
        object.in_doubt = None;
        if object.is_settled() {
            self.objects.remove(&applied.oid);
            self.account.change(0, OBJECT_OVERHEAD_BYTES);
        }
    }

    /// Drops the wish to set an object's space aside, unless there is a newer one.
    pub(crate) fn drop_reservation(&mut self, refused: &Captured) {
        let Some(object) = self.objects.get_mut(&refused.oid) else { return };
        if object.reservation == refused.reservation {
            object.reservation = None;
        }
        object.reservers.retain(|lsn| *lsn > refused.lsn);
        if object.is_settled() {
            self.objects.remove(&refused.oid);
            self.account.change(0, OBJECT_OVERHEAD_BYTES);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let held = |object: &RecentObject| OBJECT_OVERHEAD_BYTES + object.held_bytes();
        self.account.change(0, self.objects.values().map(held).sum());
    }
}

fn entry<'a>(
    objects: &'a mut BTreeMap<Oid, RecentObject>,
    account: &Account,
    oid: Oid,
    stamp: Stamp,
) -> &'a mut RecentObject {
    objects.entry(oid).or_insert_with(|| {
        account.change(OBJECT_OVERHEAD_BYTES, 0);
        RecentObject {
            first_version: stamp.version,
            in_doubt: None,
            blocks: BTreeMap::new(),
            erased: None,
            reservation: None,
            reservers: Vec::new(),
            promised_bytes: 0,
            is_replicated: false,
        }
    })
}

impl Captured {
    /// What the index is told that was removed: all that a file may hold of it. Versions of a replica's object may go down, and
    /// the file may be damaged.
    pub(crate) fn removed_version(&self) -> Version {
        if self.is_replicated { Version { pepoch: u32::MAX, seq: Version::MAX_SEQ } } else { self.version }
    }
}

impl RecentBlock {
    fn held_bytes(&self) -> u64 {
        match self.change {
            Change::Data { .. } => u64::from(BLOCK_SIZE_BYTES) + BLOCK_OVERHEAD_BYTES,
            Change::Hole { .. } | Change::Lost { .. } | Change::Never => BLOCK_OVERHEAD_BYTES,
        }
    }
}

impl RecentObject {
    /// What was last done to a block, if anything was.
    pub(crate) fn change(&self, block: u32) -> Option<&Change> {
        let erased = self.erased.map(|_| &Change::Never);
        self.blocks.get(&block).map(|found| &found.change).or(erased)
    }

    /// What was last done to each block that anything was done to, in order.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (u32, &Change)> {
        self.blocks.iter().map(|(block, found)| (*block, &found.change))
    }

    /// What is known of a block.
    pub(crate) fn block(&self, block: u32) -> Recent {
        match self.blocks.get(&block).map(|found| &found.change) {
            Some(Change::Data { at, crc, .. }) => Recent::Data { at: *at, crc: *crc },
            Some(Change::Hole { .. } | Change::Never) => Recent::Zero,
            Some(Change::Lost { .. }) => Recent::Lost,
            None if self.erased.is_some() => Recent::Zero,
            None => Recent::Unknown,
        }
    }

    /// The version of the first thing that happened to it since it was last settled.
    pub(crate) fn first_version(&self) -> Version {
        self.first_version
    }

    /// Whether application of a change of the block was begun, perhaps by a process that died, and is not known to be over.
    pub(crate) fn is_in_doubt(&self, block: u32) -> bool {
        let word = |bits: &BlockBits| bits[block as usize / 64];
        self.in_doubt.as_deref().is_some_and(|bits| word(bits) >> (block % 64) & 1 == 1)
    }

    /// Whether its space is to be set aside, if that changed.
    pub(crate) fn reservation(&self) -> Option<bool> {
        self.reservation.map(|(_, reserved)| reserved)
    }

    /// Whether it owes its file nothing: were that damaged or gone, it would not matter.
    pub(crate) fn starts_anew(&self) -> bool {
        self.erased.is_some() && self.reservation.is_some()
    }

    fn is_settled(&self) -> bool {
        self.blocks.is_empty() && self.erased.is_none() && self.reservation.is_none()
    }

    /// From now on, all that happened so far may be in the file in part.
    fn doubt(&mut self) {
        let bits = self.in_doubt.get_or_insert_default();
        match self.erased {
            Some(_) => bits.fill(u64::MAX),
            None => self.blocks.keys().for_each(|block| bits[*block as usize / 64] |= 1 << (block % 64)),
        }
    }

    /// Changes blocks; `lsn`: where the record ends that does.
    fn set(&mut self, account: &Account, lsn: Lsn, changes: impl Iterator<Item = (u32, Change)>) {
        let (mut more, mut less) = (0, 0);
        for (block, change) in changes {
            let content = RecentBlock { lsn, change };
            more += content.held_bytes();
            less += self.blocks.insert(block, content).as_ref().map_or(0, RecentBlock::held_bytes);
        }
        account.change(more, less);
    }

    fn held_bytes(&self) -> u64 {
        self.blocks.values().map(RecentBlock::held_bytes).sum()
    }

    fn capture(&mut self, oid: Oid) -> Captured {
        let stamps = [self.erased, self.reservation.map(|(stamp, _)| stamp)];
        let newest = stamps.into_iter().flatten();
        let blocks =
            self.blocks.values().map(|block| Stamp { lsn: block.lsn, version: block.change.version() });
        let (lsn, version) = newest.chain(blocks).fold((Lsn(0), Version::NEVER), |(lsn, version), stamp| {
            (lsn.max(stamp.lsn), version.max(stamp.version))
        });
        Captured {
            oid,
            changes: self.blocks.iter().map(|(&block, found)| (block, found.change.clone())).collect(),
            lsns: self.blocks.values().map(|found| found.lsn).collect(),
            erased: self.erased,
            reservation: self.reservation,
            reservers: self.reservers.clone(),
            promised_bytes: std::mem::take(&mut self.promised_bytes),
            is_replicated: self.is_replicated,
            version,
            lsn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Arc<Account> {
        Arc::default()
    }

    fn oid() -> Oid {
        Oid::from_value(1 << 32).unwrap()
    }

    fn stamp(number: u32) -> Stamp {
        Stamp { lsn: Lsn(number.into()), version: Version { pepoch: 1, seq: number } }
    }

    fn write(memory: &mut Memory, first_block: u32, blocks: usize, number: u32) {
        memory.write(oid(), first_block, Lsn(u64::from(number) << 32), &vec![0; blocks], stamp(number));
    }

    /// Which write a block's data is of; 0: it reads as zeroes.
    fn writer(memory: &Memory, block: u32) -> Option<u64> {
        match memory.object(oid())?.block(block) {
            Recent::Data { at, .. } => Some(at.0 >> 32),
            Recent::Zero => Some(0),
            Recent::Lost => panic!("nothing is lost"),
            Recent::Unknown => None,
        }
    }

    #[test]
    fn the_newest_of_each_block_is_found() {
        let mut memory = Memory::new(account());
        write(&mut memory, 0, 4, 1);
        write(&mut memory, 2, 1, 2);
        memory.discard(oid(), 3..5, stamp(3));
        let found: Vec<_> = (0..6).map(|block| writer(&memory, block)).collect();
        assert_eq!(found, [Some(1), Some(1), Some(2), Some(0), Some(0), None]);
        memory.discard(oid(), 0..BLOCKS_PER_OBJECT, stamp(4));
        write(&mut memory, 1, 1, 5);
        assert_eq!([0, 1, 700].map(|block| writer(&memory, block)), [Some(0), Some(5), Some(0)]);
    }

    #[test]
    fn each_block_is_found_where_it_lies() {
        let mut memory = Memory::new(account());
        write(&mut memory, 7, 3, 1);
        let at = |block| match memory.object(oid()).unwrap().block(block) {
            Recent::Data { at, .. } => at.0 - (1 << 32),
            _ => panic!("no data"),
        };
        assert_eq!([7, 8, 9].map(at), [0, 4096, 8192]);
    }

    #[test]
    fn what_was_overwritten_meanwhile_stays() {
        let mut memory = Memory::new(account());
        write(&mut memory, 0, 2, 1);
        let captured = memory.capture();
        write(&mut memory, 1, 1, 2);
        memory.forget(&captured[0]);
        assert_eq!((writer(&memory, 0), writer(&memory, 1)), (None, Some(2)));
        let captured = memory.capture();
        memory.remove(oid(), stamp(3));
        memory.forget(&captured[0]);
        assert_eq!(writer(&memory, 1), Some(0));
        let captured = memory.capture();
        memory.forget(&captured[0]);
        assert!(memory.object(oid()).is_none());
    }

    #[test]
    fn blocks_are_in_doubt_from_replay_until_they_are_applied() {
        let mut memory = Memory::new(account());
        let in_doubt = |memory: &Memory| -> Vec<u32> {
            let object = memory.object(oid()).unwrap();
            (0..BLOCKS_PER_OBJECT).filter(|block| object.is_in_doubt(*block)).collect()
        };
        write(&mut memory, 62, 3, 1);
        assert!(in_doubt(&memory).is_empty());
        memory.promise_all();
        assert_eq!(in_doubt(&memory), [62, 63, 64]);
        let captured = memory.capture();
        memory.discard(oid(), 0..BLOCKS_PER_OBJECT, stamp(2));
        memory.doubt(oid());
        assert_eq!(in_doubt(&memory).len(), BLOCKS_PER_OBJECT as usize);
        memory.forget(&captured[0]);
        assert!(in_doubt(&memory).is_empty());
    }

    #[test]
    fn what_is_kept_of_an_object_is_not_more_than_what_is_counted() {
        let doubt = size_of::<BlockBits>();
        // A node of the tree may be half empty.
        let least = 2 * (size_of::<RecentObject>() + size_of::<Oid>()) + doubt;
        assert!(least as u64 <= OBJECT_OVERHEAD_BYTES, "{least} bytes");
    }

    #[test]
    fn what_is_held_is_counted_until_it_is_let_go() {
        let account = account();
        let mut memory = Memory::new(account.clone());
        write(&mut memory, 0, 4, 1);
        assert_eq!(account.held_bytes(), OBJECT_OVERHEAD_BYTES + 4 * (4096 + BLOCK_OVERHEAD_BYTES));
        write(&mut memory, 0, 1, 2);
        memory.discard(oid(), 3..5, stamp(3));
        assert_eq!(account.held_bytes(), OBJECT_OVERHEAD_BYTES + 3 * 4096 + 5 * BLOCK_OVERHEAD_BYTES);
        let captured = memory.capture();
        memory.forget(&captured[0]);
        drop(captured);
        assert_eq!(account.held_bytes(), 0);
    }
}
