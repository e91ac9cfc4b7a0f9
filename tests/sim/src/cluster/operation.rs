//! What clients ask for, and what it tells of blocks.

use huntaway_replica::Command;
use huntaway_wire::{Durability, ObjectKind, Oid, Vid};

use super::block::{half, one_bit, range_of, range_of_bit, range_of_half, whole};
use super::client::Told;
use super::judgement::Place;
use super::{MAX_DISKS, Shape};
use crate::{Effect, Random};

/// A block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) partition: u16,
    pub(crate) disk: usize,
    pub(crate) object: u32,
    pub(crate) block: u32,
}

impl At {
    /// What is judged by itself: half a block, or, from 2 on, a bit.
    pub(crate) fn cell(self, cell: u32) -> Place {
        on_disk((self.partition, self.object, self.block, cell), self.disk)
    }

    fn plus(self, blocks: u32) -> Self {
        Self { block: self.block + blocks, ..self }
    }

    fn halves(self) -> impl Iterator<Item = Place> {
        (0..2).map(move |half| self.cell(half))
    }
}

/// From here on the number of an object in a place tells which of the disks that were made of snapshots it belongs to.
const OBJECTS_OF_CLONES: u32 = 16;

/// The same place of another disk.
pub(crate) fn on_disk((partition, object, block, cell): Place, disk: usize) -> Place {
    let object = object % OBJECTS_OF_CLONES;
    let clone = if disk < MAX_DISKS as usize { 0 } else { disk as u32 };
    (partition, object + OBJECTS_OF_CLONES * clone, block, cell)
}

/// The number of the disk of a place, if it was made of a snapshot.
pub(crate) fn clone_of(place: &Place) -> Option<usize> {
    (place.1 >= OBJECTS_OF_CLONES).then_some((place.1 / OBJECTS_OF_CLONES) as usize)
}

/// An operation of a client. Numbers are given when it is sent.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Read { at: At, blocks: u32 },
    Map { at: At, blocks: u32 },
    ReadSnapshot { at: At, blocks: u32, snapshot: usize },
    Write { at: At, numbers: Vec<u64>, durability: Durability },
    WriteHalf { at: At, half: u32, number: u64, durability: Durability },
    Swap { at: At, expected: u64, number: u64, durability: Durability },
    SetBit { at: At, bit: u32, durability: Durability },
    Discard { at: At, blocks: u32, durability: Durability },
    DiscardHalf { at: At, half: u32, durability: Durability },
    Remove { at: At, blocks: u32, durability: Durability },
    Reserve { at: At, durability: Durability },
    Flush { partition: u16 },
}

impl What {
    /// Something to do, while there are so many snapshots.
    pub(crate) fn draw(shape: &Shape, snapshots: usize, random: &mut Random) -> Self {
        let partition = random.below(shape.partitions.into()) as u16;
        let object = random.below(shape.objects.into()) as u32;
        let block = random.below(shape.blocks.into()) as u32;
        let blocks = 1 + random.below(u64::from(shape.blocks - block)) as u32;
        let at = shape.at(partition, object, block);
        let durability = if random.percent(15) { Durability::Stable } else { Durability::Logged };
        match random.below(100) {
            // The last ones, for the others were looked at already.
            0..8 if snapshots > 0 => {
                let snapshot = snapshots.saturating_sub(1 + random.below(2) as usize);
                let (at, blocks) = (At { block: 0, ..at }, shape.blocks + u32::from(object == 0));
                Self::ReadSnapshot { at, blocks, snapshot }
            }
            0..38 => Self::Read { at, blocks },
            38..42 => Self::Map { at, blocks },
            42..47 => Self::Flush { partition },
            47..54 if shape.reserves => Self::Reserve { at: At { block: 0, ..at }, durability },
            _ if random.percent(shape.special_percent) => Self::draw_special(shape, at, durability, random),
            _ => Self::Write { at, numbers: vec![0; blocks as usize], durability },
        }
    }

    /// Reads or writes one block.
    pub(crate) fn of_block(at: At, reads: bool) -> Self {
        if reads {
            return Self::Read { at, blocks: 1 };
        }
        Self::Write { at, numbers: vec![0], durability: Durability::Logged }
    }

