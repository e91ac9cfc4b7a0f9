//! What somebody does with snapshots: disks go back to them, others are made of them, and they are deleted.

use std::collections::BTreeSet;

use huntaway_ledger::DiskRecord;
use huntaway_replica::{Hold, Record};
use huntaway_wire::{Partition, Vid};

use super::event::Event;
use super::judgement::Shown;
use super::ledger::Ledger;
use super::operation::{At, What};
use super::plot::Trap;
use super::snapshot::{Holding, Purpose};
use super::{Cluster, Endpoint, MAX_DISKS, MS, SECOND, endpoint_of, note, partition};

/// Most disks that are made of snapshots in a run.
const MOST_CLONES: usize = 6;

/// A disk of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named {
    /// Its first version.
    pub(crate) first: Vid,
    /// The disk that it was made of in the end: its places are the same ones.
    pub(crate) base: usize,
}

impl Ledger {
    /// The disks that are there, by their numbers.
    pub(crate) fn living(&self) -> Vec<(usize, Named, Vid)> {
        let living = |(disk, named): (usize, &Option<Named>)| {
            let named = (*named)?;
            Some((disk, named, self.disks().working(named.first)?))
        };
        self.named.iter().enumerate().filter_map(living).collect()
    }

    fn clones(&self) -> Vec<(usize, Named)> {
        let living = self.living().into_iter().map(|(disk, named, _)| (disk, named));
        living.filter(|(disk, _)| *disk >= MAX_DISKS as usize).collect()
    }

    /// Whether the version is there, and not deleted.
    pub(crate) fn is_there(&self, vid: Vid) -> bool {
        self.disks().version(vid).is_some_and(|version| !version.is_deleted)
    }
}

impl Cluster {
    /// Something is done with a snapshot, if there is one: `(snapshot, disk, version)`.
    pub(crate) fn branch(&mut self) {
        let snapshots = self.histories.snapshots.iter().enumerate();
        let all = snapshots.flat_map(|(number, snapshot)| {
            snapshot.frozen.iter().map(move |(disk, vid)| (number, *disk, *vid))
        });
        let all: Vec<(usize, usize, Vid)> = all.filter(|(_, _, vid)| self.ledger.is_there(*vid)).collect();
        if all.is_empty() {
            return;
        }
        let snapshot = self.random.pick(&all);
        match self.random.below(100) {
            0..25 => self.begin_roll_back(snapshot),
            25..60 => self.clone_disk(snapshot),
            60..75 => self.delete(&DiskRecord::DeleteSnapshot { version: snapshot.2 }),
            _ => self.delete_clone(),
        }
    }

    fn delete_clone(&mut self) {
        let clones = self.ledger.clones();
        if !clones.is_empty() {
            let (_, named) = self.random.pick(&clones);
            self.delete(&DiskRecord::DeleteDisk { disk: named.first });
        }
    }

    /// A snapshot was taken: a trap is set for a write that hides what it has.
    pub(crate) fn perhaps_trap_what_hides(&mut self) {
        if self.shape.branch_percent == 0 || !self.random.percent(25) || self.trap.is_some() {
            return;
        }
        let number = self.random.below(self.shape.partitions.into()) as u16;
        let (partition, primary) = (partition(number), self.ledger.primary(number.into()).1);
        self.trap = Some(Trap::Hide { partition, primary });
    }

    /// If a write hides what a snapshot has, it does not get to the other replicas at once, and the snapshot is deleted. When
    /// space may have been freed, the primary goes, and the gateway that would send the write again.
    pub(crate) fn hides(&mut self, node: Endpoint, in_partition: Partition, record: &Record) {
        let Some(Trap::Hide { partition, primary }) = self.trap else { return };
        let parent = self.ledger.disks().version(record.oid.vid()).and_then(|version| version.parent);
        let version = parent.filter(|parent| self.ledger.is_there(*parent));
        let request = record.request.filter(|_| (partition, primary) == (in_partition, node));
        let (Some(request), Some(version)) = (request, version) else { return };
        self.trap = None;
        let others = (0..self.shape.nodes).filter(|other| *other != primary);
        others.for_each(|other| self.network.block(primary, other));
        self.at(1, Event::Reconnect);
        self.at(1, Event::Delete { record: DiskRecord::DeleteSnapshot { version } });
        note!(
            self,
            "the trap springs: {} hides what {version} has, and others do not get it",
            record.version
        );
        let gateway = endpoint_of(request.gateway.node) - self.shape.nodes;
        let after = 160 * MS + self.random.below(130 * MS);
        self.at(after, Event::Leave { node: primary, gateway });
        self.let_it_work(7 * SECOND);
    }

