//! The login phase's order (RFC 7143 §6.3): stages and transitions, mandatory keys, continued texts, versions, and
//! who is let in.

mod login_support;

use iscsi_target::directory::Authentication;
use iscsi_target::login::{LoginReply, LoginRequest, LoginStatus};
use iscsi_target::parameters::SessionKind;
use login_support::{
    DISCOVERY, INITIATOR, NORMAL, TARGET, chap, finished, login, open_login, pairs, refused, replied,
    request, say, text,
};

#[test]
fn one_request_can_be_a_whole_login() {
    let (reply, session) = finished(say(&mut open_login(), 1, Some(3), NORMAL));
    assert_eq!((reply.transit, reply.cont, reply.csg, reply.nsg), (true, false, 1, 3));
    assert_eq!(reply.status, LoginStatus::Success);
    assert_eq!(session.kind, SessionKind::Normal);
    assert_eq!(session.initiator_name, INITIATOR);
    assert_eq!(session.target_name.as_deref(), Some(TARGET));
    assert_eq!(session.isid, [0x40, 0, 1, 0x37, 0, 0]);
    assert_eq!((session.tsih, session.user), (0, None));
}

#[test]
fn the_security_stage_may_lead_to_either_later_stage() {
    let (reply, session) = finished(say(&mut open_login(), 0, Some(3), NORMAL));
    assert_eq!(pairs(&reply.data), "TargetPortalGroupTag=7");
    // Nothing was declared, so the initiator counts with the default.
    assert_eq!(session.parameters.target_max_recv_data_segment_length, 8192);

    let mut login = open_login();
    assert!(replied(say(&mut login, 0, Some(1), NORMAL)).transit);
    finished(say(&mut login, 1, Some(3), ""));
}

#[test]
fn a_stage_lasts_until_the_initiator_asks_to_leave_it() {
    let mut login = open_login();
    for offer in [NORMAL, ""] {
        let reply = replied(say(&mut login, 0, None, offer));
        assert_eq!((reply.transit, reply.csg, reply.nsg), (false, 0, 0));
    }
    let reply = replied(say(&mut login, 0, Some(1), ""));
    assert_eq!((reply.transit, reply.csg, reply.nsg), (true, 0, 1));
    for _ in 0..2 {
        let reply = replied(say(&mut login, 1, None, ""));
        assert_eq!((reply.transit, reply.csg, reply.nsg), (false, 1, 0));
    }
    finished(say(&mut login, 1, Some(3), ""));
}

#[test]
fn impossible_stages_and_transitions_end_the_login() {
    for (csg, nsg) in [
        (2, None),
        (3, None),
        (2, Some(3)),
        (3, Some(3)),
        (0, Some(0)),
        (0, Some(2)),
        (1, Some(0)),
        (1, Some(1)),
        (1, Some(2)),
    ] {
        let step = say(&mut open_login(), csg, nsg, NORMAL);
        assert_eq!(refused(step), LoginStatus::InitiatorError, "{csg} to {nsg:?}");
    }
}

#[test]
fn stages_are_neither_skipped_nor_repeated() {
    let mut login = open_login();
    replied(say(&mut login, 0, None, NORMAL));
    assert_eq!(
        refused(say(&mut login, 1, Some(3), "")),
        LoginStatus::InitiatorError,
        "no transition was agreed"
    );

    let mut login = open_login();
    replied(say(&mut login, 1, None, NORMAL));
    assert_eq!(refused(say(&mut login, 0, Some(1), "")), LoginStatus::InitiatorError, "a step back");
}

#[test]
fn nothing_follows_the_end() {
    let mut login = open_login();
    finished(say(&mut login, 1, Some(3), NORMAL));
    assert_eq!(refused(say(&mut login, 1, Some(3), "")), LoginStatus::InitiatorError);
    let mut login = open_login();
    refused(say(&mut login, 2, None, NORMAL));
    assert_eq!(refused(say(&mut login, 1, Some(3), NORMAL)), LoginStatus::InitiatorError);
}

