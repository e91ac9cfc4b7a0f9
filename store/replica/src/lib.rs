//! Replication of one partition, without I/O: order, versions, locks, forwarding, leases, change of primary, learners.
//!
//! [`Replica`] is one node's part: a state machine that is told what happened ([`Input`]) and says what to do
//! ([`Output`]). It keeps no data: its store has the blocks, and the log of [`Entry`]s that survives the process. What the
//! ledger agreed on reaches it as a [`Configuration`]. `ARCHITECTURE.md` argues why this keeps what was promised.
//!
//! Whoever drives replicas
//!
//! - reads the clock in each step, after it took what it is to say from whatever queue that was in: a process may pause in between;
//! - delivers a message to the process that it names, of that incarnation, and to no other;
//! - carries out outputs in their order, and gives all entries of a step to the log before a [`Replica::checkpoint`] and the next step;
//! - says of an entry that it is logged when it is in the log's file, and of a sync when the disk said so. When the disk says
//!   anything else it never asks it again: [`Input::DiskFailed`], and whoever starts next there says that it may have lost writes;
//! - has [`Entry::Replace`] and [`Entry::Copy`] happen at one moment for reads, and [`Entry::Replace`] also for whoever starts next;
//! - hands on the ledger's lease only when all that the ledger says up to that moment was said to all replicas.
//!
//! [`order`] is the part of it that a partition with a single copy needs.

mod collecting;
mod compared;
mod configuration;
mod encoding;
mod event;
mod in_doubt;
mod locks;
mod member;
mod mending;
mod message;
mod old_copies;
mod opening;
pub mod order;
mod pace;
mod planted;
mod primary;
mod process;
mod record;
mod recovery;
mod replica;
mod requests;
mod resend;
mod room;
mod scrub;
mod sensible;
mod site;
mod teaching;
mod vdi;

pub use configuration::{Configuration, Proposal, SetChange};
pub use event::{Answer, Command, Input, Outcome, Output, Page, Refused, Request, Ticket, Verified};
pub use mending::{Found, Mended};
pub use message::{Attempt, Body, Lesson, Message, Reply};
pub use old_copies::{OldCopy, to_remove};
#[cfg(feature = "planted-bugs")]
pub use planted::PlantedBug;
pub use process::{GRANT_US, LEASE_US, Moment, Process, SILENCE_US};
pub use record::{
    Block, Change, Completion, Content, CopiedBlock, Entry, Record, RequestId, SET_ASIDE_BLOCK,
    SET_ASIDE_VERSION, Stored,
};
pub use recovery::{Progress, Recovery, RecoveryLimits, ToTeach, Urgency};
pub use replica::Replica;
pub use requests::{Known, Requests};
pub use room::{Credit, NEW_OBJECT_BYTES, WHOLE_OBJECT_BYTES};
pub use site::Recovered;
pub use vdi::{Hold, Vdi, Vdis};
