//! Disks and their versions: which one is worked with, which ones snapshots froze, what inherits from what, and the counters
//! by which stores know requests that are out of date.
//!
//! A snapshot takes two records. The first begins a hold: stores let no new write to the disks begin. The second ends it: with a
//! commit, which freezes the versions at hand and goes on under new ones, or with an abort. Whoever proposes the commit has
//! to know that every partition holds. [`State`](crate::State) does not have this yet: it knows disks without snapshots.

use std::collections::BTreeMap;

use huntaway_wire::Vid;

/// Most ancestors of a version. A read may have to look at all of them.
pub const MAX_ANCESTORS: usize = 1024;

/// All disks. Pure: the same records give the same state everywhere.
#[derive(Debug, Clone, Default)]
pub struct Disks {
    /// By the root of their family.
    disks: BTreeMap<Vid, Disk>,
    versions: BTreeMap<Vid, DiskVersion>,
    last_vid: u32,
    last_hold: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Disk {
    working: Vid,
    hold: Option<u64>,
}

/// A version of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskVersion {
    /// The root of its family.
    pub family: Vid,
    /// The version that it inherits from.
    pub parent: Option<Vid>,
    /// Raised by a snapshot.
    pub layout: u64,
    /// Raised when requests are given up that may still be on their way.
    pub fence: u64,
    /// A snapshot froze it.
    pub is_frozen: bool,
}

/// A record about disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskRecord {
    /// There is another disk, with nothing in it.
    Create,
    /// No new write to these disks begins. They are named by the roots of their families.
    Hold {
        /// The disks.
        disks: Vec<Vid>,
    },
    /// Everything that was written is in the snapshot, what is written from here on is not.
    Commit {
        /// The hold.
        hold: u64,
    },
    /// The hold comes to nothing.
    Abort {
        /// The hold.
        hold: u64,
    },
    /// What gateways received before this record is given up.
    Fence {
        /// The disk.
        disk: Vid,
    },
}

/// A record that changes nothing: what it names is not there, or is over, or has as many ancestors as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record names something that is over, or never was, or cannot have another snapshot")]
pub struct Over;

impl Disks {
    /// The disks, each with the version that is worked with.
    pub fn disks(&self) -> impl Iterator<Item = (Vid, Vid)> {
        self.disks.iter().map(|(family, disk)| (*family, disk.working))
    }

    /// All versions, in order of their ids, each with the hold that its writes wait for.
    pub fn versions(&self) -> impl Iterator<Item = (Vid, &DiskVersion, Option<u64>)> {
        self.versions.iter().map(|(vid, version)| {
            let disk = self.disks.get(&version.family).filter(|disk| disk.working == *vid);
            (*vid, version, disk.and_then(|disk| disk.hold))
        })
    }

    /// A version.
    pub fn version(&self, vid: Vid) -> Option<&DiskVersion> {
        self.versions.get(&vid)
    }

    /// The disks that the hold covers; none when it is over.
    pub fn held(&self, hold: u64) -> Vec<Vid> {
        let is_held = |(_, disk): &(&Vid, &Disk)| disk.hold == Some(hold);
        self.disks.iter().filter(is_held).map(|(family, _)| *family).collect()
    }

    /// The number of the last hold that began; 0 before the first one.
    pub fn last_hold(&self) -> u64 {
        self.last_hold
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`Over`]: the state is unchanged. For whoever proposed it, this is an answer like any other.
    pub fn apply(&mut self, record: &DiskRecord) -> Result<(), Over> {
        match record {
            DiskRecord::Create => {
                let vid = self.next_vid()?;
                let version =
                    DiskVersion { family: vid, parent: None, layout: 1, fence: 1, is_frozen: false };
                self.versions.insert(vid, version);
                self.disks.insert(vid, Disk { working: vid, hold: None });
            }
            DiskRecord::Hold { disks } => {
                let is_free = |disk: &Vid| {
                    let disk = self.disks.get(disk).filter(|disk| disk.hold.is_none());
                    disk.is_some_and(|disk| self.ancestors(disk.working) < MAX_ANCESTORS)
                };
                if disks.is_empty() || !disks.iter().all(is_free) {
                    return Err(Over);
                }
                self.last_hold += 1;
                let hold = Some(self.last_hold);
                for disk in disks {
                    self.disks.entry(*disk).and_modify(|disk| disk.hold = hold);
                }
            }
            DiskRecord::Commit { hold } => {
                let held = self.held(*hold);
                let left = Vid::MAX.value() - self.last_vid;
                if held.is_empty() || held.len() > left as usize {
                    return Err(Over);
                }
                held.into_iter().try_for_each(|disk| self.freeze(disk))?;
            }
            DiskRecord::Abort { hold } => {
                let held = self.held(*hold);
                if held.is_empty() {
                    return Err(Over);
                }
                for disk in held {
                    self.disks.entry(disk).and_modify(|disk| disk.hold = None);
                }
            }
            DiskRecord::Fence { disk } => {
                let working = self.disks.get(disk).ok_or(Over)?.working;
                self.versions.get_mut(&working).ok_or(Over)?.fence += 1;
            }
        }
        Ok(())
    }

