//! Copies that nodes have of partitions in which they are not in sync any more, and what is known of those that they removed.

use huntaway_ledger::SetRecord;
use huntaway_replica::{Input, OldCopy, Stored, to_remove};
use huntaway_wire::{BLOCK_SIZE_BYTES, Epoch, Oid, Partition};

use super::{Broken, Cluster, endpoint_of, id_of, partition};
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

    /// Who dropped out of a set has a copy that counts, until the set is whole, or the node gets another disk.
    pub(crate) fn mind_counted_on(&mut self, record: Option<&SetRecord>) {
        for (number, counted_on) in (0..).zip(&mut self.counted_on) {
            let Some(set) = self.ledger.sets().set(partition(number)) else { continue };
            counted_on.extend(set.former.iter().copied().map(endpoint_of));
            counted_on.retain(|node| !set.is_whole() && !set.in_sync.contains(&id_of(*node)));
            if let Some(SetRecord::NodeStarted { node, .. }) = record
                && !set.former.contains(node)
            {
                counted_on.remove(&endpoint_of(*node));
            }
        }
    }

    /// A node was left out for good: while nobody serves a partition of which it has an old copy, others have all of that.
    pub(crate) fn mind_left_out(&mut self, node: usize) {
        let counts = |number: &u16| self.counted_on[usize::from(*number)].contains(&node);
        for number in (0..self.shape.partitions).filter(counts) {
            let sets = self.ledger.sets();
            let is_unserved = sets.at_stake(partition(number)).is_some();
            let Some(set) = sets.set(partition(number)).filter(|_| is_unserved) else { continue };
            let objects = |node: usize| self.nodes[node].storage[usize::from(number)].objects();
            let others: Vec<_> =
                set.keepers().iter().map(|keeper| objects(endpoint_of(*keeper)).into_owned()).collect();
            let is_elsewhere = |(oid, block, stored): (Oid, u32, &Stored)| {
                others
                    .iter()
                    .any(|other| other.whole(oid, block).is_some_and(|known| known.version >= stored.version))
            };
            if !objects(node).all().all(is_elsewhere) {
                self.broken = Some(Broken::LeftOut { partition: number, node });
            }
        }
    }

    /// The node is about to remove what it has of the partition.
    pub(crate) fn mind_removed(&mut self, node: usize, partition: Partition) {
        if self.counted_on[partition.index()].contains(&node) {
            let state = &mut self.nodes[node];
            let objects = state.storage[partition.index()].objects().into_owned();
            state.copies[partition.index()].removed = Some(objects);
        }
    }
}
