//! What must hold of a history, by what everybody can have counted on.

use std::collections::{BTreeMap, BTreeSet};

use huntaway_ledger::keeper::{MOST_BETWEEN_STEPS, Proposal, ProposalAnswer};
use huntaway_ledger::{DiskRecord, Ledger, Record, RecordHash, SetRecord};
use huntaway_wire::{NodeId, Process, Vid};

use super::is_agreed;

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(dead_code, reason = "they are printed")]
pub(crate) enum Violation {
    /// The record cannot follow.
    NoRecord,
    /// A process has a lease beyond the record that ends its part.
    LeaseOutlivesRecord(Process),
    /// A lease was given to a process that is not there, or does not know that it is.
    LeaseWithoutPresence(Process),
    /// A node is up again that may not know that it was down.
    UpUnawares(NodeId),
    /// Something was agreed on twice.
    Twice(Vid),
    /// The answer is about another record.
    OtherRecord(u64),
    /// It was committed although this node does not hold.
    CommittedWithout(NodeId),
    /// Who is told to know this may serve, and does not.
    NotKnown { process: Process, knows: u64, told: u64 },
    /// A suspected node stays up.
    StaysUp(NodeId),
    /// A node counts as down that nobody suspected, and that was never silent.
    NotSilent(NodeId),
    /// When nothing goes wrong any more, something is still not right.
    NotAtRest(&'static str),
}

/// What a process may count on, if all that is on its way to it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    /// In real time.
    pub(crate) until: u64,
    /// The last record that it knew.
    pub(crate) applied: u64,
}

/// How long a suspected node may stay up.
const PATIENCE: u64 = 5_000_000;

/// Whoever says something more often is not silent, by any keeper's clock.
const NOT_SILENT: u64 = 900_000;

pub(crate) struct Checker {
    ledger: Ledger,
    first: u64,
    records: Vec<Record>,
    leases: BTreeMap<(NodeId, u64), u64>,
    /// The record that says that a node is there.
    there_since: BTreeMap<NodeId, u64>,
    /// The last record that says that a node is down.
    down_since: BTreeMap<NodeId, u64>,
    /// The last record that a node said it acts on.
    acts_on: BTreeMap<NodeId, u64>,
    fenced: BTreeMap<Vid, u64>,
    /// What nodes hold.
    reported: BTreeMap<(NodeId, u64), Vec<RecordHash>>,
    suspected: BTreeMap<NodeId, u64>,
    /// When the keeper last could hear of a node, or later.
    heard: BTreeMap<NodeId, u64>,
    /// Those that may count as down.
    excused: BTreeSet<NodeId>,
}

