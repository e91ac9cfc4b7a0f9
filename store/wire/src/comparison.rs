//! Comparing all copies: what a process is asked for, and what it tells. It compares the partitions that it leads, and is asked again
//! and again until that is done: nothing hangs on a question or an answer that is lost.

use crate::encoding::{Encoding, Malformed, Reader, Writer};
use crate::frame::{Framed, Kind};
use crate::{NodeId, Oid, PARTITIONS, Partition, Process};

/// Most differences that are named, of those of one process.
pub const MAX_DIFFERENCES: usize = 256;

const WORDS: usize = PARTITIONS as usize / u64::BITS as usize;

/// Partitions, of all that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionSet([u64; WORDS]);

impl Default for PartitionSet {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl PartitionSet {
    /// It is among them from now on.
    pub fn insert(&mut self, partition: Partition) {
        self.0[partition.index() / 64] |= 1 << (partition.index() % 64);
    }

    /// Whether it is among them.
    pub fn contains(&self, partition: Partition) -> bool {
        self.0[partition.index() / 64] & 1 << (partition.index() % 64) != 0
    }

    /// Those of both.
    pub fn extend(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A process is to compare the in-sync copies of all partitions that it leads, or to tell how far that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compare {
    /// Who wants to know.
    pub asker: Process,
    /// Drawn at random: one comparison.
    pub round: u64,
    /// The question.
    pub question: u64,
    /// Nobody asks about that round any more.
    pub is_over: bool,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// What was asked.
    pub asked: Compare,
    /// Another round is under way: nothing is done in this one until nobody asks about that any more.
    pub waits: bool,
    /// Partitions whose copies were compared from their beginning to their end, while the process led them.
    pub done: PartitionSet,
    /// Objects that were read on all nodes.
    pub objects: u64,
    /// Blocks that they have.
    pub blocks: u64,
    /// Objects that could not be read just then, on some node.
    pub failed: u64,
    /// Blocks of one copy that were not what they should be, and blocks that no copy has whole.
    pub differing: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// A block that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Its object.
    pub oid: Oid,
    /// Its place in that.
    pub block: u32,
    /// Whose copy; `None`: nobody has it whole.
    pub node: Option<NodeId>,
}

impl Framed for Compare {
    const KIND: Kind = Kind::Compare;
}

impl Framed for Compared {
    const KIND: Kind = Kind::Compared;
}

impl Encoding for PartitionSet {
    fn encode(&self, to: &mut Writer) {
        self.0.iter().for_each(|word| word.encode(to));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut words = [0; WORDS];
        for word in &mut words {
            *word = u64::decode(from)?;
        }
        Ok(Self(words))
    }
}

impl Encoding for Compare {
    fn encode(&self, to: &mut Writer) {
        let Self { asker, round, question, is_over } = self;
        asker.encode(to);
        (*round, *question).encode(to);
        is_over.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let asker = Process::decode(from)?;
        let (round, question) = <(u64, u64)>::decode(from)?;
        Ok(Self { asker, round, question, is_over: bool::decode(from)? })
    }
}

impl Encoding for Compared {
    fn encode(&self, to: &mut Writer) {
        let Self { asked, waits, done, objects, blocks, failed, differing, differences } = self;
        asked.encode(to);
        waits.encode(to);
        done.encode(to);
        (*objects, *blocks).encode(to);
        (*failed, *differing).encode(to);
        to.list(differences.iter());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (asked, waits) = (Compare::decode(from)?, bool::decode(from)?);
        let done = PartitionSet::decode(from)?;
        let (objects, blocks) = <(u64, u64)>::decode(from)?;
        let (failed, differing) = <(u64, u64)>::decode(from)?;
        let differences = from.list("differences", MAX_DIFFERENCES as u32)?;
        Ok(Self { asked, waits, done, objects, blocks, failed, differing, differences })
    }
}

impl Encoding for Difference {
    fn encode(&self, to: &mut Writer) {
        let Self { oid, block, node } = self;
        oid.encode(to);
        block.encode(to);
        node.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { oid: Oid::decode(from)?, block: u32::decode(from)?, node: Option::decode(from)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Outgoing;
    use crate::{Incarnation, ObjectKind, Vid};

    fn compared() -> Compared {
        let asker = Process { node: NodeId([7; 16]), incarnation: Incarnation(3) };
        let mut done = PartitionSet::default();
        done.insert(Partition::new(65).unwrap());
        let oid = Oid::new(ObjectKind::Data, Vid::new(9).unwrap(), 4);
        let differences =
            [None, Some(NodeId([8; 16]))].map(|node| Difference { oid, block: 1023, node }).to_vec();
        let asked = Compare { asker, round: 5, question: 6, is_over: true };
        Compared { asked, waits: true, done, objects: 1, blocks: 2, failed: 3, differing: 4, differences }
    }

    #[test]
    fn what_is_told_comes_back() {
        let compared = compared();
        let mut writer = Writer::new();
        compared.encode(&mut writer);
        let (metadata, payload) = writer.into_bytes();
        assert_eq!(Reader::new(&metadata, payload.clone()).whole(), Ok(compared.clone()));
        for end in 0..metadata.len() {
            assert!(Reader::new(&metadata[..end], payload.clone()).whole::<Compared>().is_err(), "{end}");
        }
        let asked = Outgoing::of_process(&compared.asked).unwrap().to_bytes();
        assert_eq!((asked[3], asked.len()), (23, 16 + 16 + 8 + 17));
        assert_eq!(Outgoing::of_process(&compared).unwrap().to_bytes()[3], 24);
    }

    #[test]
    fn sets_hold_what_was_put_there() {
        let mut set = compared().done;
        let mut other = PartitionSet::default();
        assert!(other.is_empty());
        [0, 64, 4095].into_iter().for_each(|at| other.insert(Partition::new(at).unwrap()));
        set.extend(&other);
        let held: Vec<u16> =
            Partition::all().filter(|at| set.contains(*at)).map(|partition| partition.value()).collect();
        assert_eq!((held, set.len()), (vec![0, 64, 65, 4095], 4));
    }
}
