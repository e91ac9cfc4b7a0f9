//! The commands of one session that are neither answered nor given up: what each waits for, and in which order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use huntaway_scsi::{Action, Step};
use huntaway_wire::Segments;
use iscsi_target::TaskTag;
use tokio::sync::oneshot;

use crate::metrics::OperationKind;
use crate::order::{Footprint, Order};
use crate::unit::Unit;

/// The live commands. Bounded by the command window and the limit of immediate commands.
pub(crate) struct Tasks {
    pub(crate) live: HashMap<TaskTag, Task>,
    pub(crate) order: Order<TaskTag>,
}

/// One command on its way.
pub(crate) struct Task {
    pub(crate) unit: Arc<Unit>,
    pub(crate) work: Work,
    pub(crate) arrived: Instant,
    /// It has the ORDERED task attribute.
    pub(crate) ordered: bool,
    /// Bytes of write data the command asks for, which may be more than the initiator offers.
    pub(crate) data_out: u32,
    /// Who waits until it can take no effect any more: it is given up. Dropped with the task.
    pub(crate) ends: Vec<Arc<oneshot::Sender<()>>>,
}

/// What a command waits for.
pub(crate) enum Work {
    /// Its write data.
    Gathering(Step),
    /// Its turn; it has its write data.
    Ready(Action, Segments),
    /// Nothing: it is being carried out at this moment.
    Started,
    /// Its stores' answers. It can no longer be taken back, only waited for.
    Running(OperationKind),
}

impl Task {
    pub(crate) fn is_given_up(&self) -> bool {
        !self.ends.is_empty()
    }
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { live: HashMap::new(), order: Order::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Enters a command behind all others.
    pub(crate) fn enter(&mut self, tag: TaskTag, footprint: Footprint, task: Task) {
        self.order.enter(tag, footprint);
        self.live.insert(tag, task);
    }

    /// Notes that the stores have a command. `enter` is its footprint if it is not in the order yet.
    pub(crate) fn run(&mut self, tag: TaskTag, task: Task, kind: OperationKind, enter: Option<Footprint>) {
        if let Some(footprint) = enter {
            self.order.enter(tag, footprint);
        }
        self.live.insert(tag, Task { work: Work::Running(kind), ..task });
    }

    /// Takes a command out of everything.
    pub(crate) fn remove(&mut self, tag: TaskTag) -> Option<Task> {
        self.order.leave(tag);
        self.live.remove(&tag)
    }

    /// Gives a command up: at once, unless stores have it. Then it stays until they have answered, and `done` with it;
    /// that is what `true` says.
    pub(crate) fn give_up(&mut self, tag: TaskTag, done: &Arc<oneshot::Sender<()>>) -> bool {
        match self.live.get_mut(&tag) {
            Some(task) if matches!(task.work, Work::Running(_)) => {
                task.ends.push(Arc::clone(done));
                true
            }
            _ => {
                self.remove(tag);
                false
            }
        }
    }
}
