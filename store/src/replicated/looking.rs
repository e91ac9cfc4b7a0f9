//! What replicas ask for: blocks with their versions, and what objects there are.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use huntaway_replica::{Block, Outcome, Page, SET_ASIDE_BLOCK, SET_ASIDE_VERSION, Stored, Verified};
use huntaway_wire::{BLOCK_SIZE_BYTES, Broken, Oid, Partition, Version};

use crate::disk::Disk;
use crate::error::is_shortage;
use crate::memory::RecentObject;
use crate::object::{Change, Entry, LoadError, ObjectFile, ObjectPath, read_file};
use crate::partition::PartitionState;
use crate::store::Store;
use crate::wal::{LogFiles, Lsn};

/// What stands for the space that is set aside.
const SET_ASIDE: Entry = Entry::Hole { version: SET_ASIDE_VERSION };

/// The file of an object, as far as it matters.
enum Behind<D: Disk> {
    /// There is none, or what was written since leaves nothing of it.
    Nothing,
    /// It can be read.
    File(Arc<ObjectFile<D>>),
    /// There should be one: what it held is not known.
    Missing,
    /// It cannot be told now.
    Unknown,
}

/// The last state of a block, and where its data is.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// It has none.
    None,
    /// In the log, from here on.
    Log(Lsn),
    /// In the file.
    File,
}

/// An object with all that was written to it.
struct Looked<'a, D: Disk> {
    recent: Option<&'a RecentObject>,
    behind: Behind<D>,
}

impl<D: Disk> Looked<'_, D> {
    /// What the block is; `None` if that is not known.
    fn block(&self, block: u32) -> Option<(Entry, Place)> {
        if block == SET_ASIDE_BLOCK {
            let state = if self.is_set_aside()? { SET_ASIDE } else { Entry::Inherit };
            return Some((state, Place::None));
        }
        if let Some(change) = self.recent.and_then(|recent| recent.change(block)) {
            return Some((change.entry(), place_of(change)));
        }
        match &self.behind {
            Behind::Nothing => Some((Entry::Inherit, Place::None)),
            Behind::File(object) => match object.content().table.entry(block) {
                Entry::Damaged => None,
                entry => Some((entry, Place::File)),
            },
            Behind::Missing | Behind::Unknown => None,
        }
    }

    /// Whether space is set aside for all of it; `None` if that is not known.
    fn is_set_aside(&self) -> Option<bool> {
        self.recent.and_then(RecentObject::reservation).or_else(|| match &self.behind {
            Behind::Nothing => Some(false),
            Behind::File(object) => Some(object.content().reserved),
            Behind::Missing | Behind::Unknown => None,
        })
    }

    /// The same among blocks, if it is.
    fn set_aside(&self) -> Option<(u32, Entry)> {
        (self.is_set_aside() == Some(true)).then_some((SET_ASIDE_BLOCK, SET_ASIDE))
    }

    /// What each block is that was ever written, in order; `None` if that is not known of all.
    fn written(&self) -> Option<Vec<(u32, Entry)>> {
        let object = match &self.behind {
            Behind::Nothing => return Some(self.written_since()),
            Behind::File(object) => object,
            Behind::Missing | Behind::Unknown => return None,
        };
        let mut recent = self.recent.into_iter().flat_map(RecentObject::changes).peekable();
        let mut written = Vec::new();
        for (block, entry) in (0..).zip(object.content().table.decoded()) {
            let changed = recent.next_if(|(next, _)| *next == block);
            match changed.map_or(entry, |(_, change)| change.entry()) {
                Entry::Inherit => {}
                Entry::Damaged => return None,
                entry => written.push((block, entry)),
            }
        }
        written.extend(self.set_aside());
        Some(written)
    }

    /// When it is not known of all, what each of the others is, those among them that were never written.
    fn known(&self) -> Vec<(u32, Entry)> {
        if matches!(self.behind, Behind::File(_)) {
            (0..=SET_ASIDE_BLOCK).filter_map(|block| Some((block, self.block(block)?.0))).collect()
        } else {
            self.written_since()
        }
    }

    /// Of these, those that are not in the file.
    fn written_since(&self) -> Vec<(u32, Entry)> {
        let changes = self.recent.into_iter().flat_map(RecentObject::changes);
        let entries = changes.map(|(block, change)| (block, change.entry()));
        entries.filter(|(_, entry)| *entry != Entry::Inherit).chain(self.set_aside()).collect()
    }
}

