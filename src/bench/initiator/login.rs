//! The login phase: authentication, then operational parameters (RFC 7143 §6, §11.12, §13).

use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use iscsi_target::framing::{Digests, put_pdu};
use iscsi_target::parameters::Parameters;
use iscsi_target::pdu::{BASIC_HEADER_BYTES, BasicHeader, LoginRequestPdu, LoginResponsePdu, Opcode};
use iscsi_target::text::{Pair, TextInbox, TextLimits, TextWriter, decode, decode_number};
use iscsi_target::{Lun, OutputBuffer};
use serde::Serialize;

use super::chap::{self, Account};
use crate::bench::error::{ProtocolError, SessionError};

/// Our name.
const INITIATOR: &str = "iqn.2026-11.dev.huntaway:bench";
/// Time for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Requests until it must have ended.
const MAX_REQUESTS: u32 = 16;
/// The largest data segment that we take, in bytes.
const SEGMENT_BYTES: u32 = 262_144;
const TEXT_LIMITS: TextLimits = TextLimits { text_bytes: 65_536, pairs: 256 };

// Stages (RFC 7143 §11.12.3).
const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// Where a LUN is, and who we are to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Address {
    /// `HOST:PORT`.
    pub(crate) portal: String,
    /// The target's name.
    pub(crate) target: String,
    /// The LUN's number.
    pub(crate) lun: Lun,
    /// CHAP, if the target asks for it.
    pub(crate) account: Option<Account>,
}

/// What we offer in the login.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    /// Write data only when asked for: InitialR2T=Yes, ImmediateData=No.
    pub(crate) solicited: bool,
}

/// What the login settled: the part that matters to us. Lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Negotiated {
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    initial_r2t: bool,
    immediate_data: bool,
    /// The largest data segment the target takes.
    max_recv_data_segment_length: u32,
    first_burst_length: u32,
    max_burst_length: u32,
}

impl Negotiated {
    /// What holds until something else is agreed.
    fn before(defaults: &Parameters) -> Self {
        Self {
            header_digest: defaults.header_digest,
            data_digest: defaults.data_digest,
            initial_r2t: defaults.initial_r2t,
            immediate_data: defaults.immediate_data,
            max_recv_data_segment_length: defaults.target_max_recv_data_segment_length,
            first_burst_length: defaults.first_burst_length,
            max_burst_length: defaults.max_burst_length,
        }
    }

    pub(super) fn digests(&self) -> Digests {
        Digests { header: self.header_digest, data: self.data_digest }
    }

    /// How much data goes into one PDU: whole words, so that only the last one is padded.
    pub(super) fn segment_bytes(&self) -> u32 {
        (self.max_recv_data_segment_length & !3).max(4)
    }

    /// How much of a write's data goes with its command, and how much follows unasked.
    pub(super) fn first_burst(&self, length: u32) -> (u32, u32) {
        let burst = length.min(self.first_burst_length & !3);
        let immediate = if self.immediate_data { burst.min(self.segment_bytes()) } else { 0 };
        (immediate, if self.initial_r2t { 0 } else { burst - immediate })
    }

    /// Takes over what a key says, if it concerns us.
    fn take(&mut self, Pair { key, value }: Pair<'_>) -> Result<(), ProtocolError> {
        // what has no meaning beside other values, or for this target, stays as it is (RFC 7143 §6.2)
        if ["Irrelevant", "NotUnderstood", "Reject"].contains(&value) {
            return Ok(());
        }
        let number = |field: &mut u32, key| {
            let number = decode_number(value).and_then(|number| u32::try_from(number).ok());
            *field = number.ok_or(ProtocolError::Key(key))?;
            Ok::<(), ProtocolError>(())
        };
        match key {
            "HeaderDigest" => self.header_digest = value == "CRC32C",
            "DataDigest" => self.data_digest = value == "CRC32C",
            "InitialR2T" => self.initial_r2t = value == "Yes",
            "ImmediateData" => self.immediate_data = value == "Yes",
            "MaxRecvDataSegmentLength" => {
                number(&mut self.max_recv_data_segment_length, "MaxRecvDataSegmentLength")?
            }
            "FirstBurstLength" => number(&mut self.first_burst_length, "FirstBurstLength")?,
            "MaxBurstLength" => number(&mut self.max_burst_length, "MaxBurstLength")?,
            _ => {}
        }
        Ok(())
    }
}

/// The outcome of a login.
pub(super) struct LoggedIn {
    pub(super) negotiated: Negotiated,
    pub(super) cmd_sn: u32,
    pub(super) exp_stat_sn: u32,
    pub(super) max_cmd_sn: u32,
}

