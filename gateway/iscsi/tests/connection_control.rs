//! Everything but SCSI commands: login PDUs, NOP, Text, Logout, Reject, asynchronous messages, deadlines.

mod initiator;

use std::time::Duration;

use bytes::Buf;
use initiator::{Initiator, TSIH, text};
use iscsi_target::framing::FrameError;
use iscsi_target::pdu::{
    AsyncEvent, AsyncMessagePdu, BasicHeader, LoginRequestPdu, LoginResponsePdu, LogoutRequestPdu,
    LogoutResponsePdu, NopInPdu, NopOutPdu, Opcode, R2tPdu, RESERVED_TAG, RejectPdu, RejectReason, SnackPdu,
    TextRequestPdu, TextResponsePdu,
};
use iscsi_target::{
    ConnectionError, Event, Limits, LoginStatus, LogoutReason, LogoutResponse, Lun, RefusalReason,
    ScsiResponse, SessionKind,
};

fn log_out(initiator: &mut Initiator, reason: LogoutReason, connection_id: u16) -> LogoutRequestPdu {
    let pdu = LogoutRequestPdu {
        immediate: true,
        reason,
        initiator_task_tag: initiator.tag(),
        connection_id,
        cmd_sn: initiator.cmd_sn,
        exp_stat_sn: initiator.exp_stat_sn,
    };
    initiator.send(&pdu.build(), &[]);
    pdu
}

fn receive_reject(initiator: &mut Initiator) -> RejectReason {
    RejectPdu::parse(&initiator.receive_opcode(Opcode::Reject).header).reason
}

fn receive_login_status(initiator: &mut Initiator) -> u16 {
    LoginResponsePdu::parse(&initiator.receive_opcode(Opcode::LoginResponse).header).status
}

#[test]
fn nothing_is_read_while_a_login_awaits_its_decision() {
    let mut initiator = Initiator::connect(Limits::default());
    let keys = text("InitiatorName=iqn.2026-11.test:me SessionType=Discovery");
    let request = initiator.login_request();
    initiator.send(&request.build(), &keys);
    assert!(matches!(initiator.event(), Event::Login(session) if session.kind == SessionKind::Discovery));
    assert!(!initiator.target.wants_input());
    initiator.text_request("SendTargets=All");
    initiator.assert_no_event();
    initiator.assert_nothing_received();
    initiator.target.accept_session(initiator.now, TSIH);
    initiator.assert_no_event();
    initiator.receive_opcode(Opcode::LoginResponse);
    initiator.receive_opcode(Opcode::TextResponse);
    assert_eq!(initiator.target.session().map(|session| session.tsih), Some(TSIH));
}

#[test]
fn a_login_names_its_connection() {
    let mut initiator = Initiator::connect(Limits::default());
    let request = LoginRequestPdu { connection_id: 0x1234, ..initiator.login_request() };
    initiator.send(&request.build(), &text("InitiatorName=iqn.2026-11.test:me SessionType=Discovery"));
    let Event::Login(session) = initiator.event() else { panic!("no login event") };
    assert_eq!(session.connection_id, 0x1234);
}

#[test]
fn a_session_can_be_refused() {
    let mut initiator = Initiator::connect(Limits::default());
    let request = initiator.login_request();
    initiator.send(&request.build(), &text("InitiatorName=iqn.2026-11.test:me SessionType=Discovery"));
    initiator.event();
    initiator.target.refuse_session(LoginStatus::OutOfResources);
    assert!(!initiator.target.is_finished(), "the response is not sent yet");
    assert_eq!(receive_login_status(&mut initiator), 0x0302);
    assert!(initiator.target.is_finished());
}

