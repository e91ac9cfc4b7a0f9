//! What a gateway counts. All names begin with `huntaway_gateway_`; `operation` is a command family of
//! [`OperationKind`], `lun` is `TARGET/NUMBER`.

use iscsi_target::LoginStatus;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::unit_metrics::UnitLabels;

/// Upper bounds of the latency buckets in seconds: 25 us to 2.5 s.
const LATENCY_BUCKETS_SECONDS: [f64; 16] = [
    25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3,
    1.0, 2.5,
];

/// Families of commands told apart in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperationKind {
    Read,
    Write,
    Flush,
    Unmap,
    WriteSame,
    CompareAndWrite,
    Verify,
    Other,
}

impl OperationKind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::Unmap,
        Self::WriteSame,
        Self::CompareAndWrite,
        Self::Verify,
        Self::Other,
    ];

    /// Whether commands of this family change blocks.
    pub(crate) fn changes_data(self) -> bool {
        self.may_allocate() || self == Self::Unmap
    }

    /// Whether commands of this family may take space.
    pub(crate) fn may_allocate(self) -> bool {
        matches!(self, Self::Write | Self::WriteSame | Self::CompareAndWrite)
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Unmap => "unmap",
            Self::WriteSame => "write_same",
            Self::CompareAndWrite => "compare_and_write",
            Self::Verify => "verify",
            Self::Other => "other",
        }
    }
}

/// The metrics of one gateway.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) connections: IntGauge,
    pub(crate) sessions: IntGauge,
    pub(crate) refused_connections: IntCounter,
    pub(crate) displaced_connections: IntCounter,
    pub(crate) slowed_logins: IntCounter,
    pub(crate) refused_requests: IntCounter,
    pub(crate) protocol_errors: IntCounter,
    logins: IntCounterVec,
    pub(crate) units: UnitLabels,
}

impl Metrics {
    /// Makes the metrics and enters them in `registry`.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(format!("huntaway_gateway_{name}"), help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let count =
            |name: &str, help: &str| counter(name, help, &[]).map(|all| all.with_label_values::<&str>(&[]));
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(format!("huntaway_gateway_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let options = HistogramOpts::new(
            "huntaway_gateway_command_duration_seconds",
            "Time from the arrival of a SCSI command to its response",
        )
        .buckets(LATENCY_BUCKETS_SECONDS.to_vec());
        let durations = HistogramVec::new(options, &["lun", "operation"])?;
        registry.register(Box::new(durations.clone()))?;
        Ok(Self {
            connections: gauge("connections", "TCP connections from initiators, logged in or not")?,
            sessions: gauge("sessions", "Sessions in full feature phase")?,
            refused_connections: count(
                "refused_connections_total",
                "Connections closed at once for want of room",
            )?,
            displaced_connections: count(
                "displaced_connections_total",
                "Connections without a session closed to make room for newer ones",
            )?,
            slowed_logins: count(
                "slowed_logins_total",
                "Logins that waited, or were turned away, for wrong proofs from their address",
            )?,
            refused_requests: count(
                "refused_requests_total",
                "Requests and data rejected, ignored or discarded by the iSCSI layer",
            )?,
            protocol_errors: count("protocol_errors_total", "Connections closed for a protocol error")?,
            logins: counter("logins_total", "Login attempts by result", &["result"])?,
            units: UnitLabels::new(
                durations,
                counter("transferred_bytes_total", "Bytes of SCSI data", &["lun", "direction"])?,
                counter(
                    "failed_commands_total",
                    "Commands that ended in CHECK CONDITION",
                    &["lun", "sense_key"],
                )?,
            ),
        })
    }

    /// Counts a login attempt.
    pub(crate) fn count_login(&self, status: LoginStatus) {
        let result = match status {
            LoginStatus::Success => "success",
            LoginStatus::AuthenticationFailure => "authentication_failed",
            LoginStatus::AuthorizationFailure => "forbidden",
            LoginStatus::NotFound => "not_found",
            LoginStatus::OutOfResources | LoginStatus::ServiceUnavailable => "no_room",
            _ => "invalid",
        };
        self.logins.with_label_values(&[result]).inc();
    }
}
