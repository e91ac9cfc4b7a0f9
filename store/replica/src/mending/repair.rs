//! What has to be put where, so that all in-sync replicas have one object whole again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use huntaway_wire::{BLOCKS_PER_OBJECT, Oid, Version};

use crate::event::Verified;
use crate::message::Lesson;
use crate::process::Process;
use crate::record::{Block, CopiedBlock, Stored};

/// What a replica found when it read the object again.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) blocks: Vec<Verified>,
    /// The object is in its index and cannot be read, but for these blocks.
    pub(crate) is_missing: bool,
}

/// A replica does not have any more what it said that it has.
#[derive(Debug)]
pub(crate) struct Failed;

/// The way from what the replicas have of one object to what they should have. It is taken step by step: reads, then writes.
#[derive(Debug)]
pub(crate) struct Repair {
    oid: Oid,
    /// The newest version of each block, and who has it whole, if anybody has.
    newest: BTreeMap<u32, (Version, Option<Process>)>,
    /// Blocks that are to be read, by who has them.
    reads: BTreeMap<Process, BTreeSet<u32>>,
    /// The read under way.
    reading: BTreeSet<u32>,
    /// What was read.
    found: BTreeMap<u32, CopiedBlock>,
    writes: Vec<Write>,
}

#[derive(Debug)]
struct Write {
    target: Process,
    blocks: BTreeSet<u32>,
    /// Nothing is left of the object there.
    is_whole: bool,
}

impl Repair {
    /// Compares what replicas found, among them `me`, whose blocks are preferred. Of an object that is missing everywhere, each
    /// block is lost that was not written since; `unknown` stands for its version then, and has to be as new as any that it
    /// can have had.
    pub(crate) fn new(oid: Oid, reports: &BTreeMap<Process, Report>, me: Process, unknown: Version) -> Self {
        let mut newest = newest(reports, me);
        if reports.values().all(|report| report.is_missing) {
            (0..BLOCKS_PER_OBJECT).for_each(|block| {
                newest.entry(block).or_insert((unknown, None));
            });
        }
        // Of these it is known that there is nothing to put in place.
        newest.retain(|_, (version, _)| *version != Version::NEVER);
        let crc = |block: u32, process: Process| {
            let report = reports.get(&process)?;
            report.blocks.iter().find(|verified| verified.block == block)?.crc
        };
        let is_right = |state: Option<&&Verified>, block: u32, version: Version, source: Option<Process>| {
            let expected = source.and_then(|source| crc(block, source));
            state.is_some_and(|state| state.version == version && state.crc == expected)
        };
        let mut repair = Self {
            oid,
            newest,
            reads: BTreeMap::new(),
            reading: BTreeSet::new(),
            found: BTreeMap::new(),
            writes: Vec::new(),
        };
        for (target, report) in reports {
            let states: BTreeMap<u32, &Verified> =
                report.blocks.iter().map(|verified| (verified.block, verified)).collect();
            let wrong = repair.newest.iter().filter(|(block, (version, source))| {
                report.is_missing || !is_right(states.get(block), **block, *version, *source)
            });
            let blocks: BTreeSet<u32> = wrong.map(|(block, _)| *block).collect();
            if report.is_missing || !blocks.is_empty() {
                repair.writes.push(Write { target: *target, blocks, is_whole: report.is_missing });
            }
        }
        repair.plan_reads();
        repair
    }

    fn plan_reads(&mut self) {
        for block in self.writes.iter().flat_map(|write| &write.blocks) {
            let Some((version, source)) = self.newest.get(block) else { continue };
            if let Some(source) = source {
                self.reads.entry(*source).or_default().insert(*block);
            } else {
                self.found.insert(*block, CopiedBlock::lost(*block, *version));
            }
        }
    }

    /// How many blocks are to be put in place.
    pub(crate) fn blocks(&self) -> u64 {
        self.writes.iter().map(|write| write.blocks.len() as u64).sum()
    }

    /// The object.
    pub(crate) fn oid(&self) -> Oid {
        self.oid
    }

    /// Blocks that are to be put in place, and where.
    pub(crate) fn wrong(&self) -> impl Iterator<Item = (u32, Process)> {
        self.writes.iter().flat_map(|write| write.blocks.iter().map(|block| (*block, write.target)))
    }

    /// Each block's newest version, and whether nobody has it whole.
    pub(crate) fn states(&self) -> impl Iterator<Item = (u32, Version, bool)> {
        self.newest.iter().map(|(block, (version, source))| (*block, *version, source.is_none()))
    }

