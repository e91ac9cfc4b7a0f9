//! Disks and their versions: which one is worked with, which ones snapshots froze, what inherits from what, and the counters
//! by which stores know requests that are out of date.
//!
//! A snapshot takes two records. The first begins a hold: stores let no new write to the disks begin. The second ends it: with a
//! commit, which freezes the versions at hand and goes on under new ones, or with an abort. Whoever proposes the commit has
//! to know that every partition holds. So it is with going back to a snapshot, but that reads are held as well: nobody is to see
//! what the disk has again in one place and what it had in another one. A clone and a deletion take one record each.
//!
//! Deleted versions stay in the tree: what was made from them may show their blocks. Stores free what is not shown any more.
//! Names are the [`State`](crate::State)'s.

use std::collections::BTreeMap;

use huntaway_wire::Vid;

use crate::VdiOptions;

/// Most versions of all disks: deleted ones count as long as they are in the tree.
pub const MAX_VERSIONS: usize = 1 << 18;

/// Most disks that a hold covers.
pub const MAX_HELD: usize = 1024;

/// Most ancestors of a version. A read may have to look at all of them.
pub const MAX_ANCESTORS: usize = 1024;

/// All disks. Pure: the same records give the same state everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disks {
    /// By their first versions.
    pub(crate) disks: BTreeMap<Vid, Disk>,
    pub(crate) versions: BTreeMap<Vid, DiskVersion>,
    pub(crate) last_vid: u32,
    pub(crate) last_hold: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) working: Vid,
    pub(crate) hold: Option<DiskHold>,
}

/// What new requests to a disk wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskHold {
    /// The number of the hold.
    pub number: u64,
    /// Reads wait as well.
    pub reads: bool,
}

/// A version of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskVersion {
    /// The root of its family.
    pub family: Vid,
    /// The first version of the disk that it is, or was, a version of.
    pub disk: Vid,
    /// The version that it inherits from.
    pub parent: Option<Vid>,
    /// What the disk is with it.
    pub options: VdiOptions,
    /// Raised by whatever makes requests go elsewhere.
    pub layout: u64,
    /// Raised when requests are given up that may still be on their way.
    pub fence: u64,
    /// Nobody writes to it any more: a snapshot froze it, or it was deleted.
    pub is_frozen: bool,
    /// Nobody reads it any more, but for what inherits from it.
    pub is_deleted: bool,
}

/// A record about disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskRecord {
    /// No new write to these disks begins. They are named by their first versions.
    Hold {
        /// The disks.
        disks: Vec<Vid>,
        /// Whether no new read begins either.
        reads: bool,
    },
    /// Everything that was written is in the snapshot, what is written from here on is not.
    Commit {
        /// The hold.
        hold: u64,
    },
    /// The disk shows what a snapshot has, and what it had is deleted.
    RollBack {
        /// The hold, of this disk alone, and of reads as well.
        hold: u64,
        /// The version that the snapshot froze: one of the disk's family.
        to: Vid,
    },
    /// Nobody reads the snapshot any more.
    DeleteSnapshot {
        /// The version that it froze.
        version: Vid,
    },
    /// Nobody uses the disk any more. Its snapshots stay.
    DeleteDisk {
        /// The disk.
        disk: Vid,
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

/// A record that changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// What it names is not there, or is over.
    #[error("the record names something that is over, or never was")]
    Past,
    /// A hold of no disk, or of too many.
    #[error("a hold covers 1 to {MAX_HELD} disks")]
    Held,
    /// What another version would be made from has as many ancestors as a version may have.
    #[error(
        "a version has at most {MAX_ANCESTORS} ancestors: a disk like this one takes no snapshot and no clone any more"
    )]
    TooManyAncestors,
    /// There are as many versions as there can be.
    #[error("the cluster has {MAX_VERSIONS} versions of disks, deleted ones included, the most it can have")]
    VersionsUsedUp,
    /// Every vid was used once.
    #[error("the cluster's {} vids are used up", Vid::MAX.value())]
    VidsUsedUp,
}

