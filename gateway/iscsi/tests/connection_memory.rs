//! What waits in a connection keeps its own bytes in memory, and not those it arrived with.

mod initiator;

use initiator::{Initiator, pattern, text};
use iscsi_target::pdu::{RESERVED_TAG, TextRequestPdu};
use iscsi_target::{ConnectionError, Event, Limits, Lun, SessionKind};

/// A read of the socket.
const READ_BYTES: usize = 256 * 1024;

/// Whether the memory that the input was received in is free again.
fn input_is_free(initiator: &mut Initiator) -> bool {
    initiator.target.input().try_reclaim(READ_BYTES)
}

fn with_room(keys: &str) -> Initiator {
    let mut initiator = Initiator::log_in(keys);
    initiator.target.input().reserve(READ_BYTES);
    assert!(input_is_free(&mut initiator));
    initiator
}

#[test]
fn small_immediate_data_is_copied() {
    for is_early in [false, true] {
        let mut initiator = with_room("");
        initiator.cmd_sn += u32::from(is_early);
        let pdu = initiator.command(false, true, 1000);
        initiator.send(&pdu.build(), &pattern(0, 1000));
        let event = initiator.next_event().expect("the connection lives");
        assert_eq!(event.is_none(), is_early);
        assert!(input_is_free(&mut initiator));
        if let Some(Event::Command(command)) = event {
            assert_eq!(command.data.expect("all data").to_vec(), pattern(0, 1000));
            initiator.target.request_data(command.task, 1000);
            let Event::DataOut { data, .. } = initiator.event() else { panic!("no data") };
            assert_eq!(data.to_vec(), pattern(0, 1000));
        }
    }
}

#[test]
fn large_immediate_data_is_not_copied_unless_it_is_early() {
    for is_early in [false, true] {
        let mut initiator = with_room("");
        initiator.cmd_sn += u32::from(is_early);
        let pdu = initiator.command(false, true, 4096);
        initiator.send(&pdu.build(), &pattern(0, 4096));
        let event = initiator.next_event().expect("the connection lives");
        assert_eq!(event.is_none(), is_early);
        assert_eq!(input_is_free(&mut initiator), is_early);
    }
}

#[test]
fn requests_ahead_of_their_turn_are_copied() {
    let mut initiator = with_room("");
    let missing = initiator.command(true, false, 0);
    initiator.text_request("SendTargets=All");
    initiator.text_request(&"X-".repeat(2000));
    initiator.assert_no_event();
    assert!(input_is_free(&mut initiator));
    initiator.send(&missing.build(), &[]);
    initiator.command_event();
    initiator.assert_no_event();
    assert!(initiator.receive().data.starts_with(b"TargetName="));
}

#[test]
fn a_discovery_session_declares_and_holds_no_more_than_a_text() {
    let limit = Limits::default().text;
    let mut initiator = Initiator::connect(Limits::default());
    let request = initiator.login_request();
    initiator.send(&request.build(), &text("InitiatorName=iqn.2026-11.test:me SessionType=Discovery"));
    let Event::Login(session) = initiator.event() else { panic!("no login event") };
    assert_eq!(session.kind, SessionKind::Discovery);
    assert_eq!(session.parameters.target_max_recv_data_segment_length as usize, limit);

    let mut initiator = Initiator::discover();
    let missing = initiator.cmd_sn;
    initiator.cmd_sn += 1;
    let error = loop {
        let pdu = TextRequestPdu {
            immediate: false,
            is_final: true,
            continues: false,
            lun: Lun::ZERO,
            initiator_task_tag: initiator.tag(),
            target_transfer_tag: RESERVED_TAG,
            cmd_sn: initiator.cmd_sn,
            exp_stat_sn: initiator.exp_stat_sn,
        };
        initiator.cmd_sn += 1;
        initiator.send(&pdu.build(), &[0; 8192]);
        match initiator.next_event() {
            Ok(event) => assert!(event.is_none()),
            Err(error) => break error,
        }
    };
    assert_eq!(error, ConnectionError::HeldInputTooLong { missing, limit });
}