    /// What to read next, and where.
    pub(crate) fn next_read(&mut self) -> Option<(Process, Lesson)> {
        let (source, blocks) = self.reads.pop_first()?;
        let range = *blocks.first()?..*blocks.last()? + 1;
        self.reading = blocks;
        Some((source, Lesson::Read { oid: self.oid, blocks: range }))
    }

    /// Takes in what was read; blocks between those that are wanted may be damaged.
    ///
    /// # Errors
    /// [`Failed`] if it is not what was reported.
    pub(crate) fn take(&mut self, stored: Vec<Option<Stored>>) -> Result<(), Failed> {
        let first = self.reading.first().copied().unwrap_or(0);
        for (block, stored) in (first..).zip(stored) {
            if !self.reading.remove(&block) {
                continue;
            }
            let stored = stored.ok_or(Failed)?;
            let version = self.newest.get(&block).map(|(version, _)| *version);
            if Some(stored.version) != version || !stored.content.as_ref().is_none_or(Block::is_sound) {
                return Err(Failed);
            }
            self.found.insert(block, CopiedBlock::new(block, stored));
        }
        if self.reading.is_empty() { Ok(()) } else { Err(Failed) }
    }

    /// What to put in place next, and where.
    pub(crate) fn next_write(&mut self) -> Option<(Process, Lesson)> {
        let Write { target, blocks, is_whole } = self.writes.pop()?;
        let blocks = blocks.iter().filter_map(|block| self.found.get(block).cloned()).collect();
        let (oid, blocks) = (self.oid, Arc::new(blocks));
        let lesson = if is_whole { Lesson::Replace { oid, blocks } } else { Lesson::Copy { oid, blocks } };
        Some((target, lesson))
    }
}