#[cfg(test)]
impl LoggedIn {
    /// By default parameters.
    pub(super) fn of_a_test() -> Self {
        let negotiated = Negotiated::before(&Parameters::default());
        Self { negotiated, cmd_sn: 1, exp_stat_sn: 1, max_cmd_sn: 10 }
    }
}

/// Logs in on a new connection.
pub(super) fn log_in(stream: &TcpStream, address: &Address, offer: Offer) -> Result<LoggedIn, SessionError> {
    stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(SessionError::Lost)?;
    let negotiated = Negotiated::before(&Parameters::default());
    let state = LoggedIn { negotiated, cmd_sn: 1, exp_stat_sn: 0, max_cmd_sn: 1 };
    let login = Login { stream, isid: new_isid(), tsih: 0, requests: 0, state };
    login.run(address, offer)
}

/// A random ISID (RFC 7143 §11.12.5), so that no session takes another's place.
fn new_isid() -> [u8; 6] {
    let [_, _, _, a, b, c, d, e] = RandomState::new().hash_one(INITIATOR).to_be_bytes();
    [0x80, a, b, c, d, e]
}

struct Login<'a> {
    stream: &'a TcpStream,
    isid: [u8; 6],
    tsih: u16,
    requests: u32,
    state: LoggedIn,
}

impl Login<'_> {
    fn run(mut self, address: &Address, offer: Offer) -> Result<LoggedIn, SessionError> {
        self.authenticate(address)?;
        let mut text = operational_keys(offer);
        loop {
            let (response, keys) = self.ask(OPERATIONAL, Some(FULL_FEATURE), std::mem::take(&mut text))?;
            decode(&keys, &TEXT_LIMITS)
                .map_err(ProtocolError::from)?
                .into_iter()
                .try_for_each(|pair| self.state.negotiated.take(pair))?;
            if response.transit && response.next_stage == FULL_FEATURE {
                return Ok(self.state);
            }
        }
    }

    /// The security stage: CHAP, if we have an account and the target wants it.
    fn authenticate(&mut self, address: &Address) -> Result<(), SessionError> {
        let mut text = TextWriter::default();
        text.push("InitiatorName", INITIATOR);
        text.push("TargetName", &address.target);
        text.push("SessionType", "Normal");
        text.push("AuthMethod", if address.account.is_some() { "CHAP,None" } else { "None" });
        let next = address.account.is_none().then_some(OPERATIONAL);
        let (response, keys) = self.ask(SECURITY, next, text)?;
        if response.transit {
            return Ok(());
        }
        let method = value(&keys, "AuthMethod")?;
        match (&address.account, &*method) {
            (Some(account), "CHAP") => {
                let mut text = TextWriter::default();
                text.push("CHAP_A", chap::MD5_NUMBER);
                let (_, keys) = self.ask(SECURITY, None, text)?;
                let proof = chap::response(account, &value(&keys, "CHAP_I")?, &value(&keys, "CHAP_C")?)?;
                let mut text = TextWriter::default();
                text.push("CHAP_N", &account.user);
                text.push("CHAP_R", &proof);
                self.leave_security(text)
            }
            (_, "None") => self.leave_security(TextWriter::default()),
            _ => Err(ProtocolError::Authentication(method).into()),
        }
    }

    fn leave_security(&mut self, text: TextWriter) -> Result<(), SessionError> {
        let (response, _) = self.ask(SECURITY, Some(OPERATIONAL), text)?;
        if response.transit { Ok(()) } else { Err(ProtocolError::EndlessLogin.into()) }
    }

    /// Sends a request, and takes its answer with all of its text.
    fn ask(
        &mut self,
        stage: u8,
        next: Option<u8>,
        text: TextWriter,
    ) -> Result<(LoginResponsePdu, Vec<u8>), SessionError> {
        self.send(stage, next, &text.into_bytes())?;
        let mut inbox = TextInbox::default();
        loop {
            let (response, text) = self.receive()?;
            inbox.push(&text, &TEXT_LIMITS).map_err(ProtocolError::from)?;
            if !response.continues {
                return Ok((response, inbox.take()));
            }
            self.send(stage, None, &[])?;
        }
    }

    fn send(&mut self, stage: u8, next: Option<u8>, text: &[u8]) -> Result<(), SessionError> {
        self.requests += 1;
        if self.requests > MAX_REQUESTS {
            return Err(ProtocolError::EndlessLogin.into());
        }
        let header = LoginRequestPdu {
            transit: next.is_some(),
            continues: false,
            current_stage: stage,
            next_stage: next.unwrap_or(0),
            version_max: 0,
            version_min: 0,
            isid: self.isid,
            tsih: self.tsih,
            initiator_task_tag: 0,
            connection_id: 0,
            cmd_sn: self.state.cmd_sn,
            exp_stat_sn: self.state.exp_stat_sn,
        };
        let mut output = OutputBuffer::default();
        put_pdu(&mut output, Digests::default(), header.build(), &[text]);
        self.stream.write_all(&output).map_err(SessionError::Lost)
    }

    fn receive(&mut self) -> Result<(LoginResponsePdu, Vec<u8>), SessionError> {
        let mut header = [0; BASIC_HEADER_BYTES];
        self.read(&mut header)?;
        let header = BasicHeader::from_bytes(header);
        if header.opcode() != Opcode::LoginResponse {
            return Err(ProtocolError::Unexpected(header.opcode()).into());
        }
        let length = header.data_segment_length() as usize;
        if length > TEXT_LIMITS.text_bytes {
            return Err(ProtocolError::TooLong(length).into());
        }
        let mut text = vec![0; length.next_multiple_of(4)];
        self.read(&mut text)?;
        text.truncate(length);
        let response = LoginResponsePdu::parse(&header);
        if response.status != 0 {
            return Err(SessionError::Refused { status: response.status });
        }
        self.tsih = response.tsih;
        self.state.exp_stat_sn = response.sequence.stat_sn.wrapping_add(1);
        self.state.max_cmd_sn = response.sequence.max_cmd_sn;
        Ok((response, text))
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), SessionError> {
        self.stream.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => SessionError::Silent(ANSWER_LIMIT.as_secs()),
            _ => SessionError::Lost(error),
        })
    }
}