fn place_of(change: &Change) -> Place {
    match change {
        Change::Data { at, .. } => Place::Log(*at),
        Change::Hole { .. } | Change::Lost { .. } | Change::Never => Place::None,
    }
}

/// A block, and what it is and where, unless that is not known.
type PlannedBlock = (u32, Option<(Entry, Place)>);

/// What blocks are at one moment, and where their data is to be read.
struct Plan<D: Disk> {
    log: Arc<LogFiles<D::File>>,
    /// Not the object: while somebody has that, it is not looked at anew.
    file: Option<Arc<D::File>>,
    blocks: Vec<PlannedBlock>,
    /// Of the object, there is nothing but these blocks.
    is_missing: bool,
}

impl<D: Disk> Store<D> {
    /// Reads blocks of a replica's object, each with its version: all as they were at one moment.
    pub fn read_blocks(&self, partition: Partition, oid: Oid, blocks: Range<u32>) -> Outcome {
        let blocks = blocks.start..blocks.end.min(SET_ASIDE_BLOCK + 1);
        let plan = |state: &mut PartitionState| {
            let looked = self.look_at(state, oid);
            let blocks = blocks.clone().map(|block| (block, looked.block(block))).collect();
            self.plan(&looked, blocks, false)
        };
        let Some((_, found)) = self.read_planned(partition, plan) else { return Outcome::Failed };
        if found.iter().all(Option::is_some) {
            Outcome::Blocks(found.into_iter().flatten().collect())
        } else {
            Outcome::Damaged(found)
        }
    }

    /// The objects of a partition after `after`, at most so many, each with a sum of its blocks' numbers and versions: each as it
    /// was at some moment.
    pub fn digests(&self, partition: Partition, after: Option<Oid>, most: usize) -> Outcome {
        let (mut objects, mut after) = (Vec::new(), after);
        loop {
            let list = |state: &mut PartitionState| {
                let mut oids: BTreeSet<Oid> = state.memory.oids(after).collect();
                // What the index has lost is missing: whoever has it is to be asked, not told to remove it.
                oids.extend(state.index.leftovers().filter(|oid| after.is_none_or(|after| *oid > after)));
                let mut indexed = state.index.oids(after);
                oids.extend(indexed.by_ref().take(most + 1 + oids.len()));
                (oids, indexed.next())
            };
            let Some((mut oids, next)) = self.look(partition, list) else { return Outcome::Failed };
            // Some may be gone by now: what is behind those that were listed is listed then.
            next.iter().for_each(|next| drop(oids.split_off(next)));
            after = oids.last().copied().or(after);
            for oid in oids {
                let written = |state: &mut PartitionState| {
                    let looked = self.look_at(state, oid);
                    (!matches!(looked.behind, Behind::Unknown)).then(|| looked.written())
                };
                let sum = match self.look(partition, written).flatten() {
                    None => return Outcome::Failed,
                    Some(Some(written)) if written.is_empty() => continue,
                    Some(written) => written.map(|written| digest(&written)),
                };
                if objects.len() == most {
                    return Outcome::Digests(Page { objects, is_last: false });
                }
                objects.push((oid, sum));
            }
            if next.is_none() {
                return Outcome::Digests(Page { objects, is_last: true });
            }
        }
    }

    /// The versions of all blocks of an object that were ever written.
    pub fn versions(&self, partition: Partition, oid: Oid) -> Outcome {
        let written = |state: &mut PartitionState| self.look_at(state, oid).written();
        match self.look(partition, written) {
            None => Outcome::Failed,
            Some(Some(written)) => {
                let version = |(block, entry): &(u32, Entry)| Some((*block, entry.version()?));
                Outcome::Versions(written.iter().filter_map(version).collect())
            }
            Some(None) => match self.verify_written(partition, oid) {
                // It was mended meanwhile.
                Outcome::Verified(blocks) => {
                    Outcome::Versions(blocks.iter().map(|block| (block.block, block.version)).collect())
                }
                outcome => outcome,
            },
        }
    }

