//! Which LUNs an initiator finds, and what state it finds them in.

mod support;

use support::{DATA_IN, Initiator, LOGICAL_UNIT_RESET, SCSI_RESPONSE, TASK_MANAGEMENT_RESPONSE, TestGateway};

const REPORT_LUNS: [u8; 12] = [0xa0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];

#[test]
fn all_256_luns_are_reported_and_answer() {
    let gateway = TestGateway::start(256);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    initiator.command(1, 0, &REPORT_LUNS, 65536, None);
    let inventory = initiator.expect(DATA_IN);
    assert_eq!(inventory.data.len(), 8 + 256 * 8);
    assert_eq!(inventory.data[8 + 255 * 8..][..2], [0, 255]);
    initiator.command(2, 255, &[0; 6], 0, None);
    assert_eq!(initiator.expect(SCSI_RESPONSE).sense(), (6, 0x29, 0));
    initiator.command(3, 255, &[0; 6], 0, None);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
}

#[test]
fn an_absent_lun_says_so() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    initiator.command(1, 9, &[0x12, 0, 0, 0, 96, 0], 96, None);
    assert_eq!(initiator.expect(DATA_IN).data[0], 0x7f);
    initiator.command(2, 9, &REPORT_LUNS, 65536, None);
    assert_eq!(initiator.expect(DATA_IN).data[..4], [0, 0, 0, 8]);
    initiator.command(3, 9, &[0; 6], 0, None);
    assert_eq!(initiator.expect(SCSI_RESPONSE).sense(), (5, 0x25, 0));
}

#[test]
fn a_reset_sets_mode_parameters_back_to_the_default_ones() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    let d_sense = |initiator: &mut Initiator| {
        initiator.command(8, 0, &[0x1a, 0x08, 0x0a, 0, 255, 0], 255, None);
        let data = initiator.expect(DATA_IN).data;
        (data[4 + 2] & 0x04 != 0, data)
    };
    let (default, mut list) = d_sense(&mut initiator);
    assert!(!default);
    list[..4].fill(0);
    list[4 + 2] |= 0x04;
    let length = list.len() as u8;
    initiator.command(1, 0, &[0x15, 0x10, 0, 0, length, 0], length.into(), Some(&list));
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    assert!(d_sense(&mut initiator).0);
    initiator.manage(2, LOGICAL_UNIT_RESET, u32::MAX);
    assert_eq!(initiator.expect(TASK_MANAGEMENT_RESPONSE).header[2], 0);
    initiator.command(3, 0, &[0; 6], 0, None);
    assert_eq!(initiator.expect(SCSI_RESPONSE).sense(), (6, 0x29, 3), "in fixed format again");
    assert!(!d_sense(&mut initiator).0);
}
