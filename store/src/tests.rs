//! What the store does for those who ask it, on a directory of the real file system.

mod checking;
mod harness;
mod requests;
mod restart;
