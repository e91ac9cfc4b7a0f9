//! The VDIs, as a replica has to know them: what inherits from what, and which requests are out of date.

use std::collections::{BTreeMap, BTreeSet};

use huntaway_wire::Vid;

/// One version of a VDI: the one that is worked with, or one that a snapshot froze.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vdi {
    /// Whose blocks it shows where it has none of its own. Both are of one family: their objects of one index are in the same
    /// partition.
    pub parent: Option<Vid>,
    /// Raised by whatever makes requests go elsewhere: a snapshot, going back to one, a deletion, a resize.
    pub layout: u64,
    /// Raised by whatever gives up requests that gateways may still send: a reset, a preemption, an unmapping.
    pub fence: u64,
    /// Nobody writes to it any more.
    pub is_frozen: bool,
    /// Nobody reads it any more either, but for what inherits from it.
    pub is_deleted: bool,
    /// New writes wait for the end of this hold, which is a record of the ledger.
    pub hold: Option<Hold>,
    /// New reads do so, too.
    pub holds_reads: bool,
}

/// The number of a snapshot under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hold(pub u64);

/// All VDIs that a partition may have objects of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vdis {
    by_vid: BTreeMap<Vid, Vdi>,
    holds: BTreeSet<Hold>,
}

impl Vdis {
    /// The version of a VDI, if it is known.
    pub fn vdi(&self, vid: Vid) -> Option<&Vdi> {
        self.by_vid.get(&vid)
    }

    /// `vid` and its ancestors, the nearest first. How many there are is limited where they are recorded.
    pub fn lineage(&self, vid: Vid) -> Vec<Vid> {
        // Vids are given in order, so a parent's is the lower one.
        let parent = |vid: &Vid| self.by_vid.get(vid)?.parent.filter(|parent| parent < vid);
        std::iter::successors(Some(vid), parent).collect()
    }

    /// The versions that are deleted.
    pub(crate) fn deleted(&self) -> impl Iterator<Item = Vid> {
        self.by_vid.iter().filter(|(_, vdi)| vdi.is_deleted).map(|(vid, _)| *vid)
    }

    /// The versions that were made from others, each with that one, in the order in which they were made.
    pub(crate) fn made_from(&self) -> impl Iterator<Item = (Vid, Vid)> {
        self.by_vid.iter().filter_map(|(vid, vdi)| Some((*vid, vdi.parent?)))
    }

    /// The holds under way.
    pub fn holds(&self) -> &BTreeSet<Hold> {
        &self.holds
    }
}

impl FromIterator<(Vid, Vdi)> for Vdis {
    fn from_iter<I: IntoIterator<Item = (Vid, Vdi)>>(vdis: I) -> Self {
        let by_vid: BTreeMap<Vid, Vdi> = vdis.into_iter().collect();
        let holds = by_vid.values().filter_map(|vdi| vdi.hold).collect();
        Self { by_vid, holds }
    }
}
