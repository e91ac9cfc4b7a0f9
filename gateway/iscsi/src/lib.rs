//! An iSCSI target's protocol (RFC 7143) without I/O.
//!
//! A [`Connection`] is one TCP connection of one session (ErrorRecoveryLevel 0, MaxConnections 1). The caller
//! moves bytes between it and a socket, hands in the time, takes [`Event`]s and answers them. Nothing here opens
//! a socket, reads a clock, draws randomness or starts a thread; what a SCSI command means is the caller's
//! business too.
//!
//! What a caller does with each connection:
//!
//! ```
//! use std::time::Duration;
//!
//! use iscsi_target::{Connection, ConnectionError, Event, LogoutResponse, ScsiResponse, TaskManagementResponse};
//!
//! /// Called when the socket gave `bytes`. Afterwards `connection.output()` is to be written to it.
//! fn receive(connection: &mut Connection, bytes: &[u8], now: Duration) -> Result<(), ConnectionError> {
//!     connection.input().extend_from_slice(bytes);
//!     while let Some(event) = connection.next_event(now)? {
//!         match event {
//!             Event::Login(_session) => connection.accept_session(now, 1),
//!             Event::Proof => connection.judge_proof(),
//!             Event::Command(command) if command.read => {
//!                 let mut data_in = connection.data_in(command.task, 512);
//!                 while let Some(area) = data_in.next_segment() {
//!                     area.fill(0);
//!                 }
//!                 data_in.finish(ScsiResponse::good());
//!             }
//!             Event::Command(command) => connection.request_data(command.task, command.expected_length),
//!             Event::DataOut { task, data: _ } => connection.respond(task, ScsiResponse::good()),
//!             Event::DataFailed { task, failure } => {
//!                 let (key, code, qualifier) = failure.sense_code();
//!                 let sense = [0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0];
//!                 connection.respond(task, ScsiResponse::check_condition(&sense));
//!             }
//!             Event::TaskManagement(request) => {
//!                 let response = TaskManagementResponse::FunctionUnsupported;
//!                 connection.respond_task_management(request.initiator_task_tag, response);
//!             }
//!             Event::Logout(logout) => {
//!                 connection.respond_logout(logout.initiator_task_tag, LogoutResponse::Closed);
//!             }
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Beside that it calls [`Connection::handle_timeout`] when [`Connection::next_timeout`] is due, closes the
//! socket when [`Connection::is_finished`], and after an error once the output is written.

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
mod crc;
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
pub use crc::{PIECE_BYTES, PieceCrcs, RunningCrc};
pub use directory::{Admission, Authentication, DigestPolicy, Directory, TargetListing};
pub use entropy::Entropy;
pub use error::ConnectionError;
pub use event::{Cdb, Command, DataFailure, Event, Logout, ScsiResponse, SenseData, TaskManagement};
pub use limits::Limits;
pub use login::{LoginRefusal, LoginStatus, RefusalReason};
pub use lun::{Lun, MAX_LUN};
pub use output::OutputBuffer;
pub use parameters::{Negotiated, Parameters, SessionKind};
pub use payload::Payload;
pub use pdu::{
    LogoutReason, LogoutResponse, ScsiStatus, TaskAttribute, TaskFunction, TaskManagementResponse,
};
pub use status_sequence::AcknowledgedBeyondSent;
pub use tasks::TaskTag;
