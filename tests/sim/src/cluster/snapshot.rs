//! Snapshots and resets, as somebody asks the ledger for them.
//!
//! Who asks for a snapshot has the ledger hold writes, collects from all partitions that they do, and has it commit; when that
//! takes too long, somebody else has it abort. A reset is over when every store knows of it, or cannot serve any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use huntaway_ledger::DiskRecord;
use huntaway_replica::{Hold, Vdis};
use huntaway_store::host::agreed::vdis;
use huntaway_wire::{Partition, Pepoch, Vid};

use super::branch::Named;
use super::cut::Snapshot;
use super::event::Event;
use super::judgement::Shown;
use super::ledger::Ledger;
use super::{Bug, Cluster, Endpoint, FAULTS_END, MS, Report, SECOND, note};
use crate::clock::Time;

/// A version of a disk, as requests name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) vid: Vid,
    pub(crate) layout: u64,
    pub(crate) fence: u64,
}

/// A snapshot under way.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(crate) hold: Hold,
    pub(crate) held: BTreeSet<usize>,
    pub(crate) requested: Time,
    pub(crate) purpose: Purpose,
}

/// What requests are held for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Snapshot,
    /// A disk goes back to a snapshot.
    RollBack {
        to: Vid,
        shown: Shown,
    },
}

/// Everything on a disk that was received before was given up.
#[derive(Debug)]
pub(crate) struct Reset {
    disk: usize,
    sent: Time,
    /// What the ledger had said when it said so: stores act on this, or on something newer.
    sequence: u64,
    answered: Option<Time>,
}

impl Ledger {
    pub(crate) fn vdis(&self) -> Arc<Vdis> {
        vdis(self.disks())
    }

    /// The version of each disk that is worked with.
    pub(crate) fn targets(&self) -> Vec<Option<Target>> {
        let target = |named: &Option<Named>| self.target(self.disks().working((*named)?.first)?);
        self.named.iter().map(target).collect()
    }

    pub(crate) fn target(&self, vid: Vid) -> Option<Target> {
        let version = self.disks().version(vid).filter(|version| !version.is_deleted)?;
        Some(Target { vid, layout: version.layout, fence: version.fence })
    }
}

impl Cluster {
    pub(crate) fn snapshot(&mut self) {
        if self.time > FAULTS_END {
            return;
        }
        let next = 200 * MS + self.random.below(2 * SECOND);
        self.at(next, Event::Snapshot);
        if self.random.percent(self.shape.branch_percent) {
            self.branch();
        } else if self.random.percent(15) {
            self.strand_writes();
        } else {
            self.hold();
        }
    }

    /// Writes do not get from a primary to other replicas. Then comes the snapshot, and then the primary is removed.
    fn strand_writes(&mut self) {
        let partition = self.random.below(self.shape.partitions.into()) as usize;
        let primary = self.ledger.primary(partition).1;
        let others: Vec<Endpoint> = (0..self.shape.nodes).filter(|node| *node != primary).collect();
        others.into_iter().for_each(|node| self.network.block(primary, node));
        note!(self, "nothing gets from node {primary} to other nodes");
        let hold = 5 * MS + self.random.below(200 * MS);
        let removed = hold + 20 * MS + self.random.below(300 * MS);
        self.at(hold, Event::Hold);
        self.at(removed, Event::Overthrow { partition, primary });
        self.at(removed + 50 * MS, Event::Reconnect);
    }

    /// Somebody has the ledger hold writes to some disks.
    pub(crate) fn hold(&mut self) {
        if self.holding.is_some() {
            return;
        }
        let mut disks: Vec<Vid> = self.ledger.disks().disks().map(|(first, _)| first).collect();
        if self.random.percent(40) {
            disks = vec![self.random.pick(&disks)];
        }
        if self.ledger.agree_on_disks(DiskRecord::Hold { disks, reads: false }).is_err() {
            return;
        }
        let hold = Hold(self.ledger.disks().last_hold());
        note!(self, "writes are held for snapshot {}", hold.0);
        let purpose = Purpose::Snapshot;
        self.wait_for_hold(Holding { hold, held: BTreeSet::new(), requested: self.time, purpose });
    }

    pub(crate) fn wait_for_hold(&mut self, holding: Holding) {
        let hold = holding.hold;
        self.disturb_hold();
        self.holding = Some(holding);
        let patience = SECOND + self.random.below(2 * SECOND);
        self.at(patience, Event::AbortSnapshot { hold });
        self.publish();
    }

