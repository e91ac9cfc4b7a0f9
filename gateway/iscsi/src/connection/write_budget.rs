//! How much write data a connection holds, and whose R2Ts wait for that.
//!
//! A task counts from its arrival with what comes unsolicited, and with what its R2Ts ask for from before the
//! first of them until it ends: complete data that waits in the caller is held as well. Unsolicited data cannot
//! be refused; R2Ts wait until there is room, the oldest task's first.
//!
//! The caller may make a task wait until older ones have ended, as overlapping writes must. So a task never
//! waits for data that only younger tasks hold: where no older task holds any, it proceeds without room. Of the
//! tasks that hold or want data the oldest can thus always get all it wants and end, then the next. A task
//! reserves all it needs at once: tasks with a part each could wait for each other.

use super::Connection;
use crate::tasks::TaskTag;

impl Connection {
    /// Counts what comes unsolicited with a new task.
    pub(super) fn hold_unsolicited_data(&mut self, task: TaskTag) {
        let Some(entry) = self.tasks.task_mut(task) else { return };
        entry.held_data = entry.transfer.unsolicited();
        self.held_data += u64::from(entry.held_data);
    }

    /// Lets a delivered task solicit its data when its turn has come.
    pub(super) fn await_budget(&mut self, task: TaskTag) {
        if let Some(delivery) = self.tasks.task(task).and_then(|entry| entry.delivery) {
            self.waiting_for_budget.insert(delivery, task);
            self.grant_budget();
        }
    }

    /// Gives back what a task held that has ended, to those that wait.
    pub(super) fn return_budget(&mut self, held_data: u32) {
        self.held_data -= u64::from(held_data);
        self.grant_budget();
    }

    fn grant_budget(&mut self) {
        while let Some((delivery, task)) = self.waiting_for_budget.first_key_value() {
            let (delivery, task) = (*delivery, *task);
            let needed = self.tasks.task(task).map_or(0, |entry| entry.transfer.to_solicit());
            let total = self.held_data + u64::from(needed);
            if total > self.limits.solicited_data && self.tasks.is_data_held_before(delivery) {
                return;
            }
            self.waiting_for_budget.remove(&delivery);
            if let Some(entry) = self.tasks.task_mut(task) {
                entry.held_data += needed;
                entry.may_solicit = true;
                self.held_data = total;
            }
            self.solicit(task);
        }
    }
}
