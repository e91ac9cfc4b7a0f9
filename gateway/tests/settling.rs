//! What an initiator is told only when it is true: aborted, reset, logged out and reinstated commands have settled.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use huntaway_gateway::UnitConfig;
use support::{
    ABORT_TASK, ASYNC_MESSAGE, Initiator, LOGICAL_UNIT_RESET, LOGOUT_RESPONSE, OTHER_TARGET, R2T,
    SCSI_RESPONSE, TARGET_COLD_RESET, TARGET_WARM_RESET, TASK_MANAGEMENT_RESPONSE, TestGateway, wait_for,
};

const FUNCTION_COMPLETE: u8 = 0;
const TASK_DOES_NOT_EXIST: u8 = 1;

#[test]
fn an_abort_is_answered_when_the_stores_have_answered_the_command() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    gateway.peer.hold();
    initiator.write(1, 0, 7, true);
    wait_for("the write", || gateway.peer.waiting() == 1);
    initiator.manage(2, ABORT_TASK, 1);
    initiator.expect_silence();
    gateway.peer.release();
    let response = initiator.expect(TASK_MANAGEMENT_RESPONSE);
    assert_eq!((response.tag(), response.header[2]), (2, FUNCTION_COMPLETE));
    initiator.expect_silence();
}

#[test]
fn a_command_that_was_answered_cannot_be_aborted() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    initiator.write(1, 0, 7, true);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    initiator.manage(2, ABORT_TASK, 1);
    assert_eq!(initiator.expect(TASK_MANAGEMENT_RESPONSE).header[2], TASK_DOES_NOT_EXIST);
}

#[test]
fn a_command_without_its_data_is_aborted_at_once_and_never_takes_effect() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    initiator.write(1, 0, 7, false);
    let r2t = initiator.expect(R2T);
    initiator.manage(2, ABORT_TASK, 1);
    assert_eq!(initiator.expect(TASK_MANAGEMENT_RESPONSE).header[2], FUNCTION_COMPLETE);
    initiator.data_out(&r2t, 7);
    initiator.write(3, 0, 9, true);
    assert_eq!(initiator.expect(SCSI_RESPONSE).tag(), 3);
    assert_eq!(gateway.peer.writes(), [9]);
}

#[test]
fn a_reset_settles_the_commands_of_all_sessions_and_tells_them() {
    let gateway = TestGateway::start(1);
    let mut resetting = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    let mut other = Initiator::login(gateway.portal, "iqn.2026-11.test:b");
    gateway.peer.hold();
    other.write(1, 0, 7, true);
    wait_for("the write", || gateway.peer.waiting() == 1);
    resetting.manage(2, LOGICAL_UNIT_RESET, u32::MAX);
    resetting.expect_silence();
    gateway.peer.release();
    assert_eq!(resetting.expect(TASK_MANAGEMENT_RESPONSE).header[2], FUNCTION_COMPLETE);
    for initiator in [&mut resetting, &mut other] {
        initiator.command(3, 0, &[0; 6], 0, None);
        let response = initiator.expect(SCSI_RESPONSE);
        assert_eq!((response.tag(), response.sense().0, response.sense().1), (3, 6, 0x29));
    }
}

#[test]
fn a_reset_settles_the_commands_that_reach_the_disk_through_other_targets_and_luns() {
    let gateway = TestGateway::behind_two_targets(|gateway| {
        vec![gateway.disk(0, 2, 8 << 20), UnitConfig { lun: 7, ..gateway.unit(0) }]
    });
    for (function, own, others) in
        [(LOGICAL_UNIT_RESET, (6, 0x29, 3), (6, 0x29, 3)), (TARGET_WARM_RESET, (6, 0x29, 2), (6, 0x29, 3))]
    {
        let mut resetting = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
        let mut elsewhere = Initiator::login_at(gateway.portal, "iqn.2026-11.test:b", OTHER_TARGET);
        assert!(elsewhere.test_unit(1, 7).is_err(), "power on");
        gateway.peer.hold();
        elsewhere.write_unit(2, 7, 0, 7, true);
        wait_for("the write", || gateway.peer.waiting() == 1);
        resetting.manage(2, function, u32::MAX);
        resetting.expect_silence();
        gateway.peer.release();
        assert_eq!(resetting.expect(TASK_MANAGEMENT_RESPONSE).header[2], FUNCTION_COMPLETE);
        assert_eq!(resetting.test_unit(3, 0), Err(own));
        assert_eq!(elsewhere.test_unit(3, 7), Err(others), "and its write has no answer");
        assert_eq!(elsewhere.test_unit(4, 0), Ok(()), "the other disk is not concerned");
    }
}

