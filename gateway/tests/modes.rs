//! What MODE SELECT sets: it holds for the disk, whoever sees it through whichever target, and is obeyed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use huntaway_gateway::UnitConfig;
use support::{
    DATA_IN, Initiator, LOGICAL_UNIT_RESET, OTHER_TARGET, R2T, SCSI_RESPONSE, TASK_MANAGEMENT_RESPONSE,
    TestGateway, anyone, served, target, wait_for,
};

const A: &str = "iqn.2026-11.test:a";
const B: &str = "iqn.2026-11.test:b";

const MODES_CHANGED: (u8, u8, u8) = (6, 0x2a, 0x01);
const WRITE_PROTECTED: (u8, u8, u8) = (7, 0x27, 0x00);
const SOFTWARE_WRITE_PROTECTED: (u8, u8, u8) = (7, 0x27, 0x02);

/// Where a mode page has a flag: the page, its byte, and the bit.
type Flag = (u8, usize, u8);
const WCE: Flag = (0x08, 2, 0x04);
const SWP: Flag = (0x0a, 4, 0x08);

/// The mode page with the header before it.
fn sense(initiator: &mut Initiator, page: u8) -> Vec<u8> {
    initiator.command(8, 0, &[0x1a, 0x08, page, 0, 255, 0], 255, None);
    initiator.expect(DATA_IN).data
}

fn is_set(initiator: &mut Initiator, (page, byte, bit): Flag) -> bool {
    sense(initiator, page)[4 + byte] & bit != 0
}

fn is_write_protected(initiator: &mut Initiator) -> bool {
    sense(initiator, 0x08)[2] & 0x80 != 0
}

/// Sends a MODE SELECT that changes one flag.
fn select(initiator: &mut Initiator, tag: u32, (page, byte, bit): Flag, is_on: bool) {
    let mut list = sense(initiator, page);
    list[..4].fill(0);
    if is_on {
        list[4 + byte] |= bit
    } else {
        list[4 + byte] &= !bit
    }
    let length = list.len() as u8;
    initiator.command(tag, 0, &[0x15, 0x10, 0, 0, length, 0], length.into(), Some(&list));
}

fn set(initiator: &mut Initiator, flag: Flag, is_on: bool) {
    select(initiator, 9, flag, is_on);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
}

/// One disk behind two targets.
fn two_targets() -> TestGateway {
    TestGateway::behind_two_targets(|gateway| vec![gateway.unit(0)])
}

#[test]
fn what_one_sets_holds_for_all_who_see_the_disk_and_the_others_are_told_once() {
    let gateway = two_targets();
    let mut setter = Initiator::login(gateway.portal, A);
    let mut beside = Initiator::login(gateway.portal, B);
    let mut elsewhere = Initiator::login_at(gateway.portal, A, OTHER_TARGET);
    set(&mut setter, WCE, false);
    assert_eq!(setter.test_unit(1, 0), Ok(()));
    for other in [&mut beside, &mut elsewhere] {
        assert_eq!(other.test_unit(1, 0), Err(MODES_CHANGED));
        assert!(!is_set(other, WCE));
    }
    set(&mut setter, WCE, false);
    assert_eq!(beside.test_unit(2, 0), Ok(()), "nothing has changed");
}

#[test]
fn a_reset_through_one_target_sets_back_what_was_set_through_another() {
    let gateway = two_targets();
    let mut resetter = Initiator::login(gateway.portal, A);
    let mut elsewhere = Initiator::login_at(gateway.portal, B, OTHER_TARGET);
    set(&mut elsewhere, SWP, true);
    resetter.manage(2, LOGICAL_UNIT_RESET, u32::MAX);
    assert_eq!(resetter.expect(TASK_MANAGEMENT_RESPONSE).header[2], 0);
    assert_eq!(elsewhere.test_unit(3, 0), Err((6, 0x29, 0x03)));
    assert!(!is_set(&mut elsewhere, SWP));
    assert_eq!(elsewhere.test_unit(4, 0), Ok(()));
}

#[test]
fn turning_the_write_cache_off_waits_for_a_flush_and_later_writes_are_stable() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, A);
    initiator.write(1, 0, 1, true);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    assert_eq!(gateway.peer.stable_writes(), 0);
    gateway.peer.hold();
    select(&mut initiator, 2, WCE, false);
    wait_for("the flush", || gateway.peer.waiting() == 1);
    initiator.expect_silence();
    gateway.peer.release();
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    initiator.write(3, 0, 2, true);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    assert_eq!(gateway.peer.stable_writes(), 1);
    set(&mut initiator, WCE, true);
    initiator.write(4, 0, 3, true);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    assert_eq!(gateway.peer.stable_writes(), 1);
}

#[test]
fn a_write_whose_data_comes_after_the_write_cache_went_is_stable() {
    let gateway = TestGateway::start(1);
    let mut writer = Initiator::login(gateway.portal, A);
    writer.write(1, 0, 1, false);
    let r2t = writer.expect(R2T);
    set(&mut Initiator::login(gateway.portal, B), WCE, false);
    writer.data_out(&r2t, 1);
    assert_eq!(writer.expect(SCSI_RESPONSE).header[3], 0);
    assert_eq!(gateway.peer.stable_writes(), 1);
}

