//! Every limit on what a peer can make a connection hold or do, by name.
//!
//! The defaults suit a gateway with hundreds of sessions; each is a plain field so that a caller (or a
//! test) can change one and keep the rest.

use std::time::Duration;

/// The limits of one connection. Sizes are bytes unless the name says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of unparsed input held before the session is in full feature phase.
    pub login_input: usize,
    /// Time from the TCP connection to full feature phase.
    pub login_time: Duration,
    /// Login PDUs of one login phase, in both directions of an exchange.
    pub login_exchanges: u32,
    /// Text of one message of a login, summed over PDUs joined by the C bit: most of what a peer that has proved nothing
    /// can make us hold.
    pub login_text: usize,
    /// Text of one message of a text negotiation, summed likewise.
    pub text: usize,
    /// `key=value` pairs in one negotiation.
    pub text_keys: usize,

    /// Largest data segment we accept in full feature phase: our declared MaxRecvDataSegmentLength. A
    /// discovery session declares `text` if that is less.
    pub max_recv_data_segment_length: u32,
    /// Largest MaxBurstLength we agree to.
    pub max_burst_length: u32,
    /// Largest FirstBurstLength we agree to.
    pub first_burst_length: u32,
    /// Largest MaxOutstandingR2T we agree to.
    pub max_outstanding_r2t: u16,
    /// Bytes of additional header segments (AHS) of one PDU; the wire format allows 1020.
    pub additional_header: usize,

    /// Non-immediate commands an initiator may have under way: the size of the CmdSN window.
    pub command_window: u16,
    /// Immediate commands and task management requests under way; one more is rejected.
    pub immediate_commands: u16,
    /// Input bytes held for commands that arrived ahead of their CmdSN, without the Data-Outs of those
    /// commands; more closes the connection. In a discovery session `text` takes its place.
    pub held_input: usize,
    /// Write data of the tasks under way, from when it is announced or asked for until its task ends: R2Ts
    /// that would exceed it wait, the oldest task's first. That one may exceed it rather than wait for younger
    /// tasks, so one task alone may, and so may unsolicited data, which is bounded by `first_burst_length`
    /// for each of `command_window` and `immediate_commands`.
    pub solicited_data: u64,
    /// Write data of one PDU smaller than this is copied, so that it does not pin a whole input buffer.
    pub copied_payload: usize,
    /// Output the initiator has not taken from which on its further requests wait. One answer may exceed it,
    /// and what the caller adds itself is the caller's to bound.
    pub pending_output: usize,
    /// Output buffer kept by an idle connection.
    pub idle_output: usize,

    /// Time between NOP-In pings in full feature phase of a normal session.
    pub ping_interval: Duration,
    /// Pings that may wait for their answers; no further one is sent meanwhile.
    pub unanswered_pings: u32,
    /// A normal session is dropped after this long without a byte from the peer or a byte taken by it.
    pub silence: Duration,
    /// The same for a discovery session, which is not pinged.
    pub discovery_silence: Duration,
    /// Time from full feature phase to the end of a discovery session, whatever it does.
    pub discovery_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_input: 64 * 1024,
            login_time: Duration::from_secs(30),
            login_exchanges: 64,
            login_text: 16 * 1024,
            text: 64 * 1024,
            text_keys: 256,
            max_recv_data_segment_length: 256 * 1024,
            max_burst_length: 1024 * 1024,
            first_burst_length: 256 * 1024,
            max_outstanding_r2t: 8,
            additional_header: 512,
            command_window: 128,
            immediate_commands: 32,
            held_input: 4 * 1024 * 1024,
            solicited_data: 16 * 1024 * 1024,
            copied_payload: 2048,
            pending_output: 1024 * 1024,
            idle_output: 256 * 1024,
            ping_interval: Duration::from_secs(1),
            unanswered_pings: 4,
            silence: Duration::from_secs(10),
            discovery_silence: Duration::from_secs(30),
            discovery_time: Duration::from_secs(60),
        }
    }
}
