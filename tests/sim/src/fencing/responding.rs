//! How a gateway responds: what is ready is numbered together, the time is taken, and then it is written to the socket.

use super::bug::Bug;
use super::connection::Early;
use super::event::{Numbered, ToInitiator, Work};
use super::habits::Step;
use super::world::World;

impl World {
    /// Queues a response, unless the connection is closed.
    pub(super) fn respond(&mut self, connection: usize, pdu: ToInitiator) {
        let target = self.target(connection);
        if !target.is_open {
            return;
        }
        target.outbox.push_back(pdu);
        if !target.is_writing {
            target.is_writing = true;
            self.work_after_stall(connection, Step::Number, Work::Number(connection));
        }
    }

    /// Queues a ping, unless one is queued.
    pub(super) fn ping(&mut self, connection: usize) {
        let target = self.target(connection);
        if target.outbox.iter().any(|pdu| matches!(pdu, ToInitiator::NopIn { .. })) {
            return;
        }
        target.next_transfer_tag += 1;
        let target_transfer_tag = target.next_transfer_tag;
        self.respond(connection, ToInitiator::NopIn { target_transfer_tag });
    }

    pub(super) fn number(&mut self, connection: usize) {
        let target = self.target(connection);
        let mut batch = Vec::new();
        for pdu in std::mem::take(&mut target.outbox) {
            batch.push((target.next_stat_sn, pdu.clone()));
            match pdu {
                ToInitiator::ReadyToTransfer { .. } => target.next_is_shown = true,
                pdu if pdu.is_status() => {
                    target.next_stat_sn = target.next_stat_sn.wrapping_add(1);
                    target.next_is_shown = false;
                }
                _ => {}
            }
        }
        if self.bug != Some(Bug::StatusTimeAfterWrite) {
            self.note_times(connection, &batch);
        }
        self.work_after_stall(connection, Step::Write, Work::Write(connection, batch));
    }

    /// Takes the time of what is about to be written.
    fn note_times(&mut self, connection: usize, batch: &[Numbered]) {
        let now = self.clock_of(self.connections[connection].gateway);
        let forgets = self.bug == Some(Bug::ShownNumberProves);
        let target = self.target(connection);
        for (_, pdu) in batch {
            if let ToInitiator::NopIn { target_transfer_tag } = pdu {
                target.proof.pinged(*target_transfer_tag, now);
            }
        }
        target.proof.about_to_write(target.next_stat_sn, target.next_is_shown && !forgets, now);
    }

    pub(super) fn write(&mut self, connection: usize, batch: Vec<Numbered>) {
        if !self.target(connection).is_open {
            return;
        }
        let ends = batch.iter().any(|(_, pdu)| matches!(pdu, ToInitiator::LogoutResponse));
        for numbered in &batch {
            self.send_to_initiator(connection, numbered.clone());
        }
        if ends {
            return self.drop_connection(connection);
        }
        self.work_after_stall(connection, Step::Written, Work::Written(connection, batch));
    }

    pub(super) fn written(&mut self, connection: usize, batch: &[Numbered]) {
        if self.bug == Some(Bug::StatusTimeAfterWrite) {
            self.note_times(connection, batch);
            let target = self.target(connection);
            let mut is_newer = false;
            for early in std::mem::take(&mut target.early) {
                is_newer |= match early {
                    Early::Status(exp_stat_sn) => target.proof.acknowledged(exp_stat_sn).unwrap_or_default(),
                    Early::Ping(target_transfer_tag) => target.proof.ping_answered(target_transfer_tag),
                };
            }
            self.on_proof(connection, is_newer);
        }
        let target = self.target(connection);
        if target.outbox.is_empty() {
            target.is_writing = false;
        } else {
            self.work_after_stall(connection, Step::Number, Work::Number(connection));
        }
    }
}