    /// Reads what it would touch.
    pub(crate) fn into_read(self) -> Self {
        match self {
            Self::Read { at, blocks }
            | Self::Map { at, blocks }
            | Self::Discard { at, blocks, .. }
            | Self::Remove { at, blocks, .. } => Self::Read { at, blocks },
            Self::Write { at, numbers, .. } => Self::Read { at, blocks: numbers.len() as u32 },
            Self::WriteHalf { at, .. }
            | Self::Swap { at, .. }
            | Self::SetBit { at, .. }
            | Self::DiscardHalf { at, .. }
            | Self::Reserve { at, .. } => Self::Read { at, blocks: 1 },
            Self::ReadSnapshot { .. } | Self::Flush { .. } => self,
        }
    }

    fn draw_special(shape: &Shape, at: At, durability: Durability, random: &mut Random) -> Self {
        let half = random.below(2) as u32;
        let board = shape.board(at.partition);
        let blocks = 1 + random.below(u64::from(shape.blocks - at.block)) as u32;
        match random.below(100) {
            0..25 => Self::WriteHalf { at, half, number: 0, durability },
            25..30 => Self::WriteHalf { at: board, half: 0, number: 0, durability },
            30..55 => Self::Swap { at, expected: 0, number: 0, durability },
            55..70 => Self::SetBit { at: board, bit: 0, durability },
            70..77 => Self::Read { at: board, blocks: 1 },
            77..90 => Self::Discard { at, blocks, durability },
            90..96 => Self::DiscardHalf { at, half, durability },
            _ if at.object == board.object => Self::DiscardHalf { at: board, half: 0, durability },
            _ => Self::Remove { at: At { block: 0, ..at }, blocks: shape.blocks, durability },
        }
    }

    /// The operation for a disk that was made of `base`, if it is for that one. Bits are set there alone.
    pub(crate) fn onto(mut self, disk: usize, base: usize) -> Self {
        if let Self::SetBit { at, .. } = self {
            self = Self::Read { at, blocks: 1 };
        }
        if let Some(at) = self.at_mut().filter(|at| at.disk == base) {
            at.disk = disk;
        }
        self
    }

    /// Where it lies, unless it concerns all of a partition.
    pub(crate) fn at(&self) -> Option<At> {
        self.clone().at_mut().copied()
    }

    fn at_mut(&mut self) -> Option<&mut At> {
        match self {
            Self::Read { at, .. }
            | Self::Map { at, .. }
            | Self::ReadSnapshot { at, .. }
            | Self::Write { at, .. }
            | Self::WriteHalf { at, .. }
            | Self::Swap { at, .. }
            | Self::SetBit { at, .. }
            | Self::Discard { at, .. }
            | Self::DiscardHalf { at, .. }
            | Self::Remove { at, .. }
            | Self::Reserve { at, .. } => Some(at),
            Self::Flush { .. } => None,
        }
    }

    pub(crate) fn partition(&self) -> u16 {
        match self {
            Self::Flush { partition } => *partition,
            what => what.at().map_or(0, |at| at.partition),
        }
    }

    /// The command for a version of the disk.
    pub(crate) fn command(&self, vid: Vid) -> Command {
        let oid = |at: &At| Oid::new(ObjectKind::Data, vid, at.object);
        match self {
            Self::Read { at, blocks } | Self::ReadSnapshot { at, blocks, .. } => {
                Command::Read { oid: oid(at), blocks: at.block..at.block + blocks }
            }
            Self::Map { at, blocks } => Command::Map { oid: oid(at), blocks: at.block..at.block + blocks },
            Self::Write { at, numbers, durability } => {
                let range = range_of(at.block, numbers.len() as u32);
                let pieces = numbers.iter().copied().map(whole).collect();
                Command::Write { oid: oid(at), range, pieces, durability: *durability }
            }
            Self::WriteHalf { at, half: place, number, durability } => {
                let (range, pieces) = (range_of_half(at.block, *place), vec![half(*number)]);
                Command::Write { oid: oid(at), range, pieces, durability: *durability }
            }
            Self::Swap { at, expected, number, durability } => Command::CompareAndWrite {
                oid: oid(at),
                range: range_of_half(at.block, 0),
                expected: half(*expected),
                pieces: vec![half(*number)],
                durability: *durability,
            },
            Self::SetBit { at, bit, durability } => {
                let (range, pieces) = (range_of_bit(at.block, *bit), vec![one_bit(*bit)]);
                Command::Or { oid: oid(at), range, pieces, durability: *durability }
            }
            Self::Discard { at, blocks, durability } => {
                let range = range_of(at.block, *blocks);
                Command::Discard { oid: oid(at), range, durability: *durability }
            }
            Self::DiscardHalf { at, half, durability } => {
                let range = range_of_half(at.block, *half);
                Command::Discard { oid: oid(at), range, durability: *durability }
            }
            // Of what inherits, blocks are discarded: there are few that anybody looks at.
            Self::Remove { at, blocks, durability } if vid.value() > MAX_DISKS => {
                let range = range_of(0, *blocks);
                Command::Discard { oid: oid(at), range, durability: *durability }
            }
            Self::Remove { at, durability, .. } => Command::Remove { oid: oid(at), durability: *durability },
            Self::Reserve { at, durability } => Command::Reserve { oid: oid(at), durability: *durability },
            Self::Flush { .. } => Command::Flush,
        }
    }

