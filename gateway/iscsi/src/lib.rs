//! An iSCSI target's protocol (RFC 7143) without I/O.
//!
//! A [`Connection`](crate::Connection) is one TCP connection of one session (ErrorRecoveryLevel 0,
//! MaxConnections 1). The caller moves bytes between it and a socket, hands in the time, takes
//! [`Event`](crate::Event)s and answers them. Nothing here opens a socket, reads a clock or starts a thread.

pub mod chap;
pub mod connection;
pub mod directory;
pub mod entropy;
pub mod framing;
pub mod login;
pub mod parameters;
pub mod pdu;
pub mod send_targets;
pub mod text;
pub mod text_exchange;

mod command_window;
mod error;
mod event;
mod limits;
mod lun;
mod negotiation;
mod output;
mod payload;
mod status_sequence;
mod tasks;
mod transfer;

pub use connection::{Connection, ConnectionConfig, DataIn};
pub use directory::{Authentication, Directory, TargetListing};
pub use entropy::Entropy;
pub use error::ConnectionError;
pub use event::{Cdb, Command, DataFailure, Event, Logout, ScsiResponse, SenseData, TaskManagement};
pub use limits::Limits;
pub use login::LoginStatus;
pub use lun::{Lun, MAX_LUN};
pub use output::OutputBuffer;
pub use parameters::{Negotiated, Parameters, SessionKind};
pub use payload::Payload;
pub use pdu::{
    LogoutReason, LogoutResponse, ScsiStatus, TaskAttribute, TaskFunction, TaskManagementResponse,
};
pub use status_sequence::AcknowledgedBeyondSent;
pub use tasks::TaskTag;
