//! How a gateway gives up commands of others: resets, preemptions, and LUNs that are taken away. Each is a record that raises
//! the fence of the disk. What is under way here is judged when the record is known, and has ended when it is in force.

use huntaway_gateway::fencing::Verdict;

use super::bug::Bug;
use super::checker::Ban;
use super::event::{Event, Owner, Status, ToInitiator, Work};
use super::ledger::{Record, Waiter};
use super::world::World;

impl World {
    /// An initiator wants a record, and an answer when it is in force.
    pub(super) fn on_wish(&mut self, connection: usize, record: Record, answer: ToInitiator) {
        let gateway = self.connections[connection].gateway;
        let ban = record.raises_fence().then(|| self.checker.ban(Ban::new(record, self.now)));
        let incarnation = self.gateways[gateway].incarnation;
        let waiter = Waiter { gateway, incarnation, connection: Some(connection), answer, ban };
        let delay = 1 + self.random.below(20);
        self.after(delay, Event::Record(record, Some(waiter)));
    }

    /// A gateway knows of so many records by now.
    pub(super) fn learn(&mut self, gateway: usize, records: usize) {
        let known = &mut self.gateways[gateway].records;
        if *known >= records {
            return;
        }
        *known = records;
        self.judge_waiting(gateway);
        let unit = self.ledger.after(records);
        let verdict = |owner: &Owner, fence: u64| unit.verdict(owner.initiator, fence);
        let due = self.gateways[gateway].under_way.judge(unit.fence, verdict);
        due.into_iter().for_each(|number| self.start_send(gateway, number));
        if self.bug == Some(Bug::SettledByTheRecord) {
            self.take_as_in_force(gateway, records);
        }
        self.settle(gateway);
    }

    /// Judges the commands that no store has yet.
    fn judge_waiting(&mut self, gateway: usize) {
        let unit = self.ledger.after(self.gateways[gateway].records);
        let fence = unit.fence;
        let mut given_up = Vec::new();
        for (number, connection) in (0..).zip(&mut self.connections) {
            if connection.gateway != gateway || !connection.target.is_open {
                continue;
            }
            let initiator = connection.initiator;
            let stands = |fence: u64| unit.verdict(initiator, fence) == Verdict::Stands;
            for (attempt, received_under) in &mut connection.target.waiting {
                if stands(*received_under) {
                    *received_under = fence;
                } else {
                    given_up.push((number, *attempt));
                }
            }
        }
        for (connection, attempt) in given_up {
            let target = self.target(connection);
            target.waiting.remove(&attempt);
            target.order.leave(attempt);
            self.respond(connection, ToInitiator::Status { attempt, status: Status::Failed });
            self.give_turns(connection);
        }
    }

    /// No store takes anything of a lower fence any more: what was given up has ended, and whoever waits for that is answered.
    pub(super) fn in_force(&mut self, gateway: usize, records: usize, waiter: Option<Waiter>) {
        self.learn(gateway, records);
        self.take_as_in_force(gateway, records);
        let Some(Waiter { connection, answer, ban, .. }) = waiter else { return };
        if let Some(ban) = ban {
            self.checker.answer_ban(ban, self.now);
        }
        if let Some(connection) = connection {
            self.respond(connection, answer);
        }
    }

    fn take_as_in_force(&mut self, gateway: usize, records: usize) {
        let fence = self.ledger.after(records).fence;
        for ended in self.gateways[gateway].under_way.in_force(fence, |_| true) {
            self.on_ended(gateway, ended);
        }
        self.work_after(0, gateway, Work::Settle);
    }

    /// A store knows of a newer fence: the gateway asks for it.
    pub(super) fn look_up_records(&mut self, gateway: usize) {
        let records = self.ledger.records();
        let delay = 1 + self.random.below(10);
        self.work_after(delay, gateway, Work::Learn(records));
    }

    /// Somebody takes the LUN away from an initiator, and gives it back in a while.
    pub(super) fn unmap(&mut self, of: usize) {
        if !self.ledger.newest().is_mapped(of) {
            return;
        }
        self.note(|| format!("FAULT initiator {of} loses its LUN"));
        self.demand(Record::Unmap { of });
        let back = 2 + self.random.below(4_000);
        self.after(back, Event::Record(Record::Map { of }, None));
    }

    /// Somebody who is no initiator wants a record.
    pub(super) fn demand(&mut self, record: Record) {
        let gateway = self.random.index(self.gateways.len());
        let ban = Some(self.checker.ban(Ban::new(record, self.now)));
        let incarnation = self.gateways[gateway].incarnation;
        let waiter = Waiter { gateway, incarnation, connection: None, answer: ToInitiator::Fin, ban };
        self.after(1, Event::Record(record, Some(waiter)));
    }
}
