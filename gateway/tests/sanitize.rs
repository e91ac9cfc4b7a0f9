//! SANITIZE: to the end whatever its session does, seen by all meanwhile, and remembered when it fails.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use huntaway_gateway::{Sanitization, SanitizeRecord, UnitConfig};
use support::{
    ABORT_TASK, DATA_IN, Initiator, OTHER_TARGET, SCSI_RESPONSE, TASK_MANAGEMENT_RESPONSE, TestGateway,
    anyone, served, target, wait_for,
};
use tokio::sync::OwnedMutexGuard;

const A: &str = "iqn.2026-11.test:a";
const B: &str = "iqn.2026-11.test:b";

const GOOD: u8 = 0;
const IN_PROGRESS: (u8, u8, u8) = (2, 0x04, 0x1b);
const FAILED: (u8, u8, u8) = (3, 0x31, 0x03);
const INVALID_FIELD: (u8, u8, u8) = (5, 0x24, 0x00);

const OVERWRITE: u8 = 0x01;
const BLOCK_ERASE: u8 = 0x02;
const EXIT_FAILURE_MODE: u8 = 0x1f;
const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;

/// MiB of a disk, which are written one by one.
const DISK_MIB: usize = 8;

fn start(initiator: &mut Initiator, tag: u32, byte_1: u8) {
    let list = [1, 0, 0, 2, 0xab, 0xcd];
    let length = if byte_1 & 0x1f == OVERWRITE { list.len() as u8 } else { 0 };
    let cdb = [0x48, byte_1, 0, 0, 0, 0, 0, 0, length, 0];
    initiator.command(tag, 0, &cdb, length.into(), Some(&list[..length.into()]));
}

fn result(initiator: &mut Initiator) -> Result<(), (u8, u8, u8)> {
    let response = initiator.expect(SCSI_RESPONSE);
    if response.header[3] == GOOD { Ok(()) } else { Err(response.sense()) }
}

fn sanitize(initiator: &mut Initiator, byte_1: u8) -> Result<(), (u8, u8, u8)> {
    start(initiator, 7, byte_1);
    result(initiator)
}

fn read(initiator: &mut Initiator, lba: u8) -> Vec<u8> {
    initiator.command(8, 0, &[0x28, 0, 0, 0, 0, lba, 0, 0, 1, 0], 512, None);
    initiator.expect(DATA_IN).data
}

fn write(initiator: &mut Initiator, value: u8) {
    initiator.write(9, 0, value, true);
    assert_eq!(result(initiator), Ok(()));
}

/// What REQUEST SENSE tells: key, code, qualifier and progress.
fn request_sense(initiator: &mut Initiator) -> (u8, u8, u8, u16) {
    initiator.command(10, 0, &[0x03, 0, 0, 0, 18, 0], 18, None);
    let data = initiator.expect(DATA_IN).data;
    (data[2] & 0xf, data[12], data[13], u16::from_be_bytes([data[16], data[17]]))
}

fn two_targets() -> TestGateway {
    TestGateway::behind_two_targets(|gateway| vec![gateway.unit(0)])
}

/// A disk that was not sanitized to the end, and may be used again as it is.
fn failed() -> TestGateway {
    let gateway = TestGateway::empty();
    let unit = UnitConfig { sanitization: Sanitization::Failed { may_exit: true }, ..gateway.unit(0) };
    gateway.update(served(vec![target(vec![anyone()], vec![unit])])).unwrap();
    gateway
}

/// An operation that began before it was recorded that the failure was left.
struct Overlap {
    gateway: TestGateway,
    leaving: Initiator,
    erasing: Initiator,
    beside: Initiator,
    /// Nothing is recorded until this is dropped.
    recording: OwnedMutexGuard<()>,
}

fn erase_while_the_failure_is_left(byte_1: u8) -> Overlap {
    let gateway = failed();
    let mut leaving = Initiator::login(gateway.portal, A);
    let mut erasing = Initiator::login(gateway.portal, B);
    let mut beside = Initiator::login(gateway.portal, "iqn.2026-11.test:c");
    let recording = Arc::clone(&gateway.records.gate).blocking_lock_owned();
    start(&mut leaving, 1, EXIT_FAILURE_MODE);
    wait_for("the record", || gateway.records.of_first() == [SanitizeRecord::Over]);
    start(&mut erasing, 1, byte_1);
    wait_for("the next operation", || beside.test_unit(2, 0) == Err(IN_PROGRESS));
    Overlap { gateway, leaving, erasing, beside, recording }
}

