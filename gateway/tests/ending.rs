//! How sessions end: whatever is under way, nothing hangs, nothing is held for ever, and the next login works.

mod support;

use std::io::Read;
use std::net::TcpStream;

use support::{
    ABORT_TASK, Initiator, LOGICAL_UNIT_RESET, LOGIN_RESPONSE, LOGOUT_RESPONSE, PATIENCE, R2T, SCSI_RESPONSE,
    SILENCE, TARGET_COLD_RESET, TASK_MANAGEMENT_RESPONSE, TestGateway, wait_for,
};

/// All of an 8 MiB disk in blocks of 512 bytes.
const READ_EVERYTHING: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0x40, 0, 0];
const EVERYTHING_BYTES: u32 = 8 << 20;

#[test]
fn an_initiator_that_vanished_while_aborting_can_log_in_again() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    gateway.peer.hold();
    initiator.write(1, 0, 7, true);
    wait_for("the write", || gateway.peer.waiting() == 1);
    initiator.manage(2, ABORT_TASK, 1);
    initiator.expect_silence();
    drop(initiator);
    let mut again = Initiator::start_login(gateway.portal, "iqn.2026-11.test:a");
    again.expect_silence();
    gateway.peer.release();
    again.finish_login();
}

#[test]
fn a_login_with_the_session_s_handle_goes_on_with_it_and_with_another_is_refused() {
    let gateway = TestGateway::start(1);
    let mut old = Initiator::start_login(gateway.portal, "iqn.2026-11.test:a");
    let response = old.expect(LOGIN_RESPONSE);
    let tsih = u16::from_be_bytes([response.header[14], response.header[15]]);
    let mut stranger = Initiator::start_login_to(gateway.portal, "iqn.2026-11.test:a", tsih + 1);
    assert_eq!(stranger.expect(LOGIN_RESPONSE).header[36..38], [2, 0x0a], "session does not exist");
    let mut new = Initiator::start_login_to(gateway.portal, "iqn.2026-11.test:a", tsih);
    let response = new.expect(LOGIN_RESPONSE);
    assert_eq!((&response.header[36..38], &response.header[14..16]), (&[0, 0][..], &tsih.to_be_bytes()[..]));
    old.expect_end();
    new.command(1, 0, &[0; 6], 0, None);
    assert_eq!(new.expect(SCSI_RESPONSE).sense(), (6, 0x29, 0), "what the old connection was to be told");
}

#[test]
fn two_sessions_that_reset_each_other_and_vanish_leave_nothing_behind() {
    let gateway = TestGateway::start(1);
    for _ in 0..300 {
        let mut one = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
        let mut other = Initiator::login(gateway.portal, "iqn.2026-11.test:b");
        one.manage(2, LOGICAL_UNIT_RESET, u32::MAX);
        other.manage(2, LOGICAL_UNIT_RESET, u32::MAX);
    }
    Initiator::login(gateway.portal, "iqn.2026-11.test:a");
}

#[test]
fn a_logout_ends_the_writes_that_have_no_data() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    initiator.write(1, 0, 7, false);
    initiator.expect(R2T);
    initiator.logout(2);
    assert_eq!(initiator.expect(LOGOUT_RESPONSE).tag(), 2);
    initiator.expect_end();
    assert!(gateway.peer.writes().is_empty());
}

#[test]
fn a_reset_is_told_to_others_before_their_next_command() {
    let gateway = TestGateway::start(1);
    let mut resetting = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    let mut other = Initiator::login(gateway.portal, "iqn.2026-11.test:b");
    other.write(1, 100, 5, false);
    other.expect(R2T);
    gateway.peer.hold();
    resetting.write(1, 0, 7, true);
    wait_for("the write", || gateway.peer.waiting() == 1);
    resetting.manage(2, LOGICAL_UNIT_RESET, u32::MAX);
    resetting.expect_silence();
    other.command(3, 0, &[0; 6], 0, None);
    assert_eq!(other.expect(SCSI_RESPONSE).sense().0, 6, "its write is gone: it must be told at once");
    gateway.peer.release();
    resetting.expect(TASK_MANAGEMENT_RESPONSE);
}

#[test]
fn a_cold_reset_ends_all_sessions_of_the_target() {
    let gateway = TestGateway::start(1);
    let mut resetting = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    let mut other = Initiator::login(gateway.portal, "iqn.2026-11.test:b");
    resetting.manage(2, TARGET_COLD_RESET, u32::MAX);
    assert_eq!(resetting.expect(TASK_MANAGEMENT_RESPONSE).header[2], 0);
    resetting.expect_end();
    other.expect_end();
}

#[test]
fn after_stopping_nobody_gets_in() {
    let mut gateway = TestGateway::start(1);
    let mut early = TcpStream::connect(gateway.portal).unwrap();
    early.set_read_timeout(Some(PATIENCE)).unwrap();
    // Whoever connected after it was accepted after it.
    Initiator::login(gateway.portal, "iqn.2026-11.test:a").logout(1);
    let stopping = gateway.take();
    gateway.runtime.block_on(stopping.shut_down());
    assert!(matches!(early.read(&mut [0]), Ok(0)), "the connection is closed");
    assert!(TcpStream::connect(gateway.portal).is_err());
}

#[test]
fn stopping_waits_for_no_initiator_that_takes_nothing() {
    let mut gateway = TestGateway::start(1);
    let deaf: Vec<_> = (0..6)
        .map(|n| {
            let mut initiator = Initiator::login(gateway.portal, &format!("iqn.2026-11.test:{n}"));
            (1..3).for_each(|tag| initiator.command(tag, 0, &READ_EVERYTHING, EVERYTHING_BYTES, None));
            initiator
        })
        .collect();
    wait_for("a read of each", || gateway.peer.reads() >= deaf.len());
    let stopping = gateway.take();
    // The limit only tells a stop from a hang.
    let stopped = async { tokio::time::timeout(PATIENCE, stopping.shut_down()).await };
    assert!(gateway.runtime.block_on(stopped).is_ok());
}

#[test]
fn reads_wait_until_the_initiator_has_taken_those_before() {
    const READS: usize = 60;
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    initiator.write(1, 0, 7, false);
    let r2t = initiator.expect(R2T);
    (0..READS as u32).for_each(|n| initiator.command(2 + n, 0, &READ_EVERYTHING, EVERYTHING_BYTES, None));
    initiator.expect_silence();
    initiator.data_out(&r2t, 7);
    wait_for("a read", || gateway.peer.reads() > 0);
    std::thread::sleep(SILENCE);
    // Two objects each.
    assert!(
        gateway.peer.reads() <= 2 * 4,
        "{} reads are held for an initiator that takes nothing",
        gateway.peer.reads()
    );
}

#[test]
fn data_that_a_command_does_not_want_is_a_residual() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    initiator.command(1, 0, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 0, 0], 512, Some(&[5; 512]));
    let response = initiator.expect(SCSI_RESPONSE);
    assert_eq!((response.header[1] & 0x02, response.header[44..48].to_vec()), (0x02, vec![0, 0, 2, 0]));
}
