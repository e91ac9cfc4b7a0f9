//! All loads on all targets, in turn.

use std::time::Duration;

use super::conditions::{Conditions, Pinned};
use super::initiator::{Address, LogicalUnit, Offer, Session};
use super::load::{Load, Mode};
use super::measurement::{Failure, Measurement};
use super::run::{Run, RunError, Settings};
use super::target::Target;

/// A target that let us in.
struct Side {
    target: Target,
    address: Address,
    unit: LogicalUnit,
    /// What share of a core its processes use when nothing is asked of them.
    at_rest: f64,
}

/// The targets and how they are measured.
pub(crate) struct Comparison {
    sides: Vec<Side>,
    conditions: Conditions,
}

/// A target that did not let us in, or fails.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {reason}")]
pub(crate) struct TargetFailure {
    target: String,
    reason: RunError,
}

/// What is told as it happens.
pub(crate) enum Progress<'a> {
    /// A load begins on a target.
    Begins {
        /// What begins.
        what: &'a str,
        /// The target's name.
        target: &'a str,
    },
    Measured(&'a Measurement),
    Failed(&'a Failure),
}

impl Comparison {
    /// Logs in to each target and asks what is there. Nothing is changed.
    ///
    /// # Errors
    /// The first target that cannot be reached, does not let us in, or has no disk there.
    pub(crate) fn open(targets: &[Target]) -> Result<Self, TargetFailure> {
        let sides = targets.iter().map(|target| {
            Side::open(target).map_err(|reason| TargetFailure { target: target.to_string(), reason })
        });
        Ok(Self { sides: sides.collect::<Result<_, _>>()?, conditions: Conditions::of_this_machine() })
    }

    /// What is at the targets: `LUN 0 of iqn... at 127.0.0.1:3260 (VENDOR PRODUCT, 1GiB)`.
    pub(crate) fn units(&self) -> Vec<String> {
        self.sides.iter().map(|side| format!("{} ({})", side.target, side.unit)).collect()
    }

    /// Notes that the targets and we share a CPU.
    pub(crate) fn note_pinned(&mut self, pinned: &Pinned) {
        self.conditions.pinned_cpu = Some(pinned.cpu());
    }

    /// Writes each LUN, or as much of it as is used, once.
    ///
    /// # Errors
    /// The first target that fails.
    pub(crate) fn fill(
        &self,
        settings: &Settings,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), TargetFailure> {
        let load = Load { io_bytes: 1 << 20, depth: 8, ..Load::new("fill", Mode::Write) };
        for side in &self.sides {
            tell(Progress::Begins { what: "filling", target: &side.target.name });
            let filled = self.run(side, &load, settings).fill();
            filled.map_err(|reason| TargetFailure { target: side.target.to_string(), reason })?;
        }
        Ok(())
    }

    /// Checks each load on each target once: every block read is the one that was written.
    pub(crate) fn verify(
        &self,
        loads: &[Load],
        settings: &Settings,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Vec<Measurement> {
        let settings = Settings { min_bytes: 0, ..settings.clone() };
        self.once(loads, &settings, 0, true, tell)
    }

    /// Measures each load on each target, so many times.
    pub(crate) fn measure(
        &self,
        loads: &[Load],
        rounds: u32,
        settings: &Settings,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Vec<Measurement> {
        (1..=rounds).flat_map(|round| self.once(loads, settings, round, false, tell)).collect()
    }

    fn once(
        &self,
        loads: &[Load],
        settings: &Settings,
        round: u32,
        verify: bool,
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> Vec<Measurement> {
        let mut measured = Vec::new();
        for load in loads {
            for side in &self.sides {
                let target = &side.target.name;
                tell(Progress::Begins { what: &load.name, target });
                match self.run(side, load, settings).measure(round, verify) {
                    Ok(measurement) => {
                        tell(Progress::Measured(&measurement));
                        measured.push(measurement);
                    }
                    Err(error) => {
                        let (target, load) = (target.clone(), load.name.clone());
                        let error = error.to_string();
                        tell(Progress::Failed(&Failure { target, load, round, verify, error }));
                    }
                }
            }
        }
        measured
    }

    fn run<'a>(&'a self, side: &'a Side, load: &'a Load, settings: &'a Settings) -> Run<'a> {
        let Side { target, address, at_rest, .. } = side;
        Run { target, address, at_rest: *at_rest, load, settings, conditions: &self.conditions }
    }
}

impl Side {
    fn open(target: &Target) -> Result<Self, RunError> {
        let at_rest = super::cpu::share_at_rest(&target.pids)?;
        let address = target.address()?;
        let mut session = Session::open(&address, Offer::default(), 1, [].into())?;
        let unit = LogicalUnit::ask(&mut session)?;
        session.close();
        Ok(Self { target: target.clone(), address, unit, at_rest })
    }
}

/// What measurements have in common, for people: the machine, and how often and how long was measured.
pub(crate) fn conditions(measurements: &[Measurement], rounds: u32, time: Duration) -> Option<String> {
    let Measurement { conditions, place, .. } = measurements.first()?;
    let Conditions { kernel, cpus, cpu_model, pinned_cpu, .. } = conditions;
    let pinned =
        pinned_cpu.map_or("unpinned".to_owned(), |cpu| format!("targets and initiator on CPU {cpu}"));
    Some(format!(
        "{rounds} rounds of {} s over {} of each LUN; Linux {kernel}, {cpus} x {cpu_model}; {pinned}",
        time.as_secs_f64(),
        crate::node::size(place.span_bytes)
    ))
}