#[test]
fn only_version_zero_is_spoken() {
    let data = text(NORMAL);
    let newer = LoginRequest { version_max: 3, version_min: 1, ..request(1, Some(3), &data) };
    assert_eq!(refused(open_login().step(&newer)), LoginStatus::UnsupportedVersion);
    let either = LoginRequest { version_max: 3, ..request(1, Some(3), &data) };
    finished(open_login().step(&either));
}

#[test]
fn names_are_mandatory() {
    let cases = [
        ("", LoginStatus::MissingParameter),
        ("TargetName=iqn.2026-11.test:disk", LoginStatus::MissingParameter),
        ("InitiatorName=iqn.a", LoginStatus::MissingParameter),
        ("InitiatorName=iqn.a SessionType=Normal", LoginStatus::MissingParameter),
        ("SessionType=Discovery", LoginStatus::MissingParameter),
        ("InitiatorName= TargetName=iqn.2026-11.test:disk", LoginStatus::InitiatorError),
        ("InitiatorName=iqn.a TargetName=", LoginStatus::NotFound),
        ("InitiatorName=iqn.a SessionType=Telepathy", LoginStatus::SessionTypeNotSupported),
    ];
    for (offer, status) in cases {
        assert_eq!(refused(say(&mut open_login(), 1, Some(3), offer)), status, "{offer}");
    }
    let long = format!("InitiatorName=iqn.{} TargetName=iqn.2026-11.test:disk", "x".repeat(220));
    assert_eq!(refused(say(&mut open_login(), 1, Some(3), &long)), LoginStatus::InitiatorError);
}

#[test]
fn the_directory_decides_who_gets_where() {
    let cases = [
        ("InitiatorName=iqn.a TargetName=iqn.2026-11.test:gone", LoginStatus::NotFound),
        ("InitiatorName=iqn.stranger TargetName=iqn.2026-11.test:disk", LoginStatus::AuthorizationFailure),
        ("InitiatorName=iqn.stranger SessionType=Discovery", LoginStatus::AuthorizationFailure),
    ];
    for (offer, status) in cases {
        assert_eq!(refused(say(&mut open_login(), 0, None, offer)), status, "{offer}");
    }
}

#[test]
fn discovery_needs_no_target() {
    let (reply, session) = finished(say(&mut open_login(), 1, Some(3), DISCOVERY));
    assert_eq!(pairs(&reply.data), "MaxRecvDataSegmentLength=65536", "no more than a text may have");
    assert_eq!((session.kind, session.target_name), (SessionKind::Discovery, None));
}

#[test]
fn the_portal_group_tag_comes_with_any_target_name() {
    let offer = format!("{DISCOVERY} TargetName={TARGET}");
    let (reply, session) = finished(say(&mut open_login(), 0, Some(3), &offer));
    assert_eq!(pairs(&reply.data), "TargetPortalGroupTag=7");
    assert_eq!(session.target_name, None);
}

#[test]
fn security_cannot_be_skipped_when_it_is_required() {
    for (csg, nsg, offer) in [
        (1, Some(3), ""),
        (1, None, ""),
        (0, Some(1), ""),
        (0, Some(3), ""),
        (0, None, "AuthMethod=None"),
        (0, Some(1), "AuthMethod=KRB5,SRP"),
        (0, Some(1), "AuthMethod="),
        (0, None, "CHAP_A=5"),
    ] {
        let step = say(&mut login(Authentication::Chap(chap())), csg, nsg, &format!("{NORMAL} {offer}"));
        assert_eq!(refused(step), LoginStatus::AuthenticationFailure, "{csg} {nsg:?} {offer}");
    }
}

#[test]
fn an_initiator_that_insists_on_chap_is_not_let_in_without() {
    let step = say(&mut open_login(), 0, Some(1), &format!("{NORMAL} AuthMethod=CHAP"));
    assert_eq!(refused(step), LoginStatus::AuthenticationFailure);
}

