//! An initiator for putting load on a target: one session of one connection, driven by blocking calls of one thread. What is
//! queued leaves in one call to the system, what has come is taken in one, and no command allocates memory.
//!
//! It recovers nothing: an error ends the session. That a logical unit has news (a unit attention) is for the caller to see.

mod chap;
mod input;
mod login;
mod output;
mod session;
mod tasks;
mod unit;

pub(crate) use chap::Account;
pub(crate) use login::{Address, Negotiated, Offer};
pub(crate) use session::Session;
pub(crate) use tasks::{Direction, Outcome, Request};
pub(crate) use unit::{LogicalUnit, flush};