    pub(crate) fn leave_with_gateway(&mut self, node: usize, gateway: usize) {
        self.leaves_for_good(node);
        if self.gateways[gateway].is_alive() {
            self.crash_gateway(gateway);
            let back = 2500 * MS + self.random.below(2 * SECOND);
            self.at(back, Event::StartGateway { gateway });
        }
        self.lull(6 * SECOND);
    }

    /// The disk goes back to its snapshot, or a disk that was made of it does.
    fn begin_roll_back(&mut self, (snapshot, of, to): (usize, usize, Vid)) {
        let may = |(disk, named, _): &(usize, Named, Vid)| *disk == of || named.base == of;
        let disks: Vec<_> = self.ledger.living().into_iter().filter(may).collect();
        if self.holding.is_some() || disks.is_empty() {
            return;
        }
        let (disk, named, _) = self.random.pick(&disks);
        let record = DiskRecord::Hold { disks: vec![named.first], reads: true };
        if self.ledger.agree_on_disks(record).is_ok() {
            let hold = Hold(self.ledger.disks().last_hold());
            note!(self, "disk {disk} is held to go back to snapshot {snapshot}, {to}");
            let purpose = Purpose::RollBack { to, shown: Shown { disk, at: 0, snapshot, of } };
            self.wait_for_hold(Holding { hold, held: BTreeSet::new(), requested: self.time, purpose });
        }
    }

    pub(crate) fn roll_back(&mut self, hold: Hold, to: Vid, shown: Shown) {
        if self.ledger.agree_on_disks(DiskRecord::RollBack { hold: hold.0, to }).is_ok() {
            note!(self, "disk {} is back at {to}", shown.disk);
            self.summary.branches += 1;
            self.histories.shown.push(Shown { at: self.time, ..shown });
        } else {
            // The snapshot was deleted meanwhile.
            let _ = self.ledger.agree_on_disks(DiskRecord::Abort { hold: hold.0 });
        }
        self.publish();
    }

    fn clone_disk(&mut self, (snapshot, of, vid): (usize, usize, Vid)) {
        let base = self.ledger.named[of].map_or(of, |named| named.base);
        let is_too_many = self.ledger.named.len() >= MAX_DISKS as usize + MOST_CLONES;
        if is_too_many || !self.ledger.clone_of(vid) {
            return;
        }
        let Some((first, _)) = self.ledger.disks().disks().last() else { return };
        let disk = self.ledger.named.len();
        note!(self, "disk {disk}, {first}, is made of snapshot {snapshot}, {vid}");
        self.ledger.named.push(Some(Named { first, base }));
        self.summary.branches += 1;
        self.histories.shown.push(Shown { disk, at: self.time, snapshot, of });
        self.publish();
        // What was to be kept for it, and is not, is noticed sooner.
        if self.random.percent(30) {
            let after = self.random.below(20 * MS);
            self.at(after, Event::Delete { record: DiskRecord::DeleteSnapshot { version: vid } });
        }
    }

    pub(crate) fn delete(&mut self, record: &DiskRecord) {
        if self.ledger.agree_on_disks(record.clone()).is_ok() {
            note!(self, "{record:?}");
            self.summary.branches += 1;
            self.publish();
        }
    }

    /// Has an operation go to a disk that was made of the one that it is for, now and then.
    pub(crate) fn perhaps_of_clone(&mut self, what: What) -> What {
        if self.ledger.named.len() <= MAX_DISKS as usize {
            return what;
        }
        let clones = self.ledger.clones();
        if clones.is_empty() || self.random.percent(60) {
            return what;
        }
        let (disk, named) = self.random.pick(&clones);
        what.onto(disk, named.base)
    }

    /// Whether what the operation is for was deleted.
    pub(crate) fn is_gone(&self, what: &What) -> bool {
        let Some(at) = what.at() else { return false };
        let is_gone = |disk: usize| self.ledger.targets().get(disk).copied().flatten().is_none();
        match what {
            What::ReadSnapshot { snapshot, .. } => {
                let frozen = self.histories.snapshots[*snapshot].frozen.get(&at.disk).copied();
                frozen.map_or(is_gone(at.disk), |vid| !self.ledger.is_there(vid))
            }
            _ => is_gone(at.disk),
        }
    }

    /// Every block of every disk.
    pub(crate) fn places(&self) -> Vec<At> {
        let mut places = self.shape.places();
        for (disk, named) in self.ledger.clones() {
            let base = self.shape.places().into_iter().filter(|at| at.disk == named.base);
            places.extend(base.map(|at| At { disk, ..at }));
        }
        places
    }
}
