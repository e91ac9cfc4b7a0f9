//! Room for what replicas log: what can wait is put off before it begins, and what has begun is seen through.
//!
//! A message that its sender repeats, or a request, is dropped when the log is at its bound and the disk has nothing left. What has
//! begun and finds no room waits for it, and the replica with it, which takes nothing in meanwhile: to the others it is one that does
//! not answer. Whoever comes to it then, the timer mostly, tries again. One that could not log what it has begun, however long that
//! was waited for, is out for as long as its process lives.

use std::time::{Duration, Instant};

use huntaway_replica::{Entry, Input, Outcome, Output};
use huntaway_wire::replicated::{Answer, Answered, Refused};
use huntaway_wire::{Error, Partition, Pepoch, Stamp, clock};

use super::step::{After, Place};
use super::{Shared, now};
use crate::LogError;
use crate::disk::FileDisk;
use crate::store::Store;
use crate::wal::Lsn;

/// An entry that waits for room is tried again after this.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// After this it takes of the disk what is kept out of promises.
const WAITS_FOR_PROMISED: Duration = Duration::from_secs(1);

/// After this its replica is out: until then, if it leads, the node acts on nothing that is new of the ledger, and resets wait for that.
const MOST_WAITING: Duration = Duration::from_secs(20);

/// What a replica knows is told in time while there is no more than this in doubt of it; else a few beacons later, when it is settled,
/// for in a log without room it would take the place of others' writes.
const MUCH_BYTES: u64 = 64 << 10;
const MOST_PUT_OFF: u8 = 6;

/// So long it is waited that the ledger leaves out a replica that had no room.
const MOST_LACKING: Duration = Duration::from_secs(30);

/// So long a replica whose store cannot read its index does nothing, before it is out.
const MOST_UNREADABLE: Duration = Duration::from_secs(10);

/// What was found unreadable longer ago was so at another time.
const STILL_UNREADABLE: Duration = Duration::from_secs(3);

impl Place {
    /// What the replica knows goes to the log again. If there is no room for that either, whoever tries again finds out.
    pub(super) fn tell_what_is_known(&mut self, partition: Partition, store: &Store<FileDisk>) {
        // What it knows by now may name what the log does not have.
        if self.has_failed || !self.is_through() {
            return;
        }
        let is_much = self.replica.in_doubt_bytes() > MUCH_BYTES && store.is_tight();
        if is_much && self.put_off < MOST_PUT_OFF {
            self.put_off += 1;
            return;
        }
        self.put_off = 0;
        let _ = store.log_entry(partition, &self.replica.checkpoint());
    }
}

impl Place {
    /// Whether it is for want of room, or of something else that may be there another time.
    fn lacks(
        &mut self,
        partition: Partition,
        store: &Store<FileDisk>,
        logged: &Result<Lsn, LogError>,
    ) -> bool {
        match logged {
            Err(LogError::Full | LogError::NoSpace { .. } | LogError::NotNow) => true,
            Err(LogError::DamagedIndex) => self.is_unreadable_now(partition, store),
            _ => false,
        }
    }

    /// Whether the store cannot tell what the partition has, and that may be another time: not, if it has lasted.
    fn is_unreadable_now(&mut self, partition: Partition, store: &Store<FileDisk>) -> bool {
        if !store.is_unreadable_now(partition) {
            self.unreadable = None;
            return false;
        }
        let now = Instant::now();
        let lasts = self.unreadable.filter(|(_, last)| now.duration_since(*last) < STILL_UNREADABLE);
        let since = lasts.map_or(now, |(since, _)| since);
        self.unreadable = Some((since, now));
        now.duration_since(since) < MOST_UNREADABLE
    }
}

impl Shared {
    /// What there is to say instead, if `input` is not taken in for want of room: whoever sent it sends it again.
    pub(super) fn is_put_off(
        &self,
        partition: Partition,
        place: &mut Place,
        input: &Input,
    ) -> Option<Option<After>> {
        let bytes = place.replica.may_be_put_off(input).filter(|_| !place.has_failed)?;
        let store = self.disks.store(partition)?;
        if !store.takes_more(bytes) {
            store.put_off();
        } else if !place.is_unreadable_now(partition, store) {
            return None;
        }
        let Input::Requested(request) = input else { return Some(None) };
        let answers = place.answers_of(request.id.gateway);
        let stamp = Stamp { incarnation: self.me.incarnation, clock: clock::now() };
        let answer = Answer::Refused(Refused::NotServing);
        let answered = Answered { id: request.id, resend: request.resend, answer, stamp };
        Some(answers.map(|answers| After::Answer(answers, answered)))
    }

    /// What the store has room for, if the replica wants to know before it takes that in.
    pub(super) fn tell_room(&self, partition: Partition, place: &mut Place, input: &Input) -> Vec<Output> {
        let is_wanted = !place.has_failed && place.replica.wants_room_for(input);
        let Some(store) = self.disks.store(partition).filter(|_| is_wanted) else { return Vec::new() };
        match store.credit(partition) {
            Ok(credit) => place.replica.step(now(), Input::Room(credit)),
            // It is told of room for what it could not log; without that the others would wait for it.
            Err(Error::Broken(_)) if place.is_unreadable_now(partition, store) => Vec::new(),
            Err(error @ Error::Broken(_)) => {
                tracing::error!(%partition, %error, "a replica has nowhere to log to");
                place.has_failed = true;
                place.replica.step(now(), Input::DiskFailed)
            }
            Err(Error::Refused(_)) => Vec::new(),
        }
    }

