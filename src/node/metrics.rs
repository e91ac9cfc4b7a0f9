//! Whether the configuration file is in force.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, IntCounterVec, IntGauge, Opts, Registry};

/// Counters of reloads.
pub(super) struct ReloadMetrics {
    last_successful: IntGauge,
    last_success: Gauge,
    reloads: IntCounterVec,
}

impl ReloadMetrics {
    /// Shows them in `registry`; the start counts as a reload that was successful.
    ///
    /// # Errors
    /// When they are there already.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            last_successful: IntGauge::new(
                "huntaway_config_last_reload_successful",
                "1 if the configuration file is in force as it was last read, 0 if it was refused",
            )?,
            last_success: Gauge::new(
                "huntaway_config_last_reload_success_timestamp_seconds",
                "When a configuration was last found to be right and put in force, since 1970",
            )?,
            reloads: IntCounterVec::new(
                Opts::new("huntaway_config_reloads_total", "Reloads of the configuration file"),
                &["result"],
            )?,
        };
        registry.register(Box::new(metrics.last_successful.clone()))?;
        registry.register(Box::new(metrics.last_success.clone()))?;
        registry.register(Box::new(metrics.reloads.clone()))?;
        for result in ["success", "failure"] {
            metrics.reloads.with_label_values(&[result]);
        }
        metrics.in_force();
        Ok(metrics)
    }

    /// A reload went well.
    pub(super) fn succeeded(&self) {
        self.reloads.with_label_values(&["success"]).inc();
        self.in_force();
    }

    /// A reload did not.
    pub(super) fn failed(&self) {
        self.reloads.with_label_values(&["failure"]).inc();
        self.last_successful.set(0);
    }

    fn in_force(&self) {
        self.last_successful.set(1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_success.set(now.as_secs_f64());
    }
}
