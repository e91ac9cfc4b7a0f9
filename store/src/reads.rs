//! Reads that wait for the disk, in order of arrival: who takes them up, and where their answers go.
//!
//! A ring takes them first if there is one; threads take the rest, and those that the ring cannot carry out. Each is taken
//! by one of them, and answered once: by whoever carried it out, or before that because the store stopped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use huntaway_wire::{Answer, Error, Read};
use tokio::sync::oneshot;

use crate::locking::lock;

/// Most reads that wait or are under way; more are refused. Gateways have fewer.
const MAX_READS: usize = 1 << 16;

/// Who carries reads out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Threads, each of which waits for the disk.
    Threads,
    /// A thread with an io_uring.
    Ring,
}

/// What names a read that was not answered yet.
pub(crate) type ReadNumber = u64;

/// Reads that were not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    queue: Mutex<Queue>,
    /// There is something for a thread to take, or nothing will be any more.
    for_threads: Condvar,
    /// Somebody takes reads; to look at without the lock.
    is_served: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    open: BTreeMap<ReadNumber, (Read, oneshot::Sender<Answer>)>,
    for_threads: VecDeque<ReadNumber>,
    for_ring: VecDeque<ReadNumber>,
    /// How many ever came.
    count: ReadNumber,
    has_ring: bool,
    /// The ring's thread sleeps, or is about to.
    is_ring_asleep: bool,
    is_closed: bool,
}

/// Where the answer to a read will come, and whether the ring is to be woken for it.
pub(crate) struct Entered {
    pub(crate) answer: oneshot::Receiver<Answer>,
    pub(crate) wakes_ring: bool,
}

impl Reads {
    /// Says that somebody takes reads from now on: threads, and a ring if there is one.
    pub(crate) fn serve(&self, lane: Lane) {
        lock(&self.queue).has_ring = lane == Lane::Ring;
        self.is_served.store(true, Ordering::Release);
    }

    /// Whether anybody takes reads.
    pub(crate) fn is_served(&self) -> bool {
        self.is_served.load(Ordering::Acquire)
    }

    /// How many wait or are under way.
    pub(crate) fn len(&self) -> usize {
        lock(&self.queue).open.len()
    }

    /// Adds a read behind all others; `None` when there are too many.
    pub(crate) fn enter(&self, read: Read) -> Option<Entered> {
        let mut queue = lock(&self.queue);
        if queue.open.len() >= MAX_READS {
            return None;
        }
        let (sender, answer) = oneshot::channel();
        queue.count += 1;
        let number = queue.count;
        queue.open.insert(number, (read, sender));
        let wakes_ring = queue.has_ring && std::mem::take(&mut queue.is_ring_asleep);
        if queue.has_ring {
            queue.for_ring.push_back(number);
        } else {
            queue.for_threads.push_back(number);
            self.for_threads.notify_one();
        }
        Some(Entered { answer, wakes_ring })
    }

    /// The next read for the ring; after `None`, its thread may sleep until it is woken.
    pub(crate) fn next_for_ring(&self) -> Option<(ReadNumber, Read)> {
        let mut queue = lock(&self.queue);
        let next = if queue.is_closed { None } else { queue.next(|queue| &mut queue.for_ring) };
        queue.is_ring_asleep = next.is_none();
        next
    }

    /// A read that the ring has taken is for a thread.
    pub(crate) fn leave_to_threads(&self, number: ReadNumber) {
        lock(&self.queue).for_threads.push_back(number);
        self.for_threads.notify_one();
    }

    /// The ring takes no more: threads do.
    pub(crate) fn lose_ring(&self) {
        let queue = &mut *lock(&self.queue);
        queue.has_ring = false;
        queue.for_threads.append(&mut queue.for_ring);
        self.for_threads.notify_all();
    }

    /// Waits for the next read for a thread; `None` when there will be none.
    pub(crate) fn next_for_thread(&self) -> Option<(ReadNumber, Read)> {
        let mut queue = lock(&self.queue);
        while !queue.is_closed {
            if let Some(next) = queue.next(|queue| &mut queue.for_threads) {
                return Some(next);
            }
            queue = self.sleep(queue);
        }
        None
    }

    fn sleep<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.for_threads.wait(queue).unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a read, unless somebody has.
    pub(crate) fn answer(&self, number: ReadNumber, answer: Answer) {
        let open = lock(&self.queue).open.remove(&number);
        if let Some((_, sender)) = open {
            // Nobody may want it any more.
            drop(sender.send(answer));
        }
    }

