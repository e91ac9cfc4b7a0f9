//! What the store does for those who ask it, on a directory of the real file system.

mod checking;
mod harness;
mod read_modify_write;
mod requests;
mod restart;
