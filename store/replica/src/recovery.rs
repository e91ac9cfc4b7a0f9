//! Which learners a node's primaries teach now, and at what pace: the node's own decision, over all partitions in which it is
//! primary. It does no I/O and knows nothing of what is copied but what it is told.
//!
//! What is most wanted comes first: partitions that take no writes for want of replicas, then those with one copy, with fewer than
//! they shall have, and last those whose copies shall be elsewhere. Only the last waits before it begins: a node that is
//! down keeps its place, so all others concern nodes that are there and lack something, and what they lack is little when they were
//! away for a moment. The many teach the many: nothing is bounded but how much one node does at a time.

mod pressure;
mod tries;

use std::collections::BTreeMap;
use std::time::Duration;

use huntaway_wire::{NodeId, Partition, Pepoch};

use crate::configuration::Configuration;
use crate::process::{Moment, Process};
use pressure::{FULL, Pressure};
use tries::Tries;

/// What recovery may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryLimits {
    /// Learners that this node teaches at a time; twice as many while clients wait.
    pub learners: usize,
    /// Those of them that are on one node.
    pub learners_of_a_node: usize,
    /// Learners of partitions that have nothing in them here, at a time: there is nothing to copy, so they do not count as the others.
    pub learners_of_nothing: usize,
    /// What is copied in a second, to all learners together.
    pub bytes_per_second: u64,
    /// Above this latency clients come first.
    pub latency_us: u64,
    /// How long nothing begins that merely moves copies elsewhere.
    pub move_after_us: u64,
    /// The pause after the first time that teaching a learner came to nothing, or that it dropped out again; it doubles each time.
    pub first_pause_us: u64,
    /// The longest pause. Who was in sync for longer begins anew.
    pub longest_pause_us: u64,
}

impl Default for RecoveryLimits {
    fn default() -> Self {
        Self {
            learners: 32,
            learners_of_a_node: 16,
            learners_of_nothing: 96,
            bytes_per_second: 100 << 20,
            latency_us: 20_000,
            move_after_us: 60_000_000,
            first_pause_us: 500_000,
            longest_pause_us: 60_000_000,
        }
    }
}

/// How much a partition wants another replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// It has fewer in sync than it takes writes with, and a client asked for it.
    AskedFor,
    /// It has one copy.
    OneCopy,
    /// It has fewer copies than it shall have.
    FewCopies,
    /// It has its copies, and some of them shall be elsewhere.
    Move,
}

/// What is to be said to a primary: see [`Input::Teach`](crate::Input::Teach).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToTeach {
    /// The partition.
    pub partition: Partition,
    /// Whom.
    pub learner: Process,
    /// At which pace.
    pub bytes_per_second: u64,
}

/// How far recovery is, of the partitions in which the node is primary. It says nothing of health: a learner whose node is
/// down is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Partitions with learners.
    pub partitions_left: usize,
    /// What is to be compared at most, and copied where it differs.
    pub bytes_left: u64,
    /// What was copied since the process started.
    pub bytes_copied: u64,
    /// What was copied of late.
    pub bytes_per_second: u64,
    /// When it is done at that pace; `None` while nothing is copied.
    pub time_left: Option<Duration>,
}

/// The decision, for one node.
#[derive(Debug)]
pub struct Recovery {
    limits: RecoveryLimits,
    /// Who was in sync last in each partition in which this node is, primary or not: who drops out is often taught by another one
    /// than the next time.
    in_sync: BTreeMap<Partition, Vec<NodeId>>,
    works: BTreeMap<Partition, Work>,
    tries: BTreeMap<(Partition, NodeId), Tries>,
    pressure: Pressure,
    copied: Copied,
    is_paused: bool,
}

/// What is to be done for one partition.
#[derive(Debug)]
struct Work {
    pepoch: Pepoch,
    urgency: Urgency,
    may_be_asked_for: bool,
    /// With when it was first known of.
    learners: Vec<(Process, Moment)>,
    bytes: u64,
    /// Who is taught, and what had been copied in all when that began.
    under_way: Option<(Process, u64)>,
}

/// What all primaries of the node copied.
#[derive(Debug, Default)]
struct Copied {
    of: BTreeMap<Partition, u64>,
    /// When the last measurement began, and with how much.
    since: (Moment, u64),
    bytes_per_second: u64,
}

/// How long what is copied is measured.
const MEASURED_US: u64 = 2_000_000;

/// How many learn, and on each node: first those that partitions lack, then those to which copies merely move. Counted once for
/// all that are due, which may be thousands. Those that learn nothing have a count of their own.
#[derive(Debug, Default)]
struct Taught {
    all: [usize; 2],
    of_nodes: BTreeMap<NodeId, [usize; 2]>,
    nothing: usize,
}

