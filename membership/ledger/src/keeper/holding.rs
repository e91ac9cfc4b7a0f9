//! Holds: asked for, held by all who lead partitions, and ended by a record, whichever.

use core::time::Duration;
use std::collections::BTreeMap;

use huntaway_wire::{NodeId, Process, Vid};

use super::{Follower, HOLD_PATIENCE, HoldEnd, Keeper, KeeperBug, MAX_HOLDS, ProposalAnswer};
use crate::{DiskRecord, Record, RecordHash};

/// A hold that is not over.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    /// Who asked for it; nobody, if that was another keeper.
    by: Option<(Follower, u64)>,
    then: HoldEnd,
    /// Then it comes to nothing.
    until: Duration,
    /// What nodes last said that they lead, and hold.
    held: BTreeMap<NodeId, RecordHash>,
}

impl Keeper {
    /// Holds that another keeper began come to nothing: who holds was told to that one.
    pub(super) fn adopt_holds(&mut self, now: Duration) {
        let state = self.ledger.state().clone();
        for hold in state.disks().versions().filter_map(|(_, _, hold)| hold) {
            let held = BTreeMap::new();
            self.holds.insert(hold.number, Holding { by: None, then: HoldEnd::Freeze, until: now, held });
        }
    }

    /// Begins one. Returns the answer, if there is one already.
    pub(super) fn hold(
        &mut self,
        now: Duration,
        by: (Follower, u64),
        disks: Vec<Vid>,
        then: HoldEnd,
    ) -> Option<ProposalAnswer> {
        if self.holds.len() >= MAX_HOLDS {
            return Some(ProposalAnswer::TooMany);
        }
        let reads = matches!(then, HoldEnd::RollBack { .. });
        if self.agree(&Record::Disks(DiskRecord::Hold { disks, reads })).is_err() {
            return Some(ProposalAnswer::Refused { at: self.ledger.state().number() });
        }
        let hold = self.ledger.state().disks().last_hold();
        let (until, held) = (now + HOLD_PATIENCE, BTreeMap::new());
        self.holds.insert(hold, Holding { by: Some(by), then, until, held });
        None
    }

    pub(super) fn reported(&mut self, process: Process, hold: u64, leads: RecordHash) {
        let known = self.ledger.state().sets().node(process.node);
        let is_newest = known.is_some_and(|known| known.incarnation == process.incarnation);
        if let Some(holding) = self.holds.get_mut(&hold).filter(|_| is_newest) {
            holding.held.insert(process.node, leads);
        }
    }

    /// Ends those that are held by all.
    pub(super) fn end_holds(&mut self) {
        if self.holds.values().all(|holding| holding.held.is_empty()) {
            return;
        }
        let state = self.ledger.state().clone();
        // What nobody leads cannot be held.
        let Some(leaders) = state.all_leads() else { return };
        let is_enough = |holding: &Holding| {
            let holds = |(node, leads): (&NodeId, &RecordHash)| match holding.held.get(node) {
                Some(held) => held == leads || self.has(KeeperBug::HeldInAnotherPepoch),
                None => false,
            };
            if self.has(KeeperBug::CommittedBeforeAllHold) {
                return leaders.iter().any(holds);
            }
            leaders.iter().all(holds)
        };
        let held: Vec<u64> =
            self.holds.iter().filter(|(_, holding)| is_enough(holding)).map(|(hold, _)| *hold).collect();
        for hold in held {
            self.end_hold(hold);
        }
    }

    fn end_hold(&mut self, hold: u64) {
        let Some(Holding { by, then, .. }) = self.holds.get(&hold).cloned() else { return };
        let end = match then {
            HoldEnd::Freeze => DiskRecord::Commit { hold },
            HoldEnd::RollBack { to } => DiskRecord::RollBack { hold, to },
        };
        let at = self.ledger.state().number();
        match self.agree(&Record::Disks(end)) {
            Ok(record) => {
                self.holds.remove(&hold);
                by.into_iter().for_each(|by| self.answer(by, ProposalAnswer::Agreed { record }));
            }
            Err(_) => self.abort_hold(hold, |_| ProposalAnswer::Refused { at }),
        }
    }

    /// Ends those that take too long.
    pub(super) fn abort_holds(&mut self, now: Duration) {
        let is_late = |(_, holding): &(&u64, &Holding)| holding.until <= now;
        let late: Vec<u64> = self.holds.iter().filter(is_late).map(|(hold, _)| *hold).collect();
        for hold in late {
            self.abort_hold(hold, |record| ProposalAnswer::NotHeld { record });
        }
    }

    fn abort_hold(&mut self, hold: u64, answer: impl Fn(u64) -> ProposalAnswer) {
        let Some(holding) = self.holds.remove(&hold) else { return };
        // If it is over already, that is as well.
        let record = self.agree(&Record::Disks(DiskRecord::Abort { hold }));
        let record = record.unwrap_or(self.ledger.state().number());
        holding.by.into_iter().for_each(|by| self.answer(by, answer(record)));
    }
}
