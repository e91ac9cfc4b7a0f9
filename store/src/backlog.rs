//! Requests that wait for room among the recent writes or in the log, in order of arrival.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use huntaway_wire::{ObjectRequest, Oid, Operation};

use crate::locking::lock;
use crate::waiters::Sender;
use crate::wal::Lsn;

/// Requests in order, at most so many of them, with at most so many bytes of data.
#[derive(Debug)]
pub(crate) struct Backlog {
    queue: Mutex<Queue>,
    /// How many wait; to look at without the lock.
    waiting: AtomicUsize,
    most_requests: usize,
    most_bytes: u64,
}

#[derive(Debug, Default)]
struct Queue {
    requests: VecDeque<Waiting>,
    /// How many ever came: the number of the next.
    count: u64,
    /// How many wait for each object.
    objects: BTreeMap<Oid, usize>,
    data_bytes: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    request: ObjectRequest,
    /// Where the last record ended that gives space back, when it came.
    frees: Lsn,
    sender: Sender,
}

impl Backlog {
    pub(crate) fn new(most_requests: usize, most_bytes: u64) -> Self {
        Self { queue: Mutex::default(), waiting: AtomicUsize::new(0), most_requests, most_bytes }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Whether something waits that concerns the object: what comes later must wait behind it.
    pub(crate) fn concerns(&self, oid: Oid) -> bool {
        self.len() > 0 && lock(&self.queue).objects.contains_key(&oid)
    }

    /// Adds a request, which came when the last record that gives space back ended at `frees`; gives `sender` back when
    /// there are too many.
    pub(crate) fn push(&self, request: ObjectRequest, frees: Lsn, sender: Sender) -> Result<(), Sender> {
        let mut queue = lock(&self.queue);
        let bytes = queue.data_bytes + data_bytes(&request);
        let fits = queue.requests.is_empty() || bytes <= self.most_bytes;
        if queue.requests.len() >= self.most_requests || !fits {
            return Err(sender);
        }
        queue.data_bytes = bytes;
        *queue.objects.entry(request.oid).or_default() += 1;
        let number = queue.count;
        queue.count += 1;
        queue.requests.push_back(Waiting { number, request, frees, sender });
        self.waiting.store(queue.requests.len(), Ordering::Release);
        Ok(())
    }

    /// A copy of the first request, its number, and the `frees` that it came with. It stays first until it is taken out, so
    /// that nothing passes it meanwhile.
    pub(crate) fn first(&self) -> Option<(u64, ObjectRequest, Lsn)> {
        let queue = lock(&self.queue);
        queue.requests.front().map(|waiting| (waiting.number, waiting.request.clone(), waiting.frees))
    }

    /// Takes out the first request if it still is the one of this number, and returns where its answer goes.
    pub(crate) fn take(&self, number: u64) -> Option<Sender> {
        let mut queue = lock(&self.queue);
        if queue.requests.front()?.number != number {
            return None;
        }
        self.pop(&mut queue)
    }

    /// Takes out all.
    pub(crate) fn clear(&self) -> Vec<Sender> {
        let mut queue = lock(&self.queue);
        std::iter::from_fn(|| self.pop(&mut queue)).collect()
    }

    fn pop(&self, queue: &mut Queue) -> Option<Sender> {
        let Waiting { request, sender, .. } = queue.requests.pop_front()?;
        queue.data_bytes -= data_bytes(&request);
        if let Some(count) = queue.objects.get_mut(&request.oid) {
            *count -= 1;
            if *count == 0 {
                queue.objects.remove(&request.oid);
            }
        }
        self.waiting.store(queue.requests.len(), Ordering::Release);
        Some(sender)
    }
}

fn data_bytes(request: &ObjectRequest) -> u64 {
    match request.operation {
        Operation::Write { range, .. } | Operation::Or { range, .. } => range.length().into(),
        Operation::CompareAndWrite { range, .. } => u64::from(range.length()) * 2,
        _ => 0,
    }
}