    /// What makes it hard to hold.
    fn disturb_hold(&mut self) {
        let partition = self.random.below(self.shape.partitions.into()) as usize;
        let primary = self.ledger.primary(partition).1;
        match self.random.below(100) {
            // It hears of it so late that others may lose patience, if they have any.
            0..25 => self.network.late_news[primary] = self.time + 800 * MS + self.random.below(SECOND),
            // Writes that have begun take long.
            25..40 => {
                let node = self.victim();
                self.nodes[node].slow_disk = self.random.below(500 * MS);
                self.at(SECOND, Event::Quicken { endpoint: node });
            }
            _ => {}
        }
    }

    /// A primary tells that its partition holds. Of a pepoch that is over, that says nothing.
    pub(crate) fn held(&mut self, partition: Partition, pepoch: Pepoch, hold: Hold) {
        let is_current = self.ledger.rows[partition.index()].configuration.pepoch == pepoch;
        let Some(holding) = self.holding.as_mut().filter(|holding| holding.hold == hold && is_current) else {
            return;
        };
        holding.held.insert(partition.index());
        let all = usize::from(self.shape.partitions);
        let is_snapshot = matches!(holding.purpose, Purpose::Snapshot);
        let needed = match self.bug {
            Some(Bug::CommittedBeforeAllHold) if is_snapshot => 1,
            Some(Bug::RolledBackBeforeAllHold) if !is_snapshot => 1,
            _ => all,
        };
        if holding.held.len() >= needed {
            self.commit();
        }
    }

    fn commit(&mut self) {
        let Some(holding) = self.holding.take() else { return };
        if let Purpose::RollBack { to, shown } = holding.purpose {
            return self.roll_back(holding.hold, to, shown);
        }
        let before = self.ledger.living();
        if self.ledger.agree_on_disks(DiskRecord::Commit { hold: holding.hold.0 }).is_err() {
            return;
        }
        note!(self, "snapshot {} is there", holding.hold.0);
        if self.random.percent(25) {
            let partition = self.random.below(self.shape.partitions.into()) as usize;
            let primary = self.ledger.primary(partition).1;
            self.network.late_news[primary] = self.time + self.random.below(800 * MS);
        }
        self.summary.snapshots += 1;
        self.perhaps_trap_what_hides();
        let versions = before.iter().zip(self.ledger.living());
        let frozen = versions.filter(|(before, after)| before.2 != after.2);
        let frozen: BTreeMap<usize, Vid> = frozen.map(|((disk, _, version), _)| (*disk, *version)).collect();
        self.histories.snapshots.push(Snapshot::new(frozen, holding.requested, self.time));
        self.publish();
    }

    pub(crate) fn abort_snapshot(&mut self, hold: Hold) {
        if self.ledger.agree_on_disks(DiskRecord::Abort { hold: hold.0 }).is_ok() {
            note!(self, "snapshot {} comes to nothing", hold.0);
            self.holding = None;
            self.publish();
        }
    }

    pub(crate) fn reset(&mut self) {
        if self.told.is_some() {
            return self.tell_above(Report::Reset);
        }
        let disks = self.ledger.living();
        let (disk, named, _) = self.random.pick(&disks);
        if self.ledger.agree_on_disks(DiskRecord::Fence { disk: named.first }).is_ok() {
            note!(self, "disk {disk} is reset");
            self.publish();
            let sequence = self.ledger.sequence;
            self.resets.push(Reset { disk, sent: self.time, sequence, answered: None });
            self.at(MS, Event::ResetDone { reset: self.resets.len() - 1 });
        }
    }

    /// Whether every store that may serve knows of the reset.
    pub(crate) fn reset_done(&mut self, reset: usize) {
        let sequence = self.resets[reset].sequence;
        if self.is_known(sequence) {
            note!(self, "disk {} was reset", self.resets[reset].disk);
            self.resets[reset].answered = Some(self.time);
            self.summary.resets += 1;
        } else if self.time < FAULTS_END {
            self.at(10 * MS, Event::ResetDone { reset });
        }
    }

    /// When a write of a disk that a gateway had at `received`, and that could have had effects until `end`, was given up by a
    /// reset before that.
    pub(crate) fn given_up(&self, disk: usize, received: Time, end: Time) -> Option<Time> {
        let resets = self.resets.iter().filter(|reset| reset.disk == disk && received < reset.sent);
        resets.filter_map(|reset| reset.answered.filter(|answered| *answered < end)).min()
    }
}