    fn ancestors(&self, vid: Vid) -> usize {
        std::iter::successors(self.versions.get(&vid), |version| self.versions.get(&version.parent?))
            .skip(1)
            .count()
    }

    fn next_vid(&mut self) -> Result<Vid, Over> {
        let vid = Vid::new(self.last_vid + 1).map_err(|_| Over)?;
        self.last_vid += 1;
        Ok(vid)
    }

    fn freeze(&mut self, disk: Vid) -> Result<(), Over> {
        let next = self.next_vid()?;
        let state = self.disks.get_mut(&disk).ok_or(Over)?;
        let frozen = self.versions.get_mut(&state.working).ok_or(Over)?;
        frozen.layout += 1;
        frozen.is_frozen = true;
        let version = DiskVersion { parent: Some(state.working), is_frozen: false, ..*frozen };
        *state = Disk { working: next, hold: None };
        self.versions.insert(next, version);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vid(number: u32) -> Vid {
        Vid::new(number).unwrap()
    }

    fn two_disks() -> Disks {
        let mut disks = Disks::default();
        (0..2).for_each(|_| assert_eq!(disks.apply(&DiskRecord::Create), Ok(())));
        disks
    }

    #[test]
    fn a_commit_freezes_what_is_held_and_goes_on_under_new_versions() {
        let mut disks = two_disks();
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1), vid(2)] }), Ok(()));
        assert_eq!(disks.held(1), [vid(1), vid(2)]);
        assert_eq!(disks.apply(&DiskRecord::Commit { hold: 1 }), Ok(()));
        assert_eq!(disks.disks().collect::<Vec<_>>(), [(vid(1), vid(3)), (vid(2), vid(4))]);
        let (frozen, working) = (disks.version(vid(1)).unwrap(), disks.version(vid(3)).unwrap());
        assert_eq!((frozen.is_frozen, frozen.layout), (true, 2));
        assert_eq!((working.is_frozen, working.layout, working.parent), (false, 2, Some(vid(1))));
        assert!(disks.versions().all(|(_, _, hold)| hold.is_none()));
    }

    #[test]
    fn a_hold_ends_once() {
        let mut disks = two_disks();
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1)] }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1), vid(2)] }), Err(Over));
        assert_eq!(disks.apply(&DiskRecord::Abort { hold: 1 }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Commit { hold: 1 }), Err(Over));
        assert_eq!(disks.disks().next(), Some((vid(1), vid(1))));
    }

    #[test]
    fn a_group_is_frozen_as_a_whole_or_not_at_all() {
        let mut disks = two_disks();
        disks.last_vid = Vid::MAX.value() - 1;
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1), vid(2)] }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Commit { hold: 1 }), Err(Over), "there is one vid left");
        assert_eq!(disks.held(1), [vid(1), vid(2)]);
        assert_eq!(disks.apply(&DiskRecord::Abort { hold: 1 }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(2)] }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Commit { hold: 2 }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Create), Err(Over));
    }

    #[test]
    fn a_version_has_so_many_ancestors_and_no_more() {
        let mut disks = two_disks();
        for hold in 1..=MAX_ANCESTORS as u64 {
            assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1)] }), Ok(()));
            assert_eq!(disks.apply(&DiskRecord::Commit { hold }), Ok(()));
        }
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1)] }), Err(Over));
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(2)] }), Ok(()));
    }

    #[test]
    fn a_fence_is_that_of_the_version_at_hand_and_those_after_it() {
        let mut disks = two_disks();
        assert_eq!(disks.apply(&DiskRecord::Fence { disk: vid(2) }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(2)] }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Commit { hold: 1 }), Ok(()));
        assert_eq!(disks.version(vid(3)).unwrap().fence, 2);
        assert_eq!(disks.version(vid(1)).unwrap().fence, 1);
        assert_eq!(disks.apply(&DiskRecord::Fence { disk: vid(9) }), Err(Over));
    }
}