impl Disks {
    /// The disks, by their first versions, each with the one that is worked with.
    pub fn disks(&self) -> impl Iterator<Item = (Vid, Vid)> {
        self.disks.iter().map(|(first, disk)| (*first, disk.working))
    }

    /// The version of the disk that is worked with.
    pub fn working(&self, disk: Vid) -> Option<Vid> {
        self.disks.get(&disk).map(|disk| disk.working)
    }

    /// All versions, in order of their ids, each with the hold that its requests wait for.
    pub fn versions(&self) -> impl Iterator<Item = (Vid, &DiskVersion, Option<DiskHold>)> {
        self.versions.iter().map(|(vid, version)| {
            let disk = self.disks.get(&version.disk).filter(|disk| disk.working == *vid);
            (*vid, version, disk.and_then(|disk| disk.hold))
        })
    }

    /// A version.
    pub fn version(&self, vid: Vid) -> Option<&DiskVersion> {
        self.versions.get(&vid)
    }

    /// The disks that the hold covers; none when it is over.
    pub fn held(&self, hold: u64) -> Vec<Vid> {
        let is_held = |(_, disk): &(&Vid, &Disk)| disk.hold.is_some_and(|held| held.number == hold);
        self.disks.iter().filter(is_held).map(|(first, _)| *first).collect()
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
            DiskRecord::Hold { disks, reads } => self.hold(disks, *reads),
            DiskRecord::Commit { hold } => self.commit(*hold),
            DiskRecord::RollBack { hold, to } => self.roll_back(*hold, *to),
            DiskRecord::Abort { hold } => {
                let held = self.held(*hold);
                if held.is_empty() {
                    return Err(Over::Past);
                }
                for disk in held {
                    self.disks.entry(disk).and_modify(|disk| disk.hold = None);
                }
                Ok(())
            }
            DiskRecord::DeleteSnapshot { version } => {
                self.snapshot(*version).ok_or(Over::Past)?;
                self.delete(*version)
            }
            DiskRecord::DeleteDisk { disk } => {
                let working =
                    self.disks.get(disk).filter(|disk| disk.hold.is_none()).ok_or(Over::Past)?.working;
                self.disks.remove(disk);
                self.delete(working)
            }
            DiskRecord::Fence { disk } => {
                let working = self.disks.get(disk).ok_or(Over::Past)?.working;
                self.versions.get_mut(&working).ok_or(Over::Past)?.fence += 1;
                Ok(())
            }
        }
    }

    /// The version, if a snapshot froze it that is still there.
    fn snapshot(&self, vid: Vid) -> Option<&DiskVersion> {
        self.versions.get(&vid).filter(|version| version.is_frozen && !version.is_deleted)
    }

    /// There is another disk, with nothing in it. Its first version gets `vid`, which is higher than any before it.
    pub(crate) fn create(&mut self, vid: Vid, options: VdiOptions) -> Result<(), Over> {
        self.begin(vid, vid, None, options)
    }

    /// There is another disk, which shows what the snapshot `of` has. Returns the family, and what the disk is.
    pub(crate) fn clone_of(&mut self, of: Vid, vid: Vid) -> Result<(Vid, VdiOptions), Over> {
        let snapshot = self.snapshot(of).ok_or(Over::Past)?;
        self.may_be_made_from(of)?;
        let (family, options) = (snapshot.family, snapshot.options);
        self.begin(vid, family, Some(of), options)?;
        Ok((family, options))
    }

    fn begin(&mut self, vid: Vid, family: Vid, parent: Option<Vid>, options: VdiOptions) -> Result<(), Over> {
        if vid.value() <= self.last_vid {
            return Err(Over::Past);
        }
        self.is_room_for(1)?;
        self.last_vid = vid.value();
        let (is_frozen, is_deleted) = (false, false);
        let version =
            DiskVersion { family, disk: vid, parent, options, layout: 1, fence: 1, is_frozen, is_deleted };
        self.versions.insert(vid, version);
        self.disks.insert(vid, Disk { working: vid, hold: None });
        Ok(())
    }

    /// The disk has another size.
    pub(crate) fn resize(&mut self, disk: Vid, size_bytes: u64) -> Result<(), Over> {
        let working = self.disks.get(&disk).filter(|disk| disk.hold.is_none()).ok_or(Over::Past)?.working;
        let version = self.versions.get_mut(&working).ok_or(Over::Past)?;
        version.layout += 1;
        version.options.size_bytes = size_bytes;
        Ok(())
    }

    /// The disk is gone, with all that it had: nothing was made from it.
    pub(crate) fn remove(&mut self, disk: Vid) -> Result<(), Over> {
        let working = self.disks.get(&disk).filter(|disk| disk.hold.is_none()).ok_or(Over::Past)?.working;
        let is_alone = self.version(working).is_some_and(|version| version.parent.is_none());
        if !is_alone || self.versions.values().any(|version| version.parent == Some(working)) {
            return Err(Over::Past);
        }
        self.versions.remove(&working);
        self.disks.remove(&disk);
        Ok(())
    }

    fn hold(&mut self, disks: &[Vid], reads: bool) -> Result<(), Over> {
        if !(1..=MAX_HELD).contains(&disks.len()) {
            return Err(Over::Held);
        }
        for disk in disks {
            let disk = self.disks.get(disk).filter(|disk| disk.hold.is_none()).ok_or(Over::Past)?;
            self.may_be_made_from(disk.working)?;
        }
        self.last_hold += 1;
        let hold = Some(DiskHold { number: self.last_hold, reads });
        for disk in disks {
            self.disks.entry(*disk).and_modify(|disk| disk.hold = hold);
        }
        Ok(())
    }

    fn commit(&mut self, hold: u64) -> Result<(), Over> {
        let held = self.held(hold);
        if held.is_empty() {
            return Err(Over::Past);
        }
        self.is_room_for(held.len())?;
        held.into_iter().try_for_each(|disk| self.go_on(disk, None))
    }

    fn roll_back(&mut self, hold: u64, to: Vid) -> Result<(), Over> {
        let held = self.held(hold);
        let [first] = held[..] else { return Err(Over::Past) };
        let disk = self.disks.get(&first).filter(|disk| disk.hold.is_some_and(|hold| hold.reads));
        let working = disk.ok_or(Over::Past)?.working;
        let family = self.version(working).ok_or(Over::Past)?.family;
        self.snapshot(to).filter(|snapshot| snapshot.family == family).ok_or(Over::Past)?;
        self.may_be_made_from(to)?;
        self.is_room_for(1)?;
        self.go_on(first, Some(to))?;
        self.delete(working)
    }

    fn delete(&mut self, vid: Vid) -> Result<(), Over> {
        let version = self.versions.get_mut(&vid).ok_or(Over::Past)?;
        version.layout += 1;
        (version.is_frozen, version.is_deleted) = (true, true);
        Ok(())
    }

    fn may_be_made_from(&self, vid: Vid) -> Result<(), Over> {
        if self.ancestors(vid) < MAX_ANCESTORS { Ok(()) } else { Err(Over::TooManyAncestors) }
    }

    fn is_room_for(&self, versions: usize) -> Result<(), Over> {
        if self.versions.len() + versions > MAX_VERSIONS {
            return Err(Over::VersionsUsedUp);
        }
        let left = Vid::MAX.value().saturating_sub(self.last_vid);
        if versions > left as usize { Err(Over::VidsUsedUp) } else { Ok(()) }
    }

    fn ancestors(&self, vid: Vid) -> usize {
        std::iter::successors(self.versions.get(&vid), |version| self.versions.get(&version.parent?))
            .skip(1)
            .count()
    }

    /// The vid of the next disk; `None` when all were used.
    pub fn next(&self) -> Option<Vid> {
        Vid::new(self.last_vid + 1).ok()
    }

    fn next_vid(&mut self) -> Result<Vid, Over> {
        let vid = Vid::new(self.last_vid + 1).map_err(|_| Over::VidsUsedUp)?;
        self.last_vid += 1;
        Ok(vid)
    }

    /// The version at hand is frozen; the disk goes on under a new one, made from `parent`, or from what was frozen.
    fn go_on(&mut self, disk: Vid, parent: Option<Vid>) -> Result<(), Over> {
        let next = self.next_vid()?;
        let state = self.disks.get_mut(&disk).ok_or(Over::Past)?;
        let frozen = self.versions.get_mut(&state.working).ok_or(Over::Past)?;
        frozen.layout += 1;
        frozen.is_frozen = true;
        let before = *frozen;
        let parent = parent.unwrap_or(state.working);
        let options = self.versions.get(&parent).map_or(before.options, |parent| parent.options);
        let version = DiskVersion { parent: Some(parent), options, is_frozen: false, ..before };
        *state = Disk { working: next, hold: None };
        self.versions.insert(next, version);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: VdiOptions =
        VdiOptions { size_bytes: 1 << 30, block_size: 512, physical_block_size: 4096, thin: true };

    fn vid(number: u32) -> Vid {
        Vid::new(number).unwrap()
    }

    fn two_disks() -> Disks {
        let mut disks = Disks::default();
        (1..3).for_each(|number| assert_eq!(disks.create(vid(number), OPTIONS), Ok(())));
        disks
    }

    #[test]
    fn a_commit_freezes_what_is_held_and_goes_on_under_new_versions() {
        let mut disks = two_disks();
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1), vid(2)], reads: false }), Ok(()));
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
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1)], reads: false }), Ok(()));
        assert_eq!(
            disks.apply(&DiskRecord::Hold { disks: vec![vid(1), vid(2)], reads: false }),
            Err(Over::Past)
        );
        assert_eq!(disks.apply(&DiskRecord::Abort { hold: 1 }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Commit { hold: 1 }), Err(Over::Past));
        assert_eq!(disks.disks().next(), Some((vid(1), vid(1))));
    }

    #[test]
    fn a_group_is_frozen_as_a_whole_or_not_at_all() {
        let mut disks = two_disks();
        disks.last_vid = Vid::MAX.value() - 1;
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1), vid(2)], reads: false }), Ok(()));
        assert_eq!(
            disks.apply(&DiskRecord::Commit { hold: 1 }),
            Err(Over::VidsUsedUp),
            "there is one vid left"
        );
        assert_eq!(disks.held(1), [vid(1), vid(2)]);
        assert_eq!(disks.apply(&DiskRecord::Abort { hold: 1 }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(2)], reads: false }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Commit { hold: 2 }), Ok(()));
        assert_eq!(disks.next(), None);
    }

    #[test]
    fn a_version_has_so_many_ancestors_and_no_more() {
        let mut disks = two_disks();
        for hold in 1..=MAX_ANCESTORS as u64 {
            assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1)], reads: false }), Ok(()));
            assert_eq!(disks.apply(&DiskRecord::Commit { hold }), Ok(()));
        }
        assert_eq!(
            disks.apply(&DiskRecord::Hold { disks: vec![vid(1)], reads: false }),
            Err(Over::TooManyAncestors)
        );
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(2)], reads: false }), Ok(()));
    }

    #[test]
    fn there_are_so_many_versions_and_no_more() {
        let mut disks = two_disks();
        let version = *disks.version(vid(1)).unwrap();
        let dead = (3..).take(MAX_VERSIONS - 3).map(|number| (vid(number), version));
        disks.versions.extend(dead);
        disks.last_vid = disks.versions.len() as u32;
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1), vid(2)], reads: false }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Commit { hold: 1 }), Err(Over::VersionsUsedUp));
        assert_eq!(disks.create(vid(1 << 20), OPTIONS), Ok(()));
        assert_eq!(disks.create(vid(2 << 20), OPTIONS), Err(Over::VersionsUsedUp));
    }

    #[test]
    fn a_fence_is_that_of_the_version_at_hand_and_those_after_it() {
        let mut disks = two_disks();
        assert_eq!(disks.apply(&DiskRecord::Fence { disk: vid(2) }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(2)], reads: false }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Commit { hold: 1 }), Ok(()));
        assert_eq!(disks.version(vid(3)).unwrap().fence, 2);
        assert_eq!(disks.version(vid(1)).unwrap().fence, 1);
        assert_eq!(disks.apply(&DiskRecord::Fence { disk: vid(9) }), Err(Over::Past));
    }

    /// A disk with one snapshot, vid 1, and the working version 2.
    fn one_snapshot() -> Disks {
        let mut disks = Disks::default();
        assert_eq!(disks.create(vid(1), OPTIONS), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1)], reads: false }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Commit { hold: 1 }), Ok(()));
        disks
    }

    #[test]
    fn a_clone_is_a_disk_of_the_family_that_shows_a_snapshot() {
        let mut disks = one_snapshot();
        assert_eq!(disks.clone_of(vid(2), vid(3)), Err(Over::Past), "it is worked with");
        assert_eq!(disks.clone_of(vid(1), vid(2)), Err(Over::Past), "there is a version 2");
        assert_eq!(disks.clone_of(vid(1), vid(3)), Ok((vid(1), OPTIONS)));
        assert_eq!(disks.disks().collect::<Vec<_>>(), [(vid(1), vid(2)), (vid(3), vid(3))]);
        let clone = *disks.version(vid(3)).unwrap();
        assert_eq!((clone.family, clone.disk, clone.parent), (vid(1), vid(3), Some(vid(1))));
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(3)], reads: false }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::Commit { hold: 2 }), Ok(()));
        assert_eq!((disks.working(vid(1)), disks.working(vid(3))), (Some(vid(2)), Some(vid(4))));
    }

    #[test]
    fn what_a_disk_had_is_deleted_when_it_goes_back_to_a_snapshot() {
        let mut disks = one_snapshot();
        let roll_back = DiskRecord::RollBack { hold: 2, to: vid(1) };
        assert_eq!(disks.apply(&roll_back), Err(Over::Past), "nothing is held");
        assert_eq!(disks.apply(&DiskRecord::Hold { disks: vec![vid(1)], reads: true }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::DeleteDisk { disk: vid(1) }), Err(Over::Past), "it is held");
        assert_eq!(disks.apply(&roll_back), Ok(()));
        assert_eq!(disks.apply(&roll_back), Err(Over::Past));
        let (before, after) = (disks.version(vid(2)).unwrap(), disks.version(vid(3)).unwrap());
        assert_eq!((before.is_deleted, after.is_deleted, after.is_frozen), (true, false, false));
        assert_eq!((after.parent, disks.working(vid(1))), (Some(vid(1)), Some(vid(3))));
    }

    #[test]
    fn what_is_deleted_is_only_there_for_what_was_made_from_it() {
        let mut disks = one_snapshot();
        assert_eq!(
            disks.apply(&DiskRecord::DeleteSnapshot { version: vid(2) }),
            Err(Over::Past),
            "no snapshot"
        );
        assert_eq!(disks.apply(&DiskRecord::DeleteSnapshot { version: vid(1) }), Ok(()));
        assert_eq!(disks.apply(&DiskRecord::DeleteSnapshot { version: vid(1) }), Err(Over::Past));
        assert_eq!(disks.clone_of(vid(1), vid(3)), Err(Over::Past));
        assert_eq!(disks.version(vid(2)).unwrap().parent, Some(vid(1)));
        assert_eq!(disks.apply(&DiskRecord::DeleteDisk { disk: vid(1) }), Ok(()));
        assert_eq!(disks.disks().count(), 0);
        assert!(disks.versions().all(|(_, version, _)| version.is_deleted && version.is_frozen));
    }
}
