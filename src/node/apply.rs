//! Carrying out a plan: from what is served to what a configuration says.
//!
//! The order matters: sockets that somebody else may have come first, then what needs space, then addresses that our own
//! portals are in the way of, then what initiators see, and last what loses data, when nobody can reach that any more.
//! Whatever fails, what was done by then holds together, is known, and is where the next try begins.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use huntaway_config::Report;
use huntaway_ledger::{State, Vdi};
use huntaway_wire::Vid;

use super::engine::Engine;
use super::loaded::Loaded;
use super::plan::{Plan, VdiStep};
use super::portals::{self, open_all};
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
                "the configuration could not be carried out to its end: {reason}\nWhat was done holds together, and \
                 the next try goes on from there; mend the cause, or undo the change"
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

impl Engine {
    /// Carries out `plan`, which leads from what is in force to `new`. Until it is at its end, the engine is "unfinished".
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub(super) async fn carry_out(&self, plan: &Plan, new: &Arc<Loaded>) -> Result<(), ApplyError> {
        let open = self.portals.all();
        let changes = portals::changes(&open, &new.config.node.portals);
        let report = |problems| Report::new(Arc::clone(&new.config.source), problems);
        let opened = open_all(&changes.added);
        let mut opened = opened.map_err(|problems| ApplyError::Refused(report(problems)))?;
        self.unfinished.store(true, Ordering::Release);
        let is_whole = take_space(&self.storage, plan).await?;
        let taken_over = self.portals.take_over(&self.gateway, &changes).await;
        opened.extend(taken_over.map_err(|problems| ApplyError::interrupted(report(problems)))?);
        self.show(new).await?;
        for step in &plan.vdis {
            if let VdiStep::Shrink { vdi, size_bytes } = step {
                self.storage.shrink(vdi, *size_bytes).await.map_err(ApplyError::interrupted)?;
            }
        }
        let switched = self.portals.switch(&self.gateway, &changes, opened).await;
        switched.map_err(ApplyError::interrupted)?;
        self.unfinished.store(plan.is_partial() || !is_whole, Ordering::Release);
        Ok(())
    }

    /// Has initiators see `new`, which is in force from then on: whatever fails later, its LUNs are in use.
    async fn show(&self, new: &Arc<Loaded>) -> Result<(), ApplyError> {
        let state = self.storage.state();
        let shown = served(new, &self.storage, |name| state.vdi(name).cloned());
        self.gateway.update(shown).await.map_err(ApplyError::interrupted)?;
        self.served.store(Arc::clone(new));
        self.shown.store(state);
        Ok(())
    }

    /// Shows initiators what other processes did with the VDIs that are served here.
    pub(super) async fn show_what_others_changed(&self) {
        if self.changed_by_others().is_empty() {
            return;
        }
        let work = async {
            let _changing = self.changing.lock().await;
            // What this process did is shown by now.
            let changed = self.changed_by_others();
            if changed.is_empty() {
                return;
            }
            match self.show(&self.served()).await {
                Ok(()) => changed.iter().for_each(|changed| changed.tell(&self.file)),
                Err(error) => tracing::error!(%error, "what others did with VDIs cannot be shown"),
            }
        };
        // if it stops, nobody is to be shown anything
        let _ = self.unless_stopping(work).await;
    }

    /// The VDIs of LUNs that are not as they were last shown to initiators.
    fn changed_by_others(&self) -> Vec<Changed> {
        let (shown, now, served) = (self.shown.load(), self.storage.state(), self.served());
        let luns = served.config.targets.iter().flat_map(|target| &target.luns);
        let names: BTreeSet<&str> = luns.map(|lun| lun.vdi.as_str()).collect();
        let known = |state: &State, name| {
            state.vdi(name).filter(|vdi| vdi.provisioned).map(|vdi| (vdi.vid, vdi.size_bytes))
        };
        let changed =
            |name| Changed { name: String::from(name), from: known(&shown, name), to: known(&now, name) };
        names.into_iter().map(changed).filter(|changed| changed.from != changed.to).collect()
    }
}

/// A VDI that others changed: which one it was, with its size, and which it is.
struct Changed {
    name: String,
    from: Option<(Vid, u64)>,
    to: Option<(Vid, u64)>,
}

impl Changed {
    /// Tells people, who may have to write it into the file.
    fn tell(&self, file: &Path) {
        let Self { name, from, to } = self;
        let file = file.display();
        match (from, to) {
            (Some((_, from)), None) => tracing::warn!(
                vdi = name,
                bytes = from,
                "another process has deleted a VDI, and its LUNs are gone: take them out of {file}, or an empty VDI of that \
                 name is made when it changes, is applied again, or a process starts with it"
            ),
            (_, Some((_, bytes))) => {
                tracing::info!(vdi = name, bytes, "another process has made or changed a VDI: LUNs show it");
            }
            (None, None) => {}
        }
    }
}

/// Does what makes VDIs, or makes them larger. First, what others no longer need to grow is given back. False: some of that is left
/// to be done.
async fn take_space(storage: &Storage, plan: &Plan) -> Result<bool, ApplyError> {
    let goes_on_to = |vdi: &Vdi| {
        let grows = |step: &VdiStep| match step {
            VdiStep::Grow { vdi: growing, size_bytes } if growing.vid == vdi.vid => Some(*size_bytes),
            _ => None,
        };
        plan.vdis.iter().find_map(grows)
    };
    storage.settle_all(goes_on_to).await;
    let mut is_whole = true;
    for step in &plan.vdis {
        let done = match step {
            VdiStep::Create { name, options } => storage.create(name, *options).await,
            VdiStep::Provision { vdi } => storage.provision(vdi).await,
            VdiStep::Grow { vdi, size_bytes } => storage.grow(vdi, *size_bytes).await,
            VdiStep::Shrink { .. } => continue,
        };
        match done {
            Ok(_) => {}
            Err(error) if plan.goes_on => {
                tracing::error!("a VDI must wait, all else is served: {error}");
                is_whole = false;
            }
            Err(error) => return Err(ApplyError::interrupted(error)),
        }
    }
    Ok(is_whole)
}