#[test]
fn both_methods_reach_every_block_and_are_recorded_from_beginning_to_end() {
    let gateway = TestGateway::start(2);
    let mut initiator = Initiator::login(gateway.portal, A);
    write(&mut initiator, 7);
    assert_eq!(sanitize(&mut initiator, OVERWRITE), Ok(()));
    assert_eq!(read(&mut initiator, 0), [0xab, 0xcd].repeat(256));
    assert_eq!(gateway.peer.writes().len(), 1 + DISK_MIB);
    assert_eq!(sanitize(&mut initiator, BLOCK_ERASE | AUSE), Ok(()));
    assert_eq!(read(&mut initiator, 0), [0; 512]);
    assert_eq!(sanitize(&mut initiator, EXIT_FAILURE_MODE), Ok(()), "there is no failure to leave");
    let begun = |may_exit| SanitizeRecord::Begun { may_exit };
    assert_eq!(
        gateway.records.of_first(),
        [begun(false), SanitizeRecord::Over, begun(true), SanitizeRecord::Over]
    );
}

#[test]
fn meanwhile_every_nexus_through_every_target_is_told_how_far_it_is() {
    let gateway = two_targets();
    let mut own = Initiator::login(gateway.portal, A);
    let mut beside = Initiator::login(gateway.portal, B);
    let mut elsewhere = Initiator::login_at(gateway.portal, B, OTHER_TARGET);
    gateway.peer.hold();
    start(&mut own, 1, OVERWRITE | IMMED);
    assert_eq!(result(&mut own), Ok(()), "it has begun");
    for step in 0..DISK_MIB {
        wait_for("the next part", || gateway.peer.waiting() == 1);
        let progress = if step < 4 { 0 } else { 0x8000 };
        for initiator in [&mut own, &mut beside, &mut elsewhere] {
            initiator.command(2, 0, &[0; 6], 0, None);
            let response = initiator.expect(SCSI_RESPONSE);
            assert_eq!((response.sense(), response.progress()), (IN_PROGRESS, Some(progress)), "{step}");
            assert_eq!(request_sense(initiator), (2, 0x04, 0x1b, progress));
        }
        gateway.peer.release_one();
    }
    let mut late = Initiator::start_login(gateway.portal, "iqn.2026-11.test:c");
    late.expect(support::LOGIN_RESPONSE);
    assert_eq!(late.test_unit(1, 0), Err((6, 0x29, 0)));
    assert_eq!(late.test_unit(2, 0), Err(IN_PROGRESS));
    late.command(3, 0, &[0x12, 0, 0, 0, 36, 0], 36, None);
    assert_eq!(late.expect(DATA_IN).data.len(), 36);
    for byte_1 in [OVERWRITE, BLOCK_ERASE, EXIT_FAILURE_MODE] {
        assert_eq!(sanitize(&mut late, byte_1), Err(IN_PROGRESS));
    }
    gateway.peer.release();
    wait_for("its end", || beside.test_unit(4, 0).is_ok());
    assert_eq!(elsewhere.test_unit(4, 0), Ok(()));
    assert_eq!(request_sense(&mut own).0, 0);
}

#[test]
fn what_was_being_written_ends_before_it_and_what_waits_is_refused() {
    let gateway = TestGateway::start(1);
    let mut own = Initiator::login(gateway.portal, A);
    let mut writer = Initiator::login(gateway.portal, B);
    writer.write(1, 1, 1, false);
    let r2t = writer.expect(support::R2T);
    gateway.peer.hold();
    writer.write(2, 0, 2, true);
    wait_for("the write", || gateway.peer.waiting() == 1);
    start(&mut own, 3, BLOCK_ERASE);
    wait_for("the beginning", || gateway.records.of_first().len() == 1);
    own.expect_silence();
    assert_eq!(gateway.peer.waiting(), 1, "nothing is erased yet");
    writer.data_out(&r2t, 1);
    assert_eq!(result(&mut writer), Err(IN_PROGRESS));
    gateway.peer.release();
    assert_eq!(result(&mut writer), Ok(()));
    assert_eq!(result(&mut own), Ok(()));
    assert_eq!((read(&mut own, 0), read(&mut own, 1)), (vec![0; 512], vec![0; 512]));
}

