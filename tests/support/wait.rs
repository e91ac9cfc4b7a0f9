//! Waiting for a condition with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// Time between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The same, if to look takes long.
const LEAST_OFTEN: Duration = Duration::from_secs(1);

/// Looks until `condition` gives a value, and returns it.
///
/// # Panics
/// If `limit` has passed without one; `what` says what was waited for.
pub(crate) fn until<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    try_until(limit, condition).unwrap_or_else(|| panic!("waited {limit:?} for {what}"))
}

/// Looks until `condition` gives a value, at most for `limit`.
pub(crate) fn try_until<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let begin = Instant::now();
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        // To look may cost much, and takes it from what is waited for.
        thread::sleep((2 * begin.elapsed()).clamp(LOOK_EVERY, LEAST_OFTEN));
    }
}