impl Taught {
    fn add(&mut self, urgency: Urgency, is_empty: bool, node: NodeId) {
        if is_empty {
            self.nothing += 1;
            return;
        }
        let kind = usize::from(urgency == Urgency::Move);
        self.all[kind] += 1;
        self.of_nodes.entry(node).or_default()[kind] += 1;
    }

    fn has_room(&self, limits: &RecoveryLimits, urgency: Urgency, is_empty: bool, node: NodeId) -> bool {
        if is_empty {
            return self.nothing < limits.learners_of_nothing;
        }
        // What merely moves a copy, perhaps at no pace at all, is in nobody's way who lacks one.
        let count = |[lacking, moving]: [usize; 2]| {
            if urgency == Urgency::Move { lacking + moving } else { lacking }
        };
        let most = limits.learners * if urgency == Urgency::AskedFor { 2 } else { 1 };
        let of_node = self.of_nodes.get(&node).copied().unwrap_or_default();
        count(self.all) < most && count(of_node) < limits.learners_of_a_node
    }
}

impl Recovery {
    /// Nothing is known of any partition.
    pub fn new(limits: RecoveryLimits) -> Self {
        let (pressure, copied) = (Pressure::default(), Copied::default());
        let (in_sync, works, tries) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { limits, in_sync, works, tries, pressure, copied, is_paused: false }
    }

    /// From now on it may take so much. Paused, it begins nothing, and what is under way stands still.
    pub fn may_take(&mut self, is_paused: bool, bytes_per_second: u64, move_after_us: u64) {
        self.is_paused = is_paused;
        (self.limits.bytes_per_second, self.limits.move_after_us) = (bytes_per_second, move_after_us);
    }

    /// The agreed state of a partition is this by now, and the partition takes so much here.
    pub fn configured(
        &mut self,
        now: Moment,
        partition: Partition,
        me: Process,
        configuration: &Configuration,
        bytes: u64,
    ) {
        let in_sync: Vec<NodeId> = configuration.in_sync.iter().map(|process| process.node).collect();
        let count = in_sync.len();
        self.learn_from(now, partition, in_sync, me);
        let before = self.works.remove(&partition);
        if configuration.primary() != Some(me) || configuration.is_lost || configuration.is_all_doubtful() {
            return;
        }
        let since = |process: &Process| {
            let known = before.iter().flat_map(|before| &before.learners);
            known.clone().find(|(learner, _)| learner == process).map_or(now, |(_, since)| *since)
        };
        let may_be_asked_for = count < configuration.min_copies;
        let was_asked_for = before.as_ref().is_some_and(|before| before.urgency == Urgency::AskedFor);
        let urgency = match count {
            _ if may_be_asked_for && was_asked_for => Urgency::AskedFor,
            0..=1 if configuration.copies > 1 => Urgency::OneCopy,
            count if count < configuration.copies => Urgency::FewCopies,
            _ => Urgency::Move,
        };
        let pepoch = configuration.pepoch;
        let going_on = before.as_ref().filter(|before| before.pepoch == pepoch);
        let is_candidate = |(learner, _): &(Process, u64)| configuration.candidates.contains(learner);
        let under_way = going_on.and_then(|before| before.under_way).filter(is_candidate);
        let learners = configuration.candidates.iter().map(|process| (*process, since(process))).collect();
        let work = Work { pepoch, urgency, may_be_asked_for, learners, bytes, under_way };
        self.works.insert(partition, work);
    }

    /// Learners that came in sync, and replicas that dropped out.
    fn learn_from(&mut self, now: Moment, partition: Partition, in_sync: Vec<NodeId>, me: Process) {
        let before = self.in_sync.remove(&partition);
        if !in_sync.contains(&me.node) {
            return;
        }
        for node in before.iter().flatten().filter(|node| !in_sync.contains(node)) {
            self.tries.entry((partition, *node)).or_default().failed(now, &self.limits);
        }
        for node in in_sync.iter().filter(|node| before.as_ref().is_some_and(|before| !before.contains(node)))
        {
            self.tries.entry((partition, *node)).or_default().succeeded(now);
        }
        self.in_sync.insert(partition, in_sync);
    }

    /// A client wants something of the partition.
    pub fn asked_for(&mut self, partition: Partition) {
        if let Some(work) = self.works.get_mut(&partition).filter(|work| work.may_be_asked_for) {
            work.urgency = Urgency::AskedFor;
        }
    }

    /// Teaching came to nothing: see [`Output::GaveUp`](crate::Output::GaveUp). It is tried again, for ever.
    pub fn gave_up(&mut self, now: Moment, partition: Partition, learner: Process) {
        if let Some(work) = self.works.get_mut(&partition) {
            work.under_way.take_if(|(under_way, _)| *under_way == learner);
        }
        self.tries.entry((partition, learner.node)).or_default().failed(now, &self.limits);
    }

