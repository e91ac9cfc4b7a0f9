//! Stores that replicate: behind the gateways there is a [`Cluster`] of the cores that a node has, with its own faults. What it
//! tells comes in here; what initiators saw is judged by it in the end, block by block.

use huntaway_gateway::fencing::RequestNumber;
use huntaway_wire::Stamp;

use super::checker::Violation;
use super::event::{Answer, Event, Request, Work};
use super::ledger::Record;
use super::world::World;
use crate::clock::Ms;
use crate::cluster::{Report, Said};

/// Longest time until a request is sent again that a store has no use for now.
const LONGEST_PATIENCE_MS: Ms = 100;

/// Latest arrival of a copy of a request that the network made.
const LATEST_COPY_MS: Ms = 600;

/// Longest stall of a store's thread that reads requests.
const LONGEST_STALL_MS: Ms = 700;

impl World {
    /// Lets happen in the cluster what comes before `until`, if anything does.
    pub(super) fn cluster_goes_on(&mut self, until: Ms) -> bool {
        let Some(cluster) = &mut self.cluster else { return false };
        if cluster.next_at().is_none_or(|at| at > until * 1000) {
            return false;
        }
        self.now = cluster.go_on() / 1000;
        self.hear_cluster();
        true
    }

    /// Takes in what the cluster has to tell.
    pub(super) fn hear_cluster(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let reports = cluster.news();
        // Nothing, unless that is wanted.
        self.outcome.trace.extend(cluster.take_trace());
        for report in reports {
            match report {
                Report::Killed { gateway } => self.kill_gateway(gateway),
                Report::Reset => self.demand(Record::Reset),
                Report::Started { gateway } => self.start_gateway(gateway, 0),
                Report::Answered { gateway, incarnation, number, send, said, stamp } => {
                    self.cluster_answers((gateway, incarnation, number, send), said, stamp);
                }
                Report::Versioned { gateway, incarnation, number } => {
                    self.cluster_writes(gateway, incarnation, number);
                }
            }
        }
    }

    /// The socket to a store takes a request.
    pub(super) fn submit(&mut self, request: Request) {
        let Request { gateway, incarnation, owner, sending, .. } = &request;
        let operation = self.checker.operation(owner.attempt);
        let (block, gateway) = (operation.block, *gateway);
        let writes = (!operation.is_read).then_some(owner.attempt as u64 + 1);
        let is_slow = self.random.permille(self.habits.slow_queue / 3);
        let stall = if is_slow { self.random.below(LONGEST_STALL_MS) } else { 0 };
        let late = self.random.permille(self.habits.restless).then(|| self.random.below(LATEST_COPY_MS));
        if late.is_some() && self.random.permille(500) {
            let after = self.random.below(50);
            self.work_after(after, gateway, Work::Die);
        }
        let Some(cluster) = &mut self.cluster else { return };
        if let Some(late) = late {
            cluster.at_time(self.now).submit_late(gateway, sending, block, writes, late);
        }
        if stall > 0 {
            cluster.at_time(self.now).stall_reader(gateway, sending.store, stall);
        }
        cluster.at_time(self.now).submit(gateway, sending, block, writes);
        self.owners.insert((gateway, *incarnation, sending.number), *owner);
        self.sent.insert((gateway, *incarnation, sending.number.0, sending.send), request);
        self.hear_cluster();
    }

    fn cluster_answers(&mut self, of: (usize, u64, u64, u32), said: Said, stamp: Stamp) {
        let Some(request) = self.sent.get(&of).cloned() else { return };
        let answer = match said {
            Said::Found(value) => Answer::Found(value),
            Said::Done => Answer::Done,
            Said::OldStamp => Answer::Stale,
            Said::Fenced => Answer::Fenced,
            Said::OldLayout => Answer::OldLayout,
            Said::NotNow => Answer::NotPrimary,
            Said::Late => return,
        };
        let (gateway, incarnation) = (of.0, of.1);
        self.after(0, Event::Gateway { gateway, incarnation, work: Work::Reply(request, answer, stamp) });
    }

    /// A primary gives a write its version: from here on it may be seen.
    fn cluster_writes(&mut self, gateway: usize, incarnation: u64, number: u64) {
        let Some(owner) = self.owners.get(&(gateway, incarnation, RequestNumber(number))).copied() else {
            return;
        };
        let violations = self.checker.version(owner.attempt, self.now);
        self.note(|| format!("EFFECT of attempt {}, request {number} of gateway {gateway}", owner.attempt));
        for violation in violations {
            self.note(|| format!("VIOLATION by attempt {}: {violation}", owner.attempt));
        }
        if self.random.permille(self.habits.restless) {
            let block = self.checker.operation(owner.attempt).block;
            self.note(|| "FAULT its primary is removed".to_owned());
            let now = self.now;
            self.cluster.iter_mut().for_each(|cluster| cluster.at_time(now).dethrone_soon(block, gateway));
        }
    }

    /// Something goes wrong in the cluster at the worst moment.
    pub(super) fn plot(&mut self) {
        let now = self.now;
        self.cluster.iter_mut().for_each(|cluster| cluster.at_time(now).plot());
        self.hear_cluster();
    }

    /// A request for which its store has no use now is sent again after a while.
    pub(super) fn wait_for_store(&mut self, gateway: usize, number: RequestNumber) {
        let Some(owner) = self.gateways[gateway].under_way.owner(number) else { return };
        let wait = 1 + self.random.below(LONGEST_PATIENCE_MS);
        self.work_after(wait, gateway, Work::TakeStamp(number, owner, None));
    }

    /// Judges what initiators saw of the cluster.
    pub(super) fn judge_cluster(&mut self) {
        let Some(mut cluster) = self.cluster.take() else { return };
        for (block, attempt) in self.checker.observations() {
            cluster.observed(block, attempt);
        }
        if let Some(what) = cluster.verdict() {
            self.note(|| format!("VIOLATION: {what}"));
            self.checker.violations.push(Violation::Unexplained);
        }
    }
}
