//! The login phase: whatever Login Requests come, answers keep their form, what is held is bounded, nobody gets in without
//! the proof that is asked for, and what was agreed on is legal.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use iscsi_target::chap::{Chap, ChapAccount, Secret};
use iscsi_target::login::{Login, LoginReply, LoginRequest, LoginStep};
use iscsi_target::text::{TextLimits, decode};
use iscsi_target::text_exchange::{TextExchange, TextRequest};
use iscsi_target::{
    Admission, Authentication, DigestPolicy, Directory, Limits, LoginStatus, Negotiated, Parameters,
    RefusalReason, SessionKind, TargetListing,
};

/// Most bytes of one answer: what an initiator takes before it has said how much (RFC 7143 §13.12).
const MAX_REPLY_BYTES: usize = 8192;

const PROOF: &str = "iqn.2026-11.test:proof";

/// Requests of one connection. Most of a request's fields are what they must be, or the login would end at once.
#[derive(Debug, Arbitrary)]
struct Input<'a> {
    /// What the first request begins with.
    opening: Option<u8>,
    requests: Vec<Request<'a>>,
    afterwards: Vec<(bool, bool, Vec<Text<'a>>)>,
}

#[derive(Debug, Arbitrary)]
struct Request<'a> {
    csg: u8,
    flags: u8,
    odd: Option<Odd>,
    text: Vec<Text<'a>>,
}

/// Fields that no initiator sends.
#[derive(Debug, Arbitrary)]
struct Odd {
    nsg: u8,
    version_min: u8,
    isid: u8,
    tsih: u16,
    cid: u16,
}