#[test]
fn giving_up_the_command_does_not_stop_the_operation_and_waits_for_nothing() {
    let gateway = TestGateway::start(1);
    let mut own = Initiator::login(gateway.portal, A);
    write(&mut own, 7);
    gateway.peer.hold();
    start(&mut own, 1, BLOCK_ERASE);
    wait_for("the erasing", || gateway.peer.waiting() > 0);
    own.manage(2, ABORT_TASK, 1);
    assert_eq!(own.expect(TASK_MANAGEMENT_RESPONSE).header[2], 0);
    assert_eq!(own.test_unit(3, 0), Err(IN_PROGRESS));
    own.logout(4);
    own.expect(support::LOGOUT_RESPONSE);
    gateway.peer.release();
    let mut next = Initiator::login(gateway.portal, B);
    wait_for("its end", || next.test_unit(5, 0).is_ok());
    assert_eq!(read(&mut next, 0), [0; 512]);
    assert_eq!(gateway.records.of_first().last(), Some(&SanitizeRecord::Over));
}

/// Makes an OVERWRITE fail on its way.
fn fail(gateway: &TestGateway, initiator: &mut Initiator, flags: u8) {
    gateway.peer.set_full_from(Some(2 << 20));
    assert_eq!(sanitize(initiator, OVERWRITE | flags), Err(FAILED));
    gateway.peer.set_full_from(None);
}

#[test]
fn a_failure_without_ause_is_ended_by_a_success_only() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, A);
    fail(&gateway, &mut initiator, 0);
    assert_eq!(initiator.test_unit(1, 0), Err(FAILED));
    assert_eq!(request_sense(&mut initiator), (3, 0x31, 0x03, 0));
    assert_eq!(sanitize(&mut initiator, EXIT_FAILURE_MODE), Err(INVALID_FIELD));
    assert_eq!(sanitize(&mut initiator, BLOCK_ERASE | AUSE), Err(INVALID_FIELD));
    assert_eq!(initiator.test_unit(2, 0), Err(FAILED));
    assert_eq!(sanitize(&mut initiator, BLOCK_ERASE), Ok(()));
    assert_eq!(initiator.test_unit(3, 0), Ok(()));
    let (begun, failed) =
        (SanitizeRecord::Begun { may_exit: false }, SanitizeRecord::Failed { may_exit: false });
    assert_eq!(gateway.records.of_first(), [begun, failed, begun, SanitizeRecord::Over]);
}

#[test]
fn a_failure_with_ause_can_be_left() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, A);
    fail(&gateway, &mut initiator, AUSE);
    assert_eq!(initiator.test_unit(1, 0), Err(FAILED));
    gateway.records.refuse.store(true, Ordering::Relaxed);
    assert_eq!(sanitize(&mut initiator, EXIT_FAILURE_MODE), Err((4, 0x44, 0)));
    assert_eq!(initiator.test_unit(2, 0), Err(FAILED), "it is not recorded");
    gateway.records.refuse.store(false, Ordering::Relaxed);
    assert_eq!(sanitize(&mut initiator, EXIT_FAILURE_MODE), Ok(()));
    assert_eq!(initiator.test_unit(3, 0), Ok(()));
    assert_eq!(gateway.records.of_first().last(), Some(&SanitizeRecord::Over));
}

#[test]
fn nothing_is_erased_that_cannot_be_recorded() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, A);
    write(&mut initiator, 7);
    gateway.records.refuse.store(true, Ordering::Relaxed);
    for byte_1 in [BLOCK_ERASE, BLOCK_ERASE | IMMED] {
        assert_eq!(sanitize(&mut initiator, byte_1), Err((4, 0x44, 0)));
    }
    assert_eq!(read(&mut initiator, 0), [7; 512]);
}

#[test]
fn a_disk_that_was_not_sanitized_to_the_end_is_served_as_failed() {
    let gateway = failed();
    let mut initiator = Initiator::start_login(gateway.portal, A);
    initiator.expect(support::LOGIN_RESPONSE);
    assert_eq!(initiator.test_unit(1, 0), Err((6, 0x29, 0)));
    assert_eq!(initiator.test_unit(2, 0), Err(FAILED));
    assert_eq!(sanitize(&mut initiator, EXIT_FAILURE_MODE), Ok(()));
    assert_eq!(initiator.test_unit(3, 0), Ok(()));
}

