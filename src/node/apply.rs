//! Carrying out a plan: from what is served to what a configuration says.
//!
//! The order matters: sockets that may be taken come first, then what needs space, then what initiators see, and last
//! what loses data, when nobody can reach that any more. Whatever fails, what was done by then holds together, and the
//! next try begins there.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use huntaway_config::{Config, Report};
use huntaway_gateway::{Gateway, PortalConfig};
use huntaway_ledger::Vdi;

use super::loaded::Loaded;
use super::plan::{Plan, VdiStep};
use super::portals;
use super::served::served;
use super::storage::Storage;

/// A plan that was not carried out.
#[derive(Debug)]
pub(crate) enum ApplyError {
    /// Nothing was done: the lines that cannot be followed.
    Refused(Report),
    /// Not to its end.
    Interrupted {
        /// What stopped it.
        reason: Box<dyn Error + Send + Sync>,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(report) => report.fmt(f),
            Self::Interrupted { reason } => write!(
                f,
                "the configuration could not be carried out to its end: {reason}\nWhat was done holds together; mend \
                 the cause, then apply the configuration again"
            ),
        }
    }
}

impl Error for ApplyError {}

impl ApplyError {
    fn interrupted(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Interrupted { reason: reason.into() }
    }
}

/// What a plan is carried out on.
pub(super) struct Parts<'a> {
    pub(super) storage: &'a Storage,
    pub(super) gateway: &'a Gateway,
}

/// Carries out `plan`, which leads from `old` to `new`.
///
/// # Errors
/// See [`ApplyError`].
pub(super) async fn apply(
    Parts { storage, gateway }: Parts<'_>,
    plan: &Plan,
    old: Option<&Config>,
    new: &Loaded,
) -> Result<(), ApplyError> {
    let changes = portals::changes(old, &new.config);
    let opened = open_all(&changes.added, &new.config)?;
    let shrunk = take_space(storage, &plan.vdis).await?;
    let state = storage.state();
    let shown = |name: &str| shrunk.get(name).or_else(|| state.vdi(name)).cloned();
    gateway.update(served(new, storage, shown)).await.map_err(ApplyError::interrupted)?;
    for step in &plan.vdis {
        if let VdiStep::Shrink { vdi, size_bytes } = step {
            storage.shrink(vdi, *size_bytes).await.map_err(ApplyError::interrupted)?;
        }
    }
    for name in &changes.removed {
        gateway.remove_portal(name).await;
    }
    // their addresses are free only now
    let replaced = open_all(&changes.replaced, &new.config).map_err(ApplyError::interrupted)?;
    for portal in opened.into_iter().chain(replaced) {
        gateway.add_portal(portal).map_err(ApplyError::interrupted)?;
    }
    Ok(())
}

/// Listens on all of the portals.
fn open_all(wanted: &[&huntaway_config::Portal], config: &Config) -> Result<Vec<PortalConfig>, ApplyError> {
    let (mut opened, mut problems) = (Vec::new(), Vec::new());
    for portal in wanted {
        match portals::open(portal) {
            Ok(portal) => opened.push(portal),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        return Ok(opened);
    }
    Err(ApplyError::Refused(Report::new(Arc::clone(&config.source), problems)))
}

/// Does what makes VDIs, or makes them larger. Returns those that are to be smaller, as they will be.
async fn take_space(storage: &Storage, steps: &[VdiStep]) -> Result<BTreeMap<String, Vdi>, ApplyError> {
    let mut shrunk = BTreeMap::new();
    for step in steps {
        let done = match step {
            VdiStep::Create { name, options } => storage.create(name, *options).await,
            VdiStep::Provision { vdi } => storage.provision(vdi).await,
            VdiStep::Grow { vdi, size_bytes } => storage.grow(vdi, *size_bytes).await,
            VdiStep::Shrink { vdi, size_bytes } => {
                let smaller = Vdi { size_bytes: *size_bytes, ..vdi.clone() };
                shrunk.insert(vdi.name.as_str().to_owned(), smaller.clone());
                Ok(smaller)
            }
        };
        done.map_err(ApplyError::interrupted)?;
    }
    Ok(shrunk)
}
