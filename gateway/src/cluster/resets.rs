//! Resets of disks, as the fences of the ledger tell them: those of other gateways are to be told to this one's initiators, who
//! know of its own.

use std::collections::HashMap;
use std::sync::Mutex;

use huntaway_wire::Vid;
use tokio::sync::Notify;

use crate::sessions::lock;

/// Which are whose.
#[derive(Default)]
pub(super) struct Resets {
    table: Mutex<Table>,
    noted: Notify,
}

#[derive(Default)]
struct Table {
    /// Records that this gateway has asked for, and not seen yet.
    expected: HashMap<Vid, u64>,
    /// What others have reset. As many as there are disks at most.
    elsewhere: Vec<Vid>,
}

impl Resets {
    /// This gateway has the fence of the disk raised.
    pub(super) fn expect(&self, disk: Vid) {
        *lock(&self.table).expected.entry(disk).or_default() += 1;
    }

    /// It is not raised, as far as is known.
    pub(super) fn expect_no_more(&self, disk: Vid) {
        lock(&self.table).meet(disk, 1);
    }

    /// The fence of the disk is higher by so much.
    pub(super) fn note(&self, disk: Vid, by: u64) {
        let mut table = lock(&self.table);
        if table.meet(disk, by) < by && !table.elsewhere.contains(&disk) {
            table.elsewhere.push(disk);
            self.noted.notify_one();
        }
    }

    /// What others have reset since this was asked last. One at a time asks.
    pub(super) async fn elsewhere(&self) -> Vec<Vid> {
        loop {
            let disks = std::mem::take(&mut lock(&self.table).elsewhere);
            if !disks.is_empty() {
                return disks;
            }
            self.noted.notified().await;
        }
    }
}

impl Table {
    /// Takes away so many that are expected, or as many as there are.
    fn meet(&mut self, disk: Vid, by: u64) -> u64 {
        let Some(expected) = self.expected.get_mut(&disk) else { return 0 };
        let met = by.min(*expected);
        *expected -= met;
        if *expected == 0 {
            self.expected.remove(&disk);
        }
        met
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_others_reset_is_told_and_what_this_gateway_reset_is_not() {
        let (resets, disk) = (Resets::default(), Vid::new(1).unwrap());
        resets.expect(disk);
        resets.note(disk, 1);
        assert_eq!(resets.elsewhere().now_or_never(), None);
        resets.expect(disk);
        resets.note(disk, 2);
        resets.note(disk, 1);
        assert_eq!(resets.elsewhere().now_or_never(), Some(vec![disk]));
        assert_eq!(resets.elsewhere().now_or_never(), None);
        resets.expect(disk);
        resets.expect_no_more(disk);
        resets.note(disk, 1);
        assert_eq!(resets.elsewhere().now_or_never(), Some(vec![disk]));
    }
}