#[test]
fn a_unit_without_write_cache_cannot_turn_off_that_of_another_unit_of_the_disk() {
    let without = |gateway: &TestGateway| vec![UnitConfig { write_cache: false, ..gateway.unit(0) }];
    let gateway = TestGateway::behind_two_targets(without);
    let mut cached = Initiator::login(gateway.portal, A);
    let mut through = Initiator::login_at(gateway.portal, A, OTHER_TARGET);
    assert!(is_set(&mut cached, WCE) && !is_set(&mut through, WCE));
    set(&mut through, SWP, true);
    assert_eq!(cached.test_unit(1, 0), Err(MODES_CHANGED));
    assert!(is_set(&mut cached, WCE) && is_set(&mut cached, SWP) && !is_set(&mut through, WCE));
}

/// Every command that writes, and its bytes of write data.
fn writing() -> Vec<(Vec<u8>, u32)> {
    let cdb_16 = |opcode: u8, blocks: u8| vec![opcode, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, blocks, 0, 0];
    let sanitize = |action: u8, length: u8| vec![0x48, action, 0, 0, 0, 0, 0, 0, length, 0];
    vec![
        (vec![0x0a, 0, 0, 0, 1, 0], 512),
        (vec![0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512),
        (vec![0x2e, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512),
        (vec![0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512),
        (vec![0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 24),
        (sanitize(0x01, 5), 5),
        (sanitize(0x02, 0), 0),
        (sanitize(0x1f, 0), 0),
        (cdb_16(0x89, 1), 1024),
        (cdb_16(0x8a, 1), 512),
        (cdb_16(0x8b, 1), 512),
        (cdb_16(0x8e, 1), 512),
        (cdb_16(0x93, 1), 512),
        (cdb_16(0x9c, 8), 4096),
        (vec![0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], 512),
        (vec![0xae, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], 512),
    ]
}

/// The operation codes of all commands that do not write.
const NOT_WRITING: [u8; 26] = [
    0x00, 0x03, 0x08, 0x12, 0x15, 0x1a, 0x1b, 0x25, 0x28, 0x2f, 0x34, 0x35, 0x37, 0x4d, 0x55, 0x5a, 0x88,
    0x8f, 0x90, 0x91, 0x9e, 0xa0, 0xa3, 0xa8, 0xaf, 0xb7,
];

fn assert_nothing_can_be_written(initiator: &mut Initiator, sense: (u8, u8, u8)) {
    for (cdb, length) in writing() {
        initiator.command(5, 0, &cdb, length, Some(&vec![1; length as usize]));
        assert_eq!(initiator.expect(SCSI_RESPONSE).sense(), sense, "{cdb:x?}");
        // Without its data, too: nothing is asked for.
        initiator.command(6, 0, &cdb, length, None);
        assert_eq!(initiator.expect(SCSI_RESPONSE).sense(), sense, "{cdb:x?}");
    }
    initiator.command(7, 0, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512, None);
    assert_eq!(initiator.expect(DATA_IN).data, [0; 512], "reading goes on");
}

#[test]
fn every_supported_command_is_known_to_write_or_not() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, A);
    let report = [0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
    initiator.command(1, 0, &report, 0xffff, None);
    let data = initiator.expect(DATA_IN).data;
    let mut supported: Vec<u8> = data[4..].chunks(8).map(|row| row[0]).collect();
    supported.dedup();
    let mut known: Vec<u8> = writing().iter().map(|(cdb, _)| cdb[0]).chain(NOT_WRITING).collect();
    known.sort_unstable();
    known.dedup();
    assert_eq!(supported, known);
}

#[test]
fn software_write_protection_refuses_every_command_that_writes() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, A);
    assert!(!is_write_protected(&mut initiator));
    set(&mut initiator, SWP, true);
    assert!(is_write_protected(&mut initiator));
    assert_nothing_can_be_written(&mut initiator, SOFTWARE_WRITE_PROTECTED);
    set(&mut initiator, SWP, false);
    initiator.write(1, 0, 1, true);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
}

#[test]
fn a_read_only_lun_refuses_every_command_that_writes() {
    let gateway = TestGateway::empty();
    let unit = UnitConfig { read_only: true, ..gateway.unit(0) };
    gateway.update(served(vec![target(vec![anyone()], vec![unit])])).unwrap();
    let mut initiator = Initiator::login(gateway.portal, A);
    assert!(is_write_protected(&mut initiator));
    assert_nothing_can_be_written(&mut initiator, WRITE_PROTECTED);
    assert_eq!(gateway.peer.writes(), []);
}

#[test]
fn software_write_protection_refuses_writes_whose_data_comes_after_it_was_set() {
    let gateway = TestGateway::start(1);
    let mut writer = Initiator::login(gateway.portal, A);
    writer.write(1, 0, 7, false);
    let r2t = writer.expect(R2T);
    set(&mut Initiator::login(gateway.portal, B), SWP, true);
    writer.data_out(&r2t, 7);
    assert_eq!(writer.expect(SCSI_RESPONSE).sense(), SOFTWARE_WRITE_PROTECTED);
    assert_eq!(gateway.peer.writes(), []);
}

#[test]
fn software_write_protection_refuses_a_sanitize_whose_data_comes_after_it_was_set() {
    let gateway = TestGateway::start(1);
    let mut sanitizer = Initiator::login(gateway.portal, A);
    // Ones make a sound list: one pass with a pattern of 257 bytes.
    sanitizer.command(1, 0, &[0x48, 0x01, 0, 0, 0, 0, 0, 1, 5, 0], 261, None);
    let r2t = sanitizer.expect(R2T);
    set(&mut Initiator::login(gateway.portal, B), SWP, true);
    sanitizer.data_out(&r2t, 1);
    assert_eq!(sanitizer.expect(SCSI_RESPONSE).sense(), SOFTWARE_WRITE_PROTECTED);
    assert_eq!((gateway.peer.writes(), gateway.records.of_first()), (vec![], vec![]));
}
