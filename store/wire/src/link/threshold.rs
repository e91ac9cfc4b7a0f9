//! Where those wait who have not shown yet that they have the cluster's key.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Most of them.
pub const MAX_UNPROVED: usize = 64;

/// Has room for a few. For another one the oldest has to go, so nobody keeps others out by waiting.
#[derive(Debug, Clone, Default)]
pub struct Threshold {
    guests: Arc<Mutex<VecDeque<Arc<Notify>>>>,
}

/// One that waits, until it is dropped.
#[derive(Debug)]
pub struct Guest {
    threshold: Threshold,
    displaced: Arc<Notify>,
}

impl Threshold {
    /// Has room for another one.
    pub fn enter(&self) -> Guest {
        let displaced = Arc::new(Notify::new());
        let mut guests = self.guests();
        if guests.len() >= MAX_UNPROVED
            && let Some(oldest) = guests.pop_front()
        {
            oldest.notify_one();
        }
        guests.push_back(displaced.clone());
        drop(guests);
        Guest { threshold: self.clone(), displaced }
    }

    fn guests(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        // Nothing that is done with the lock held leaves it half done.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// Ends when it has to go.
    pub async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.threshold.guests().retain(|guest| !Arc::ptr_eq(guest, &self.displaced));
    }
}
