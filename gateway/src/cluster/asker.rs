//! Whom requests are made for: a command of an initiator, or the gateway itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use huntaway_wire::{Partition, Vid};
use smallvec::SmallVec;

use super::number;
use super::proof::Proof;
use crate::fencing::Proven;
use crate::sessions::lock;

/// One command, with what its requests have in common.
pub(crate) struct Asker {
    number: u64,
    /// `None` = the gateway itself, which needs no proof.
    proof: Option<Arc<Proof>>,
    /// The disk, by its first version.
    disk: Vid,
    /// The fence of the disk when the command was received.
    fence: u64,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    given_up: bool,
    /// Where it has made requests.
    partitions: SmallVec<[Partition; 2]>,
}

/// Whose a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// The command.
    pub(super) asker: u64,
    /// The connection that it came by; `None` = the gateway itself.
    pub(super) connection: Option<u64>,
    /// The disk, by its first version.
    pub(super) disk: Vid,
}

impl Asker {
    /// A command to the disk, received under this fence.
    pub(super) fn new(proof: Option<Arc<Proof>>, disk: Vid, fence: u64) -> Self {
        Self { number: number(), proof, disk, fence, asked: Mutex::default() }
    }

    pub(super) fn disk(&self) -> Vid {
        self.disk
    }

    pub(super) fn fence(&self) -> u64 {
        self.fence
    }

    pub(super) fn proof(&self) -> Option<&Arc<Proof>> {
        self.proof.as_ref()
    }

    pub(super) fn owner(&self) -> Owner {
        let connection = self.proof.as_ref().map(|proof| proof.number);
        Owner { asker: self.number, connection, disk: self.disk }
    }

    /// What is proved when the clock shows `now`.
    pub(super) fn proven(&self, now: Duration) -> Proven {
        self.proof.as_ref().map_or(Proven(Some(now)), |proof| proof.proven())
    }

    /// Has `enter` make a request for the partition, unless the command was given up.
    pub(super) fn ask<T>(&self, partition: Partition, enter: impl FnOnce() -> T) -> Option<T> {
        let mut asked = lock(&self.asked);
        if asked.given_up {
            return None;
        }
        // A flush asks thousands: those that were asked more than once are found when it is given up.
        if asked.partitions.last() != Some(&partition) {
            asked.partitions.push(partition);
        }
        Some(enter())
    }

    /// It makes no request any more. Returns where it has made some.
    pub(super) fn give_up(&self) -> SmallVec<[Partition; 2]> {
        let mut asked = lock(&self.asked);
        asked.given_up = true;
        let mut partitions = std::mem::take(&mut asked.partitions);
        partitions.sort_unstable();
        partitions.dedup();
        partitions
    }
}
