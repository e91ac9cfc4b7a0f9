//! Partitions that go from one disk of the node to another.
//!
//! The table alone says where a partition is: what another disk has of it is nothing to anybody. Who changes the table has seen to it
//! that nobody counts on what the partition has (`store/src/host/rehoming.rs`).

use std::io;
use std::sync::atomic::Ordering;

use huntaway_wire::Partition;

use super::{NodeDisk, NodeStore, Service};
use crate::disk::FileDisk;
use crate::disk_table::DiskTable;
use crate::locking::lock;
use crate::placement::{self, WeightedDisk};
use crate::store::Store;

impl NodeStore {
    /// Has the partitions be on that disk: on stable storage first.
    ///
    /// # Errors
    /// The table cannot be written. Which disk they are on at the next start is not known then, until another try succeeds.
    pub(crate) fn reroute(&self, partitions: &[Partition], disk: usize) -> io::Result<()> {
        let mut table = lock(&self.table);
        let place = table.disks.iter().position(|entry| entry.id == self.disks[disk].id);
        let place = place.and_then(|place| u8::try_from(place).ok());
        let place = place.ok_or_else(|| io::Error::other("the disk is not in the table"))?;
        let mut routes = table.routes().ok_or_else(|| io::Error::other("no disk has a weight"))?;
        partitions.iter().for_each(|partition| routes[partition.index()] = place);
        let changed = DiskTable { routes: Some(routes), ..table.clone() };
        changed.store(&self.state)?;
        *table = changed;
        for partition in partitions {
            let route = &self.routes[partition.index()];
            let before = route.swap(disk as u8, Ordering::AcqRel);
            self.disks[usize::from(before)].partitions.fetch_sub(1, Ordering::Relaxed);
            self.disks[disk].partitions.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Which disk takes the partition when the one that it is on does not keep it: by their weights, of those that serve, are another
    /// one, and have room.
    pub(crate) fn instead(
        &self,
        partition: Partition,
        has_room: impl Fn(&Store<FileDisk>) -> bool,
    ) -> Option<usize> {
        let at = self.number_of(partition);
        let takes = |disk: &NodeDisk| disk.at_work().is_some_and(|local| has_room(local.store()));
        let weigh = |(number, disk): (usize, &NodeDisk)| {
            let weight = if number != at && takes(disk) { disk.weight } else { 0 };
            WeightedDisk { disk: disk.id, weight }
        };
        let weighted: Vec<WeightedDisk> = self.disks.iter().enumerate().map(weigh).collect();
        placement::place(partition, &weighted)
    }

    /// Whether partitions may be on other disks than at first.
    pub(crate) fn are_routed(&self) -> bool {
        lock(&self.table).routes.is_some()
    }

    /// How many partitions are on the disk.
    pub(crate) fn partitions_of(&self, disk: usize) -> u16 {
        self.disks.get(disk).map_or(0, |disk| disk.partitions.load(Ordering::Relaxed))
    }

    /// Whether the disk failed while it was served.
    pub(crate) fn has_failed(&self, disk: usize) -> bool {
        let service = self.disks.get(disk).map(|disk| &disk.service);
        matches!(service, Some(Service::Serving(local)) if local.store().has_failed())
    }
}
