//! Taking a lock that no panic elsewhere can spoil.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes `mutex`. A thread that panicked with it held is no reason to stop the others: nothing in the store that is
/// kept behind a lock is changed in more than one step that can panic.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
