//! What depends on what is there: COMPARE AND WRITE and ORWRITE, through any session; and what does not: WRITE AND VERIFY.

mod support;

use support::{DATA_IN, Initiator, SCSI_RESPONSE, TestGateway, wait_for};

const GOOD: u8 = 0;

fn compare_and_write(initiator: &mut Initiator, tag: u32, expected: u8, data: u8) {
    let cdb = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0];
    initiator.command(tag, 0, &cdb, 1024, Some(&[[expected; 512], [data; 512]].concat()));
}

fn read(initiator: &mut Initiator, tag: u32, lba: u8, blocks: u8) -> Vec<u8> {
    let cdb = [0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0];
    initiator.command(tag, 0, &cdb, u32::from(blocks) * 512, None);
    initiator.expect(DATA_IN).data
}

#[test]
fn what_is_expected_is_replaced_and_anything_else_is_not() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    compare_and_write(&mut initiator, 1, 0, 7);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], GOOD);
    assert_eq!(read(&mut initiator, 2, 4, 3), [[0; 512], [7; 512], [0; 512]].concat());
    compare_and_write(&mut initiator, 3, 0, 9);
    let response = initiator.expect(SCSI_RESPONSE);
    assert_eq!((response.sense(), response.information()), ((0xe, 0x1d, 0), Some(0)));

    let mut halves = [[7; 512], [9; 512]].concat();
    halves[300] = 8;
    let cdb = [0x89, 0x18, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0];
    initiator.command(4, 0, &cdb, 1024, Some(&halves));
    let response = initiator.expect(SCSI_RESPONSE);
    assert_eq!((response.sense(), response.information()), ((0xe, 0x1d, 0), Some(300)));
    assert_eq!(read(&mut initiator, 5, 5, 1), [7; 512]);
}

#[test]
fn of_two_sessions_one_finds_what_both_expect() {
    let gateway = TestGateway::start(1);
    let names = ["iqn.2026-11.test:a", "iqn.2026-11.test:b"];
    let mut initiators = names.map(|name| Initiator::login(gateway.portal, name));
    for round in 0..20 {
        for (initiator, value) in initiators.iter_mut().zip([1, 2]) {
            compare_and_write(initiator, round, 0, value);
        }
        let statuses = initiators.each_mut().map(|initiator| initiator.expect(SCSI_RESPONSE).header[3]);
        assert_eq!(statuses.iter().filter(|status| **status == GOOD).count(), 1, "round {round}");
        let winner = if statuses[0] == GOOD { 1 } else { 2 };
        compare_and_write(&mut initiators[0], round, winner, 0);
        assert_eq!(initiators[0].expect(SCSI_RESPONSE).header[3], GOOD);
    }
}

/// Increments of each session, which wait for each other only by what they find.
const INCREMENTS: u32 = 150;

#[test]
fn no_increment_of_two_sessions_is_lost() {
    let gateway = TestGateway::start(1);
    let increment = |name: &str| {
        let mut initiator = Initiator::login(gateway.portal, name);
        let cdb = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0];
        for _ in 0..INCREMENTS {
            let mut found = 0_u32;
            loop {
                let block = |count: u32| [&count.to_be_bytes()[..], &[0; 508]].concat();
                initiator.command(1, 0, &cdb, 1024, Some(&[block(found), block(found + 1)].concat()));
                let response = initiator.expect(SCSI_RESPONSE);
                if response.header[3] == GOOD {
                    break;
                }
                assert_eq!(response.sense(), (0xe, 0x1d, 0));
                let data = read(&mut initiator, 2, 5, 1);
                found = u32::from_be_bytes(data[..4].try_into().unwrap());
            }
        }
    };
    std::thread::scope(|scope| {
        for name in ["iqn.2026-11.test:a", "iqn.2026-11.test:b"] {
            scope.spawn(move || increment(name));
        }
    });
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    assert_eq!(read(&mut initiator, 1, 5, 1)[..4], (2 * INCREMENTS).to_be_bytes());
}

