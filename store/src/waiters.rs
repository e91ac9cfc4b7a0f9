//! Requests that were carried out but are not to be answered yet: until the log is on stable storage, or applied.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use huntaway_wire::{Answer, Error, Reply};
use tokio::sync::oneshot;

use crate::locking::lock;
use crate::wal::Lsn;

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The log is on stable storage up to here.
    Durable(Lsn),
    /// The log is applied to the object files up to here.
    Applied(Lsn),
}

/// Where an answer goes. Nobody may be there any more.
#[derive(Debug)]
pub(crate) enum Sender {
    /// To whoever asked.
    One(oneshot::Sender<Answer>),
    /// To those that other disks give, for one who asked them all.
    Joined(Arc<Joined>),
}

/// The answers of several disks as one: the first error, otherwise that of the last.
#[derive(Debug)]
pub(crate) struct Joined(Mutex<(usize, Option<oneshot::Sender<Answer>>)>);

impl Sender {
    pub(crate) fn send(self, answer: Answer) {
        match self {
            Self::One(sender) => drop(sender.send(answer)),
            Self::Joined(joined) => joined.add(answer),
        }
    }
}

impl Joined {
    /// For the answers of so many disks (at least one), to be given to `sender`. If one of them never answers, nobody does.
    pub(crate) fn new(disks: usize, sender: oneshot::Sender<Answer>) -> Arc<Self> {
        Arc::new(Self(Mutex::new((disks, Some(sender)))))
    }

    fn add(&self, answer: Answer) {
        let mut state = lock(&self.0);
        state.0 = state.0.saturating_sub(1);
        if (answer.is_err() || state.0 == 0)
            && let Some(sender) = state.1.take()
        {
            drop(sender.send(answer));
        }
    }
}

/// Answers that wait, by what they wait for. Bounded by the requests that gateways have under way.
#[derive(Debug)]
pub(crate) struct Waiters {
    durable: Mutex<Queue>,
    applied: Mutex<Queue>,
    /// How many wait for stable storage.
    for_durable: AtomicUsize,
    /// How many did when somebody was answered last, those included.
    crowd: AtomicUsize,
    /// Records up to here were replayed: nobody waits for them.
    replayed: Lsn,
}

#[derive(Debug, Default)]
struct Queue {
    senders: BTreeMap<(Lsn, u64), Sender>,
    /// What came to nothing before the one who waits for it was here.
    refused: BTreeMap<Lsn, Error>,
    count: u64,
}

impl Waiters {
    /// For a log of which everything up to `replayed` was replayed.
    pub(crate) fn new(replayed: Lsn) -> Self {
        let (durable, applied) = Default::default();
        Self { durable, applied, for_durable: AtomicUsize::new(0), crowd: AtomicUsize::new(0), replayed }
    }

    /// Keeps `sender` until then. The caller checks afterwards whether it is time already.
    pub(crate) fn add(&self, until: Until, sender: Sender) {
        let (queue, lsn) = match until {
            Until::Durable(lsn) => (&self.durable, lsn),
            Until::Applied(lsn) => (&self.applied, lsn),
        };
        let mut queue = lock(queue);
        if let Some(error) = queue.refused.remove(&lsn) {
            sender.send(Err(error));
            return;
        }
        queue.count += 1;
        let count = queue.count;
        queue.senders.insert((lsn, count), sender);
        if let Until::Durable(_) = until {
            self.for_durable.store(queue.senders.len(), Ordering::Relaxed);
        }
    }

    /// Answers those that waited for stable storage up to `lsn`.
    pub(crate) fn durable(&self, lsn: Lsn) {
        let mut queue = lock(&self.durable);
        let crowd = queue.senders.len();
        let due = queue.take_due(lsn);
        self.for_durable.store(queue.senders.len(), Ordering::Relaxed);
        drop(queue);
        if !due.is_empty() {
            self.crowd.store(crowd, Ordering::Relaxed);
        }
        due.into_values().for_each(|sender| sender.send(Ok(Reply::Done)));
    }

