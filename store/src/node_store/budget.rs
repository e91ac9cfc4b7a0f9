//! What each of several disks may use of what the process has.

use crate::options::StoreOptions;
use crate::service::files_allowed;

/// Least memory for one disk's recent writes, in bytes: a write of a whole object fits.
const MIN_MEMORY_BYTES: u64 = 8 << 20;

/// Fewest object files that one disk keeps open.
const MIN_OPEN_OBJECTS: usize = 16;

/// One disk's part of `options`, which are for all `disks`: memory and open files are shared equally. The log is not: it
/// takes space of its own disk.
pub(super) fn share(options: &StoreOptions, disks: usize) -> StoreOptions {
    if disks <= 1 {
        return options.clone();
    }
    let count = disks as u64;
    let memory_bytes = (options.memory_bytes / count).max(MIN_MEMORY_BYTES.min(options.memory_bytes));
    let open_objects = options.open_objects.min(files_allowed() / 2) / disks;
    StoreOptions {
        memory_bytes,
        apply_at_bytes: (options.apply_at_bytes / count)
            .max(MIN_MEMORY_BYTES / 2)
            .min(options.apply_at_bytes),
        open_objects: open_objects.max(MIN_OPEN_OBJECTS.min(options.open_objects)),
        ..options.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_open_files_are_shared_and_logs_are_not() {
        let options = StoreOptions { open_objects: 100, ..StoreOptions::default() };
        let four = share(&options, 4);
        assert_eq!((four.memory_bytes, four.apply_at_bytes, four.open_objects), (16 << 20, 6 << 20, 25));
        assert_eq!(four.wal_bytes, options.wal_bytes);
        let many = share(&options, 64);
        assert_eq!((many.memory_bytes, many.apply_at_bytes, many.open_objects), (8 << 20, 4 << 20, 16));
        let one = share(&options, 1);
        assert_eq!((one.memory_bytes, one.open_objects), (options.memory_bytes, 100));
    }
}