#[test]
fn a_refused_login_ends_the_connection_behind_its_response() {
    let mut initiator = Initiator::connect(Limits::default());
    let request = initiator.login_request();
    initiator
        .send(&request.build(), &text("InitiatorName=iqn.2026-11.test:me TargetName=iqn.2026-11.test:none"));
    let error = initiator.next_event().expect_err("refused");
    let ConnectionError::LoginRefused(refusal) = error else { panic!("{error:?}") };
    assert_eq!(refusal.reason, RefusalReason::NoSuchTarget);
    assert_eq!(refusal.initiator.as_deref(), Some("iqn.2026-11.test:me"));
    assert_eq!(refusal.target.as_deref(), Some("iqn.2026-11.test:none"));
    assert_eq!(receive_login_status(&mut initiator), 0x0203);
}

#[test]
fn other_requests_have_no_place_in_the_login_phase() {
    let mut initiator = Initiator::connect(Limits::default());
    let pdu = initiator.command(true, false, 0);
    initiator.send(&pdu.build(), &[]);
    let error = initiator.next_event().expect_err("refused");
    assert_eq!(error, ConnectionError::UnexpectedDuringLogin(Opcode::ScsiCommand));
    assert_eq!(receive_login_status(&mut initiator), 0x020b);
}

#[test]
fn an_unknown_peer_cannot_make_us_hold_much() {
    let mut initiator = Initiator::connect(Limits::default());
    let mut header = initiator.login_request().build();
    header.set_data_segment_length(8193);
    initiator.target.input().extend_from_slice(header.as_bytes());
    let error = initiator.next_event().expect_err("too long");
    assert_eq!(error, FrameError::DataSegmentTooLong { length: 8193, limit: 8192 }.into());

    let mut initiator = Initiator::connect(Limits::default());
    initiator.target.input().extend_from_slice(&[0; 64 * 1024 + 1]);
    let error = initiator.next_event().expect_err("too long");
    assert!(matches!(error, ConnectionError::LoginInputTooLong { .. }));
}

#[test]
fn a_login_has_a_deadline() {
    let mut initiator = Initiator::connect(Limits::default());
    let deadline = initiator.target.next_timeout().expect("a deadline");
    assert_eq!(deadline, initiator.now + Limits::default().login_time);
    assert!(initiator.target.handle_timeout(deadline - Duration::from_millis(1)).is_ok());
    assert_eq!(initiator.target.handle_timeout(deadline), Err(ConnectionError::LoginTimeout));
    assert_eq!(initiator.target.next_timeout(), None);
}

#[test]
fn a_login_without_the_immediate_bit_is_understood() {
    let mut initiator = Initiator::connect(Limits::default());
    let header = initiator.login_request().build().immediate(false);
    initiator.send(&header, &text("InitiatorName=iqn.2026-11.test:me SessionType=Discovery"));
    assert!(matches!(initiator.event(), Event::Login(_)));
}

#[test]
fn a_login_request_in_full_feature_phase_ends_the_connection() {
    let mut initiator = Initiator::log_in("");
    let request = initiator.login_request();
    initiator.send(&request.build(), &[]);
    assert_eq!(initiator.next_event().expect_err("the end"), ConnectionError::LoginInFullFeaturePhase);
    assert_eq!(receive_reject(&mut initiator), RejectReason::ProtocolError);
}

#[test]
fn nop_out_is_echoed_only_if_an_answer_is_wanted() {
    let mut initiator = Initiator::log_in("HeaderDigest=CRC32C");
    let mut pdu = initiator.ping(b"12345");
    initiator.assert_no_event();
    let frame = initiator.receive_opcode(Opcode::NopIn);
    assert_eq!(frame.data[..], b"12345"[..]);
    assert_eq!(NopInPdu::parse(&frame.header).target_transfer_tag, RESERVED_TAG);

    pdu.initiator_task_tag = RESERVED_TAG;
    initiator.send(&pdu.build(), b"12345");
    initiator.assert_no_event();
    initiator.assert_nothing_received();

    pdu = NopOutPdu { immediate: false, initiator_task_tag: initiator.tag(), ..pdu };
    initiator.send(&pdu.build(), &[]);
    initiator.assert_no_event();
    let answer = NopInPdu::parse(&initiator.receive_opcode(Opcode::NopIn).header);
    assert_eq!(answer.sequence.exp_cmd_sn, pdu.cmd_sn + 1, "it consumed its number");
}

