//! Text negotiation in the full feature phase: SendTargets in both kinds of session, declarations, and messages that
//! span PDUs (RFC 7143 §6.4, §11.10, §11.11, appendix C).

mod login_support;

use iscsi_target::Limits;
use iscsi_target::directory::{Authentication, DigestPolicy};
use iscsi_target::parameters::Negotiated;
use iscsi_target::send_targets::BadSendTargets;
use iscsi_target::text::TextError;
use iscsi_target::text_exchange::{
    NO_TARGET_TRANSFER_TAG, TextExchange, TextRefusal, TextReply, TextRequest,
};
use login_support::{DISCOVERY, NORMAL, TestDirectory, finished, open_login, pairs, say, text};

const FIRST: &str =
    "TargetName=iqn.2026-11.test:disk TargetAddress=10.0.0.1:3260,7 TargetAddress=[2001:db8::1]:3260,8";
const SECOND: &str = "TargetName=iqn.2026-11.test:other TargetAddress=10.0.0.1:3261,7";

/// One connection in full feature phase.
struct Peer {
    session: Negotiated,
    exchange: TextExchange,
}

impl Peer {
    fn new(first: &str) -> Self {
        let (_, session) = finished(say(&mut open_login(), 1, Some(3), first));
        Self { session, exchange: TextExchange::new(&Limits::default()) }
    }

    fn normal() -> Self {
        Self::new(NORMAL)
    }

    fn discovery() -> Self {
        Self::new(DISCOVERY)
    }

    fn step(&mut self, request: &TextRequest<'_>) -> Result<TextReply, TextRefusal> {
        self.exchange.step(
            request,
            &mut self.session,
            &TestDirectory(Authentication::None, DigestPolicy::Allowed),
        )
    }

    /// A request in one PDU, and its answer in one PDU.
    fn ask(&mut self, offer: &str) -> Result<String, TextRefusal> {
        let reply = self.step(&whole(&text(offer)))?;
        assert!(reply.is_final && !reply.cont, "{reply:?}");
        assert_eq!(reply.target_transfer_tag, NO_TARGET_TRANSFER_TAG);
        Ok(pairs(&reply.data))
    }
}

fn whole(data: &[u8]) -> TextRequest<'_> {
    TextRequest {
        is_final: true,
        cont: false,
        initiator_task_tag: 5,
        target_transfer_tag: NO_TARGET_TRANSFER_TAG,
        data,
    }
}

#[test]
fn all_targets_are_listed_in_both_kinds_of_session() {
    for mut peer in [Peer::normal(), Peer::discovery()] {
        assert_eq!(peer.ask("SendTargets=All"), Ok(format!("{FIRST} {SECOND}")));
    }
}

#[test]
fn one_target_is_listed_by_name() {
    for mut peer in [Peer::normal(), Peer::discovery()] {
        assert_eq!(peer.ask("SendTargets=iqn.2026-11.test:other"), Ok(SECOND.to_owned()));
        assert_eq!(peer.ask("SendTargets=iqn.2026-11.test:gone"), Ok(String::new()));
    }
}

#[test]
fn an_empty_value_means_the_sessions_own_target() {
    assert_eq!(Peer::normal().ask("SendTargets="), Ok(FIRST.to_owned()));
    assert_eq!(Peer::discovery().ask("SendTargets="), Err(BadSendTargets.into()));
}

#[test]
fn bad_requests_are_refused_and_the_session_goes_on() {
    let bad = BadSendTargets.into();
    let nothing = TextRefusal::NothingUnderstood;
    for (offer, refusal, reason) in [
        ("SendTargets=Alle", bad, 5),
        ("SendTargets=A", bad, 5),
        ("SendTargets=all", bad, 5),
        ("SendTargets=All SendTargets=All", bad, 5),
        ("SendTargetsPlease=All", nothing, 5),
        ("sENDtARGETS=aLL", nothing, 5),
        ("SendTargets", TextError::NoEquals.into(), 4),
        ("MaxRecvDataSegmentLength=1", TextRefusal::BadDeclaration, 4),
    ] {
        let mut peer = Peer::normal();
        let result = peer.ask(offer);
        assert_eq!(result, Err(refusal), "{offer}");
        assert_eq!(refusal.reject_reason(), reason, "{offer}");
        assert_eq!(peer.ask("SendTargets=All"), Ok(format!("{FIRST} {SECOND}")));
    }
}

#[test]
fn the_segment_length_may_be_declared_again() {
    let mut peer = Peer::normal();
    for length in [65_536, 512, 16_777_215] {
        assert_eq!(peer.ask(&format!("MaxRecvDataSegmentLength={length}")), Ok(String::new()));
        assert_eq!(peer.session.parameters.initiator_max_recv_data_segment_length, length);
    }
    assert_eq!(peer.ask("InitiatorAlias=moved"), Ok(String::new()));
    assert_eq!(peer.session.initiator_alias.as_deref(), Some("moved"));
}

#[test]
fn what_the_login_settled_is_not_negotiated_again() {
    let mut peer = Peer::normal();
    let before = peer.session.clone();
    for key in [
        "HeaderDigest=CRC32C",
        "MaxConnections=2",
        "MaxBurstLength=65536",
        "FirstBurstLength=65536",
        "InitialR2T=No",
        "ErrorRecoveryLevel=0",
        "TaskReporting=RFC3720",
        "IFMarker=No",
        "InitiatorName=iqn.other",
        "SessionType=Discovery",
        "AuthMethod=None",
        "CHAP_A=5",
        "TargetPortalGroupTag=1",
    ] {
        let name = key.split('=').next().unwrap();
        assert_eq!(peer.ask(key), Ok(format!("{name}=Reject")));
    }
    assert_eq!(peer.session, before);
}

