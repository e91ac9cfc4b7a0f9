//! How the cluster is, for Prometheus: `huntaway_cluster_*`, as this node knows it when it is asked.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use crate::cluster::ClusterStatus;

/// `None` once the node is no more.
type Ask = Box<dyn Fn() -> Option<ClusterStatus> + Send + Sync>;

/// Shows the cluster as it is when it is collected.
pub(crate) struct ClusterMetrics {
    ask: Ask,
    epoch: IntGauge,
    nodes: IntGaugeVec,
    partitions: IntGaugeVec,
    partitions_left: IntGauge,
    bytes_left: IntGauge,
    bytes_copied: IntCounter,
    is_paused: IntGauge,
    has_ledger_lease: IntGauge,
}

impl ClusterMetrics {
    /// Has `registry` ask for it.
    ///
    /// # Errors
    /// It is there already.
    pub(crate) fn register(
        registry: &Registry,
        ask: impl Fn() -> Option<ClusterStatus> + Send + Sync + 'static,
    ) -> Result<(), prometheus::Error> {
        let by_state = |name, help| IntGaugeVec::new(Opts::new(name, help), &["state"]);
        registry.register(Box::new(Self {
            ask: Box::new(ask),
            epoch: IntGauge::new("huntaway_cluster_epoch", "The epoch in force, as this node knows it")?,
            nodes: by_state("huntaway_cluster_nodes", "Nodes that are up, and that are down")?,
            partitions: by_state(
                "huntaway_cluster_partitions",
                "Partitions by the state of their in-sync sets, each in one",
            )?,
            partitions_left: IntGauge::new(
                "huntaway_cluster_recovery_partitions_left",
                "Partitions that this node leads and in which others learn",
            )?,
            bytes_left: IntGauge::new(
                "huntaway_cluster_recovery_bytes_left",
                "Bytes that this node has to compare at most, and to copy where they differ",
            )?,
            bytes_copied: IntCounter::new(
                "huntaway_cluster_recovery_copied_bytes_total",
                "Bytes that this node's process copied to nodes that lacked something",
            )?,
            is_paused: IntGauge::new(
                "huntaway_cluster_recovery_paused",
                "1 while nothing is copied to nodes that lack something, for recovery is paused",
            )?,
            has_ledger_lease: IntGauge::new(
                "huntaway_cluster_has_ledger_lease",
                "1 if this node has a lease of the ledger; without one it serves nothing",
            )?,
        }))
    }

    fn all(&self) -> [&dyn Collector; 8] {
        [
            &self.epoch,
            &self.nodes,
            &self.partitions,
            &self.partitions_left,
            &self.bytes_left,
            &self.bytes_copied,
            &self.is_paused,
            &self.has_ledger_lease,
        ]
    }

    fn show(&self, status: &ClusterStatus) {
        let up = status.nodes.iter().filter(|node| node.is_up).count();
        for (state, number) in [("up", up), ("down", status.nodes.len() - up)] {
            self.nodes.with_label_values(&[state]).set(number as i64);
        }
        let counts = &status.partitions;
        for (state, number) in [
            ("whole", counts.whole),
            ("moving", counts.moving),
            ("degraded", counts.degraded),
            ("below_min_copies", counts.below_min_copies),
            ("down", counts.down),
        ] {
            self.partitions.with_label_values(&[state]).set(number as i64);
        }
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.epoch.set(gauge(status.epoch));
        let left = status.recovery.map_or((0, 0), |left| (left.partitions_left as u64, left.bytes_left));
        self.partitions_left.set(gauge(left.0));
        self.bytes_left.set(gauge(left.1));
        let copied = status.recovery.map_or(0, |recovery| recovery.bytes_copied);
        self.bytes_copied.inc_by(copied.saturating_sub(self.bytes_copied.get()));
        self.is_paused.set(status.recovery_policy.is_paused.into());
        self.has_ledger_lease.set(status.has_ledger_lease.into());
    }
}

impl Collector for ClusterMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(status) = (self.ask)() else { return Vec::new() };
        self.show(&status);
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;
    use crate::cluster::fixture;

    #[test]
    fn every_state_is_there_also_when_nothing_is_in_it() {
        let registry = Registry::new();
        let sight = fixture::sight(fixture::state(2, 2, 1));
        ClusterMetrics::register(&registry, move || Some(sight.status(Vec::new()))).unwrap();
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "huntaway_cluster_epoch 1",
            "huntaway_cluster_nodes{state=\"up\"} 2",
            "huntaway_cluster_nodes{state=\"down\"} 0",
            "huntaway_cluster_partitions{state=\"whole\"} 4096",
            "huntaway_cluster_partitions{state=\"below_min_copies\"} 0",
            "huntaway_cluster_recovery_bytes_left 0",
            "huntaway_cluster_recovery_copied_bytes_total 0",
            "huntaway_cluster_recovery_paused 0",
            "huntaway_cluster_has_ledger_lease 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
