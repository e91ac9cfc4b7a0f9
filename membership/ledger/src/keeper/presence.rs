//! Which nodes are there, and which of them may act.

use core::time::Duration;

use huntaway_wire::{NodeId, Process, outlasting};

use super::{Keeper, KeeperBug, LEDGER_LEASE, MOST_BETWEEN_STEPS, NotLeased, NotStarted, Output, Start};
use crate::{Incarnation, NodeState, Record, SetRecord};

/// What is known of a node's newest process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Presence {
    /// When it was heard of last, or later, if it could not be heard.
    pub(super) heard: Duration,
    /// Nobody counts on a lease of it after that, by any clock.
    pub(super) leased_until: Duration,
    /// It gets no lease any more, for it is about to be down.
    is_going_down: bool,
    /// It said that it is gone.
    has_left: bool,
    /// It has to act on all up to this record before it gets a lease: the one that says that it is up, or that it is down.
    there_since: u64,
    /// The last record that it is known to act on.
    applied: u64,
}

impl Presence {
    /// A node of which nothing was heard yet.
    pub(super) fn found(now: Duration, leased_until: Duration, there_since: u64) -> Self {
        let (is_going_down, has_left) = (false, false);
        Self { heard: now, leased_until, is_going_down, has_left, there_since, applied: 0 }
    }

    /// What it knows if it serves.
    fn known(&self, now: Duration) -> u64 {
        if self.leased_until > now { self.applied } else { self.applied.max(self.there_since) }
    }
}

impl Keeper {
    /// Nobody who may serve knows less than this record.
    pub fn known_by_all(&self, now: Duration) -> u64 {
        let up = self.ledger.state().sets().nodes().filter(|(_, state)| state.is_up);
        let known = |(node, _): (NodeId, NodeState)| {
            let presence = self.nodes.get(&node)?;
            let believes = self.has(KeeperBug::KnownAfterRestart);
            Some(if believes { presence.applied.max(presence.there_since) } else { presence.known(now) })
        };
        up.map(|node| known(node).unwrap_or(0)).min().unwrap_or(self.ledger.state().number())
    }

    pub(super) fn started(&mut self, now: Duration, start: Start) {
        let Start { process, memory, start, after } = start;
        let Process { node, incarnation } = process;
        let known = self.ledger.state().sets().node(node);
        if known.is_some_and(|known| known.incarnation == incarnation && known.start == start) {
            return self.outputs.push(Output::Started { process, start });
        }
        let last = known.map_or(Incarnation(0), |known| known.incarnation);
        let may_act = self.nodes.get(&node).is_some_and(|presence| presence.leased_until > now);
        let why = if known.is_none() {
            NotStarted::Stranger
        } else if incarnation <= last {
            NotStarted::Past { last }
        } else if may_act && !self.has(KeeperBug::StartedBesideAnother) {
            NotStarted::StillRuns
        } else {
            let record = SetRecord::NodeStarted { node, incarnation, memory, start, after };
            match self.agree(&Record::Sets(record)) {
                Ok(number) => {
                    self.nodes.insert(node, Presence::found(now, Duration::ZERO, number));
                    return self.outputs.push(Output::Started { process, start });
                }
                Err(_) => NotStarted::Refused,
            }
        };
        self.outputs.push(Output::NotStarted { process, start, why });
    }

    pub(super) fn asked_lease(&mut self, now: Duration, process: Process, ask: u64, applied: u64) {
        match self.lease(now, process, applied) {
            Ok(()) => {
                let known_by_all = self.known_by_all(now);
                self.outputs.push(Output::Leased { process, ask, known_by_all });
            }
            Err(why) => self.outputs.push(Output::NotLeased { process, ask, why }),
        }
    }