#[test]
fn ping_data_is_cut_to_what_the_initiator_takes() {
    let mut initiator = Initiator::log_in("MaxRecvDataSegmentLength=512");
    initiator.ping(&[7; 4000]);
    initiator.assert_no_event();
    assert_eq!(initiator.receive_opcode(Opcode::NopIn).data.len(), 512);
}

#[test]
fn the_initiator_is_pinged_each_second_and_dropped_when_silent() {
    let mut initiator = Initiator::log_in("");
    let start = initiator.now;
    for second in 1..=3 {
        initiator.now = start + Duration::from_secs(second);
        assert_eq!(initiator.target.next_timeout(), Some(initiator.now));
        initiator.target.handle_timeout(initiator.now).expect("alive");
        let ping = NopInPdu::parse(&initiator.receive_opcode(Opcode::NopIn).header);
        assert_eq!(ping.initiator_task_tag, RESERVED_TAG);
        assert_eq!(ping.sequence.stat_sn, initiator.exp_stat_sn, "not consumed");
        let answer = NopOutPdu {
            immediate: true,
            lun: ping.lun,
            initiator_task_tag: RESERVED_TAG,
            target_transfer_tag: ping.target_transfer_tag,
            cmd_sn: initiator.cmd_sn,
            exp_stat_sn: initiator.exp_stat_sn,
        };
        initiator.send(&answer.build(), &[]);
        initiator.assert_no_event();
        initiator.assert_nothing_received();
    }
    let mut pings = 0;
    let last_sign = loop {
        let due = initiator.target.next_timeout().expect("a deadline");
        initiator.now = due;
        match initiator.target.handle_timeout(due) {
            Ok(()) => pings = initiator.target.output().len() / 48,
            Err(error) => break error,
        }
    };
    assert_eq!(last_sign, ConnectionError::PeerSilent);
    assert_eq!(initiator.now, start + Duration::from_secs(3) + Limits::default().silence);
    assert_eq!(pings, 4, "unanswered pings are limited");
    assert!(initiator.target.is_finished(), "what was not taken is given up");
}

#[test]
fn what_was_just_read_is_a_sign_of_life_however_late_it_is_looked_at() {
    let mut initiator = Initiator::log_in("");
    initiator.now += Limits::default().ping_interval;
    initiator.target.handle_timeout(initiator.now).expect("the first ping is due");
    initiator.now += 2 * Limits::default().silence;
    let ping = NopOutPdu {
        immediate: true,
        lun: Lun::ZERO,
        initiator_task_tag: 9,
        target_transfer_tag: RESERVED_TAG,
        cmd_sn: initiator.cmd_sn,
        exp_stat_sn: initiator.exp_stat_sn,
    };
    initiator.send(&ping.build(), &[]);
    initiator.target.handle_timeout(initiator.now).expect("the peer has just sent something");
}

#[test]
fn a_peer_that_takes_our_output_is_not_silent() {
    let mut initiator = Initiator::log_in("");
    let start = initiator.now;
    for second in 1..=30 {
        initiator.ping(b"an answer to take");
        initiator.assert_no_event();
        initiator.receive_opcode(Opcode::NopIn);
        initiator.now = start + Duration::from_secs(second);
        initiator.target.handle_timeout(initiator.now).expect("alive");
        if !initiator.target.output().is_empty() {
            initiator.receive_opcode(Opcode::NopIn);
        }
    }
}

