//! What waits to be sent on one connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::frame::Outgoing;

/// Most bytes that wait. A frame that is longer waits alone.
pub const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Most frames that wait.
pub const MAX_QUEUED_FRAMES: usize = 16 << 10;

/// Bytes that are handed to the socket together: what is urgent waits for no more than that.
const BATCH_BYTES: usize = 256 << 10;

/// Takes frames for one connection, and drops those that find no place.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    urgent: VecDeque<Outgoing>,
    usual: VecDeque<Outgoing>,
    bytes: usize,
    dropped: u64,
    is_closed: bool,
    is_over: bool,
}

impl Outbox {
    /// The frame is sent after those that wait, or dropped: whoever needs it sends it again. Returns whether it waits.
    pub fn send(&self, frame: Outgoing) -> bool {
        self.put(frame, false)
    }

    /// The frame is sent before those that wait, but for others like it: for what keeps leases, and is short.
    pub fn send_first(&self, frame: Outgoing) -> bool {
        self.put(frame, true)
    }

    /// How many frames were dropped.
    pub fn dropped(&self) -> u64 {
        self.waiting().dropped
    }

    /// Bytes that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting().bytes
    }

    fn put(&self, frame: Outgoing, is_urgent: bool) -> bool {
        let mut waiting = self.waiting();
        let Waiting { urgent, usual, bytes, is_closed, dropped, .. } = &mut *waiting;
        let was_empty = *bytes == 0;
        let is_full = urgent.len() + usual.len() >= MAX_QUEUED_FRAMES
            || !was_empty && *bytes + frame.length() > MAX_QUEUED_BYTES;
        if is_full || *is_closed {
            *dropped += 1;
            return false;
        }
        *bytes += frame.length();
        (if is_urgent { urgent } else { usual }).push_back(frame);
        drop(waiting);
        if was_empty {
            self.shared.filled.notify_one();
        }
        true
    }

    /// Waits until there is something, and adds some of it to `batch`.
    pub(super) async fn take(&self, batch: &mut VecDeque<Bytes>) {
        while !self.take_now(batch) {
            self.shared.filled.notified().await;
        }
    }

    fn take_now(&self, batch: &mut VecDeque<Bytes>) -> bool {
        let mut waiting = self.waiting();
        let mut taken = 0;
        while taken < BATCH_BYTES
            && let Some(frame) = waiting.urgent.pop_front().or_else(|| waiting.usual.pop_front())
        {
            taken += frame.length();
            batch.push_back(frame.head);
            batch.extend(frame.payload);
        }
        waiting.bytes -= taken;
        taken > 0
    }

    /// What waits is lost, as what was on its way is, and so is what is sent before it is opened again.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting();
        waiting.is_closed = true;
        waiting.dropped += (waiting.urgent.len() + waiting.usual.len()) as u64;
        waiting.urgent.clear();
        waiting.usual.clear();
        waiting.bytes = 0;
    }

    /// From here on frames wait, unless the end has come.
    pub(super) fn open(&self) {
        let mut waiting = self.waiting();
        waiting.is_closed = waiting.is_over;
    }

    /// It is closed, and stays so.
    pub(super) fn end(&self) {
        self.waiting().is_over = true;
        self.close();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that is done with the lock held leaves it half done.
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8, length: usize) -> Outgoing {
        Outgoing { head: Bytes::from(vec![byte; length]), payload: Default::default() }
    }

    fn taken(outbox: &Outbox) -> Vec<u8> {
        let mut batch = VecDeque::new();
        while outbox.take_now(&mut batch) {}
        batch.iter().map(|bytes| bytes[0]).collect()
    }

    #[test]
    fn what_is_urgent_goes_first_and_the_rest_in_order() {
        let outbox = Outbox::default();
        assert!(outbox.send(frame(1, 9)) && outbox.send(frame(2, 9)));
        assert!(outbox.send_first(frame(3, 9)) && outbox.send_first(frame(4, 9)));
        assert_eq!(taken(&outbox), [3, 4, 1, 2]);
        assert_eq!((outbox.waiting_bytes(), outbox.dropped()), (0, 0));
    }

    #[test]
    fn what_finds_no_place_is_dropped_and_counted() {
        let outbox = Outbox::default();
        assert!(outbox.send(frame(1, MAX_QUEUED_BYTES + 1)), "one that is longer waits alone");
        assert!(!outbox.send(frame(2, 1)));
        outbox.close();
        assert!(!outbox.send(frame(2, 1)));
        outbox.open();
        assert!((0..MAX_QUEUED_FRAMES).all(|_| outbox.send(frame(3, 1))));
        assert!(!outbox.send(frame(4, 1)));
        assert_eq!(outbox.dropped(), 4);
        outbox.end();
        outbox.open();
        assert!(!outbox.send(frame(5, 1)));
    }
}
