//! The commands of one session that are neither answered nor given up: what each waits for, and in which order.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use huntaway_scsi::{Action, Step};
use iscsi_target::{Payload, TaskTag};
use tokio::sync::oneshot;

use crate::cluster::Asker;
use crate::disk::Disk;
use crate::metrics::OperationKind;
use crate::order::{Footprint, Order};
use crate::unit::Unit;
use crate::volume::Volume;

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
    /// Who waits until it can take no effect any more. Dropped with the task.
    pub(crate) ends: Vec<Arc<oneshot::Sender<()>>>,
    /// Nobody wants its answer any more.
    pub(crate) given_up: bool,
    /// By which the stores of a cluster know whether it is still wanted.
    pub(crate) asker: Option<Arc<Asker>>,
}

impl Task {
    /// The unit's volume, as this command uses it.
    pub(crate) fn volume(&self) -> Cow<'_, Arc<Volume>> {
        match &self.asker {
            None => Cow::Borrowed(&self.unit.volume),
            Some(asker) => Cow::Owned(Arc::new(self.unit.volume.asked_by(asker))),
        }
    }
}

/// What a command waits for.
pub(crate) enum Work {
    /// Its write data.
    Gathering(Step),
    /// Its turn; it has its write data.
    Ready(Action, Payload),
    /// Nothing: it is being carried out at this moment.
    Started,
    /// Its stores' answers. It can no longer be taken back, only waited for.
    Running(OperationKind),
    /// Something that goes on without it. Given up, it has no effect of its own any more.
    Watching,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { live: HashMap::new(), order: Order::default() }
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

    /// Notes that a command waits for something that goes on without it, and holds nobody up.
    pub(crate) fn watch(&mut self, tag: TaskTag, task: Task) {
        self.order.leave(tag);
        self.live.insert(tag, Task { work: Work::Watching, ..task });
    }

    /// Drops `done` when the commands that stores have, and that change the disk, have ended.
    pub(crate) fn watch_writes(&mut self, disk: &Arc<Disk>, done: oneshot::Sender<()>) {
        let done = Arc::new(done);
        let changes = |task: &Task| matches!(&task.work, Work::Running(kind) if kind.changes_data());
        for task in self.live.values_mut().filter(|task| Arc::ptr_eq(&task.unit.disk, disk)) {
            if changes(task) {
                task.ends.push(Arc::clone(&done));
            }
        }
    }

    /// Takes a command out of everything.
    pub(crate) fn remove(&mut self, tag: TaskTag) -> Option<Task> {
        self.order.leave(tag);
        self.live.remove(&tag)
    }

    /// Gives a command up: at once, unless stores have it. Then it stays until they have answered, or it has settled, and `done`
    /// with it: it is what is returned.
    pub(crate) fn give_up(&mut self, tag: TaskTag, done: &Arc<oneshot::Sender<()>>) -> Option<&Task> {
        match self.live.get(&tag) {
            Some(task) if matches!(task.work, Work::Running(_)) => {}
            _ => {
                self.remove(tag);
                return None;
            }
        }
        let task = self.live.get_mut(&tag)?;
        task.ends.push(Arc::clone(done));
        task.given_up = true;
        Some(task)
    }

    /// The commands that stores have.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Task> {
        self.live.values().filter(|task| matches!(task.work, Work::Running(_)))
    }
}
