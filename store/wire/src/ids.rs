//! The ids that name things across the cluster: VDIs, partitions, nodes, epochs and versions.
//!
//! Every id is a newtype whose constructor checks its range, so that a number of one kind never passes for another.

use std::fmt;

use crate::PARTITIONS;

/// A number that is not a valid id of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{value} is not a valid {kind}")]
pub struct InvalidId {
    /// What the number was meant to be, in words ("vid", "partition").
    pub kind: &'static str,
    /// The number.
    pub value: u64,
}

/// One version of a virtual disk: the working one, or one frozen by a snapshot. 1 to 2^24 - 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vid(u32);

impl Vid {
    /// The largest vid: an [`Oid`](crate::Oid) has 24 bits for it.
    pub const MAX: Self = Self((1 << 24) - 1);

    /// Checks that `value` is in range.
    ///
    /// # Errors
    /// [`InvalidId`] for 0 and for anything over [`Vid::MAX`].
    pub fn new(value: u32) -> Result<Self, InvalidId> {
        if value == 0 || value > Self::MAX.0 {
            return Err(InvalidId { kind: "vid", value: value.into() });
        }
        Ok(Self(value))
    }

    /// The bare number.
    pub fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl fmt::Debug for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vid({self})")
    }
}

/// One of the cluster's 4096 slots of placement, replication and recovery.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(u16);

impl Partition {
    /// Checks that `value` is below [`PARTITIONS`].
    ///
    /// # Errors
    /// [`InvalidId`] when it is not.
    pub fn new(value: u16) -> Result<Self, InvalidId> {
        if value >= PARTITIONS {
            return Err(InvalidId { kind: "partition", value: value.into() });
        }
        Ok(Self(value))
    }

    /// The partition of all objects with `index` in the family whose root is `family`: the top 12 bits of
    /// [`mix64`] over `family << 32 | index`. A snapshot's objects lie beside those of the disk it was taken from.
    pub fn of(family: Vid, index: u32) -> Self {
        let key = u64::from(family.value()) << 32 | u64::from(index);
        Self((mix64(key) >> (64 - PARTITIONS.trailing_zeros())) as u16)
    }

    /// The bare number.
    pub fn value(self) -> u16 {
        self.0
    }

    /// The bare number as an index into a table of all partitions.
    pub fn index(self) -> usize {
        self.0.into()
    }

    /// Every partition, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PARTITIONS).map(Self)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03x}", self.0)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({self})")
    }
}

/// Spreads the bits of `key` over 64 bits (the finalizer of SplitMix64). Placement depends on it: it never changes.
fn mix64(key: u64) -> u64 {
    let mut x = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Number of an agreed membership record, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Counts the processes that ran as one node: each start takes the next number. 0 = none was started yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(pub u64);

/// Counter of one partition, raised whenever its in-sync set, or the incarnation of a process in it, changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pepoch(pub u32);

/// Version of a block: the write that last touched it. Ordered; `(0, 0)` means never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    /// The pepoch in which the primary took the write.
    pub pepoch: u32,
    /// The write's number within that pepoch, from 1 to [`Version::MAX_SEQ`].
    pub seq: u32,
}

impl Version {
    /// The version of a block that was never written.
    pub const NEVER: Self = Self { pepoch: 0, seq: 0 };

    /// The last number of a pepoch: a partition that reaches it needs a new pepoch. (30 bits: on disk the upper two
    /// bits of the word hold the block's state.)
    pub const MAX_SEQ: u32 = (1 << 30) - 1;
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.pepoch, self.seq)
    }
}

/// A node's uuid, made once when its data directory is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 16]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// One life of a node: from a start of its process to its end. What a process promised, the next one does not know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// The node.
    pub node: NodeId,
    /// The number of the start, as the ledger counts them.
    pub incarnation: Incarnation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vids_have_24_bits_and_no_zero() {
        assert!(Vid::new(0).is_err());
        assert!(Vid::new(1 << 24).is_err());
        assert_eq!(Vid::new(0xff_ffff), Ok(Vid::MAX));
    }

    #[test]
    fn placement_never_changes() {
        let partition = |family, index| Partition::of(Vid::new(family).unwrap(), index).value();
        let golden = [(1, 0), (1, 1), (1, 2), (2, 0), (0xff_ffff, u32::MAX)].map(|(f, i)| partition(f, i));
        assert_eq!(golden, GOLDEN_PLACEMENT);
    }

    const GOLDEN_PLACEMENT: [u16; 5] = [3138, 516, 2871, 3707, 2449];

    #[test]
    fn consecutive_objects_spread_over_the_partitions() {
        let family = Vid::new(7).unwrap();
        let mut hits = vec![0u32; PARTITIONS.into()];
        for index in 0..(1 << 18) {
            hits[Partition::of(family, index).index()] += 1;
        }
        let (least, most) = (hits.iter().min().unwrap(), hits.iter().max().unwrap());
        assert!(*least > 32 && *most < 104, "64 expected in each, found {least} to {most}");
    }
}