    /// Answers those that waited for application up to `lsn`.
    pub(crate) fn applied(&self, lsn: Lsn) {
        let due = lock(&self.applied).take_due(lsn);
        due.into_values().for_each(|sender| sender.send(Ok(Reply::Done)));
    }

    /// Gives the one that waits, or will wait, for the application of the record that ends at `lsn` an error.
    pub(crate) fn not_applied(&self, lsn: Lsn, error: &Error) {
        let mut queue = lock(&self.applied);
        let range = (lsn, 0)..=(lsn, u64::MAX);
        let senders: Vec<_> = queue.senders.extract_if(range, |_, _| true).collect();
        if senders.is_empty() && lsn > self.replayed {
            queue.refused.insert(lsn, error.clone());
        }
        drop(queue);
        senders.into_iter().for_each(|(_, sender)| sender.send(Err(error.clone())));
    }

    /// Whether somebody waits for stable storage.
    pub(crate) fn any_for_durable(&self) -> bool {
        !lock(&self.durable).senders.is_empty()
    }

    /// How many wait for stable storage. As a hint: it takes no lock.
    pub(crate) fn for_durable(&self) -> usize {
        self.for_durable.load(Ordering::Relaxed)
    }

    /// How many waited for stable storage when somebody was answered last, those included.
    pub(crate) fn crowd(&self) -> usize {
        self.crowd.load(Ordering::Relaxed)
    }

    /// Whether somebody waits for application.
    pub(crate) fn any_for_applied(&self) -> bool {
        !lock(&self.applied).senders.is_empty()
    }

    /// Gives everybody an error.
    pub(crate) fn fail(&self, error: &Error) {
        for queue in [&self.durable, &self.applied] {
            let senders = std::mem::take(&mut lock(queue).senders);
            self.for_durable.store(0, Ordering::Relaxed);
            senders.into_values().for_each(|sender| sender.send(Err(error.clone())));
        }
    }
}

impl Queue {
    /// Takes out those whose time has come at `lsn`.
    fn take_due(&mut self, lsn: Lsn) -> BTreeMap<(Lsn, u64), Sender> {
        let later = self.senders.split_off(&(Lsn(lsn.0 + 1), 0));
        std::mem::replace(&mut self.senders, later)
    }
}

#[cfg(test)]
mod tests {
    use huntaway_wire::Refusal;

    use super::*;

    #[test]
    fn each_is_answered_when_its_time_comes() {
        let waiters = Waiters::new(Lsn(0));
        let add = |until| {
            let (sender, receiver) = oneshot::channel();
            waiters.add(until, Sender::One(sender));
            receiver
        };
        let mut first = add(Until::Durable(Lsn(10)));
        let mut second = add(Until::Durable(Lsn(20)));
        let mut third = add(Until::Applied(Lsn(10)));
        assert_eq!((waiters.for_durable(), waiters.crowd()), (2, 0));
        waiters.durable(Lsn(10));
        assert_eq!((waiters.for_durable(), waiters.crowd()), (1, 2), "one was answered, one waits on");
        assert_eq!(first.try_recv(), Ok(Ok(Reply::Done)));
        assert!(second.try_recv().is_err() && third.try_recv().is_err());
        waiters.not_applied(Lsn(10), &Refusal::NotServing.into());
        assert_eq!(third.try_recv(), Ok(Err(Refusal::NotServing.into())));
        waiters.fail(&Refusal::NotServing.into());
        assert_eq!(second.try_recv(), Ok(Err(Refusal::NotServing.into())));
        waiters.not_applied(Lsn(30), &Refusal::NotServing.into());
        assert_eq!(add(Until::Applied(Lsn(30))).try_recv(), Ok(Err(Refusal::NotServing.into())), "too early");
        assert!(!waiters.any_for_durable() && !waiters.any_for_applied());
    }
}
