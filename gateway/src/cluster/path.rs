//! A connection's path to its initiator: what it proves, told to whoever sends the connection's commands.

use std::sync::Arc;

use huntaway_wire::Vid;
use iscsi_target::{AcknowledgedBeyondSent, Connection};

use super::proof::Proof;
use huntaway_wire::clock;

use super::{Asker, Cluster};
use crate::fencing::{GivenUp, PathProof};
use crate::tasks::Task;

/// Of one connection of a cluster's gateway. The connection calls it at each of the places that
/// [`PathProof`] names.
pub(crate) struct Path {
    cluster: Arc<Cluster>,
    path: PathProof,
    proof: Arc<Proof>,
    acknowledged: u32,
    last_ping: Option<u32>,
    answered_ping: Option<u32>,
}

impl Path {
    /// A connection that was just accepted.
    pub(crate) fn new(cluster: Arc<Cluster>, connection: &Connection) -> Self {
        let first = connection.next_stat_sn();
        Self {
            cluster,
            path: PathProof::new(first),
            proof: Arc::new(Proof::new()),
            acknowledged: first,
            last_ping: None,
            answered_ping: None,
        }
    }

    /// What others see of it.
    pub(crate) fn proof(&self) -> Arc<Proof> {
        Arc::clone(&self.proof)
    }

    /// A command to the disk is being received.
    pub(crate) fn asker(&self, disk: Vid) -> Arc<Asker> {
        self.cluster.asker(&self.proof, disk)
    }

    /// The output is about to be written to the socket.
    pub(crate) fn about_to_write(&mut self, connection: &Connection) {
        let now = clock::now();
        if let Some(ping) = connection.last_ping().filter(|ping| self.last_ping != Some(*ping)) {
            self.last_ping = Some(ping);
            self.path.pinged(ping, now);
        }
        self.path.about_to_write(connection.next_stat_sn(), connection.next_stat_sn_was_shown(), now);
    }

    /// The connection has handled PDUs.
    ///
    /// # Errors
    /// One acknowledges what was not sent: close the connection.
    pub(crate) fn heard(&mut self, connection: &Connection) -> Result<(), AcknowledgedBeyondSent> {
        let (acknowledged, answered) = (connection.acknowledged_stat_sn(), connection.answered_ping());
        let mut is_newer = false;
        if acknowledged != self.acknowledged {
            self.acknowledged = acknowledged;
            is_newer = self.path.acknowledged(acknowledged)?;
        }
        if answered != self.answered_ping {
            self.answered_ping = answered;
            is_newer |= answered.is_some_and(|ping| self.path.ping_answered(ping));
        }
        if is_newer {
            self.proof.prove(self.path.proven());
            self.cluster.proof_is_newer(&self.proof);
        }
        Ok(())
    }

    /// No store is asked for this command any more. What it waits for comes when it can take no effect any more.
    pub(crate) fn give_up(&self, live: &Task, why: GivenUp) {
        if let Some(asker) = &live.asker {
            self.cluster.give_up(asker, why);
        }
    }

    /// A command waits for a newer proof: whether a ping helps.
    pub(crate) fn wants_ping(&self) -> bool {
        self.path.wants_ping(clock::now())
    }
}