    pub(crate) fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Map { .. } | Self::ReadSnapshot { .. })
    }

    /// Whether what it wrote is on stable storage when it is answered.
    pub(crate) fn is_stable(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Map { .. } | Self::ReadSnapshot { .. } | Self::Flush { .. } => false,
            Self::Write { durability, .. }
            | Self::WriteHalf { durability, .. }
            | Self::Swap { durability, .. }
            | Self::SetBit { durability, .. }
            | Self::Discard { durability, .. }
            | Self::DiscardHalf { durability, .. }
            | Self::Remove { durability, .. }
            | Self::Reserve { durability, .. } => *durability == Durability::Stable,
        }
    }

    /// What it did to which places, or found there. `bits` were set by now, or will be.
    pub(crate) fn effects(&self, told: &Told, bits: u32) -> Vec<(Place, Effect)> {
        match self {
            Self::Read { at, .. } | Self::ReadSnapshot { at, .. } => {
                let Told::Data(seen) = told else { return Vec::new() };
                let blocks = (0..).map(|block| at.plus(block)).zip(seen);
                let found = blocks.flat_map(|(at, seen)| {
                    let halves = at.halves().zip(seen.halves.map(Effect::Read));
                    let bit = move |bit: u32| Effect::Read(u64::from(seen.bits.contains(&bit)));
                    halves.chain((0..bits).map(move |number| (at.cell(2 + number), bit(number))))
                });
                found.collect()
            }
            // What holds no data reads as zeroes.
            Self::Map { at, .. } => {
                let Told::Map(mapped) = told else { return Vec::new() };
                let blocks = (0..).map(|block| at.plus(block)).zip(mapped);
                let free = blocks.filter(|(_, is_mapped)| !**is_mapped).map(|(at, _)| at);
                free.flat_map(|at| (0..2 + bits).map(move |cell| (at.cell(cell), Effect::Read(0)))).collect()
            }
            Self::Write { at, numbers, .. } => {
                let blocks = (0..).map(|block| at.plus(block)).zip(numbers);
                blocks
                    .flat_map(|(at, number)| at.halves().map(|half| (half, Effect::Write(*number))))
                    .collect()
            }
            Self::WriteHalf { at, half, number, .. } => vec![(at.cell(*half), Effect::Write(*number))],
            Self::Swap { at, expected, .. } if *told == Told::Miscompare => {
                vec![(at.cell(0), Effect::Differs(*expected))]
            }
            Self::Swap { at, expected, number, .. } => {
                vec![(at.cell(0), Effect::Swap(*expected, *number))]
            }
            Self::SetBit { at, bit, .. } => vec![(at.cell(2 + bit), Effect::Write(1))],
            Self::Discard { at, blocks, .. } | Self::Remove { at, blocks, .. } => {
                let blocks = (0..*blocks).map(|block| at.plus(block));
                blocks.flat_map(At::halves).map(|half| (half, Effect::Write(0))).collect()
            }
            Self::DiscardHalf { at, half, .. } => vec![(at.cell(*half), Effect::Write(0))],
            Self::Reserve { .. } | Self::Flush { .. } => Vec::new(),
        }
    }
}

impl Shape {
    /// The block of a partition in which bits are set, and which is never discarded as a whole.
    pub(crate) fn board(&self, partition: u16) -> At {
        self.at(partition, 0, self.blocks)
    }

    pub(crate) fn at(&self, partition: u16, object: u32, block: u32) -> At {
        At { partition, disk: object as usize % self.disks, object, block }
    }

    /// Every block.
    pub(crate) fn places(&self) -> Vec<At> {
        let mut places = Vec::new();
        for partition in 0..self.partitions {
            for object in 0..self.objects {
                places.extend((0..self.blocks).map(|block| self.at(partition, object, block)));
            }
            places.push(self.board(partition));
        }
        places
    }
}