/// A piece of the text.
#[derive(Debug, Arbitrary)]
enum Text<'a> {
    Pair { key: u8, value: u8 },
    Key { key: u8, value: &'a [u8] },
    Number { key: u8, value: u32 },
    Raw(&'a [u8]),
}

const KEYS: [&str; 32] = [
    "InitiatorName",
    "TargetName",
    "SessionType",
    "AuthMethod",
    "HeaderDigest",
    "DataDigest",
    "MaxConnections",
    "MaxRecvDataSegmentLength",
    "MaxBurstLength",
    "FirstBurstLength",
    "InitialR2T",
    "ImmediateData",
    "MaxOutstandingR2T",
    "DataPDUInOrder",
    "DataSequenceInOrder",
    "DefaultTime2Wait",
    "DefaultTime2Retain",
    "ErrorRecoveryLevel",
    "TaskReporting",
    "iSCSIProtocolLevel",
    "InitiatorAlias",
    "SendTargets",
    "CHAP_A",
    "CHAP_N",
    "CHAP_R",
    "CHAP_I",
    "CHAP_C",
    "OFMarker",
    "IFMarkInt",
    "X-com.example.a",
    "X#b",
    "TargetPortalGroupTag",
];

const VALUES: [&str; 24] = [
    "iqn.2026-11.test:me",
    "iqn.2026-11.test:open",
    PROOF,
    "iqn.2026-11.test:digests",
    "Discovery",
    "Normal",
    "None",
    "CHAP",
    "CHAP,None",
    "CRC32C",
    "CRC32C,None",
    "None,CRC32C",
    "Yes",
    "No",
    "0",
    "1",
    "8192",
    "262144",
    "16777215",
    "5",
    "alice",
    "0x00",
    "All",
    "RFC3720,FastAbort",
];

struct Targets;

impl Directory for Targets {
    fn targets(&self, _initiator: &str) -> Vec<TargetListing> {
        let listing = |name: &str| TargetListing {
            name: name.into(),
            addresses: vec![("192.0.2.1:3260".into(), 1), ("[2001:db8::1]:3260".into(), 1)],
        };
        VALUES[1..4].iter().copied().map(listing).collect()
    }

    fn admit(&self, initiator: &str, target: Option<&str>) -> Result<Admission, RefusalReason> {
        let admission = |authentication, digests| Ok(Admission { authentication, digests });
        match target {
            _ if initiator.ends_with('-') => Err(RefusalReason::NotAllowed),
            None | Some("iqn.2026-11.test:open") => admission(Authentication::None, DigestPolicy::Allowed),
            Some("iqn.2026-11.test:digests") => admission(Authentication::None, DigestPolicy::Required),
            Some(PROOF) => {
                let account =
                    ChapAccount { user: "alice".into(), secret: Secret::new(b"no key of this file") };
                admission(Authentication::Chap(Chap::new(vec![account])), DigestPolicy::Off)
            }
            Some(_) => Err(RefusalReason::NoSuchTarget),
        }
    }
}

fn limits() -> Limits {
    Limits { text: 4096, login_text: 4096, text_keys: 40, login_exchanges: 20, ..Limits::default() }
}

/// Takes a connection's Login Requests, and Text Requests if it gets in.
pub fn run(bytes: &[u8]) {
    let mut unstructured = Unstructured::new(bytes);
    let Ok(input) = Input::arbitrary(&mut unstructured) else { return };
    let mut login = Login::new(1, Arc::new(Targets), |bytes| bytes.fill(7), &limits());
    let mut text = Vec::new();
    let mut over = false;
    for (number, request) in input.requests.iter().enumerate() {
        let opening = input.opening.filter(|_| number == 0).map_or_else(Vec::new, opened);
        let data = [opening, written(&request.text)].concat();
        let step = login.step(&login_request(request, &data));
        // What was asked and what is answered, each within the limit on a text, and the answers to as many keys.
        assert!(login.held_bytes() <= 4 * limits().text, "{} bytes", login.held_bytes());
        let in_time = number < limits().login_exchanges as usize;
        match step {
            LoginStep::Reply(reply) => {
                assert!(!over && in_time && !(reply.transit && reply.nsg == 3));
                check_reply(request, &reply, &mut text);
            }
            LoginStep::Finished { reply, session } => {
                assert!(!over && in_time && reply.transit && reply.nsg == 3);
                check_reply(request, &reply, &mut text);
                check_session(&session);
                negotiate(session, &input.afterwards);
                over = true;
            }
            LoginStep::Refuse { reply, refusal } => {
                assert_ne!(reply.status, LoginStatus::Success);
                assert!(
                    reply.data.is_empty()
                        && !reply.transit
                        && (over || refusal.reason.status() == reply.status)
                );
                over = true;
            }
        }
    }
}

/// The names that a first request must have, and how the initiator would prove who it is.
fn opened(opening: u8) -> Vec<u8> {
    let targets = VALUES[1..4].iter().map(|name| format!("TargetName={name}\0"));
    let kinds: Vec<String> = targets.chain(["SessionType=Discovery\0".to_owned()]).collect();
    let kind = &kinds[usize::from(opening) % kinds.len()];
    let method = ["", "AuthMethod=CHAP\0", "AuthMethod=None\0"][usize::from(opening >> 2) % 3];
    format!("InitiatorName=iqn.2026-11.test:me\0{kind}{method}").into_bytes()
}

fn written(text: &[Text<'_>]) -> Vec<u8> {
    let key = |number: &u8| KEYS[usize::from(*number) % KEYS.len()].as_bytes();
    let pair = |number: &u8, value: &[u8]| [key(number), b"=", value, b"\0"].concat();
    text.iter()
        .flat_map(|piece| match piece {
            Text::Pair { key, value } => pair(key, VALUES[usize::from(*value) % VALUES.len()].as_bytes()),
            Text::Key { key, value } => pair(key, value),
            Text::Number { key, value } => pair(key, value.to_string().as_bytes()),
            Text::Raw(bytes) => bytes.to_vec(),
        })
        .collect()
}

fn login_request<'a>(request: &Request<'_>, data: &'a [u8]) -> LoginRequest<'a> {
    let odd = request.odd.as_ref();
    let csg = request.csg & 1;
    LoginRequest {
        transit: request.flags & 1 != 0,
        cont: request.flags & 0xe == 0xe,
        csg: odd.map_or(csg, |_| request.csg & 3),
        nsg: odd.map_or(if csg == 0 && request.flags & 0x10 != 0 { 1 } else { 3 }, |odd| odd.nsg & 3),
        version_max: 0,
        version_min: odd.map_or(0, |odd| odd.version_min & 1),
        isid: [odd.map_or(0x80, |odd| odd.isid); 6],
        tsih: odd.map_or(0, |odd| odd.tsih),
        initiator_task_tag: 1,
        cid: odd.map_or(0, |odd| odd.cid),
        cmd_sn: 1,
        exp_stat_sn: 0,
        data,
    }
}

/// An answer's form; `text` gathers what comes in parts.
fn check_reply(request: &Request<'_>, reply: &LoginReply, text: &mut Vec<u8>) {
    assert_eq!(reply.status, LoginStatus::Success);
    assert!(reply.data.len() <= MAX_REPLY_BYTES);
    assert!(!(reply.transit && reply.cont) && (reply.transit || reply.nsg == 0));
    assert!(!reply.transit || request.flags & 1 != 0, "nobody goes on unasked");
    text.extend_from_slice(&reply.data);
    if !reply.cont {
        let limits = TextLimits { text_bytes: usize::MAX, pairs: usize::MAX };
        decode(text, &limits).expect("an answer is text");
        text.clear();
    }
}

fn check_session(session: &Negotiated) {
    let Parameters {
        header_digest,
        data_digest,
        max_burst_length,
        first_burst_length,
        max_outstanding_r2t,
        initiator_max_recv_data_segment_length,
        target_max_recv_data_segment_length,
        error_recovery_level,
        max_connections,
        ..
    } = session.parameters;
    let limits = limits();
    assert_eq!((session.kind == SessionKind::Normal), session.target_name.is_some());
    assert!((512..=limits.max_burst_length).contains(&max_burst_length));
    assert!((512..=limits.first_burst_length.min(max_burst_length)).contains(&first_burst_length));
    assert!((1..=limits.max_outstanding_r2t).contains(&max_outstanding_r2t));
    for length in [initiator_max_recv_data_segment_length, target_max_recv_data_segment_length] {
        assert!((512..1 << 24).contains(&length));
    }
    assert_eq!((error_recovery_level, max_connections), (0, 1));
    assert_ne!(session.target_name.as_deref(), Some(PROOF), "nobody knows the secret");
    match session.admission.digests {
        DigestPolicy::Required => assert!(header_digest && data_digest),
        DigestPolicy::Off => assert!(!header_digest && !data_digest),
        DigestPolicy::Allowed => {}
    }
}

/// Text negotiation in the session that came of it.
fn negotiate(mut session: Negotiated, requests: &[(bool, bool, Vec<Text<'_>>)]) {
    let mut exchange = TextExchange::new(&limits());
    let mut tag = iscsi_target::text_exchange::NO_TARGET_TRANSFER_TAG;
    for (is_final, cont, text) in requests {
        let data = written(text);
        let (initiator_task_tag, target_transfer_tag) = (1, tag);
        let request = TextRequest {
            is_final: *is_final,
            cont: *cont,
            initiator_task_tag,
            target_transfer_tag,
            data: &data,
        };
        match exchange.step(&request, &mut session, &Targets) {
            Ok(reply) => {
                let most = session.parameters.initiator_max_recv_data_segment_length as usize;
                assert!(reply.data.len() <= most && !(reply.is_final && reply.cont));
                tag = reply.target_transfer_tag;
            }
            Err(refusal) => assert_ne!(refusal.reject_reason(), 0),
        }
    }
}
