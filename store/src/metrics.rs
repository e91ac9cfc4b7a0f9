//! What a store counts: `huntaway_store_*`, each with its directory as the label `disk`.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry};

/// Buckets for times on the disk, in seconds: from what a page cache takes to what a failing disk takes.
const DISK_SECONDS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

/// Counters of one store. They count whether they are registered or not.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Blocks that did not match their checksum or could not be read.
    pub corrupt_blocks: IntCounter,
    /// Times an object of the index had no sound file.
    pub damaged_objects: IntCounter,
    /// Partitions whose index could not be used.
    pub damaged_indexes: IntCounter,
    /// Writes refused for want of space.
    pub refused_for_space: IntCounter,
    /// Requests and messages between replicas that were put off, for the log had no room.
    pub put_off: IntCounter,
    /// Blocks applied to object files.
    pub applied_blocks: IntCounter,
    /// Bytes of data applied to object files.
    pub applied_bytes: IntCounter,
    /// How long one application took.
    pub apply_seconds: Histogram,
    /// How long one sync of the log took.
    pub wal_sync_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new(disk: &str) -> Self {
        let counter = |name, help| counter(disk, name, help);
        let histogram = |name, help| histogram(disk, name, help);
        Self {
            corrupt_blocks: counter("corrupt_blocks_total", "Blocks that did not match their checksum."),
            damaged_objects: counter("damaged_objects_total", "Times an indexed object had no sound file."),
            damaged_indexes: counter("damaged_indexes_total", "Partitions whose index could not be used."),
            refused_for_space: counter("refused_for_space_total", "Writes refused for want of space."),
            put_off: counter("log_full_total", "Requests and messages put off, for the log had no room."),
            applied_blocks: counter("applied_blocks_total", "Blocks applied to object files."),
            applied_bytes: counter("applied_bytes_total", "Bytes of data applied to object files."),
            apply_seconds: histogram("apply_seconds", "Time one application to object files took."),
            wal_sync_seconds: histogram("wal_sync_seconds", "Time one sync of the write-ahead log took."),
        }
    }

    /// Shows them in `registry`.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        for counter in [
            &self.corrupt_blocks,
            &self.damaged_objects,
            &self.damaged_indexes,
            &self.refused_for_space,
            &self.put_off,
            &self.applied_blocks,
            &self.applied_bytes,
        ] {
            registry.register(Box::new(counter.clone()))?;
        }
        registry.register(Box::new(self.apply_seconds.clone()))?;
        registry.register(Box::new(self.wal_sync_seconds.clone()))
    }
}

fn counter(disk: &str, name: &str, help: &str) -> IntCounter {
    IntCounter::with_opts(options(disk, name, help)).expect("the name is a valid one")
}

fn histogram(disk: &str, name: &str, help: &str) -> Histogram {
    let options = HistogramOpts::from(options(disk, name, help)).buckets(DISK_SECONDS.to_vec());
    Histogram::with_opts(options).expect("the name and the buckets are valid ones")
}

fn options(disk: &str, name: &str, help: &str) -> Opts {
    Opts::new(format!("huntaway_store_{name}"), help).const_label("disk", disk)
}

/// What a store holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Levels {
    pub(crate) memory_bytes: u64,
    pub(crate) wal_bytes: u64,
    pub(crate) open_objects: u64,
    pub(crate) waiting_requests: u64,
    pub(crate) waiting_reads: u64,
    pub(crate) free_bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) has_failed: bool,
}

/// Asks a store for its levels; `None` when it is gone.
type Ask = Box<dyn Fn() -> Option<Levels> + Send + Sync>;

/// Shows a store's levels as they are when they are collected.
pub(crate) struct LevelCollector {
    ask: Ask,
    gauges: [IntGauge; 8],
}

impl LevelCollector {
    pub(crate) fn new(disk: &str, ask: impl Fn() -> Option<Levels> + Send + Sync + 'static) -> Self {
        let gauge = |name, help| gauge(disk, name, help);
        let gauges = [
            gauge("memory_bytes", "Bytes of recent writes that are not in the object files."),
            gauge("wal_bytes", "Bytes of the write-ahead log that are not applied."),
            gauge("open_objects", "Object files that are open."),
            gauge("waiting_requests", "Requests that wait for room among the recent writes or in the log."),
            gauge("waiting_reads", "Reads that wait for the disk."),
            gauge("free_bytes", "Bytes free on the disk."),
            gauge("size_bytes", "Size of the disk in bytes."),
            failed_gauge(disk),
        ];
        Self { ask: Box::new(ask), gauges }
    }
}

impl Collector for LevelCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(levels) = (self.ask)() else { return Vec::new() };
        let values = [
            levels.memory_bytes,
            levels.wal_bytes,
            levels.open_objects,
            levels.waiting_requests,
            levels.waiting_reads,
            levels.free_bytes,
            levels.total_bytes,
            levels.has_failed.into(),
        ];
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.gauges.iter().flat_map(Collector::collect).collect()
    }
}

fn gauge(disk: &str, name: &str, help: &str) -> IntGauge {
    IntGauge::with_opts(options(disk, name, help)).expect("the name is a valid one")
}

/// Shows in `registry` what carries out the reads that have to wait for the disk.
///
/// # Errors
/// When the registry has the disk already.
pub(crate) fn register_engine(
    disk: &str,
    engine: &str,
    registry: &Registry,
) -> Result<(), prometheus::Error> {
    let help = "1: what carries out reads that wait for the disk.";
    let gauge = IntGauge::with_opts(options(disk, "read_engine", help).const_label("engine", engine));
    let gauge = gauge.expect("the name is a valid one");
    gauge.set(1);
    registry.register(Box::new(gauge))
}

/// The gauge that says whether a disk is not served.
fn failed_gauge(disk: &str) -> IntGauge {
    gauge(
        disk,
        "disk_failed",
        "1 when the disk is not served: it failed and was stopped, or was absent; else 0.",
    )
}

/// Shows in `registry` that a disk was absent at the start.
///
/// # Errors
/// When the registry has the disk already.
pub(crate) fn register_absent(disk: &str, registry: &Registry) -> Result<(), prometheus::Error> {
    let failed = failed_gauge(disk);
    failed.set(1);
    registry.register(Box::new(failed))
}
