//! Requests that wait for room in memory or in the log, in order of arrival.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use huntaway_wire::{ObjectRequest, Oid, Operation};

use crate::locking::lock;
use crate::waiters::Sender;

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
    requests: VecDeque<(ObjectRequest, Sender)>,
    /// How many wait for each object.
    objects: BTreeMap<Oid, usize>,
    data_bytes: u64,
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

    /// Adds a request; gives `sender` back when there are too many.
    pub(crate) fn push(&self, request: ObjectRequest, sender: Sender) -> Result<(), Sender> {
        let mut queue = lock(&self.queue);
        let bytes = queue.data_bytes + data_bytes(&request);
        let fits = queue.requests.is_empty() || bytes <= self.most_bytes;
        if queue.requests.len() >= self.most_requests || !fits {
            return Err(sender);
        }
        queue.data_bytes = bytes;
        *queue.objects.entry(request.oid).or_default() += 1;
        queue.requests.push_back((request, sender));
        self.waiting.store(queue.requests.len(), Ordering::Release);
        Ok(())
    }

    /// A copy of the first request. It stays first until [`Backlog::pop`], so that nothing passes it meanwhile.
    pub(crate) fn first(&self) -> Option<ObjectRequest> {
        lock(&self.queue).requests.front().map(|(request, _)| request.clone())
    }

    /// Takes out the first request.
    pub(crate) fn pop(&self) -> Option<(ObjectRequest, Sender)> {
        let mut queue = lock(&self.queue);
        let (request, sender) = queue.requests.pop_front()?;
        queue.data_bytes -= data_bytes(&request);
        if let Some(count) = queue.objects.get_mut(&request.oid) {
            *count -= 1;
            if *count == 0 {
                queue.objects.remove(&request.oid);
            }
        }
        self.waiting.store(queue.requests.len(), Ordering::Release);
        Some((request, sender))
    }
}

fn data_bytes(request: &ObjectRequest) -> u64 {
    match request.operation {
        Operation::Write { range, .. } => range.length().into(),
        _ => 0,
    }
}
