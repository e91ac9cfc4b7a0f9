//! The storage process: object directory, write-ahead log, recovery.

pub mod disk;
pub mod wal;
