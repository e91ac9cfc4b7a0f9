//! The tasks under way on one connection.

use std::fmt;

use crate::event::Cdb;
use crate::pdu::{RESERVED_TAG, ScsiCommandPdu};
use crate::transfer::WriteTransfer;

/// Our name for a task: unique among the live tasks of a connection, and not soon used again, so that a
/// stale one finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskTag {
    slot: u16,
    generation: u16,
}

impl fmt::Debug for TaskTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskTag({}.{})", self.slot, self.generation)
    }
}

/// One SCSI task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) command: ScsiCommandPdu,
    /// The whole CDB, until the command is delivered.
    pub(crate) cdb: Cdb,
    pub(crate) transfer: WriteTransfer,
    /// Bytes of write data the device server asked for.
    pub(crate) data_out_wanted: Option<u32>,
    /// Data-In and R2T PDUs sent so far, which share their numbering.
    pub(crate) data_sn: u32,
    /// Counts against the CmdSN window: a non-immediate command whose turn has come.
    pub(crate) occupies_window: bool,
    /// Its place in the order in which tasks were handed to the caller, once it was.
    pub(crate) delivery: Option<u64>,
    /// Bytes of write data it holds, or will once they come.
    pub(crate) held_data: u32,
    /// Its R2Ts no longer wait for other tasks' data.
    pub(crate) may_solicit: bool,
}

impl Task {
    pub(crate) fn new(command: ScsiCommandPdu, cdb: Cdb, transfer: WriteTransfer) -> Self {
        Self {
            command,
            cdb,
            transfer,
            data_out_wanted: None,
            data_sn: 0,
            occupies_window: false,
            delivery: None,
            held_data: 0,
            may_solicit: false,
        }
    }

    pub(crate) fn initiator_task_tag(&self) -> u32 {
        self.command.initiator_task_tag
    }

    /// Bytes of input data the initiator has room for. The read half of a bidirectional command is not
    /// supported.
    pub(crate) fn expected_data_in(&self) -> u32 {
        match (self.command.read, self.command.write) {
            (true, false) => self.command.expected_data_transfer_length,
            _ => 0,
        }
    }

    /// Bytes the initiator expects to move in either direction.
    pub(crate) fn expected_length(&self) -> u32 {
        match self.command.read || self.command.write {
            true => self.command.expected_data_transfer_length,
            false => 0,
        }
    }

    /// The number of the next Data-In or R2T.
    pub(crate) fn take_data_sn(&mut self) -> u32 {
        let taken = self.data_sn;
        self.data_sn = self.data_sn.wrapping_add(1);
        taken
    }
}

/// The live tasks, found by our tag or the initiator's. Its size is bounded by the CmdSN window and the
/// limit on immediate commands.
#[derive(Debug, Default)]
pub(crate) struct TaskTable {
    slots: Vec<Slot>,
    /// The initiator's tag of each slot, apart from the tasks so that a search touches little memory;
    /// the reserved tag marks a free slot.
    initiator_task_tags: Vec<u32>,
    free: Vec<u16>,
    immediate: u16,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u16,
    task: Option<Task>,
}

impl TaskTable {
    /// Adds a task; `None` if the table is full.
    pub(crate) fn insert(&mut self, task: Task) -> Option<TaskTag> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u16::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot::default());
                self.initiator_task_tags.push(RESERVED_TAG);
                slot
            }
        };
        self.immediate += u16::from(task.command.immediate);
        self.initiator_task_tags[usize::from(slot)] = task.initiator_task_tag();
        let place = &mut self.slots[usize::from(slot)];
        place.task = Some(task);
        Some(TaskTag { slot, generation: place.generation })
    }

    /// Removes a task.
    pub(crate) fn remove(&mut self, tag: TaskTag) -> Option<Task> {
        let place = self.slots.get_mut(usize::from(tag.slot))?;
        if place.generation != tag.generation {
            return None;
        }
        let task = place.task.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.immediate -= u16::from(task.command.immediate);
        self.initiator_task_tags[usize::from(tag.slot)] = RESERVED_TAG;
        self.free.push(tag.slot);
        Some(task)
    }

    pub(crate) fn find(&self, initiator_task_tag: u32) -> Option<TaskTag> {
        if initiator_task_tag == RESERVED_TAG {
            return None;
        }
        let slot = self.initiator_task_tags.iter().position(|tag| *tag == initiator_task_tag)?;
        Some(TaskTag { slot: u16::try_from(slot).ok()?, generation: self.slots[slot].generation })
    }

    pub(crate) fn task(&self, tag: TaskTag) -> Option<&Task> {
        let slot = self.slots.get(usize::from(tag.slot))?;
        slot.task.as_ref().filter(|_| slot.generation == tag.generation)
    }

    pub(crate) fn task_mut(&mut self, tag: TaskTag) -> Option<&mut Task> {
        let slot = self.slots.get_mut(usize::from(tag.slot))?;
        slot.task.as_mut().filter(|_| slot.generation == tag.generation)
    }

    /// Whether a task delivered before this delivery holds write data.
    pub(crate) fn is_data_held_before(&self, delivery: u64) -> bool {
        let mut tasks = self.slots.iter().filter_map(|slot| slot.task.as_ref());
        tasks.any(|task| task.held_data > 0 && task.delivery.is_some_and(|earlier| earlier < delivery))
    }

    /// Immediate commands under way.
    pub(crate) fn immediate(&self) -> u16 {
        self.immediate
    }
}
