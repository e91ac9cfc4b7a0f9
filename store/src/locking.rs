//! Taking a lock that no panic elsewhere can spoil.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes `mutex`, also after a thread panicked with it held: requests go on being answered until the store is stopped,
/// which a panic of one of its own threads brings about.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