    fn lease(&mut self, now: Duration, process: Process, applied: u64) -> Result<(), NotLeased> {
        let Process { node, incarnation } = process;
        let known = self.ledger.state().sets().node(node).ok_or(NotLeased::Stranger)?;
        if known.incarnation != incarnation || incarnation == Incarnation(0) {
            return Err(NotLeased::OtherProcess);
        }
        let last = self.ledger.state().number();
        if applied > last {
            return Err(NotLeased::Ahead { last });
        }
        let found = Presence::found(now, Duration::ZERO, last);
        let waited_for = self.waited_for();
        let (ignores, believes) =
            (self.has(KeeperBug::LeasedWhileGoingDown), self.has(KeeperBug::LeasedWhileBehind));
        let presence = self.nodes.entry(node).or_insert(found);
        presence.heard = now;
        presence.applied = presence.applied.max(applied);
        if presence.has_left || presence.is_going_down && !ignores {
            return Err(NotLeased::GoingDown);
        }
        if !known.is_up {
            // While it was down a disk may have failed, and who counts on it is to hear of that first.
            let needed = presence.there_since;
            if applied < needed && !self.has(KeeperBug::UpUnawares) {
                return Err(NotLeased::Behind { needed });
            }
            let up = self.agree(&Record::Sets(SetRecord::NodeUp { node }));
            let number = up.map_err(|_| NotLeased::GoingDown)?;
            self.nodes.entry(node).and_modify(|presence| presence.there_since = number);
        }
        let presence = self.nodes.entry(node).or_insert(found);
        let needed = presence.there_since;
        if applied < needed && !believes {
            return Err(NotLeased::Behind { needed });
        }
        presence.leased_until = now + waited_for;
        Ok(())
    }

    /// So long a lease is waited for.
    fn waited_for(&self) -> Duration {
        if self.has(KeeperBug::NotOutlasted) { LEDGER_LEASE } else { outlasting(LEDGER_LEASE) }
    }

    /// Whom a keeper did not hear while it took no steps was not silent because of that. Leases run out all the same.
    pub(super) fn was_held_up(&mut self, now: Duration) {
        let between = now.saturating_sub(self.stepped);
        self.stepped = now;
        let held_up = between.saturating_sub(MOST_BETWEEN_STEPS);
        if !held_up.is_zero() && !self.has(KeeperBug::HeldUpHearsNobody) {
            self.nodes.values_mut().for_each(|presence| presence.heard += held_up);
        }
    }

    pub(super) fn left(&mut self, now: Duration, process: Process) {
        let known = self.ledger.state().sets().node(process.node);
        if let Some(presence) = self.nodes.get_mut(&process.node)
            && known.is_some_and(|known| known.incarnation == process.incarnation)
        {
            presence.heard = now;
            presence.leased_until = now;
            (presence.is_going_down, presence.has_left) = (true, true);
        }
    }

    pub(super) fn suspected(&mut self, now: Duration, nodes: &[NodeId]) {
        let found = Presence::found(now, now + self.waited_for(), self.ledger.state().number());
        let state = self.ledger.state().clone();
        let is_up = |node: &NodeId| state.sets().node(*node).is_some_and(|state| state.is_up);
        for node in nodes.iter().filter(|node| is_up(node)) {
            self.nodes.entry(*node).or_insert(found).is_going_down = true;
        }
    }

    /// Those that fell silent get no lease any more, and when none of them can have one, they are down, all together. Who is
    /// half-way silent is waited for, since it may have failed with them: had it a record of its own after theirs, it would
    /// seem to have served without them.
    pub(super) fn take_down(&mut self, now: Duration) {
        let state = self.ledger.state().clone();
        let ignores = self.has(KeeperBug::DownWithLease);
        let silent_since = |presence: &Presence| now.saturating_sub(presence.heard);
        let mut going = Vec::new();
        let mut is_time = true;
        let found = Presence::found(now, now + self.waited_for(), state.number());
        for (node, _) in state.sets().nodes().filter(|(_, state)| state.is_up) {
            let presence = self.nodes.entry(node).or_insert(found);
            presence.is_going_down |= silent_since(presence) >= self.silence;
            if presence.is_going_down {
                going.push(node);
                is_time &= presence.leased_until <= now || ignores;
            } else {
                is_time &= silent_since(presence) < self.silence / 2;
            }
        }
        if going.is_empty() || !is_time {
            return;
        }
        let down = SetRecord::NodesDown { nodes: going.clone() };
        // If the ledger cannot have it, they stay without leases.
        if let Ok(number) = self.agree(&Record::Sets(down)) {
            for node in going {
                self.nodes.entry(node).and_modify(|presence| {
                    (presence.is_going_down, presence.there_since) = (false, number);
                });
            }
        }
    }
}