#[test]
fn send_targets_works_in_both_kinds_of_session() {
    for mut initiator in [Initiator::discover(), Initiator::log_in("DataDigest=CRC32C")] {
        let pdu = initiator.text_request("SendTargets=All");
        initiator.assert_no_event();
        let frame = initiator.receive_opcode(Opcode::TextResponse);
        let response = TextResponsePdu::parse(&frame.header);
        assert!(response.is_final && !response.continues);
        assert_eq!(response.initiator_task_tag, pdu.initiator_task_tag);
        assert_eq!(response.target_transfer_tag, RESERVED_TAG);
        assert_eq!(frame.data, text("TargetName=iqn.2026-11.test:disk TargetAddress=10.0.0.1:3260,1"));
    }
}

#[test]
fn a_bad_send_targets_is_rejected_and_the_session_lives() {
    let mut initiator = Initiator::discover();
    initiator.text_request("SendTargets=nonsense");
    initiator.assert_no_event();
    receive_reject(&mut initiator);
    initiator.assert_alive();
}

#[test]
fn text_may_be_spread_over_requests() {
    let mut initiator = Initiator::log_in("");
    let mut pdu = TextRequestPdu {
        immediate: true,
        is_final: false,
        continues: true,
        lun: Lun::ZERO,
        initiator_task_tag: initiator.tag(),
        target_transfer_tag: RESERVED_TAG,
        cmd_sn: initiator.cmd_sn,
        exp_stat_sn: initiator.exp_stat_sn,
    };
    initiator.send(&pdu.build(), b"SendTa");
    initiator.assert_no_event();
    let frame = initiator.receive_opcode(Opcode::TextResponse);
    let response = TextResponsePdu::parse(&frame.header);
    assert!(!response.is_final && frame.data.is_empty());
    pdu.target_transfer_tag = response.target_transfer_tag;
    pdu.is_final = true;
    pdu.continues = false;
    initiator.send(&pdu.build(), b"rgets=All\0");
    initiator.assert_no_event();
    let frame = initiator.receive_opcode(Opcode::TextResponse);
    assert!(frame.data.starts_with(b"TargetName="));
}

#[test]
fn a_discovery_session_has_no_scsi() {
    let mut initiator = Initiator::discover();
    let pdu = initiator.command(true, false, 0);
    initiator.send(&pdu.build(), &[]);
    initiator.assert_no_event();
    assert_eq!(receive_reject(&mut initiator), RejectReason::ProtocolError);
    initiator.assert_alive();
    initiator.assert_no_event();
    let silent = initiator.now + Limits::default().discovery_silence;
    assert_eq!(initiator.target.next_timeout(), Some(silent), "no pings");
    assert_eq!(initiator.target.handle_timeout(silent), Err(ConnectionError::PeerSilent));
}

#[test]
fn a_discovery_session_ends_in_time_however_busy_it_is() {
    let mut initiator = Initiator::discover();
    let end = initiator.now + Limits::default().discovery_time;
    while initiator.now + Duration::from_secs(1) < end {
        initiator.now += Duration::from_secs(1);
        initiator.assert_alive();
        assert!(initiator.target.next_timeout().is_some_and(|due| due <= end));
        initiator.target.handle_timeout(initiator.now).expect("in time");
    }
    initiator.ping(b"not taken");
    initiator.assert_no_event();
    assert_eq!(initiator.target.next_timeout(), Some(end));
    assert_eq!(initiator.target.handle_timeout(end), Err(ConnectionError::DiscoveryTimeout));
    assert!(initiator.target.is_finished());
}

#[test]
fn logout_ends_the_connection_after_the_answer() {
    for reason in [LogoutReason::CloseSession, LogoutReason::CloseConnection] {
        let mut initiator = Initiator::log_in("");
        let command = initiator.read(0);
        let pdu = log_out(&mut initiator, reason, 0);
        let Event::Logout(logout) = initiator.event() else { panic!("no logout") };
        assert_eq!((logout.reason, logout.initiator_task_tag), (reason, pdu.initiator_task_tag));
        initiator.target.respond(command.task, ScsiResponse::good());
        initiator.target.respond_logout(pdu.initiator_task_tag, LogoutResponse::Closed);
        initiator.target.request_logout(3);
        initiator.receive_response();
        let frame = initiator.receive_opcode(Opcode::LogoutResponse);
        assert_eq!(LogoutResponsePdu::parse(&frame.header).response, LogoutResponse::Closed);
        initiator.assert_nothing_received();
        assert!(initiator.target.is_finished());
    }
}

