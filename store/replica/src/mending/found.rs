//! What a pass through the objects of a partition found, for people who want to know.

use huntaway_wire::{NodeId, Oid};

use super::repair::Repair;

/// Most blocks that are named.
const MOST_NAMED: usize = 64;

/// What was found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Objects that were read on all in-sync replicas.
    pub objects: u64,
    /// Blocks that they have.
    pub blocks: u64,
    /// Objects that could not be read, or mended, just then.
    pub failed_objects: u64,
    /// Blocks of one replica that were not what they should be, and blocks that no replica has whole.
    pub differing: u64,
    /// The first of them: their objects, their places, and whose they are; `None`: nobody has them whole.
    pub differences: Vec<(Oid, u32, Option<NodeId>)>,
}

impl Found {
    pub(super) fn take(&mut self, repair: &Repair) {
        self.objects += 1;
        self.blocks += repair.states().count() as u64;
        let lost = repair.states().filter(|(.., is_lost)| *is_lost).map(|(block, ..)| (block, None));
        let is_lost = |block: u32| repair.states().any(|(other, _, is_lost)| other == block && is_lost);
        let wrong = repair.wrong().filter(|(block, _)| !is_lost(*block));
        for (block, node) in lost.chain(wrong.map(|(block, process)| (block, Some(process.node)))) {
            self.differing += 1;
            if self.differences.len() < MOST_NAMED {
                self.differences.push((repair.oid(), block, node));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use huntaway_wire::{Incarnation, ObjectKind, Version, Vid};

    use super::*;
    use crate::event::Verified;
    use crate::mending::repair::Report;
    use crate::process::Process;

    #[test]
    fn each_wrong_copy_is_named_and_what_nobody_has_is_named_once() {
        let process = |node: u8| Process { node: NodeId([node; 16]), incarnation: Incarnation(1) };
        let version = Version { pepoch: 1, seq: 1 };
        let report = |crcs: [Option<u32>; 3]| {
            let verified = |(block, crc)| Verified { block, version, crc };
            Report { blocks: (0..).zip(crcs).map(verified).collect(), is_missing: false }
        };
        let reports = BTreeMap::from([
            (process(1), report([Some(7), Some(8), None])),
            (process(2), report([Some(7), None, None])),
        ]);
        let oid = Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), 0);
        let mut found = Found::default();
        found.take(&Repair::new(oid, &reports, process(1), version));
        assert_eq!((found.objects, found.blocks, found.differing), (1, 3, 2));
        assert_eq!(found.differences, [(oid, 2, None), (oid, 1, Some(NodeId([2; 16])))]);
    }
}
