//! What will happen, in order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Time;

/// What will happen; at one moment in the order in which it was said. Times are in the unit of the world that it belongs to.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    /// When, the how manieth to be said, and where it is: events are large, and a heap moves what it has.
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    events: Vec<Option<E>>,
    /// Places in `events` that have none.
    free: Vec<usize>,
    said: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), said: 0 }
    }
}

impl<E> Queue<E> {
    /// When something happens next.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn push(&mut self, at: Time, event: E) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.said += 1;
        self.heap.push(Reverse((at, self.said, place)));
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, E)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        self.events[place].take().map(|event| (at, event))
    }
}