#[test]
fn taking_the_lun_out_neither_stops_it_nor_waits_for_it() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, A);
    gateway.peer.hold();
    start(&mut initiator, 1, BLOCK_ERASE);
    wait_for("the erasing", || gateway.peer.waiting() > 0);
    gateway.update(served(vec![target(vec![anyone()], Vec::new())])).unwrap();
    assert_eq!(result(&mut initiator), Err((5, 0x25, 0)));
    gateway.update(gateway.disks(1)).unwrap();
    wait_for("the disk", || initiator.test_unit(2, 0) == Err(IN_PROGRESS));
    gateway.peer.release();
    wait_for("its end", || initiator.test_unit(3, 0).is_ok());
}

#[test]
fn a_gateway_that_stops_leaves_the_record_that_it_had_begun() {
    let mut gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, A);
    gateway.peer.hold();
    start(&mut initiator, 1, OVERWRITE | IMMED);
    assert_eq!(result(&mut initiator), Ok(()));
    wait_for("the first part", || gateway.peer.waiting() == 1);
    drop(initiator);
    let stopped = gateway.take();
    let stopping = gateway.runtime.spawn(async move { stopped.shut_down().await });
    wait_for("the portal to close", || std::net::TcpStream::connect(gateway.portal).is_err());
    gateway.peer.release();
    gateway.runtime.block_on(stopping).unwrap();
    assert_eq!(gateway.records.of_first(), [SanitizeRecord::Begun { may_exit: false }]);
    assert!(gateway.peer.writes().len() < DISK_MIB, "it went on to the end");
}

#[test]
fn leaving_a_failure_does_not_open_the_disk_that_another_operation_erases_by_then() {
    let Overlap { gateway, mut leaving, mut erasing, mut beside, recording } =
        erase_while_the_failure_is_left(BLOCK_ERASE | IMMED);
    gateway.peer.hold();
    drop(recording);
    assert_eq!((result(&mut leaving), result(&mut erasing)), (Ok(()), Ok(())));
    wait_for("the erasing", || gateway.peer.waiting() > 0);
    assert_eq!(beside.test_unit(3, 0), Err(IN_PROGRESS));
    gateway.peer.release();
    wait_for("its end", || beside.test_unit(4, 0).is_ok());
}

#[test]
fn an_operation_that_is_not_recorded_leaves_the_disk_as_what_was_recorded_before_it_says() {
    let Overlap { gateway, mut leaving, mut erasing, mut beside, recording } =
        erase_while_the_failure_is_left(BLOCK_ERASE);
    gateway.records.refuse.store(true, Ordering::Relaxed);
    drop(recording);
    assert_eq!((result(&mut leaving), result(&mut erasing)), (Ok(()), Err((4, 0x44, 0))));
    assert_eq!(beside.test_unit(3, 0), Ok(()), "its failure was left, and nothing has begun since");
}

#[test]
fn an_overwrite_for_which_there_is_no_space_is_refused_before_it_begins() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, A);
    write(&mut initiator, 7);
    let needed = ((DISK_MIB as u64) << 20) - 4096;
    for byte_1 in [OVERWRITE, OVERWRITE | IMMED] {
        gateway.peer.set_space(needed - 1, 1 << 30);
        assert_eq!(sanitize(&mut initiator, byte_1), Err((7, 0x27, 0x07)));
        assert_eq!(read(&mut initiator, 0), [7; 512]);
    }
    assert_eq!(gateway.records.of_first(), []);
    gateway.peer.set_space(needed, 1 << 30);
    assert_eq!(sanitize(&mut initiator, OVERWRITE), Ok(()), "what is mapped takes no more");
}

#[test]
fn an_overwrite_that_takes_the_last_space_has_initiators_told() {
    let gateway = TestGateway::start(1);
    let mut own = Initiator::login(gateway.portal, A);
    let mut beside = Initiator::login(gateway.portal, B);
    gateway.peer.set_space(support::SOFT_THRESHOLD_BYTES, 1 << 30);
    assert_eq!(sanitize(&mut own, OVERWRITE), Ok(()));
    for initiator in [&mut own, &mut beside] {
        assert_eq!(initiator.test_unit(1, 0), Err((6, 0x38, 0x07)));
    }
}
