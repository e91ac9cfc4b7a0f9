//! The order of one session's commands: what overlaps goes out in CmdSN order.
//!
//! A command whose blocks overlap those of an earlier, unfinished one waits for it when either of them writes; so does
//! an ORDERED command for all earlier ones, and everything after it (SAM-5 §8.9). The rest overtakes freely.
//! Pure: the driver tells what arrives and what ends, and asks what may start.

use std::collections::VecDeque;

/// What a command touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// First block.
    pub lba: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// The logical unit number.
    pub lun: u16,
    /// Whether it changes them.
    pub writes: bool,
    /// Whether it has the ORDERED task attribute.
    pub ordered: bool,
}

impl Footprint {
    fn conflicts(&self, earlier: &Self) -> bool {
        if self.lun != earlier.lun {
            return false;
        }
        let overlap = self.lba < earlier.lba + earlier.blocks && earlier.lba < self.lba + self.blocks;
        self.ordered || earlier.ordered || (overlap && (self.writes || earlier.writes))
    }
}

#[derive(Debug)]
struct Entry<T> {
    task: T,
    footprint: Footprint,
    /// It has all it needs to start but for its turn.
    ready: bool,
}

/// The unfinished commands of one session, in CmdSN order. As many as there are live tasks at most.
#[derive(Debug)]
pub struct Order<T> {
    entries: VecDeque<Entry<T>>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new() }
    }
}

impl<T: Copy + Eq> Order<T> {
    /// Whether a command that is ready now may start at once, without being entered.
    pub fn is_free(&self, footprint: &Footprint) -> bool {
        self.entries.iter().all(|earlier| !footprint.conflicts(&earlier.footprint))
    }

    /// Enters a command behind all earlier ones. It neither starts nor ends by itself.
    pub fn enter(&mut self, task: T, footprint: Footprint) {
        self.entries.push_back(Entry { task, footprint, ready: false });
    }

    /// The command has all it needs but its turn: [`Order::next_turn`] names it when that has come.
    pub fn ready(&mut self, task: T) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.task == task) {
            entry.ready = true;
        }
    }

    /// More is known of what a command touches: a part of what was said before.
    pub fn narrow(&mut self, task: T, footprint: Footprint) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.task == task) {
            entry.footprint = footprint;
        }
    }

    /// The command has finished or is given up.
    pub fn leave(&mut self, task: T) {
        self.entries.retain(|entry| entry.task != task);
    }

    /// The next ready command whose turn has come; it counts as started.
    pub fn next_turn(&mut self) -> Option<T> {
        let place = (0..self.entries.len()).find(|&i| self.entries[i].ready && self.has_turn(i))?;
        self.entries[place].ready = false;
        Some(self.entries[place].task)
    }

    fn has_turn(&self, place: usize) -> bool {
        let footprint = &self.entries[place].footprint;
        self.entries.iter().take(place).all(|earlier| !footprint.conflicts(&earlier.footprint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(lba: u64, blocks: u64) -> Footprint {
        Footprint { lba, blocks, lun: 0, writes: true, ordered: false }
    }

    fn read(lba: u64, blocks: u64) -> Footprint {
        Footprint { writes: false, ..write(lba, blocks) }
    }

    #[test]
    fn a_write_waits_for_an_earlier_overlapping_one_that_has_no_data_yet() {
        let mut order = Order::default();
        order.enter(1, write(0, 8));
        assert!(!order.is_free(&write(7, 1)));
        order.enter(2, write(7, 1));
        order.ready(2);
        assert_eq!(order.next_turn(), None);
        order.ready(1);
        assert_eq!(order.next_turn(), Some(1));
        assert_eq!(order.next_turn(), None);
        order.leave(1);
        assert_eq!(order.next_turn(), Some(2));
        assert_eq!(order.next_turn(), None);
    }

    #[test]
    fn a_command_of_which_more_is_known_holds_up_less() {
        let mut order = Order::default();
        order.enter(1, write(0, 1000));
        order.enter(2, read(500, 1));
        order.ready(2);
        assert_eq!(order.next_turn(), None);
        order.narrow(1, write(0, 8));
        assert_eq!(order.next_turn(), Some(2));
    }

    #[test]
    fn what_does_not_overlap_or_does_not_write_overtakes() {
        let mut order = Order::default();
        order.enter(1, write(0, 8));
        assert!(order.is_free(&write(8, 8)));
        assert!(order.is_free(&Footprint { lun: 1, ..write(0, 8) }));
        order.leave(1);
        order.enter(2, read(0, 8));
        assert!(order.is_free(&read(0, 8)));
        assert!(!order.is_free(&write(0, 8)));
    }

    #[test]
    fn an_ordered_command_waits_for_all_and_holds_up_all() {
        let mut order = Order::default();
        let ordered = Footprint { ordered: true, ..read(100, 1) };
        order.enter(1, write(0, 8));
        order.enter(2, ordered);
        order.enter(3, read(500, 1));
        order.ready(2);
        order.ready(3);
        assert_eq!(order.next_turn(), None);
        order.leave(1);
        assert_eq!(order.next_turn(), Some(2));
        assert_eq!(order.next_turn(), None);
        order.leave(2);
        assert_eq!(order.next_turn(), Some(3));
    }
}