#[test]
fn no_bit_that_one_of_two_sessions_sets_is_lost() {
    let gateway = TestGateway::start(1);
    // Each bit of a block is set by itself, the even bytes by one session and the odd ones by the other.
    let set = |name: &str, odd: usize| {
        let mut initiator = Initiator::login(gateway.portal, name);
        let cdb = [0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0];
        for place in (odd..64).step_by(2) {
            for bit in 0..8 {
                let mut block = [0; 512];
                block[place] = 1 << bit;
                initiator.command(1, 0, &cdb, 512, Some(&block));
                assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], GOOD);
            }
        }
    };
    std::thread::scope(|scope| {
        for (name, odd) in [("iqn.2026-11.test:a", 0), ("iqn.2026-11.test:b", 1)] {
            scope.spawn(move || set(name, odd));
        }
    });
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    assert_eq!(read(&mut initiator, 1, 5, 1)[..64], [0xff; 64]);
}

#[test]
fn an_atomic_write_is_one_write_of_its_store_or_nothing() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    let write = |lba: [u8; 4], boundary: u8, blocks: u8| {
        let [l0, l1, l2, l3] = lba;
        [0x9c, 0, 0, 0, 0, 0, l0, l1, l2, l3, 0, boundary, 0, blocks, 0, 0]
    };
    // The last 128 KiB before the end of the first object.
    let last = [0, 0, 0x1f, 0];
    for boundary in [0, 8] {
        initiator.command(1, 0, &write(last, boundary, 128), 65536, Some(&[7; 65536]));
        assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], GOOD);
    }
    assert_eq!(gateway.peer.writes(), [7, 7], "each came whole");
    for (lba, blocks, sense) in
        [([0, 0, 0x1f, 8], 8, (5, 0x24, 0)), (last, 7, (5, 0x24, 0)), ([0, 0, 0x40, 0], 8, (5, 0x21, 0))]
    {
        let length = u32::from(blocks) * 512;
        initiator.command(2, 0, &write(lba, 0, blocks), length, Some(&vec![9; length as usize]));
        assert_eq!(initiator.expect(SCSI_RESPONSE).sense(), sense);
    }
    initiator.command(3, 0, &write(last, 0, 16), 4096, Some(&[9; 4096]));
    assert_eq!(initiator.expect(SCSI_RESPONSE).sense(), (5, 0x0e, 3), "not all of the data is offered");
    initiator.command(4, 0, &[0x28, 0, 0, 0, 0x1f, 0, 0, 0, 128, 0], 65536, None);
    assert_eq!(initiator.expect(DATA_IN).data, [7; 65536]);
}

#[test]
fn no_blocks_are_good_without_data_and_too_many_are_refused() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    initiator.command(1, 0, &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0], 0, None);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], GOOD);
    // 256 blocks look like 0 in 8 bits: their data must not be swallowed.
    for (blocks, length) in [(2, 2048), (0, 2 * 256 * 512)] {
        let cdb = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, blocks, 0, 0];
        initiator.command(2, 0, &cdb, length, Some(&vec![0; length as usize]));
        assert_eq!(initiator.expect(SCSI_RESPONSE).sense(), (5, 0x24, 0));
    }
}

#[test]
fn orwrite_sets_bits_across_objects() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    // Objects are of 8192 blocks.
    let cdb = [0x8b, 0, 0, 0, 0, 0, 0, 0, 0x1f, 0xff, 0, 0, 0, 2, 0, 0];
    for (tag, bits) in [(1, 0x50), (2, 0x0a)] {
        initiator.command(tag, 0, &cdb, 1024, Some(&[[bits; 512], [bits >> 1; 512]].concat()));
        assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], GOOD);
    }
    initiator.command(3, 0, &[0x28, 0, 0, 0, 0x1f, 0xff, 0, 0, 2, 0], 1024, None);
    assert_eq!(initiator.expect(DATA_IN).data, [[0x5a; 512], [0x2d; 512]].concat());
}

#[test]
fn write_and_verify_does_not_miscompare_with_a_later_write_of_another_session() {
    let gateway = TestGateway::start(1);
    let mut first = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    let mut second = Initiator::login(gateway.portal, "iqn.2026-11.test:b");
    gateway.peer.hold();
    first.command(1, 0, &[0x2e, 2, 0, 0, 0, 0, 0, 0, 1, 0], 512, Some(&[1; 512]));
    wait_for("the first write", || gateway.peer.waiting() == 1);
    second.write(1, 0, 2, true);
    wait_for("the second write", || gateway.peer.waiting() == 2);
    gateway.peer.release();
    assert_eq!(second.expect(SCSI_RESPONSE).header[3], GOOD);
    assert_eq!(first.expect(SCSI_RESPONSE).header[3], GOOD);
    assert_eq!(gateway.peer.writes(), [1, 2]);
}
