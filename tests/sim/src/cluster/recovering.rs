//! Which learners a node's primaries teach, as [`huntaway_replica::Recovery`] decides; and whether what the ledger calls whole is so.

use huntaway_ledger::{InSyncSet, Memory};
use huntaway_replica::{Input, Process, RecoveryLimits, Replica};
use huntaway_wire::{BLOCK_SIZE_BYTES, Partition};

use super::{Broken, Bug, Cluster, Endpoint, FAULTS_END, MS, SECOND, endpoint_of, id_of, partition};
use crate::Random;

/// What recovery may take in a run.
pub(crate) fn draw_limits(random: &mut Random) -> RecoveryLimits {
    RecoveryLimits {
        learners: random.between(1, 4) as usize,
        learners_of_a_node: random.between(1, 4) as usize,
        learners_of_nothing: random.between(1, 8) as usize,
        bytes_per_second: random.pick(&[1 << 24, 1 << 24, 20_000]),
        latency_us: 20 * MS,
        move_after_us: random.pick(&[0, SECOND, 3 * SECOND]),
        first_pause_us: random.pick(&[MS, 100 * MS, 500 * MS]),
        longest_pause_us: 4 * SECOND,
    }
}

impl Cluster {
    /// The node heard from the ledger.
    pub(crate) fn recovery_configured(&mut self, node: usize, partition: Partition) {
        let state = &mut self.nodes[node];
        let Some(configuration) =
            state.replica(partition.value()).map(|replica| replica.configuration().clone())
        else {
            return;
        };
        let blocks = state.storage[partition.index()].objects().all().count() as u64;
        let me = Process { node: id_of(node), incarnation: state.incarnation };
        let (now, bytes) = (state.clock.moment(self.time), blocks * u64::from(BLOCK_SIZE_BYTES));
        state.recovery.configured(now, partition, me, &configuration, bytes);
    }

    /// A learner was given up.
    pub(crate) fn recovery_failed(&mut self, node: usize, partition: Partition, learner: Process) {
        let state = &mut self.nodes[node];
        state.recovery.gave_up(state.clock.moment(self.time), partition, learner);
        if self.bug == Some(Bug::FailedRecoveryCountsAsDone) {
            self.ledger.plant(|sets| sets.plant_recovered(partition));
            self.ledger.counted_as_done.insert(partition);
            self.publish();
        }
    }

    /// The node's primaries are told whom to teach.
    pub(crate) fn teach(&mut self, node: usize) {
        let is_slow = self.time < FAULTS_END && self.random.percent(self.habits.slow_clients_percent);
        let state = &mut self.nodes[node];
        let now = state.clock.moment(self.time);
        state.recovery.latency(now, if is_slow { 100 * MS } else { 0 });
        for number in 0..self.shape.partitions {
            let Some(copied) = state.replica(number).map(Replica::copied_bytes) else { return };
            state.recovery.copied(now, partition(number), copied);
        }
        for to_teach in state.recovery.next(now) {
            let (learner, bytes_per_second) = (to_teach.learner, to_teach.bytes_per_second);
            self.step(node, to_teach.partition, Input::Teach { learner, bytes_per_second });
        }
    }

    /// Whether the partition is told to be whole: as the agreed sets have it.
    fn is_told_whole(&self, number: u16) -> bool {
        if self.bug == Some(Bug::HealthFromProgress) {
            let primary = endpoint_of(self.ledger.rows[usize::from(number)].configuration.primary);
            return self.nodes[primary].is_alive() && self.nodes[primary].recovery.is_done(partition(number));
        }
        self.ledger.counted_as_done.contains(&partition(number))
            || self.ledger.sets().set(partition(number)).is_some_and(InSyncSet::is_whole)
    }

    /// What is told to be whole has its copies: as many stores as it takes have the same, but for what the ledger cannot know yet.
    pub(crate) fn mind_health(&mut self) {
        for number in 0..self.shape.partitions {
            if !self.is_told_whole(number) {
                continue;
            }
            let primary = endpoint_of(self.ledger.rows[usize::from(number)].configuration.primary);
            let pepoch = self.ledger.rows[usize::from(number)].configuration.pepoch;
            let is_settled = |replica: &&Replica| {
                replica.configuration().pepoch == pepoch && replica.is_open() && replica.is_settled()
            };
            if self.nodes[primary].replica(number).filter(is_settled).is_none() {
                continue;
            }
            let has_copy = |node: &Endpoint| self.has_copy(*node, number, primary);
            if (0..self.shape.nodes).filter(has_copy).count() < self.shape.copies {
                self.broken = Some(Broken::FalseHealth { partition: number });
            }
        }
    }

    /// Whether a store has what the primary's has, or it happened only now that it does not.
    fn has_copy(&self, node: Endpoint, number: u16, primary: Endpoint) -> bool {
        let configuration = &self.ledger.rows[usize::from(number)].configuration;
        let is_in_sync = configuration.in_sync.iter().any(|process| process.node == id_of(node));
        let state = &self.nodes[node];
        let known = self.ledger.sets().node(id_of(node)).map(|known| known.incarnation);
        let is_news = known != Some(state.incarnation)
            || !state.is_alive()
            || state.disk_failed
            || state.memory != Memory::Kept;
        let objects = |node: Endpoint| self.nodes[node].storage[usize::from(number)].objects();
        is_in_sync && is_news || objects(node).has_versions_of(&objects(primary))
    }
}
