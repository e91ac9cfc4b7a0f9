//! Copies that nodes have of partitions in which they are not in sync any more, and what is known of those that they removed.

use huntaway_replica::{Input, OldCopy, to_remove};
use huntaway_wire::{BLOCK_SIZE_BYTES, Epoch, Partition};

use super::{Cluster, id_of, partition};
use crate::storage::Objects;

/// What a node has of one partition, and had.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copies {
    /// The news of the ledger with which it was in sync last.
    in_sync_at: u64,
    /// What it removed although the ledger counted on that.
    pub(crate) removed: Option<Objects>,
}

impl Cluster {
    /// The node removes what it has to, after it has heard from the ledger.
    pub(crate) fn make_room(&mut self, node: usize) {
        let mut copies = Vec::new();
        for number in 0..self.shape.partitions {
            let state = &mut self.nodes[node];
            let Some(replica) = state.replica(number) else { return };
            let configuration = replica.configuration();
            let is_in_sync = configuration.in_sync.iter().any(|process| process.node == id_of(node));
            let (epoch, is_kept) = (Epoch(state.copies[usize::from(number)].in_sync_at), replica.is_kept());
            if is_in_sync {
                state.copies[usize::from(number)].in_sync_at = self.ledger.sequence;
                continue;
            }
            let blocks = state.storage[usize::from(number)].objects().all().count();
            let bytes = blocks as u64 * u64::from(BLOCK_SIZE_BYTES);
            if blocks == 0 {
                continue;
            }
            copies.push(OldCopy { partition: partition(number), epoch, bytes, is_kept });
        }
        for partition in to_remove(copies, self.shape.old_copies_bytes) {
            self.step(node, partition, Input::Forget);
        }
    }

    /// The node is about to remove what it has of the partition.
    pub(crate) fn mind_removed(&mut self, node: usize, partition: Partition) {
        let counts_on_it = |set: &huntaway_ledger::InSyncSet| set.former.contains(&id_of(node));
        if self.ledger.sets.set(partition).is_some_and(counts_on_it) {
            let state = &mut self.nodes[node];
            let objects = state.storage[partition.index()].objects().clone();
            state.copies[partition.index()].removed = Some(objects);
        }
    }
}
