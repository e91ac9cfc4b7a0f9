//! Space of thin disks: told ahead of time, once, and to all who want to know.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use huntaway_gateway::UnitConfig;
use support::{DATA_IN, Initiator, SCSI_RESPONSE, TestGateway, anyone, served, target};

const A: &str = "iqn.2026-11.test:a";
const B: &str = "iqn.2026-11.test:b";

const THRESHOLD_REACHED: (u8, u8, u8) = (6, 0x38, 0x07);
const NO_SPACE: (u8, u8, u8) = (7, 0x27, 0x07);

const MIB: u64 = 1 << 20;
/// What the tests' disks have as their threshold, in MiB.
const THRESHOLD: u8 = 64;

/// A thin disk, another one, and a thick one.
fn three_disks() -> TestGateway {
    let gateway = TestGateway::empty();
    let thick = UnitConfig { thin: false, ..gateway.unit(2) };
    gateway
        .update(served(vec![target(vec![anyone()], vec![gateway.unit(0), gateway.unit(1), thick])]))
        .unwrap();
    gateway
}

/// Logs in, and takes the unit attentions of all three disks.
fn login(gateway: &TestGateway, name: &str) -> Initiator {
    let mut initiator = Initiator::login(gateway.portal, name);
    for lun in [1, 2] {
        assert_eq!(initiator.test_unit(1, lun), Err((6, 0x29, 0)));
    }
    initiator
}

fn write(initiator: &mut Initiator) -> Result<(), (u8, u8, u8)> {
    initiator.write(5, 0, 1, true);
    let response = initiator.expect(SCSI_RESPONSE);
    if response.header[3] == 0 { Ok(()) } else { Err(response.sense()) }
}

#[test]
fn the_write_that_crosses_the_threshold_has_all_thin_disks_told_once() {
    let gateway = three_disks();
    let (mut writer, mut other) = (login(&gateway, A), login(&gateway, B));
    gateway.peer.set_space(65 * MIB, 1000 * MIB);
    assert_eq!(write(&mut writer), Ok(()));
    assert_eq!(writer.test_unit(1, 0), Ok(()));
    gateway.peer.set_space(64 * MIB, 1000 * MIB);
    assert_eq!(write(&mut writer), Ok(()), "it is written");
    for initiator in [&mut writer, &mut other] {
        for lun in [0, 1] {
            initiator.command(2, lun, &[0; 6], 0, None);
            let response = initiator.expect(SCSI_RESPONSE);
            assert_eq!((response.sense(), response.information()), (THRESHOLD_REACHED, Some(16)));
        }
        assert_eq!(initiator.test_unit(2, 2), Ok(()), "a thick disk has its space");
    }
    gateway.peer.set_space(0, 1000 * MIB);
    for _ in 0..3 {
        assert_eq!(write(&mut writer), Ok(()));
    }
    assert_eq!(writer.test_unit(3, 0), Ok(()), "once is enough");
    gateway.peer.set_space(200 * MIB, 1000 * MIB);
    assert_eq!(write(&mut writer), Ok(()));
    gateway.peer.set_space(63 * MIB, 1000 * MIB);
    assert_eq!(write(&mut writer), Ok(()));
    assert_eq!(writer.test_unit(4, 0), Err(THRESHOLD_REACHED), "crossed again");
}

#[test]
fn who_does_not_want_to_be_told_is_not() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, A);
    initiator.command(1, 0, &[0x1a, 0x08, 0x01, 0, 255, 0], 255, None);
    let mut list = initiator.expect(DATA_IN).data;
    assert_eq!(list[4 + 7], 0x80, "LBPERE is set by default");
    list[..4].fill(0);
    list[4 + 7] = 0;
    let length = list.len() as u8;
    initiator.command(2, 0, &[0x15, 0x10, 0, 0, length, 0], length.into(), Some(&list));
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    gateway.peer.set_space(0, 1000 * MIB);
    assert_eq!(write(&mut initiator), Ok(()));
    assert_eq!(initiator.test_unit(3, 0), Ok(()));
}

#[test]
fn what_is_refused_for_space_is_told_so_and_reads_go_on() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, A);
    gateway.peer.set_space(65 * MIB, 1000 * MIB);
    gateway.peer.set_full_from(Some(0));
    initiator.write(1, 7, 1, true);
    let response = initiator.expect(SCSI_RESPONSE);
    assert_eq!((response.sense(), response.information()), (NO_SPACE, Some(7)));
    assert_eq!(initiator.test_unit(2, 0), Ok(()), "the threshold was not crossed");
    initiator.command(3, 0, &[0x28, 0, 0, 0, 0, 7, 0, 0, 1, 0], 512, None);
    assert_eq!(initiator.expect(DATA_IN).data, [0; 512]);
}

#[test]
fn mode_page_vpd_page_and_log_page_count_in_the_same_sets() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, A);
    gateway.peer.set_space(700 * MIB + 5, 1000 * MIB);
    let mut ask = |cdb: &[u8]| {
        initiator.command(1, 0, cdb, 255, None);
        initiator.expect(DATA_IN).data
    };
    let exponent = ask(&[0x12, 1, 0xb2, 0, 255, 0])[4];
    assert_eq!(512 << exponent, MIB);
    let mode_page = ask(&[0x1a, 0x08, 0x1c, 2, 255, 0]);
    assert_eq!(mode_page[4 + 16..], [0x80, 1, 0, 0, 0, 0, 0, THRESHOLD]);
    let log_page = ask(&[0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 255, 0]);
    let available = 700_u32.to_be_bytes();
    let used = 299_u32.to_be_bytes();
    let expected = [
        &[0x8c, 0, 0, 24, 0, 1, 3, 8][..],
        &available,
        &[2, 0, 0, 0], //
        &[0, 2, 3, 8],
        &used,
        &[2, 0, 0, 0],
    ];
    assert_eq!(log_page, expected.concat());
    assert_eq!(ask(&[0x4d, 0, 0, 0, 0, 0, 0, 0, 255, 0]), [0, 0, 0, 2, 0, 0x0c]);
}