impl Checker {
    pub(crate) fn new(ledger: Ledger) -> Self {
        let first = ledger.state().number();
        let heard = ledger.state().sets().nodes().map(|(node, _)| (node, 2 * NOT_SILENT)).collect();
        Self {
            ledger,
            first,
            records: Vec::new(),
            leases: BTreeMap::new(),
            there_since: BTreeMap::new(),
            down_since: BTreeMap::new(),
            acts_on: BTreeMap::new(),
            fenced: BTreeMap::new(),
            reported: BTreeMap::new(),
            suspected: BTreeMap::new(),
            heard,
            excused: BTreeSet::new(),
        }
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn first_number(&self) -> u64 {
        self.first
    }

    pub(crate) fn record(&mut self, bytes: &[u8], time: u64) -> Result<(), Violation> {
        let before = self.ledger.state().clone();
        let (record, _) = self.ledger.read(bytes).map_err(|_| Violation::NoRecord)?;
        self.records.push(record.clone());
        match &record {
            Record::Sets(SetRecord::NodesDown { nodes }) => {
                for node in nodes {
                    self.suspected.remove(node);
                    self.down_since.insert(*node, self.ledger.state().number());
                    self.no_lease(*node, u64::MAX, time)?;
                    if !self.excused.contains(node) {
                        return Err(Violation::NotSilent(*node));
                    }
                }
            }
            Record::Sets(SetRecord::NodeStarted { node, incarnation, .. }) => {
                self.there_since.insert(*node, self.ledger.state().number());
                self.suspected.remove(node);
                self.no_lease(*node, incarnation.0, time)?;
                self.is_there(*node, time);
            }
            Record::Sets(SetRecord::NodeUp { node }) => {
                if self.acts_on.get(node) < self.down_since.get(node) {
                    return Err(Violation::UpUnawares(*node));
                }
                self.is_there(*node, time);
                self.there_since.insert(*node, self.ledger.state().number());
            }
            Record::Disks(DiskRecord::Fence { disk }) if self.fenced.insert(*disk, time).is_some() => {
                return Err(Violation::Twice(*disk));
            }
            Record::Disks(DiskRecord::Commit { hold }) => {
                for (node, state) in before.sets().nodes() {
                    let leads = before.sets().sets().any(|(_, set)| set.primary() == Some(node));
                    let now = before.leads(node);
                    let held = self.reported.get(&(node, *hold));
                    if leads && !(state.is_up && held.is_some_and(|held| held.contains(&now))) {
                        return Err(Violation::CommittedWithout(node));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// No process of the node before this one counts on anything.
    fn no_lease(&self, node: NodeId, before: u64, time: u64) -> Result<(), Violation> {
        let outlives = |((of, incarnation), until): (&(NodeId, u64), &u64)| {
            *of == node && *incarnation < before && *until > time
        };
        match self.leases.iter().find(|(process, until)| outlives((process, until))) {
            Some(((node, incarnation), _)) => {
                let incarnation = huntaway_ledger::Incarnation(*incarnation);
                Err(Violation::LeaseOutlivesRecord(Process { node: *node, incarnation }))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn leased(&mut self, process: Process, lease: Lease, time: u64) -> Result<(), Violation> {
        let known = self.ledger.state().sets().node(process.node);
        let is_there = known.is_some_and(|known| known.is_up && known.incarnation == process.incarnation);
        let since = self.there_since.get(&process.node).copied().unwrap_or(0);
        if lease.until > time && (!is_there || lease.applied < since) {
            return Err(Violation::LeaseWithoutPresence(process));
        }
        let until = self.leases.entry((process.node, process.incarnation.0)).or_insert(0);
        *until = lease.until.max(*until);
        Ok(())
    }

    pub(crate) fn has_lease(&self, process: Process, time: u64) -> bool {
        self.leases.get(&(process.node, process.incarnation.0)).is_some_and(|until| *until > time)
    }

    /// It will serve no more.
    pub(crate) fn left(&mut self, process: Process) {
        self.leases.remove(&(process.node, process.incarnation.0));
    }

    pub(crate) fn known_by_all(
        &self,
        told: u64,
        known: &BTreeMap<NodeId, u64>,
        time: u64,
    ) -> Result<(), Violation> {
        for ((node, incarnation), _) in self.leases.iter().filter(|(_, until)| **until > time) {
            let knows = known.get(node).copied().unwrap_or(0);
            if knows < told {
                let process =
                    Process { node: *node, incarnation: huntaway_ledger::Incarnation(*incarnation) };
                return Err(Violation::NotKnown { process, knows, told });
            }
        }
        Ok(())
    }

    pub(crate) fn answered(&self, proposal: &Proposal, answer: ProposalAnswer) -> Result<(), Violation> {
        let number = match answer {
            ProposalAnswer::Agreed { record } | ProposalAnswer::NotHeld { record } => record,
            _ => return Ok(()),
        };
        let record = self.records.get((number - self.first - 1) as usize);
        match record.filter(|record| is_agreed(record, proposal, answer)) {
            Some(_) => Ok(()),
            None => Err(Violation::OtherRecord(number)),
        }
    }

    pub(crate) fn reported(&mut self, node: NodeId, hold: u64, leads: RecordHash) {
        self.reported.entry((node, hold)).or_default().push(leads);
    }

    pub(crate) fn suspected(&mut self, nodes: &[NodeId], time: u64) {
        for node in nodes {
            if self.ledger.state().sets().node(*node).is_some_and(|state| state.is_up) {
                self.suspected.entry(*node).or_insert(time);
                self.excuse(*node);
            }
        }
    }

    pub(crate) fn excuse(&mut self, node: NodeId) {
        self.excused.insert(node);
    }

    fn is_there(&mut self, node: NodeId, time: u64) {
        self.excused.remove(&node);
        self.heard.insert(node, time);
    }

    /// The keeper hears of a process, and how much that acts on.
    pub(crate) fn heard(&mut self, process: Process, applied: u64, time: u64) {
        let known = self.ledger.state().sets().node(process.node);
        if known.is_some_and(|known| known.incarnation == process.incarnation) {
            self.heard.insert(process.node, time);
            let acts_on = self.acts_on.entry(process.node).or_insert(0);
            *acts_on = applied.max(*acts_on);
        }
    }

    /// The keeper hears nobody for so long.
    pub(crate) fn held_up(&mut self, length: u64) {
        let times = self.heard.values_mut().chain(self.suspected.values_mut());
        let counts = MOST_BETWEEN_STEPS.as_micros() as u64;
        times.for_each(|time| *time += length.saturating_sub(counts));
    }

    /// Nodes have to find the new one.
    pub(crate) fn keeper_restarted(&mut self, time: u64) {
        self.suspected.clear();
        self.excused.clear();
        self.heard.values_mut().for_each(|heard| *heard = time + 2 * NOT_SILENT);
    }

    pub(crate) fn is_in_time(&mut self, time: u64) -> Result<(), Violation> {
        let silent = self.heard.iter().filter(|(_, heard)| time.saturating_sub(**heard) >= NOT_SILENT);
        self.excused.extend(silent.map(|(node, _)| *node));
        match self.suspected.iter().find(|(_, since)| time > **since + PATIENCE) {
            Some((node, _)) => Err(Violation::StaysUp(*node)),
            None => Ok(()),
        }
    }

    pub(crate) fn at_rest(&self, served: bool) -> Result<(), Violation> {
        if !served {
            return Err(Violation::NotAtRest("a node has no lease"));
        }
        if self.ledger.state().disks().versions().any(|(_, _, hold)| hold.is_some()) {
            return Err(Violation::NotAtRest("a hold goes on"));
        }
        Ok(())
    }
}
