//! What a login step takes and gives: the fields of Login Request and Response PDUs that matter to the login phase
//! (RFC 7143 §11.12, §11.13).

use super::refusal::LoginRefusal;
use super::status::LoginStatus;
use crate::parameters::Negotiated;

/// One Login Request PDU.
#[derive(Debug, Clone, Copy)]
pub struct LoginRequest<'a> {
    /// T: the initiator is ready to go to stage `nsg`.
    pub transit: bool,
    /// C: the text goes on in the next request.
    pub cont: bool,
    /// The current stage.
    pub csg: u8,
    /// The stage asked for by `transit`.
    pub nsg: u8,
    /// The highest protocol version the initiator speaks.
    pub version_max: u8,
    /// The lowest protocol version the initiator speaks.
    pub version_min: u8,
    /// The initiator's part of the session id.
    pub isid: [u8; 6],
    /// The session handle, or 0.
    pub tsih: u16,
    /// The task tag of the login phase.
    pub initiator_task_tag: u32,
    /// The connection id.
    pub cid: u16,
    /// CmdSN.
    pub cmd_sn: u32,
    /// ExpStatSN.
    pub exp_stat_sn: u32,
    /// The text, without padding.
    pub data: &'a [u8],
}

/// One Login Response PDU. The caller adds versions, TSIH and sequence numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginReply {
    /// T: the login goes to stage `nsg`.
    pub transit: bool,
    /// C: the text goes on in the next reply, which an empty request asks for.
    pub cont: bool,
    /// The current stage, as in the request.
    pub csg: u8,
    /// The next stage; 0 without `transit`.
    pub nsg: u8,
    /// Success, or why the login is refused.
    pub status: LoginStatus,
    /// The text, without padding; at most 8192 bytes.
    pub data: Vec<u8>,
}

impl LoginReply {
    /// An empty answer to a request whose text is not complete.
    pub(super) fn partial(request: &LoginRequest<'_>) -> Self {
        Self {
            transit: false,
            cont: false,
            csg: request.csg,
            nsg: 0,
            status: LoginStatus::Success,
            data: Vec::new(),
        }
    }

    /// The end of the login. T and the stages are reserved then.
    pub(super) fn refusal(request: &LoginRequest<'_>, status: LoginStatus) -> Self {
        Self { status, ..Self::partial(request) }
    }
}

/// What to do after a Login request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginStep {
    /// Send this and wait for the next request.
    Reply(LoginReply),
    /// The parameters are agreed. Once the session is made, `reply` is sent with its TSIH.
    Finished {
        /// The final response.
        reply: LoginReply,
        /// What was agreed.
        session: Negotiated,
    },
    /// Send `reply` and close the connection.
    Refuse {
        /// The final response.
        reply: LoginReply,
        /// Who is refused, and why.
        refusal: LoginRefusal,
    },
}
