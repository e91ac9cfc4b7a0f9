//! What is due now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use huntaway_replica::{Input, Moment, RequestId, ToTeach};
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

/// A request that was not answered for so long is watched no more: it may have been dropped.
const MOST_WATCHED_US: u64 = 1_000_000;

/// How long gateways wait for answers, of late. One request is watched from one look to the next.
#[derive(Default)]
pub(super) struct Waits {
    /// Which; [`Waits::NONE`] before, [`Waits::ANSWERED`] after it, [`Waits::CHANGES`] between.
    watched: AtomicU64,
    came_us: AtomicU64,
    waited_us: AtomicU64,
}

impl Waits {
    const NONE: u64 = 0;
    const CHANGES: u64 = u64::MAX;
    const ANSWERED: u64 = u64::MAX - 1;

    /// Gateways count from 1 in each partition.
    fn which(partition: Partition, id: RequestId) -> u64 {
        id.number.wrapping_mul(u64::from(PARTITIONS)).wrapping_add(u64::from(partition.value()))
    }

    fn becomes(&self, from: u64, to: u64) -> bool {
        self.watched.load(Ordering::Relaxed) == from
            && self.watched.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// A request came.
    pub(super) fn asked(&self, partition: Partition, id: RequestId) {
        if self.becomes(Self::NONE, Self::CHANGES) {
            self.came_us.store(now().0, Ordering::Relaxed);
            self.watched.store(Self::which(partition, id), Ordering::Release);
        }
    }

    pub(super) fn answered(&self, partition: Partition, id: RequestId) {
        if self.becomes(Self::which(partition, id), Self::CHANGES) {
            let waited_us = now().0.saturating_sub(self.came_us.load(Ordering::Relaxed));
            self.waited_us.store(waited_us, Ordering::Relaxed);
            self.watched.store(Self::ANSWERED, Ordering::Release);
        }
    }

    /// How long the watched one waited, or has waited by now. The next one is watched after that.
    fn look(&self, now: Moment) -> u64 {
        match self.watched.load(Ordering::Acquire) {
            Self::NONE | Self::CHANGES => 0,
            Self::ANSWERED => {
                let waited_us = self.waited_us.load(Ordering::Relaxed);
                self.becomes(Self::ANSWERED, Self::NONE);
                waited_us
            }
            watched => {
                let waits_us = now.0.saturating_sub(self.came_us.load(Ordering::Relaxed));
                if waits_us > MOST_WATCHED_US {
                    self.becomes(watched, Self::NONE);
                }
                waits_us
            }
        }
    }
}

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
            if shared.may_teach_others.swap(false, Ordering::AcqRel) {
                shared.teach();
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
        if !self.rests(partition) {
            self.step(partition, Input::Tick);
        }
    }

    /// Whether nothing is due there, which most replicas are asked in vain. One that is busy hears of the time when it is not.
    fn rests(&self, partition: Partition) -> bool {
        let (store, door) = (self.disks.store(partition), self.door(partition));
        let rests = store
            .is_some_and(|store| door.try_place().is_some_and(|mut place| place.rests(partition, store)));
        // Who came meanwhile has left it to us.
        if door.is_anybody_waiting() {
            self.go_on(partition);
        }
        rests
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
            recovery.latency(now(), self.waits.look(now()));
            copied.into_iter().for_each(|(partition, bytes)| recovery.copied(now(), partition, bytes));
            recovery.next(now())
        };
        for ToTeach { partition, learner, bytes_per_second } in to_teach {
            self.step(partition, Input::Teach { learner, bytes_per_second });
        }
    }
}

#[cfg(test)]
mod tests {
    use huntaway_replica::Process;
    use huntaway_wire::{Incarnation, NodeId};

    use super::*;

    #[test]
    fn one_request_after_another_is_watched_until_it_is_answered_or_forgotten() {
        let waits = Waits::default();
        let gateway = Process { node: NodeId([1; 16]), incarnation: Incarnation(1) };
        let (partition, id) = (Partition::new(7).unwrap(), |number| RequestId { gateway, number });
        let later = |us: u64| Moment(now().0 + us);
        assert_eq!(waits.look(now()), 0, "nobody asks");
        waits.asked(partition, id(1));
        waits.asked(partition, id(2));
        assert!(waits.look(later(50_000)) >= 50_000);
        waits.answered(partition, id(2));
        waits.answered(Partition::new(8).unwrap(), id(1));
        assert!(waits.look(later(60_000)) >= 60_000, "these were others");
        waits.answered(partition, id(1));
        assert!(waits.look(later(3_600_000_000)) < 3_600_000_000, "it waits no more");
        assert_eq!(waits.look(now()), 0);
        waits.asked(partition, id(3));
        assert!(waits.look(later(2 * MOST_WATCHED_US)) > MOST_WATCHED_US);
        assert_eq!(waits.look(now()), 0, "it was dropped");
    }
}
