//! What a login settles: who the peer is and the operational parameters of its session, with the defaults of
//! RFC 7143 §13.

use crate::directory::Admission;

/// The data segment length that holds until a peer declares another, and for all of the login phase
/// (RFC 7143 §6.3, §13.12), in bytes.
pub const DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH: u32 = 8192;

/// What a session is for (RFC 7143 §13.21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// Only SendTargets and Logout.
    Discovery,
    /// SCSI commands to one target.
    Normal,
}

/// How task management is reported (RFC 7143 §13.23). With one connection per session both values ask for what
/// this target does anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TaskReporting {
    /// Unaffected tasks' responses are ordered as RFC 3720 says.
    #[default]
    Rfc3720,
    /// Responses before and after a fence keep their order across connections.
    ResponseFence,
}

/// The outcome of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// What the session is for.
    pub kind: SessionKind,
    /// The initiator's iSCSI name, as it sent it.
    pub initiator_name: String,
    /// The initiator's name for people, if it declared one.
    pub initiator_alias: Option<String>,
    /// The target logged in to; `None` in a discovery session.
    pub target_name: Option<String>,
    /// The initiator's part of the session id.
    pub isid: [u8; 6],
    /// The session handle the initiator sent: 0 asks for a new session.
    pub tsih: u16,
    /// The initiator's name for the connection (CID): unique among the connections of the session.
    pub connection_id: u16,
    /// The CHAP user, if authentication was required.
    pub user: Option<String>,
    /// On what terms it was let in: to be compared with those that hold when the session begins.
    pub admission: Admission,
    /// The operational parameters.
    pub parameters: Parameters,
}

/// Operational parameters of a session and its one connection (RFC 7143 §13). Lengths are in bytes, times in
/// seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Headers carry a CRC32C (§13.1).
    pub header_digest: bool,
    /// Data segments carry a CRC32C (§13.1).
    pub data_digest: bool,
    /// Connections the session may have (§13.2); always 1 here.
    pub max_connections: u16,
    /// The largest data segment the initiator takes (§13.12).
    pub initiator_max_recv_data_segment_length: u32,
    /// The largest data segment this target takes (§13.12).
    pub target_max_recv_data_segment_length: u32,
    /// The longest Data-In or solicited Data-Out sequence (§13.13).
    pub max_burst_length: u32,
    /// The most unsolicited data of one command, immediate data included (§13.14); never above
    /// `max_burst_length`.
    pub first_burst_length: u32,
    /// Unsolicited Data-Out PDUs are forbidden (§13.10).
    pub initial_r2t: bool,
    /// Commands may carry data (§13.11).
    pub immediate_data: bool,
    /// R2Ts of one command that may be outstanding at once (§13.17).
    pub max_outstanding_r2t: u16,
    /// PDUs of a sequence come in offset order (§13.18).
    pub data_pdu_in_order: bool,
    /// Sequences of a command come in offset order (§13.19).
    pub data_sequence_in_order: bool,
    /// Seconds before a reconnection (§13.15).
    pub default_time2wait: u16,
    /// Seconds that tasks are kept after a connection failed (§13.16).
    pub default_time2retain: u16,
    /// Always 0 here (§13.20).
    pub error_recovery_level: u8,
    /// How task management is reported (§13.23).
    pub task_reporting: TaskReporting,
    /// The iSCSI protocol level (§13.24).
    pub protocol_level: u8,
}

impl Default for Parameters {
    /// The values that hold for keys nobody mentions.
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            max_connections: 1,
            initiator_max_recv_data_segment_length: DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH,
            target_max_recv_data_segment_length: DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            initial_r2t: true,
            immediate_data: true,
            max_outstanding_r2t: 1,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            default_time2wait: 2,
            default_time2retain: 20,
            error_recovery_level: 0,
            task_reporting: TaskReporting::Rfc3720,
            protocol_level: 1,
        }
    }
}
