//! Replication of one partition, without I/O: order, versions, locks, forwarding, leases, change of primary, learners.
//!
//! [`Replica`] is one node's part: a state machine that is told what happened ([`Input`]) and says what to do
//! ([`Output`]). It keeps no data: its store has the blocks, and the log of [`Entry`]s that survives the process. What the
//! ledger agreed on reaches it as a [`Configuration`]. `ARCHITECTURE.md` argues why this keeps what was promised.
//!
//! [`order`] is the part of it that a partition with a single copy needs.

mod collecting;
mod compared;
mod configuration;
mod event;
mod in_doubt;
mod locks;
mod member;
mod mending;
mod message;
mod old_copies;
mod opening;
pub mod order;
mod planted;
mod primary;
mod process;
mod record;
mod replica;
mod requests;
mod room;
mod scrub;
mod sensible;
mod site;
mod teaching;
mod vdi;

pub use configuration::{Configuration, Proposal, SetChange};
pub use event::{Answer, Command, Input, Outcome, Output, Page, Refused, Request, Ticket, Verified};
pub use mending::Mended;
pub use message::{Attempt, Body, Lesson, Message, Reply};
pub use old_copies::{OldCopy, to_remove};
#[cfg(feature = "planted-bugs")]
pub use planted::PlantedBug;
pub use process::{GRANT_US, LEASE_US, Moment, Process, SILENCE_US};
pub use record::{Block, Change, Completion, Content, CopiedBlock, Entry, Record, RequestId, Stored};
pub use replica::Replica;
pub use requests::{Known, Requests};
pub use room::{Credit, FREEING_BYTES};
pub use site::Recovered;
pub use vdi::{Hold, Vdi, Vdis};