#[test]
fn a_request_may_come_in_parts_cut_anywhere() {
    let data = text(&format!("{NORMAL} HeaderDigest=CRC32C"));
    for cut in 0..=data.len() {
        let mut login = open_login();
        let (first, second) = data.split_at(cut);
        let reply = replied(login.step(&LoginRequest { cont: true, ..request(1, None, first) }));
        let empty = LoginReply {
            transit: false,
            cont: false,
            csg: 1,
            nsg: 0,
            status: LoginStatus::Success,
            data: vec![],
        };
        assert_eq!(reply, empty);
        let (reply, session) = finished(login.step(&request(1, Some(3), second)));
        let expected = "TargetPortalGroupTag=7 HeaderDigest=CRC32C MaxRecvDataSegmentLength=262144";
        assert_eq!(pairs(&reply.data), expected);
        assert!(session.parameters.header_digest);
    }
}

#[test]
fn a_request_to_be_continued_cannot_ask_for_a_transition() {
    let data = text(NORMAL);
    let step = open_login().step(&LoginRequest { cont: true, ..request(1, Some(3), &data) });
    assert_eq!(refused(step), LoginStatus::InitiatorError);
}

#[test]
fn the_parts_of_a_login_belong_together() {
    let data = text(NORMAL);
    let start = request(1, None, &data);
    let others = [
        LoginRequest { isid: [9; 6], ..request(1, None, &[]) },
        LoginRequest { cid: 9, ..request(1, None, &[]) },
        LoginRequest { tsih: 9, ..request(1, None, &[]) },
    ];
    for other in others {
        for cont in [false, true] {
            let mut login = open_login();
            replied(login.step(&LoginRequest { cont, ..start }));
            assert_eq!(refused(login.step(&other)), LoginStatus::InitiatorError, "{other:?}");
        }
    }
}

#[test]
fn a_long_answer_comes_in_parts() {
    let unknown: Vec<String> = (0..200).map(|n| format!("X-{n:0>61}=1")).collect();
    let mut login = open_login();
    let first = replied(say(&mut login, 1, Some(3), &format!("{NORMAL} {}", unknown.join(" "))));
    assert_eq!((first.transit, first.cont, first.data.len()), (false, true, 8192));
    // Without T the last part does not end the stage.
    let second = replied(say(&mut login, 1, None, ""));
    assert_eq!((second.transit, second.cont), (false, false));
    let whole = pairs(&[first.data, second.data].concat());
    assert_eq!(whole.matches("=NotUnderstood").count(), 200);
    assert!(whole.ends_with("MaxRecvDataSegmentLength=262144"), "{whole}");
    finished(say(&mut login, 1, Some(3), ""));
}

#[test]
fn the_last_part_of_an_answer_may_end_the_login() {
    let unknown: Vec<String> = (0..200).map(|n| format!("X-{n:0>61}=1")).collect();
    let mut login = open_login();
    assert!(replied(say(&mut login, 1, Some(3), &format!("{NORMAL} {}", unknown.join(" ")))).cont);
    let (last, _) = finished(say(&mut login, 1, Some(3), ""));
    assert!(last.transit && !last.cont && !last.data.is_empty());
}

#[test]
fn only_empty_requests_ask_for_the_rest_of_an_answer() {
    let unknown: Vec<String> = (0..200).map(|n| format!("X-{n:0>61}=1")).collect();
    let mut login = open_login();
    assert!(replied(say(&mut login, 1, None, &format!("{NORMAL} {}", unknown.join(" ")))).cont);
    assert_eq!(refused(say(&mut login, 1, None, "ErrorRecoveryLevel=0")), LoginStatus::InitiatorError);
}

#[test]
fn a_session_handle_is_handed_on() {
    let data = text(NORMAL);
    let (_, session) = finished(open_login().step(&LoginRequest { tsih: 42, ..request(1, Some(3), &data) }));
    assert_eq!(session.tsih, 42);
}
