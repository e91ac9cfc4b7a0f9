//! A run of logical blocks that is known to lie within a logical unit.

/// `blocks` logical blocks from `lba` on. What a plan hands out always lies within the logical unit; `blocks` may
/// be 0, which asks for nothing and succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// The first logical block.
    pub lba: u64,
    /// How many logical blocks.
    pub blocks: u64,
}

impl Extent {
    /// The extent, if it ends at or before `capacity_blocks`. An empty extent may start at the very end.
    pub fn within(lba: u64, blocks: u64, capacity_blocks: u64) -> Option<Self> {
        let end = lba.checked_add(blocks)?;
        (end <= capacity_blocks).then_some(Self { lba, blocks })
    }

    /// The first logical block after the extent.
    pub fn end(&self) -> u64 {
        self.lba.saturating_add(self.blocks)
    }

    /// Whether the extent covers nothing.
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extent_must_end_within_the_capacity() {
        assert!(Extent::within(0, 10, 10).is_some());
        assert!(Extent::within(10, 0, 10).is_some());
        assert!(Extent::within(11, 0, 10).is_none());
        assert!(Extent::within(9, 2, 10).is_none());
        assert!(Extent::within(u64::MAX, 2, u64::MAX).is_none());
    }
}
