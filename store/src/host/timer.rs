//! What is due now and then.

use std::sync::Arc;
use std::time::Duration;

use huntaway_replica::{Input, ToTeach};
use huntaway_wire::{PARTITIONS, Partition};
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use super::step::{After, Place};
use super::{Shared, now};
use crate::locking::lock;

/// How often each replica hears that time goes by: a few times in each lease.
const TICK: Duration = Duration::from_millis(150);

/// Its replicas hear of it one part after another, so that nobody waits for all of them.
const PARTS: usize = 6;

/// How many are told before other tasks have their turn.
const AT_ONCE: usize = 64;

pub(super) async fn tick(shared: Arc<Shared>) {
    let mut ticks = interval(TICK / PARTS as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let partitions: Vec<Partition> = Partition::all().collect();
    let part = usize::from(PARTITIONS).div_ceil(PARTS);
    loop {
        for some in partitions.chunks(part) {
            ticks.tick().await;
            for few in some.chunks(AT_ONCE) {
                few.iter().for_each(|partition| shared.tick(*partition));
                yield_now().await;
            }
        }
        shared.teach();
        shared.syncs.look_at_logs();
        shared.scrub();
    }
}

impl Shared {
    fn tick(&self, partition: Partition) {
        if let Some(store) = self.disks.store(partition) {
            for oid in store.suspects(partition) {
                self.step(partition, Input::Suspect { oid });
            }
        }
        self.step(partition, Input::Tick);
    }

    pub(super) fn tick_place(&self, partition: Partition, place: &mut Place, after: &mut Vec<After>) {
        match self.disks.store(partition) {
            Some(store) => self.look_after_failed(place, partition, store),
            None if place.has_failed => {}
            None => {
                place.has_failed = true;
                self.step_at(partition, place, Input::DiskFailed, after);
            }
        }
        self.step_at(partition, place, Input::Tick, after);
    }

    /// Tells primaries whom to teach.
    pub(super) fn teach(&self) {
        let taught: Vec<Partition> = lock(&self.recovery).taught().collect();
        let copied = |at: Partition| Some((at, self.try_at(at, |place| place.replica.copied_bytes())?));
        let copied: Vec<(Partition, u64)> = taught.into_iter().filter_map(copied).collect();
        let to_teach = {
            let mut recovery = lock(&self.recovery);
            copied.into_iter().for_each(|(partition, bytes)| recovery.copied(now(), partition, bytes));
            recovery.next(now())
        };
        for ToTeach { partition, learner, bytes_per_second } in to_teach {
            self.step(partition, Input::Teach { learner, bytes_per_second });
        }
    }
}