    /// Reads an object again from the disk, whatever is known of it, and tells the state of its blocks.
    pub fn verify(&self, partition: Partition, oid: Oid) -> Outcome {
        self.look(partition, |state| self.look_anew(state, oid));
        self.verify_written(partition, oid)
    }

    fn verify_written(&self, partition: Partition, oid: Oid) -> Outcome {
        let plan = |state: &mut PartitionState| {
            let looked = self.look_at(state, oid);
            let written = looked.written();
            let is_missing = written.is_none();
            let written = written.unwrap_or_else(|| looked.known());
            let blocks = written.iter().map(|(block, _)| (*block, looked.block(*block))).collect();
            self.plan(&looked, blocks, is_missing)
        };
        let Some((plan, found)) = self.read_planned(partition, plan) else { return Outcome::Failed };
        let verified = |((block, known), stored): (&PlannedBlock, Option<Stored>)| {
            let crc = stored.map(|stored| stored.content.map_or(0, |content| content.crc));
            let version = match known.as_ref()? {
                (Entry::Inherit, _) => Version::NEVER,
                (entry, _) => entry.version()?,
            };
            Some(Verified { block: *block, version, crc })
        };
        let verified = plan.blocks.iter().zip(found).filter_map(verified).collect();
        if plan.is_missing { Outcome::Missing(verified) } else { Outcome::Verified(verified) }
    }

    /// Looks at a partition with its lock held.
    fn look<R>(&self, partition: Partition, work: impl FnOnce(&mut PartitionState) -> R) -> Option<R> {
        let damaged = || Broken::DiskFailed { disk: self.options.directory.clone() };
        self.with_partition(partition, |state| Ok(work(state)), damaged).ok()
    }

    /// What is to be read; `None` if that cannot be told now.
    fn plan(&self, looked: &Looked<'_, D>, blocks: Vec<PlannedBlock>, is_missing: bool) -> Option<Plan<D>> {
        let file = match &looked.behind {
            Behind::File(object) => Some(Arc::clone(object.file())),
            Behind::Unknown => return None,
            Behind::Nothing | Behind::Missing => None,
        };
        Some(Plan { log: self.wal.files(), file, blocks, is_missing })
    }

    /// Reads what is planned without the partition's lock: what is in the log or the file may be overwritten meanwhile, by other
    /// records or by application, which the checksum tells. Then all is planned and read again with the lock held, when what is
    /// wrong is wrong.
    fn read_planned(
        &self,
        partition: Partition,
        plan: impl Fn(&mut PartitionState) -> Option<Plan<D>>,
    ) -> Option<(Plan<D>, Vec<Option<Stored>>)> {
        let planned = self.look(partition, &plan)??;
        let found = self.read_all(&planned);
        if found.iter().all(Option::is_some) {
            return Some((planned, found));
        }
        let again = |state: &mut PartitionState| {
            let planned = plan(state)?;
            let found = self.read_all(&planned);
            Some((planned, found))
        };
        self.look(partition, again)?
    }