    /// Logs an entry of the replica. `None`: there is no room for it now.
    pub(super) fn log(
        &self,
        partition: Partition,
        place: &mut Place,
        entry: &Entry,
        after: &mut Vec<After>,
    ) -> Option<Outcome> {
        // Of entries in the log all earlier ones are: after one that is not there nothing is added.
        let store = self.disks.store(partition).filter(|_| !place.has_failed);
        let Some(store) = store else {
            place.has_failed = true;
            return Some(Outcome::Failed);
        };
        let waited = place.waits.map(|(since, _)| since.elapsed());
        let is_last = waited.is_some_and(|waited| waited >= WAITS_FOR_PROMISED);
        let mut logged = self.try_to_log(store, partition, entry, is_last);
        let mut lacks = place.lacks(partition, store, &logged);
        if lacks && matches!(entry, Entry::Copy { .. } | Entry::Replace { .. }) {
            return Some(Outcome::NoRoom);
        }
        if lacks && waited.is_none() {
            // It was promised room: what is in its way goes to its place now.
            self.make_room(store, after);
            logged = self.try_to_log(store, partition, entry, false);
            lacks = place.lacks(partition, store, &logged);
        }
        if lacks && waited.is_none_or(|waited| waited < MOST_WAITING) {
            store.want_room();
            let now = Instant::now();
            place.waits = Some((place.waits.map_or(now, |(since, _)| since), now));
            return None;
        }
        place.waits = None;
        let Err(error) = logged else { return Some(Outcome::Done) };
        tracing::error!(
            %partition, %error,
            "a replica's entry cannot be logged: it takes no part before the process starts again"
        );
        place.lacks_room = lacks.then(Instant::now);
        place.has_failed = true;
        Some(Outcome::Failed)
    }

    fn try_to_log(
        &self,
        store: &Store<FileDisk>,
        partition: Partition,
        entry: &Entry,
        is_last: bool,
    ) -> Result<Lsn, LogError> {
        match is_last {
            _ if self.has_no_room() => Err(LogError::Full),
            false => store.log_entry(partition, entry),
            true => store.log_entry_at_last(partition, entry),
        }
    }

    #[cfg(feature = "planted-bugs")]
    fn has_no_room(&self) -> bool {
        self.has_no_room.load(std::sync::atomic::Ordering::Acquire)
    }

    #[cfg(not(feature = "planted-bugs"))]
    fn has_no_room(&self) -> bool {
        false
    }

    /// A replica that takes no part any more while its disk serves others must not keep the log from being used again for ever. When
    /// nobody counts on it, what it knew is of no use. While somebody does, and nobody else serves in its place, only another process can
    /// go on with what the log has.
    pub(super) fn look_after_failed(&self, place: &mut Place, partition: Partition, store: &Store<FileDisk>) {
        if !place.has_failed {
            return;
        }
        let configuration = place.replica.configuration();
        // Before the ledger knows, what was asked for earlier may make it count.
        let me = &self.me.node;
        let is_known = configuration.failed.contains(me) || !configuration.keepers.contains(me);
        if is_known && !configuration.has(self.me) && configuration.pepoch > Pepoch(0) {
            place.lacks_room = None;
            return store.gives_up_knowledge(partition);
        }
        let lasts = place.lacks_room.is_some_and(|since| since.elapsed() > MOST_LACKING);
        if lasts && self.ledger.has_lease() {
            tracing::error!(
                %partition, disk = store.name(),
                "a replica that the partition needs had no room for what it had begun: the process ends, and can be started again. \
                 Free space on the disk"
            );
            std::process::abort();
        }
    }

    /// What another disk has of the partition is nothing to its replica.
    fn is_on(&self, partition: Partition, store: &Store<FileDisk>) -> bool {
        self.disks.store(partition).is_some_and(|its| std::ptr::eq(its, store))
    }

    /// Has the log be used again, as far as that can be without waiting for other replicas.
    fn make_room(&self, store: &Store<FileDisk>, after: &mut Vec<After>) {
        for partition in store.checkpoints_due().into_iter().chain(store.in_the_way()) {
            let door = self.door(partition);
            let Some(mut place) = door.try_place() else { continue };
            if self.is_on(partition, store) {
                place.tell_what_is_known(partition, store);
            }
            drop(place);
            // Who came meanwhile has left it to us.
            if door.is_anybody_waiting() {
                after.push(After::GoOn(partition));
            }
        }
        // A disk that fails is noticed by whoever uses it next.
        let _ = store.sync().and_then(|_| store.apply());
    }

    /// What replicas know goes to the log of a disk again, where it holds up the rest. A replica that is busy is looked at the next time.
    pub(super) fn checkpoint_due(&self, store: &Store<FileDisk>) {
        let is_tight = store.is_tight();
        let in_the_way = if is_tight { store.in_the_way() } else { Vec::new() };
        for partition in store.checkpoints_due().into_iter().chain(in_the_way) {
            self.try_at(partition, |place| {
                if self.is_on(partition, store) {
                    place.tell_what_is_known(partition, store);
                }
            });
        }
        if is_tight || store.is_to_begin_anew() {
            store.want_room();
        }
    }
}
