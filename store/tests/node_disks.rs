//! Replicas of nodes with several disks at work: one disk fails, or is to be taken away, and the others take what it had.

#[path = "flock/disks.rs"]
mod disks;
#[path = "flock/running.rs"]
#[allow(dead_code, reason = "shared with tests that need more")]
mod running;