#[test]
fn a_logout_that_waits_for_its_answer_discards_what_arrives() {
    let mut initiator = Initiator::log_in("InitialR2T=No");
    let command = initiator.write(1 << 20);
    initiator.target.request_data(command.task, 4096);
    let r2t = R2tPdu::parse(&initiator.receive_opcode(Opcode::ReadyToTransfer).header);
    let pdu = log_out(&mut initiator, LogoutReason::CloseSession, 0);
    assert!(matches!(initiator.event(), Event::Logout(_)));
    for _ in 0..100 {
        assert!(initiator.target.wants_input(), "or its end would not be seen");
        initiator.ping(&[7; 4000]);
        let (task, transfer) = (r2t.initiator_task_tag, r2t.target_transfer_tag);
        initiator.data_out(task, transfer, (0, 0), &[7; 4096], true);
        initiator.assert_no_event();
        assert!(initiator.target.input().is_empty());
    }
    initiator.target.respond_logout(pdu.initiator_task_tag, LogoutResponse::Closed);
    assert!(!initiator.target.wants_input());
    initiator.receive_opcode(Opcode::LogoutResponse);
    initiator.assert_nothing_received();
    assert!(initiator.target.is_finished());
}

#[test]
fn a_peer_that_is_silent_at_the_end_is_dropped() {
    let mut initiator = Initiator::log_in("");
    let silence = Limits::default().silence;
    initiator.now += Duration::from_secs(1);
    log_out(&mut initiator, LogoutReason::CloseSession, 0);
    assert!(matches!(initiator.event(), Event::Logout(_)));
    let due = initiator.now + silence;
    assert_eq!(initiator.target.next_timeout(), Some(due), "no pings");
    assert!(initiator.target.handle_timeout(due - Duration::from_millis(1)).is_ok());
    assert_eq!(initiator.target.handle_timeout(due), Err(ConnectionError::PeerSilent));
    assert!(initiator.target.is_finished());
}

#[test]
fn a_peer_that_does_not_take_the_last_answer_is_dropped() {
    let mut initiator = Initiator::log_in("");
    let silence = Limits::default().silence;
    let pdu = log_out(&mut initiator, LogoutReason::CloseSession, 0);
    assert!(matches!(initiator.event(), Event::Logout(_)));
    initiator.target.respond_logout(pdu.initiator_task_tag, LogoutResponse::Closed);
    let due = initiator.now + silence;
    assert_eq!(initiator.target.next_timeout(), Some(due));
    initiator.target.output().advance(1);
    initiator.now = due - Duration::from_millis(1);
    assert!(initiator.target.handle_timeout(initiator.now).is_ok());
    let due = initiator.now + silence;
    assert_eq!(initiator.target.next_timeout(), Some(due), "it took a byte");
    assert_eq!(initiator.target.handle_timeout(due), Err(ConnectionError::PeerSilent));
    assert!(initiator.target.is_finished(), "what is left is given up");
    assert_eq!(initiator.target.next_timeout(), None);

    let mut initiator = Initiator::connect(Limits::default());
    let request = initiator.login_request();
    initiator.send(&request.build(), &text("InitiatorName=iqn.2026-11.test:me SessionType=Discovery"));
    initiator.event();
    initiator.target.refuse_session(LoginStatus::OutOfResources);
    assert_eq!(initiator.target.next_timeout(), Some(initiator.now + silence));
    receive_login_status(&mut initiator);
    assert_eq!(initiator.target.next_timeout(), None, "all is sent");
}

