//! The metrics of one LUN, `TARGET/NUMBER`: in the registry as long as anything can still be counted under that name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use huntaway_scsi::SenseKey;
use prometheus::core::{AtomicU64, GenericCounter};
use prometheus::{Histogram, HistogramVec, IntCounterVec};

use crate::metrics::OperationKind;

/// The label values of [`GenericCounter`]s of bytes.
const DIRECTIONS: [&str; 2] = ["read", "write"];

/// The families that have the label `lun`, and which LUNs are in them.
#[derive(Clone)]
pub(crate) struct UnitLabels(Arc<Families>);

struct Families {
    durations: HistogramVec,
    bytes: IntCounterVec,
    failures: IntCounterVec,
    in_use: Mutex<HashMap<String, Weak<UnitMetrics>>>,
}

/// The metrics of one LUN, looked up once so that a command costs a few atomic additions. Once the last unit of that
/// name is gone, so are they.
pub(crate) struct UnitMetrics {
    durations: [Histogram; OperationKind::ALL.len()],
    read_bytes: GenericCounter<AtomicU64>,
    written_bytes: GenericCounter<AtomicU64>,
    families: Arc<Families>,
    lun: String,
}

impl UnitLabels {
    pub(crate) fn new(durations: HistogramVec, bytes: IntCounterVec, failures: IntCounterVec) -> Self {
        Self(Arc::new(Families { durations, bytes, failures, in_use: Mutex::default() }))
    }

    /// The metrics of `TARGET/NUMBER`: those in use, or new ones that begin at 0.
    pub(crate) fn unit(&self, lun: String) -> Arc<UnitMetrics> {
        let families = &self.0;
        let mut in_use = families.in_use();
        if let Some(metrics) = in_use.get(&lun).and_then(Weak::upgrade) {
            return metrics;
        }
        let metrics = Arc::new(UnitMetrics {
            durations: OperationKind::ALL
                .map(|kind| families.durations.with_label_values(&[&*lun, kind.label()])),
            read_bytes: families.bytes.with_label_values(&[&*lun, DIRECTIONS[0]]),
            written_bytes: families.bytes.with_label_values(&[&*lun, DIRECTIONS[1]]),
            families: Arc::clone(families),
            lun: lun.clone(),
        });
        in_use.insert(lun, Arc::downgrade(&metrics));
        metrics
    }
}

impl Families {
    fn in_use(&self) -> MutexGuard<'_, HashMap<String, Weak<UnitMetrics>>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a LUN out of every family. What was never counted is not there; that is no matter.
    fn forget(&self, lun: &str) {
        for kind in OperationKind::ALL {
            let _ = self.durations.remove_label_values(&[lun, kind.label()]);
        }
        for direction in DIRECTIONS {
            let _ = self.bytes.remove_label_values(&[lun, direction]);
        }
        for key in SenseKey::ALL {
            let _ = self.failures.remove_label_values(&[lun, key.label()]);
        }
    }
}

impl Drop for UnitMetrics {
    fn drop(&mut self) {
        let mut in_use = self.families.in_use();
        // The name may have been given anew since the last unit went.
        if in_use.get(&self.lun).is_some_and(|metrics| metrics.strong_count() == 0) {
            in_use.remove(&self.lun);
            self.families.forget(&self.lun);
        }
    }
}

impl UnitMetrics {
    /// Counts a command that has been answered.
    pub(crate) fn observe(&self, kind: OperationKind, duration: Duration) {
        self.durations[kind as usize].observe(duration.as_secs_f64());
    }

    /// Counts bytes sent to an initiator.
    pub(crate) fn count_read(&self, bytes: u64) {
        self.read_bytes.inc_by(bytes);
    }

    /// Counts bytes taken from an initiator.
    pub(crate) fn count_written(&self, bytes: u64) {
        self.written_bytes.inc_by(bytes);
    }

    /// Counts a CHECK CONDITION.
    pub(crate) fn count_failure(&self, key: SenseKey) {
        self.families.failures.with_label_values(&[&*self.lun, key.label()]).inc();
    }
}