/// What we offer; large segments and bursts, so that a large write is few PDUs.
fn operational_keys(offer: Offer) -> TextWriter {
    let digest = |wanted| if wanted { "CRC32C" } else { "None" };
    let yes = |wanted| if wanted { "Yes" } else { "No" };
    let mut text = TextWriter::default();
    for (key, value) in [
        ("HeaderDigest", digest(offer.header_digest)),
        ("DataDigest", digest(offer.data_digest)),
        ("InitialR2T", yes(offer.solicited)),
        ("ImmediateData", yes(!offer.solicited)),
        ("MaxRecvDataSegmentLength", &SEGMENT_BYTES.to_string()),
        ("MaxBurstLength", "16776192"),
        ("FirstBurstLength", "262144"),
        ("MaxOutstandingR2T", "1"),
        ("MaxConnections", "1"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "0"),
        ("ErrorRecoveryLevel", "0"),
    ] {
        text.push(key, value);
    }
    text
}

/// The value of a key that must be there.
fn value(text: &[u8], key: &'static str) -> Result<String, ProtocolError> {
    let pair = decode(text, &TEXT_LIMITS)?.into_iter().find(|pair| pair.key == key);
    pair.map(|pair| pair.value.to_owned()).ok_or(ProtocolError::Key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGREED: Negotiated = Negotiated {
        header_digest: false,
        data_digest: false,
        initial_r2t: false,
        immediate_data: true,
        max_recv_data_segment_length: 8194,
        first_burst_length: 65_537,
        max_burst_length: 262_144,
    };

    #[test]
    fn unasked_data_keeps_to_what_was_agreed() {
        assert_eq!(AGREED.segment_bytes(), 8192);
        assert_eq!(AGREED.first_burst(4096), (4096, 0));
        assert_eq!(AGREED.first_burst(1 << 20), (8192, 65_536 - 8192));
        assert_eq!(Negotiated { immediate_data: false, ..AGREED }.first_burst(4096), (0, 4096));
        assert_eq!(Negotiated { initial_r2t: true, ..AGREED }.first_burst(1 << 20), (8192, 0));
    }

    #[test]
    fn keys_are_taken_over_and_nonsense_is_refused() {
        let mut negotiated = AGREED;
        let mut take = |key, value| negotiated.take(Pair { key, value });
        take("DataDigest", "CRC32C").unwrap();
        take("FirstBurstLength", "0x1000").unwrap();
        take("X-other", "whatever").unwrap();
        take("MaxBurstLength", "Irrelevant").unwrap();
        assert!(take("MaxBurstLength", "-1").is_err());
        assert!(negotiated.data_digest && !negotiated.header_digest);
        assert_eq!(negotiated.first_burst_length, 4096);
    }
}
