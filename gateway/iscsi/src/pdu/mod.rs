//! The PDUs of RFC 7143 §11, one file for each kind: what is in its header, parsed and built.
//!
//! A PDU's type holds its header fields only; the data segment travels beside it, so that payload is
//! never copied for the sake of a type. Padding, digests and DataSegmentLength are the business of
//! [`framing`](crate::framing).

mod additional_header;
mod async_message;
mod basic_header;
mod data_in;
mod data_out;
mod login_request;
mod login_response;
mod logout_request;
mod logout_response;
mod nop_in;
mod nop_out;
mod opcode;
mod r2t;
mod reject;
mod scsi_command;
mod scsi_response;
mod snack;
mod task_management_request;
mod task_management_response;
mod text_request;
mod text_response;

pub use additional_header::{AdditionalHeaders, MalformedAdditionalHeader};
pub use async_message::{AsyncEvent, AsyncMessagePdu};
pub use basic_header::{BASIC_HEADER_BYTES, BasicHeader, RESERVED_TAG, SequenceNumbers};
pub use data_in::DataInPdu;
pub use data_out::DataOutPdu;
pub use login_request::LoginRequestPdu;
pub use login_response::LoginResponsePdu;
pub use logout_request::{LogoutReason, LogoutRequestPdu};
pub use logout_response::{LogoutResponse, LogoutResponsePdu};
pub use nop_in::NopInPdu;
pub use nop_out::NopOutPdu;
pub use opcode::Opcode;
pub use r2t::R2tPdu;
pub use reject::{RejectPdu, RejectReason};
pub use scsi_command::{ScsiCommandPdu, TaskAttribute};
pub use scsi_response::{Residual, ScsiResponsePdu, ScsiStatus};
pub use snack::SnackPdu;
pub use task_management_request::{TaskFunction, TaskManagementRequestPdu};
pub use task_management_response::{TaskManagementResponse, TaskManagementResponsePdu};
pub use text_request::TextRequestPdu;
pub use text_response::TextResponsePdu;

/// The F bit (final) of byte 1.
pub(crate) const FINAL: u8 = 0x80;
/// The C bit (text continues) of byte 1 of Text and Login PDUs.
const CONTINUE: u8 = 0x40;

#[cfg(test)]
mod golden_tests;
