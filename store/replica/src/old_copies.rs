//! Copies of partitions that a node does not keep any more: they stay while there is room, since a partition that comes back is
//! compared with what is left of it, and only what differs is copied.

use huntaway_wire::{Epoch, Partition};

/// A copy that a node has of a partition in which it is not in sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldCopy {
    /// The partition.
    pub partition: Partition,
    /// The epoch, or any other number that grows, in which the node was in sync last.
    pub epoch: Epoch,
    /// What it takes.
    pub bytes: u64,
    /// Whether the node is a keeper, as the ledger has it: then the copy may be the last one, and stays.
    pub is_kept: bool,
}

/// The copies to remove, so that what is left takes at most `budget_bytes`: the oldest first, and never one that is kept.
pub fn to_remove(mut copies: Vec<OldCopy>, budget_bytes: u64) -> Vec<Partition> {
    let mut bytes: u64 = copies.iter().map(|copy| copy.bytes).sum();
    copies.retain(|copy| !copy.is_kept);
    copies.sort_by_key(|copy| (copy.epoch, copy.partition.value()));
    let mut removed = Vec::new();
    for copy in copies {
        if bytes <= budget_bytes {
            break;
        }
        bytes -= copy.bytes;
        removed.push(copy.partition);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(partition: u16, epoch: u64, is_kept: bool) -> OldCopy {
        let partition = Partition::new(partition).expect("there are more");
        OldCopy { partition, epoch: Epoch(epoch), bytes: 10, is_kept }
    }

    fn removed(copies: &[OldCopy], budget_bytes: u64) -> Vec<u16> {
        to_remove(copies.to_vec(), budget_bytes).into_iter().map(Partition::value).collect()
    }

    #[test]
    fn the_oldest_go_first_and_only_as_many_as_must() {
        let copies = [copy(1, 7, false), copy(2, 5, false), copy(3, 6, false)];
        assert_eq!(removed(&copies, 30), []);
        assert_eq!(removed(&copies, 29), [2]);
        assert_eq!(removed(&copies, 10), [2, 3]);
        assert_eq!(removed(&copies, 0), [2, 3, 1]);
    }

    #[test]
    fn what_is_kept_stays_whatever_the_budget() {
        let copies = [copy(1, 1, true), copy(2, 2, false), copy(3, 3, true)];
        assert_eq!(removed(&copies, 0), [2]);
        assert_eq!(removed(&copies, 25), [2]);
    }
}
