//! What the store does for those who ask it, on a directory of the real file system.

mod harness;
mod requests;
mod restart;