    /// The replica of the partition copied so much since its process started.
    pub fn copied(&mut self, now: Moment, partition: Partition, bytes: u64) {
        self.copied.of.insert(partition, bytes);
        let us = now.since(self.copied.since.0);
        if us >= MEASURED_US {
            let all = self.copied.of.values().sum();
            self.copied.bytes_per_second = (all - self.copied.since.1.min(all)) * 1_000_000 / us;
            self.copied.since = (now, all);
        }
    }

    /// What clients wait for an answer, of late.
    pub fn latency(&mut self, now: Moment, latency_us: u64) {
        self.pressure.latency(now, latency_us > self.limits.latency_us);
    }

    /// Who is to be taught now: those under way, with their pace by now, and new ones. To be asked a few times in a second.
    pub fn next(&mut self, now: Moment) -> Vec<ToTeach> {
        // What has nothing in it comes last of its kind, and is in nobody's way.
        let mut due: Vec<(Urgency, bool, Moment, Partition, Process)> = Vec::new();
        let may_begin = |work: &&Work| work.under_way.is_none() && !self.is_paused;
        for (partition, work) in self.works.iter().filter(|(_, work)| may_begin(work)) {
            let is_due = |(learner, since): &&(Process, Moment)| {
                let tries = self.tries.get(&(*partition, learner.node));
                let waits = work.urgency == Urgency::Move && now.since(*since) < self.limits.move_after_us;
                !waits && tries.is_none_or(|tries| tries.is_due(now))
            };
            let next = work.learners.iter().find(is_due);
            due.extend(
                next.map(|(learner, since)| (work.urgency, work.bytes == 0, *since, *partition, *learner)),
            );
        }
        due.sort_unstable();
        let mut taught = Taught::default();
        for work in self.works.values() {
            let learner = work.under_way.map(|(learner, _)| learner.node);
            learner.iter().for_each(|learner| taught.add(work.urgency, work.bytes == 0, *learner));
        }
        for (urgency, is_empty, _, partition, learner) in due {
            if taught.has_room(&self.limits, urgency, is_empty, learner.node) {
                taught.add(urgency, is_empty, learner.node);
                self.begin(partition, learner);
            }
        }
        self.under_way()
    }

    fn begin(&mut self, partition: Partition, learner: Process) {
        let copied = self.copied.of.get(&partition).copied().unwrap_or(0);
        if let Some(work) = self.works.get_mut(&partition) {
            work.under_way = Some((learner, copied));
        }
    }

    /// Each has its part of the pace. Under pressure all go slower, and in the end what merely moves copies stops.
    fn under_way(&self) -> Vec<ToTeach> {
        let under_way =
            self.works.iter().filter_map(|(partition, work)| Some((partition, work, work.under_way?.0)));
        let share = self.pressure.share();
        let all = u128::from(self.limits.bytes_per_second) * u128::from(share) / u128::from(FULL);
        let all = u64::try_from(all).unwrap_or(u64::MAX);
        let copying = under_way.clone().filter(|(_, work, _)| work.bytes > 0).count();
        let each = all / (copying as u64).max(1);
        let to_teach = |(partition, work, learner): (&Partition, &Work, Process)| {
            let stops = self.is_paused || work.urgency == Urgency::Move && share == 1;
            ToTeach { partition: *partition, learner, bytes_per_second: if stops { 0 } else { each.max(1) } }
        };
        under_way.map(to_teach).collect()
    }

    /// The partitions in which somebody is taught.
    pub fn taught(&self) -> impl Iterator<Item = Partition> {
        self.works.iter().filter(|(_, work)| work.under_way.is_some()).map(|(partition, _)| *partition)
    }

    /// Whether there is nobody to teach. That says nothing of health, either.
    pub fn is_done(&self, partition: Partition) -> bool {
        self.works.get(&partition).is_none_or(|work| work.learners.is_empty())
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let left = |(partition, work): (&Partition, &Work)| {
            let copied = self.copied.of.get(partition).copied().unwrap_or(0);
            let done = work.under_way.map_or(0, |(_, before)| copied.saturating_sub(before).min(work.bytes));
            (work.bytes * work.learners.len() as u64).saturating_sub(done)
        };
        let bytes_left: u64 = self.works.iter().map(left).sum();
        let bytes_per_second = self.copied.bytes_per_second;
        let time_left = bytes_left.checked_div(bytes_per_second).map(Duration::from_secs);
        let partitions_left = self.works.values().filter(|work| !work.learners.is_empty()).count();
        let bytes_copied = self.copied.of.values().sum();
        Progress { partitions_left, bytes_left, bytes_copied, bytes_per_second, time_left }
    }
}

#[cfg(test)]
mod tests;
