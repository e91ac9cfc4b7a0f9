//! Task management (RFC 7143 §11.5): answered when the tasks it concerns can take no effect any more, in whichever
//! session they are.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, OptionFuture, join_all, ready};
use huntaway_scsi::Sense;
use iscsi_target::{TaskFunction, TaskManagement, TaskManagementResponse};
use tokio::sync::oneshot;

use crate::cluster::NotRaised;
use crate::driver::{Driver, Waited};
use crate::nexus::{Luns, Nexus};
use crate::unit::Unit;

/// What is given up, and who is told.
struct Scope {
    /// One LUN, or all that the initiator sees.
    luns: Luns,
    /// Tasks of other sessions too, and those that reach the same disks through other targets and LUNs.
    everywhere: bool,
    /// What the other sessions' initiators are told.
    attention: Option<Sense>,
    /// Mode parameters are the default ones again, and our initiator is told as well.
    resets: bool,
    /// The sessions with the target end.
    closes: bool,
}

impl Driver {
    /// Carries out a task management request; the answer follows.
    pub(crate) fn on_task_management(&mut self, request: &TaskManagement) {
        let tag = request.initiator_task_tag;
        let Some(nexus) = self.session.as_ref().map(|session| Arc::clone(&session.registration.nexus)) else {
            return self.connection.respond_task_management(tag, TaskManagementResponse::FunctionRejected);
        };
        if request.function == TaskFunction::AbortTask {
            return self.abort_task(request);
        }
        match scope(request, &nexus) {
            Err(response) => self.connection.respond_task_management(tag, response),
            Ok(scope) => self.manage(tag, scope, &nexus),
        }
    }

    fn abort_task(&mut self, request: &TaskManagement) {
        let tag = request.initiator_task_tag;
        let Some(task) = request.referenced else {
            // Answered already, or never seen.
            let response = TaskManagementResponse::TaskDoesNotExist;
            return self.connection.respond_task_management(tag, response);
        };
        let (done, settled) = oneshot::channel();
        self.abort_task_tag(task, done);
        let response = TaskManagementResponse::FunctionComplete;
        let answer = move |_| Waited::TaskManagement { initiator_task_tag: tag, response, closes: false };
        self.waits.push(settled.map(answer).boxed());
    }

    fn manage(&mut self, tag: u32, scope: Scope, nexus: &Arc<Nexus>) {
        let Scope { luns, everywhere, attention, resets, closes } = scope;
        let units: Vec<_> = luns.iter().filter_map(|lun| nexus.unit(*lun)).collect();
        let concerned = |other: &Nexus| Luns::from(other.luns_where(|unit| is_one_of(unit, &units)));
        let (luns, others) = if everywhere {
            let others = self.shared.sessions.beside(nexus).into_iter();
            let others = others.map(|other| (concerned(&other), other));
            // Who sees none of these disks is not concerned.
            (concerned(nexus), others.filter(|(luns, _)| !luns.is_empty()).collect())
        } else {
            (luns, Vec::new())
        };
        // Told before anything is given up, so that no command in between goes without.
        if let Some(attention) = attention {
            for (luns, other) in &others {
                let is_elsewhere = resets && !other.shares_target(nexus);
                other.establish(luns, if is_elsewhere { Sense::logical_unit_reset() } else { attention });
            }
            if resets {
                nexus.establish(&luns, attention);
                units.iter().for_each(|unit| unit.reset_modes());
            }
        }
        let (done, settled) = oneshot::channel();
        self.abort_tasks(&luns, done);
        let nexus = Arc::clone(nexus);
        let raised = everywhere.then(|| self.raise_fences(&units));
        let finish = async move {
            let raised = OptionFuture::from(raised).await.unwrap_or(Ok(()));
            // Only ever dropped.
            let _ = settled.await;
            let give_up = async |(luns, other): &(Luns, Arc<Nexus>)| {
                if closes && other.shares_target(&nexus) {
                    other.close().await;
                } else {
                    other.abort_tasks(Arc::clone(luns)).await;
                }
            };
            join_all(others.iter().map(give_up)).await;
            let response = match raised {
                Ok(()) => TaskManagementResponse::FunctionComplete,
                Err(NotRaised) => TaskManagementResponse::FunctionRejected,
            };
            Waited::TaskManagement { initiator_task_tag: tag, response, closes }
        };
        self.waits.push(finish.boxed());
    }

    /// Gives up what other gateways of a cluster have received for the disks of these units.
    fn raise_fences(&self, units: &[Arc<Unit>]) -> BoxFuture<'static, Result<(), NotRaised>> {
        let Some(cluster) = self.shared.cluster.clone() else { return ready(Ok(())).boxed() };
        let mut disks: Vec<_> = units.iter().map(|unit| unit.volume.vid()).collect();
        disks.sort_unstable();
        disks.dedup();
        async move { cluster.raise(disks).await }.boxed()
    }
}

/// Whether it serves the disk of one of these, through whichever target and LUN: to initiators that is one logical unit.
fn is_one_of(unit: &Unit, units: &[Arc<Unit>]) -> bool {
    units.iter().any(|one| Arc::ptr_eq(&one.disk, &unit.disk))
}

/// What a request concerns, or the answer that it cannot be carried out.
fn scope(request: &TaskManagement, nexus: &Nexus) -> Result<Scope, TaskManagementResponse> {
    let lun = request.lun.flat().filter(|lun| nexus.unit(*lun).is_some());
    let one = lun.ok_or(TaskManagementResponse::LunDoesNotExist).map(|lun| Luns::from([lun]));
    let all = || Luns::from(nexus.luns());
    let reset = |luns, attention| Scope {
        luns,
        everywhere: true,
        attention: Some(attention),
        resets: true,
        closes: false,
    };
    Ok(match request.function {
        TaskFunction::AbortTaskSet => {
            Scope { luns: one?, everywhere: false, attention: None, resets: false, closes: false }
        }
        TaskFunction::ClearTaskSet => Scope { resets: false, ..reset(one?, Sense::commands_cleared()) },
        TaskFunction::LogicalUnitReset => reset(one?, Sense::logical_unit_reset()),
        TaskFunction::TargetWarmReset => reset(all(), Sense::target_reset()),
        TaskFunction::TargetColdReset => Scope { closes: true, ..reset(all(), Sense::power_on()) },
        TaskFunction::TaskReassign => return Err(TaskManagementResponse::ReassignmentUnsupported),
        TaskFunction::AbortTask | TaskFunction::ClearAca | TaskFunction::Unknown(_) => {
            return Err(TaskManagementResponse::FunctionUnsupported);
        }
    })
}