    /// Gives everybody an error.
    pub(crate) fn fail(&self, error: &Error) {
        let open = std::mem::take(&mut lock(&self.queue).open);
        open.into_values().for_each(|(_, sender)| drop(sender.send(Err(error.clone()))));
    }

    /// Nobody is given anything to do any more.
    pub(crate) fn close(&self) {
        lock(&self.queue).is_closed = true;
        self.for_threads.notify_all();
    }
}

impl Queue {
    /// The first read of a lane that somebody still waits for.
    fn next(&mut self, lane: impl Fn(&mut Self) -> &mut VecDeque<ReadNumber>) -> Option<(ReadNumber, Read)> {
        while let Some(number) = lane(self).pop_front() {
            match self.open.get(&number) {
                Some((_, sender)) if sender.is_closed() => drop(self.open.remove(&number)),
                Some((read, _)) => return Some((number, *read)),
                None => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use huntaway_wire::{ByteRange, ObjectKind, Oid, Partition, Pepoch, Refusal, Reply, Vid};

    use super::*;

    fn read(index: u32) -> Read {
        let oid = Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), index);
        let range = ByteRange::new(0, 4096).unwrap();
        Read { partition: Partition::of(oid.vid(), index), pepoch: Pepoch(1), oid, range }
    }

    fn enter(reads: &Reads, index: u32) -> oneshot::Receiver<Answer> {
        reads.enter(read(index)).unwrap().answer
    }

    #[test]
    fn reads_are_taken_in_order_by_the_ring_and_by_threads_what_it_leaves() {
        let reads = Reads::default();
        reads.serve(Lane::Ring);
        let mut answers: Vec<_> = (0..3).map(|index| enter(&reads, index)).collect();
        let taken: Vec<_> = (0..3).map(|_| reads.next_for_ring().unwrap()).collect();
        assert_eq!(taken.iter().map(|(_, read)| read.oid.index()).collect::<Vec<_>>(), [0, 1, 2]);
        reads.leave_to_threads(taken[1].0);
        assert_eq!(reads.next_for_thread().map(|(number, _)| number), Some(taken[1].0));
        for (number, _) in taken.iter().rev() {
            reads.answer(*number, Ok(Reply::Done));
        }
        assert!(answers.iter_mut().all(|answer| answer.try_recv() == Ok(Ok(Reply::Done))));
        assert_eq!(reads.len(), 0);
    }

    #[test]
    fn the_ring_is_woken_once_it_sleeps_and_only_then() {
        let reads = Reads::default();
        reads.serve(Lane::Ring);
        assert!(!reads.enter(read(0)).unwrap().wakes_ring, "it looks for work before it sleeps");
        assert!(reads.next_for_ring().is_none(), "nobody waits for it");
        let first = reads.enter(read(1)).unwrap();
        let second = reads.enter(read(2)).unwrap();
        assert_eq!((first.wakes_ring, second.wakes_ring), (true, false));
    }

    #[test]
    fn without_its_ring_reads_go_to_threads() {
        let reads = Reads::default();
        reads.serve(Lane::Ring);
        let _answers = [enter(&reads, 0), enter(&reads, 1)];
        reads.lose_ring();
        let _answer = enter(&reads, 2);
        let taken: Vec<_> = (0..3).map(|_| reads.next_for_thread().unwrap().1.oid.index()).collect();
        assert_eq!((taken, reads.next_for_ring().is_none()), (vec![0, 1, 2], true));
    }

    #[test]
    fn everybody_is_answered_once_when_it_ends() {
        let reads = Reads::default();
        reads.serve(Lane::Threads);
        let mut answers = [enter(&reads, 0), enter(&reads, 1)];
        let (number, _) = reads.next_for_thread().unwrap();
        reads.fail(&Refusal::NotServing.into());
        reads.answer(number, Ok(Reply::Done));
        for answer in &mut answers {
            assert_eq!(answer.try_recv(), Ok(Err(Refusal::NotServing.into())));
        }
        reads.close();
        assert!(reads.next_for_thread().is_none());
    }

    #[test]
    fn more_than_the_maximum_is_refused() {
        let reads = Reads::default();
        reads.serve(Lane::Threads);
        let answers: Vec<_> = (0..MAX_READS).map(|_| enter(&reads, 0)).collect();
        assert!(reads.enter(read(0)).is_none());
        drop(answers);
        reads.close();
        assert!(reads.next_for_thread().is_none());
    }
}