#[test]
fn a_cold_reset_leaves_the_sessions_with_other_targets() {
    let gateway = TestGateway::behind_two_targets(|gateway| vec![gateway.unit(0)]);
    let mut resetting = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    let mut elsewhere = Initiator::login_at(gateway.portal, "iqn.2026-11.test:b", OTHER_TARGET);
    resetting.manage(1, TARGET_COLD_RESET, u32::MAX);
    resetting.expect(TASK_MANAGEMENT_RESPONSE);
    resetting.expect_end();
    assert_eq!(elsewhere.test_unit(1, 0), Err((6, 0x29, 3)));
    assert_eq!(elsewhere.test_unit(2, 0), Ok(()));
}

#[test]
fn a_login_that_reinstates_waits_for_the_commands_of_the_old_session() {
    let gateway = TestGateway::start(1);
    let mut old = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    gateway.peer.hold();
    old.write(1, 0, 7, true);
    wait_for("the write", || gateway.peer.waiting() == 1);
    let mut new = Initiator::start_login(gateway.portal, "iqn.2026-11.test:a");
    new.expect_silence();
    gateway.peer.release();
    new.finish_login();
    old.expect_end();
}

#[test]
fn a_logout_is_answered_after_all_commands() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    gateway.peer.hold();
    initiator.write(1, 0, 7, true);
    wait_for("the write", || gateway.peer.waiting() == 1);
    initiator.logout(2);
    initiator.expect_silence();
    gateway.peer.release();
    assert_eq!(initiator.expect(SCSI_RESPONSE).tag(), 1);
    assert_eq!(initiator.expect(LOGOUT_RESPONSE).header[2], 0);
    initiator.expect_end();
}

#[test]
fn overlapping_writes_take_effect_in_the_order_of_their_commands() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    initiator.write(1, 0, 1, false);
    let r2t = initiator.expect(R2T);
    initiator.write(2, 0, 2, true);
    initiator.write(3, 8, 3, true);
    assert_eq!(initiator.expect(SCSI_RESPONSE).tag(), 3, "what does not overlap overtakes");
    initiator.expect_silence();
    initiator.data_out(&r2t, 1);
    assert_eq!(initiator.expect(SCSI_RESPONSE).tag(), 1);
    assert_eq!(initiator.expect(SCSI_RESPONSE).tag(), 2);
    assert_eq!(gateway.peer.writes(), [3, 1, 2]);
}

#[test]
fn a_stopping_gateway_asks_for_logout_and_then_closes() {
    let mut gateway = TestGateway::start(1);
    let mut polite = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    let mut deaf = Initiator::login(gateway.portal, "iqn.2026-11.test:b");
    let stopping = gateway.take();
    let stopped = gateway.runtime.spawn(async move { stopping.shut_down().await });
    assert_eq!(polite.expect(ASYNC_MESSAGE).header[36], 1);
    polite.logout(9);
    assert_eq!(polite.expect(LOGOUT_RESPONSE).tag(), 9);
    deaf.expect(ASYNC_MESSAGE);
    deaf.expect_end();
    gateway.runtime.block_on(stopped).unwrap();
}

#[test]
fn a_session_whose_successor_gave_up_is_waited_for_by_the_next_login() {
    let gateway = TestGateway::with_limits(1000, Duration::from_millis(700));
    gateway.update(gateway.disks(1)).unwrap();
    let mut first = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    gateway.peer.hold();
    // Two chunks of 1 MiB, the second of which is written after the first is answered.
    first.command(1, 0, &[0x41, 0, 0, 0, 0, 0, 0, 0x10, 0, 0], 512, Some(&[0x11; 512]));
    wait_for("the first chunk", || gateway.peer.waiting() == 1);
    let mut successor = Initiator::start_login(gateway.portal, "iqn.2026-11.test:a");
    first.expect_end();
    successor.expect_end();
    let mut next = Initiator::start_login(gateway.portal, "iqn.2026-11.test:a");
    next.expect_silence();
    gateway.peer.release();
    next.finish_login();
    assert_eq!(gateway.peer.writes(), [0x11, 0x11], "nothing of the first is still to come");
}
