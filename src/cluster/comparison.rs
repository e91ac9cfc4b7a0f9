//! What processes tell of their copies, added up, in the words of people.

use std::collections::BTreeSet;

use huntaway_wire::comparison::{Compared, Difference, PartitionSet};
use huntaway_wire::{BLOCK_SIZE_BYTES, OBJECT_SIZE_BYTES, Process};

use super::Sight;
use super::report::{Comparison, DifferenceFound};

/// Most differences that are told.
const MOST_TOLD: usize = 1000;

impl Comparison {
    /// This, and what was found before: what differed is put right, so a process that has started since, or leads no more, does not find
    /// it again.
    pub(crate) fn with_what_was_found(mut self, before: Self) -> Self {
        self.failed_objects = self.failed_objects.max(before.failed_objects);
        let differences: BTreeSet<_> = before.differences.into_iter().chain(self.differences).collect();
        self.differences = differences.into_iter().take(MOST_TOLD).collect();
        let found = self.differences.len() as u64;
        self.differing_blocks = self.differing_blocks.max(before.differing_blocks).max(found);
        self
    }
}

impl Sight {
    /// What all of them come to.
    pub(crate) fn comparison(&self, told: &[(Process, Compared)]) -> Comparison {
        let mut done = PartitionSet::default();
        told.iter().for_each(|(_, told)| done.extend(&told.done));
        let sets = self.state.sets().sets();
        let (mut partitions, mut compared, mut not_served) = (0, 0, 0);
        for (partition, _) in sets {
            partitions += 1;
            compared += usize::from(done.contains(partition));
            not_served += usize::from(!done.contains(partition) && self.state.primary(partition).is_none());
        }
        let sum = |of: fn(&Compared) -> u64| told.iter().map(|(_, told)| of(told)).sum();
        // What a partition was found to have twice, since it is led elsewhere by now, is told once.
        let differences: BTreeSet<_> =
            told.iter().flat_map(|(_, told)| &told.differences).map(|found| self.found(found)).collect();
        Comparison {
            waits: told.iter().any(|(_, told)| told.waits),
            partitions,
            compared,
            not_served,
            objects: sum(|told| told.objects),
            blocks: sum(|told| told.blocks),
            failed_objects: sum(|told| told.failed),
            differing_blocks: sum(|told| told.differing),
            differences: differences.into_iter().take(MOST_TOLD).collect(),
        }
    }

    fn found(&self, Difference { oid, block, node }: &Difference) -> DifferenceFound {
        let disk = self.state.disks().version(oid.vid()).map(|version| version.disk);
        let vdi = disk.and_then(|disk| self.state.vdi_by_vid(disk)).map(|vdi| vdi.name.to_string());
        let in_object = u64::from(*block) * u64::from(BLOCK_SIZE_BYTES);
        DifferenceFound {
            vdi: vdi.unwrap_or_else(|| format!("(deleted: {})", oid.vid())),
            offset_bytes: u64::from(oid.index()) * u64::from(OBJECT_SIZE_BYTES) + in_object,
            object: oid.to_string(),
            node: node.map(|node| self.name(node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use huntaway_wire::comparison::Compare;
    use huntaway_wire::{Incarnation, ObjectKind, Oid, Partition, Vid};

    use super::*;
    use crate::cluster::fixture::{node, sight, state};

    #[test]
    fn what_is_found_has_the_name_and_the_place_that_people_know() {
        let seen = sight(state(3, 3, 2));
        let process = |number| Process { node: node(number), incarnation: Incarnation(1) };
        let told = |number: u8, partitions: &[u16], differences: Vec<Difference>| {
            let mut done = PartitionSet::default();
            partitions.iter().for_each(|at| done.insert(Partition::new(*at).unwrap()));
            let asked = Compare { asker: process(1), round: 1, question: 1, is_over: false };
            let compared = Compared {
                asked,
                waits: false,
                done,
                objects: 2,
                blocks: 5,
                failed: 0,
                differing: 1,
                differences,
            };
            (process(number), compared)
        };
        let oid = Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), 2);
        let wrong = Difference { oid, block: 3, node: Some(node(2)) };
        let comparison = seen.comparison(&[told(1, &[7, 8], vec![wrong]), told(2, &[8, 9], vec![wrong])]);
        assert_eq!((comparison.partitions, comparison.compared, comparison.not_served), (4096, 3, 0));
        assert_eq!((comparison.objects, comparison.blocks), (4, 10));
        let [found] = &*comparison.differences else { panic!("{comparison:?}") };
        assert_eq!((&*found.vdi, found.offset_bytes), ("root", (8 << 20) + 3 * 4096));
        assert_eq!(found.node.as_deref(), Some("node-2"));
        // Whoever found it has started again, and finds it right.
        let later = seen.comparison(&[told(1, &[7], Vec::new())]);
        let later = Comparison { differing_blocks: 0, ..later }.with_what_was_found(comparison.clone());
        assert_eq!((later.differing_blocks, &later.differences), (2, &comparison.differences));
    }
}