    fn look_at<'a>(&self, state: &'a PartitionState, oid: Oid) -> Looked<'a, D> {
        let recent = state.memory.object(oid);
        let behind = match self.find_object(state, oid) {
            _ if recent.is_some_and(RecentObject::starts_anew) => Behind::Nothing,
            Ok(object) => object.map_or(Behind::Nothing, Behind::File),
            // It may be read another time.
            Err(LoadError::Io(error)) => {
                tracing::warn!(%oid, %error, is_shortage = is_shortage(&error), "an object cannot be read");
                Behind::Unknown
            }
            Err(error) => {
                tracing::warn!(%oid, %error, "the file of an object cannot be used");
                Behind::Missing
            }
        };
        Looked { recent, behind }
    }

    /// Opens the object's file again, and keeps what is found in place of what was known, unless the file is being changed.
    fn look_anew(&self, state: &PartitionState, oid: Oid) {
        let Some(created) = state.index.version(oid) else { return };
        let recent = state.memory.object(oid);
        let is_redone = |block| recent.is_some_and(|recent| recent.change(block).is_some());
        let path = ObjectPath::new(&state.directory, oid);
        let found = ObjectFile::open_indexed(&*self.disk, &path, oid, created, &is_redone);
        self.objects.renew((state.order.partition(), oid), found.ok().map(Arc::new));
    }

    /// Reads the blocks; `None` for those that are damaged, lost, or cannot be read.
    fn read_all(&self, plan: &Plan<D>) -> Vec<Option<Stored>> {
        let read = |(block, known): &PlannedBlock| self.read_stored(plan, *block, (*known)?);
        plan.blocks.iter().map(read).collect()
    }

    fn read_stored(&self, plan: &Plan<D>, block: u32, (entry, place): (Entry, Place)) -> Option<Stored> {
        let (crc, version) = match entry {
            Entry::Inherit => return Some(Stored::default()),
            Entry::Hole { version } => return Some(Stored { version, content: None }),
            #[cfg(feature = "planted-bugs")]
            Entry::Lost { version } if self.options.has(crate::PlantedBug::LostReadAsZeroes) => {
                return Some(Stored { version, content: None });
            }
            Entry::Lost { .. } | Entry::Damaged => return None,
            Entry::Data { crc, version } => (crc, version),
        };
        let mut bytes = vec![0; BLOCK_SIZE_BYTES as usize];
        let read = match (place, &plan.file) {
            (Place::Log(at), _) => self.read_log(&plan.log, at.0, &mut bytes),
            (_, Some(file)) => read_file(&*self.disk, file, block, &mut bytes),
            (_, None) => return None,
        };
        if let Err(error) = &read {
            tracing::warn!(block, %error, "a block cannot be read");
        }
        let block = Block { crc, bytes: bytes.into() };
        (read.is_ok() && block.is_sound()).then_some(Stored { version, content: Some(block) })
    }
}

/// A sum (FNV-1a) over the numbers and versions of blocks. All replicas must have the same for the same blocks.
fn digest(written: &[(u32, Entry)]) -> u64 {
    let add = |sum: u64, word: u32| (sum ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3);
    written.iter().fold(0xcbf2_9ce4_8422_2325, |sum, (block, entry)| {
        let version = entry.version().unwrap_or(Version::NEVER);
        add(add(add(sum, *block), version.pepoch), version.seq)
    })
}

#[cfg(test)]
mod tests {
    use huntaway_replica::{Change as Written, Completion, Content, Record};
    use huntaway_wire::{Durability, ObjectKind, Vid};

    use super::*;
    use crate::StoreOptions;
    use crate::disk::SimulatedDisk;

    #[test]
    fn what_somebody_reads_is_looked_at_anew() {
        let disk = Arc::new(SimulatedDisk::new(1 << 30));
        let store = Store::open(disk.clone(), StoreOptions::default()).unwrap();
        let (partition, oid) =
            (Partition::new(0).unwrap(), Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), 0));
        let block: Content = Some(Block::new(vec![1; BLOCK_SIZE_BYTES as usize].into()));
        let version = Version { pepoch: 1, seq: 1 };
        let record = Record {
            version,
            oid,
            change: Written::Write { first_block: 0, blocks: vec![block] },
            completion: Completion::Done,
            request: None,
            unanswered_from: 0,
            durability: Durability::Logged,
        };
        let record = Arc::new(record);
        store
            .log_entry(partition, &huntaway_replica::Entry::Write { record, settled: Version::NEVER })
            .unwrap();
        store.apply().unwrap();
        let plan = |state: &mut PartitionState| {
            let looked = store.look_at(state, oid);
            store.plan(&looked, vec![(0, looked.block(0))], false)
        };
        let reads = store.look(partition, plan).flatten().unwrap();
        assert!(matches!(store.verify(partition, oid), Outcome::Verified(_)));
        assert!(disk.flip(&format!("objects/000.1/{oid}"), 0, 1));
        assert_eq!(store.verify(partition, oid), Outcome::Missing(Vec::new()));
        assert_eq!(store.read_all(&reads).iter().flatten().count(), 1, "its data can still be read");
    }
}
