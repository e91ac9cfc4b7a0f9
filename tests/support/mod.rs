//! What the tests with real clients share: a running `huntaway demo`, scripts with a time limit, waiting with a deadline,
//! and saying aloud what cannot run on this machine.

#![allow(dead_code, reason = "each test file uses its own part of this")]

pub(crate) mod cluster;
pub(crate) mod demo;
pub(crate) mod discovery;
pub(crate) mod file_system;
pub(crate) mod guest;
pub(crate) mod http;
pub(crate) mod initiator;
pub(crate) mod kept;
pub(crate) mod load;
pub(crate) mod multipath;
pub(crate) mod needs;
pub(crate) mod node;
pub(crate) mod qmp;
pub(crate) mod requests;
pub(crate) mod script;
pub(crate) mod wait;
