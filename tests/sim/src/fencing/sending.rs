//! How a gateway sends its requests to stores and hears from them: newest stamp, then clock and proof, then the socket.

use std::time::Duration;

use huntaway_gateway::fencing::{Decision, RequestNumber, Stamped};
use huntaway_wire::{NodeId, Stamp};

use super::bug::Bug;
use super::connection::Connection;
use super::event::{Answer, Event, Owner, Request, Work};
use super::gateway::Gateway;
use super::habits::Step;
use super::world::World;

impl World {
    pub(super) fn start_send(&mut self, gateway: usize, number: RequestNumber) {
        let Some(owner) = self.gateways[gateway].under_way.owner(number) else { return };
        self.work_after_stall(owner.connection, Step::TakeStamp, Work::TakeStamp(number, owner, None));
    }

    /// `early` is the clock, if that was read too early.
    pub(super) fn take_stamp(&mut self, number: RequestNumber, owner: Owner, early: Option<Duration>) {
        let gateway = self.connections[owner.connection].gateway;
        if self.bug == Some(Bug::ProofBeforeStamp) && early.is_none() {
            let now = Some(self.clock_of(gateway));
            return self.work_after_stall(
                owner.connection,
                Step::CheckProof,
                Work::TakeStamp(number, owner, now),
            );
        }
        let store = self.store_for(gateway, owner);
        let Gateway { under_way, stamps, .. } = &mut self.gateways[gateway];
        let newest = stamps.get(&store).copied().unwrap_or_default();
        let Some(stamped) = under_way.take_stamp(number, store, newest) else { return };
        match early {
            Some(now) => self.decide(stamped, owner, now),
            None => {
                self.work_after_stall(owner.connection, Step::CheckProof, Work::CheckProof(stamped, owner))
            }
        }
    }

    /// The store to which a gateway sends a request: where it takes the primary to be.
    fn store_for(&mut self, gateway: usize, owner: Owner) -> NodeId {
        if let Some(cluster) = &self.cluster {
            return cluster.primary_of(gateway, self.checker.operation(owner.attempt).block);
        }
        let guess = self.random.index(self.stores.all.len());
        let knows = self.random.permille(900);
        let store = self.stores.primary.filter(|_| knows).unwrap_or(guess);
        self.stores.all[store].id
    }

    pub(super) fn check_proof(&mut self, stamped: Stamped, owner: Owner) {
        let now = self.clock_of(self.connections[owner.connection].gateway);
        self.decide(stamped, owner, now);
    }

    fn decide(&mut self, stamped: Stamped, owner: Owner, now: Duration) {
        let Connection { gateway, target, .. } = &self.connections[owner.connection];
        let gateway = *gateway;
        match self.gateways[gateway].under_way.check_proof(stamped, target.proof.proven(), now) {
            Decision::Send(sending) => {
                // The decision is made: a stall delays what comes of it, but nothing takes it back.
                let incarnation = self.gateways[gateway].incarnation;
                let layout = self.ledger.after(self.gateways[gateway].records).layout;
                let request = Request { gateway, incarnation, owner, sending, layout };
                self.work_after_stall(owner.connection, Step::Send, Work::Send(request));
            }
            Decision::WaitForProof => {
                self.outcome.unproven += 1;
                if target.proof.wants_ping(now) {
                    self.ping(owner.connection);
                }
            }
            Decision::Drop => {}
        }
    }

    /// There may be a newer proof: what waited for it is sent.
    pub(super) fn on_proof(&mut self, connection: usize, is_newer: bool) {
        if !is_newer {
            return;
        }
        let gateway = self.connections[connection].gateway;
        let of_it = |owner: &Owner| owner.connection == connection;
        for number in self.gateways[gateway].under_way.proof_is_newer(of_it) {
            self.start_send(gateway, number);
        }
    }

    /// The socket to the store takes a request: from here on it reaches it whatever becomes of the gateway.
    pub(super) fn send(&mut self, mut request: Request) {
        if self.bug == Some(Bug::FenceAtSending) {
            request.sending.fence = self.ledger.after(self.gateways[request.gateway].records).fence;
        }
        let overdue = Work::Overdue(request.sending.number, request.sending.send);
        let patience = 100 + self.random.below(2_000);
        self.work_after(patience, request.gateway, overdue);
        if self.cluster.is_some() {
            return self.submit(request);
        }
        let delay = self.store_delay();
        self.after(delay, Event::Arrive(request));
    }

    pub(super) fn overdue(&mut self, gateway: usize, number: RequestNumber, send: u32) {
        if self.gateways[gateway].under_way.overdue(number, send) {
            self.start_send(gateway, number);
        }
    }

    pub(super) fn on_reply(&mut self, request: &Request, answer: Answer, stamp: Stamp) {
        let Request { gateway, owner, sending, .. } = *request;
        let mut read_at = self.clock_of(gateway);
        if self.bug == Some(Bug::ClockBeforeSocket) {
            read_at -= Duration::from_millis(self.habits.stall(Step::Reply, &mut self.random));
        }
        let Gateway { under_way, stamps, .. } = &mut self.gateways[gateway];
        stamps.entry(sending.store).or_default().note(stamp, read_at);
        if matches!(answer, Answer::Done | Answer::Found(_)) {
            if let Some(ended) = under_way.done(sending.number) {
                if let Answer::Found(value) = answer {
                    self.checker.found(owner.attempt, value);
                }
                self.on_ended(gateway, ended);
            }
            return;
        }
        self.outcome.refusals += 1;
        let (number, send) = (sending.number, sending.send);
        let is_due = match answer {
            Answer::Fenced => under_way.fenced(number, send, sending.fence),
            _ => under_way.refused(number, send),
        };
        if matches!(answer, Answer::Fenced | Answer::OldLayout) {
            self.outcome.out_of_date += 1;
            self.look_up_records(gateway);
        }
        let waits = matches!(answer, Answer::NotPrimary | Answer::OldLayout) && self.cluster.is_some();
        if is_due && waits {
            self.wait_for_store(gateway, number);
        } else if is_due {
            self.start_send(gateway, number);
        }
        let loses_turn = match answer {
            Answer::Fenced => Bug::FencedLosesTurn,
            Answer::OldLayout => Bug::OldLayoutLosesTurn,
            _ => Bug::RefusedLosesTurn,
        };
        if self.bug == Some(loses_turn) {
            self.target(owner.connection).order.leave(owner.attempt);
            self.give_turns(owner.connection);
        }
    }
}