#[test]
fn extension_keys_and_company_are_not_understood() {
    let mut peer = Peer::normal();
    assert_eq!(peer.ask("X-com.example.a=1"), Ok("X-com.example.a=NotUnderstood".to_owned()));
    assert_eq!(peer.ask("Colour=1 SendTargets="), Ok(format!("Colour=NotUnderstood {FIRST}")));
    assert_eq!(peer.ask(""), Ok(String::new()));
}

#[test]
fn a_long_answer_comes_in_parts() {
    let mut peer = Peer::new(&format!("{NORMAL} MaxRecvDataSegmentLength=512"));
    let offer: Vec<String> = (0..20).map(|n| format!("X-{n:0>61}=1")).collect();
    let request = text(&offer.join(" "));
    let mut reply = peer.step(&whole(&request)).unwrap();
    let mut answer = reply.data.clone();
    let mut tags = vec![reply.target_transfer_tag];
    while reply.cont {
        assert!(!reply.is_final && reply.data.len() == 512);
        let more = TextRequest { target_transfer_tag: reply.target_transfer_tag, ..whole(&[]) };
        reply = peer.step(&more).unwrap();
        answer.extend_from_slice(&reply.data);
        tags.push(reply.target_transfer_tag);
    }
    assert!(reply.is_final);
    assert_eq!(tags.last(), Some(&NO_TARGET_TRANSFER_TAG));
    tags.dedup();
    assert_eq!(tags.len(), answer.len().div_ceil(512), "each part has a tag of its own");
    assert_eq!(pairs(&answer).matches("=NotUnderstood").count(), 20);
}

#[test]
fn a_request_may_come_in_parts_cut_anywhere() {
    let data = text("SendTargets=iqn.2026-11.test:other");
    for cut in 0..=data.len() {
        let (first, second) = data.split_at(cut);
        let mut peer = Peer::normal();
        let reply = peer.step(&TextRequest { is_final: false, cont: true, ..whole(first) }).unwrap();
        assert!(!reply.is_final && !reply.cont && reply.data.is_empty());
        let rest = TextRequest { target_transfer_tag: reply.target_transfer_tag, ..whole(second) };
        assert_eq!(pairs(&peer.step(&rest).unwrap().data), SECOND);
    }
}

#[test]
fn a_negotiation_ends_only_when_the_initiator_ends_it() {
    let mut peer = Peer::normal();
    let data = text("SendTargets=All");
    let reply = peer.step(&TextRequest { is_final: false, ..whole(&data) }).unwrap();
    assert!(!reply.is_final && !reply.cont && !reply.data.is_empty());
    let end = TextRequest { target_transfer_tag: reply.target_transfer_tag, ..whole(&[]) };
    let reply = peer.step(&end).unwrap();
    assert!(reply.is_final && reply.data.is_empty());
}

#[test]
fn tags_of_another_negotiation_are_refused() {
    let half = text("SendTargets=");
    let begin = TextRequest { is_final: false, cont: true, ..whole(&half) };
    let mut peer = Peer::normal();
    let tag = peer.step(&begin).unwrap().target_transfer_tag;
    for other in [
        TextRequest { target_transfer_tag: tag + 1, ..whole(&[]) },
        TextRequest { target_transfer_tag: tag, initiator_task_tag: 6, ..whole(&[]) },
    ] {
        let mut peer = Peer::normal();
        peer.step(&begin).unwrap();
        assert_eq!(peer.step(&other), Err(TextRefusal::UnknownNegotiation));
        assert_eq!(TextRefusal::UnknownNegotiation.reject_reason(), 9);
    }
    // A new negotiation takes the place of the unfinished one.
    assert_eq!(peer.ask("SendTargets="), Ok(FIRST.to_owned()));
    let stale = TextRequest { target_transfer_tag: tag, ..whole(&[]) };
    assert_eq!(peer.step(&stale), Err(TextRefusal::UnknownNegotiation));
}

#[test]
fn continued_and_final_exclude_each_other() {
    let data = text("SendTargets=All");
    let request = TextRequest { cont: true, ..whole(&data) };
    assert_eq!(Peer::normal().step(&request), Err(TextRefusal::ProtocolError));
}

#[test]
fn text_is_bounded() {
    let limits = Limits { text: 1000, text_keys: 3, ..Limits::default() };
    let mut peer = Peer::normal();
    peer.exchange = TextExchange::new(&limits);
    assert_eq!(peer.ask("X-a=1 X-b=1 X-c=1 X-d=1"), Err(TextError::TooManyPairs { limit: 3 }.into()));
    let part = [b'a'; 400];
    let mut tag = NO_TARGET_TRANSFER_TAG;
    for part_number in 0..3 {
        let request = TextRequest { is_final: false, cont: true, target_transfer_tag: tag, ..whole(&part) };
        match peer.step(&request) {
            Ok(reply) => tag = reply.target_transfer_tag,
            Err(refusal) => {
                assert_eq!(refusal, TextError::TooLong { limit: 1000 }.into());
                assert_eq!(part_number, 2);
                return;
            }
        }
    }
    panic!("the third part is too much");
}