/// The newest version of each block, and one who has it whole.
fn newest(reports: &BTreeMap<Process, Report>, me: Process) -> BTreeMap<u32, (Version, Option<Process>)> {
    let mut newest: BTreeMap<u32, (Version, Option<Process>)> = BTreeMap::new();
    for (process, report) in reports {
        for verified in &report.blocks {
            let source = verified.crc.map(|_| *process);
            let known = newest.entry(verified.block).or_insert((verified.version, source));
            let is_better = source.is_some() && (known.1.is_none() || *process == me);
            if verified.version > known.0 || verified.version == known.0 && is_better {
                *known = (verified.version, source);
            }
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use huntaway_wire::{NodeId, ObjectKind, Vid};

    use super::*;

    fn process(node: u8) -> Process {
        Process { node: NodeId([node; 16]), incarnation: huntaway_wire::Incarnation(1) }
    }

    fn version(seq: u32) -> Version {
        Version { pepoch: 1, seq }
    }

    fn verified(block: u32, seq: u32, crc: Option<u32>) -> Verified {
        Verified { block, version: version(seq), crc }
    }

    /// What nodes found; `None` stands for a missing object.
    fn repair(reports: &[(u8, Option<Vec<Verified>>)]) -> Repair {
        let oid = Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), 0);
        let report = |report: &Option<Vec<Verified>>| Report {
            blocks: report.clone().unwrap_or_default(),
            is_missing: report.is_none(),
        };
        let reports = reports.iter().map(|(node, found)| (process(*node), report(found))).collect();
        Repair::new(oid, &reports, process(1), version(9))
    }

    fn stored(seq: u32) -> Option<Stored> {
        Some(Stored { version: version(seq), content: Some(Block::new(Bytes::from_static(b"block"))) })
    }

    fn blocks_of(lesson: &Lesson) -> Vec<(u32, Version, bool)> {
        let (Lesson::Copy { blocks, .. } | Lesson::Replace { blocks, .. }) = lesson else {
            panic!("{lesson:?}")
        };
        blocks.iter().map(|block| (block.block, block.stored.version, block.is_lost)).collect()
    }

    #[test]
    fn what_is_alike_and_whole_is_left_alone() {
        let report = || Some(vec![verified(0, 1, Some(7)), verified(3, 2, Some(8))]);
        let mut repair = repair(&[(1, report()), (2, report())]);
        assert!(repair.next_read().is_none() && repair.next_write().is_none());
    }

    #[test]
    fn a_damaged_block_is_read_where_it_is_whole() {
        let mut repair =
            repair(&[(1, Some(vec![verified(0, 1, None)])), (2, Some(vec![verified(0, 1, Some(7))]))]);
        let (source, _) = repair.next_read().unwrap();
        assert_eq!(source, process(2));
        repair.take(vec![stored(1)]).unwrap();
        let (target, lesson) = repair.next_write().unwrap();
        assert_eq!((target, blocks_of(&lesson)), (process(1), vec![(0, version(1), false)]));
        assert!(repair.next_read().is_none() && repair.next_write().is_none());
    }

    #[test]
    fn an_older_version_is_no_substitute_for_a_damaged_one() {
        let mut repair =
            repair(&[(1, Some(vec![verified(0, 2, None)])), (2, Some(vec![verified(0, 1, Some(7))]))]);
        assert!(repair.next_read().is_none());
        let (target, lesson) = repair.next_write().unwrap();
        assert_eq!((target, blocks_of(&lesson)), (process(2), vec![(0, version(2), true)]));
        assert!(repair.next_write().is_none());
    }

    #[test]
    fn a_missing_object_is_replaced_as_a_whole() {
        let report = Some(vec![verified(0, 1, Some(7)), verified(2, 3, Some(8))]);
        let mut repair = repair(&[(1, None), (2, report)]);
        repair.next_read().unwrap();
        repair.take(vec![stored(1), None, stored(3)]).unwrap();
        let (target, lesson) = repair.next_write().unwrap();
        assert_eq!(target, process(1));
        assert!(matches!(lesson, Lesson::Replace { .. }));
        assert_eq!(blocks_of(&lesson), vec![(0, version(1), false), (2, version(3), false)]);
    }

    #[test]
    fn an_object_that_is_missing_everywhere_is_lost_block_by_block() {
        let mut repair = repair(&[(1, None), (2, None)]);
        assert!(repair.next_read().is_none());
        for _ in 0..2 {
            let (_, lesson) = repair.next_write().unwrap();
            let blocks = blocks_of(&lesson);
            assert_eq!(blocks.len(), BLOCKS_PER_OBJECT as usize);
            assert!(blocks.iter().all(|block| block.1 == version(9) && block.2));
        }
    }

    #[test]
    fn what_was_written_since_an_object_went_missing_is_not_lost() {
        let oid = Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), 0);
        let report = Report { blocks: vec![verified(5, 8, Some(7))], is_missing: true };
        let mut repair = Repair::new(oid, &BTreeMap::from([(process(1), report)]), process(1), version(9));
        repair.next_read().unwrap();
        repair.take(vec![stored(8)]).unwrap();
        let (_, lesson) = repair.next_write().unwrap();
        let blocks = blocks_of(&lesson);
        assert_eq!(blocks.len(), BLOCKS_PER_OBJECT as usize);
        assert!(blocks.iter().all(|block| block.2 == (block.0 != 5)));
    }

    #[test]
    fn of_an_object_with_one_entry_that_is_damaged_only_that_block_is_lost() {
        let oid = Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), 0);
        let never = |block| Verified { block, version: Version::NEVER, crc: Some(0) };
        let mut blocks = vec![verified(0, 3, Some(7))];
        blocks.extend((2..BLOCKS_PER_OBJECT).map(never));
        let report = Report { blocks, is_missing: true };
        let mut repair = Repair::new(oid, &BTreeMap::from([(process(1), report)]), process(1), version(9));
        repair.next_read().unwrap();
        repair.take(vec![stored(3)]).unwrap();
        let (_, lesson) = repair.next_write().unwrap();
        assert_eq!(blocks_of(&lesson), [(0, version(3), false), (1, version(9), true)]);
    }

    #[test]
    fn replicas_that_hold_different_things_as_one_version_get_what_the_primary_has() {
        let report = |crc| Some(vec![verified(0, 1, Some(crc))]);
        let mut repair = repair(&[(1, report(7)), (2, report(8)), (3, report(8))]);
        let (source, _) = repair.next_read().unwrap();
        assert_eq!(source, process(1));
        repair.take(vec![stored(1)]).unwrap();
        let targets = [repair.next_write().unwrap().0, repair.next_write().unwrap().0];
        assert_eq!(targets, [process(3), process(2)]);
    }

    #[test]
    fn what_is_read_has_to_be_what_was_reported() {
        let reports = [(1, Some(vec![verified(0, 2, None)])), (2, Some(vec![verified(0, 2, Some(7))]))];
        let mut older = repair(&reports);
        older.next_read().unwrap();
        assert!(older.take(vec![stored(1)]).is_err());
        let mut none = repair(&reports);
        none.next_read().unwrap();
        assert!(none.take(Vec::new()).is_err());
    }
}