#[test]
fn logouts_that_cannot_be_are_answered_and_the_session_lives() {
    let mut initiator = Initiator::log_in("");
    for (reason, connection_id, answer) in [
        (LogoutReason::CloseConnection, 5, LogoutResponse::ConnectionNotFound),
        (LogoutReason::RemoveForRecovery, 0, LogoutResponse::RecoveryUnsupported),
        (LogoutReason::Unknown(9), 0, LogoutResponse::CleanupFailed),
    ] {
        log_out(&mut initiator, reason, connection_id);
        initiator.assert_no_event();
        let frame = initiator.receive_opcode(Opcode::LogoutResponse);
        assert_eq!(LogoutResponsePdu::parse(&frame.header).response, answer);
    }
    initiator.assert_alive();
}

#[test]
fn what_we_do_not_know_is_rejected_with_its_header() {
    let mut initiator = Initiator::log_in("");
    let snack = SnackPdu {
        kind: 0,
        lun: Lun::ZERO,
        initiator_task_tag: 1,
        target_transfer_tag: RESERVED_TAG,
        exp_stat_sn: initiator.exp_stat_sn,
        begin: 0,
        length: 1,
    };
    initiator.send(&snack.build(), &[]);
    initiator.assert_no_event();
    assert_eq!(receive_reject(&mut initiator), RejectReason::SnackReject);
    for code in [0x07, 0x1c, 0x21, 0x3e] {
        let header = BasicHeader::new(Opcode::from_code(code), 0x80);
        initiator.send(&header, b"data");
        initiator.assert_no_event();
        let reject = initiator.receive_opcode(Opcode::Reject);
        assert_eq!(RejectPdu::parse(&reject.header).reason, RejectReason::CommandNotSupported);
        assert_eq!((reject.data.len(), reject.data[0]), (48, code));
    }
    initiator.assert_alive();
}

#[test]
fn a_damaged_header_or_a_segment_too_long_ends_the_connection() {
    let mut initiator = Initiator::log_in("HeaderDigest=CRC32C");
    initiator.ping(b"");
    initiator.target.input()[20] ^= 1;
    assert_eq!(initiator.next_event().expect_err("damaged"), FrameError::HeaderDigest.into());

    let mut initiator = Initiator::log_in("");
    let mut header = initiator.command(false, true, 1 << 20).build();
    header.set_data_segment_length(262_145);
    initiator.target.input().extend_from_slice(header.as_bytes());
    let error = initiator.next_event().expect_err("too long");
    assert_eq!(error, FrameError::DataSegmentTooLong { length: 262_145, limit: 262_144 }.into());
}

#[test]
fn a_damaged_request_is_rejected_and_the_next_one_acts() {
    let mut initiator = Initiator::log_in("DataDigest=CRC32C");
    initiator.text_request("SendTargets=All");
    let last = initiator.target.input().len() - 1;
    initiator.target.input()[last] ^= 1;
    initiator.assert_no_event();
    assert_eq!(receive_reject(&mut initiator), RejectReason::DataDigestError);
    initiator.text_request("SendTargets=All");
    initiator.assert_no_event();
    initiator.receive_opcode(Opcode::TextResponse);
}

#[test]
fn asynchronous_messages_consume_a_status_number() {
    let mut initiator = Initiator::log_in("");
    initiator.target.request_logout(5);
    let frame = initiator.receive_opcode(Opcode::AsyncMessage);
    let message = AsyncMessagePdu::parse(&frame.header);
    assert_eq!(message.event, AsyncEvent::LogoutRequested { seconds: 5 });
    let lun = Lun::from_number(3).expect("a small number");
    initiator.target.notify_unit_attention(lun, &[0x70, 0, 6]);
    let frame = initiator.receive_opcode(Opcode::AsyncMessage);
    let message = AsyncMessagePdu::parse(&frame.header);
    assert_eq!((message.event, message.lun), (AsyncEvent::Scsi, lun));
    assert_eq!(frame.data[..], [0, 3, 0x70, 0, 6]);
    initiator.assert_alive();
}
