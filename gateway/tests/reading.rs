//! READs of what is not at hand: they wait, and nobody waits for them who need not.

mod support;

use support::{DATA_IN, Initiator, SCSI_RESPONSE, TestGateway, wait_for};

/// A write of one block, at a block that may be beyond the first object.
fn write(initiator: &mut Initiator, tag: u32, lba: u16, value: u8) {
    let [high, low] = lba.to_be_bytes();
    initiator.command(tag, 0, &[0x2a, 0, 0, 0, high, low, 0, 0, 1, 0], 512, Some(&[value; 512]));
    assert_eq!(initiator.expect(SCSI_RESPONSE).tag(), tag);
}

fn read(initiator: &mut Initiator, tag: u32, lba: u16, blocks: u8) {
    let [high, low] = lba.to_be_bytes();
    let cdb = [0x28, 0, 0, 0, high, low, 0, 0, blocks, 0];
    initiator.command(tag, 0, &cdb, u32::from(blocks) * 512, None);
}

#[test]
fn a_read_of_two_objects_is_whole_whichever_is_there_first() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    write(&mut initiator, 1, 8191, 5);
    write(&mut initiator, 2, 8192, 6);
    gateway.peer.hold_reads();
    read(&mut initiator, 3, 8191, 2);
    wait_for("both reads", || gateway.peer.waiting_reads() == 2);
    gateway.peer.release_reads();
    let data = initiator.expect(DATA_IN);
    assert_eq!((data.tag(), &data.data[..512], &data.data[512..]), (3, &[5; 512][..], &[6; 512][..]));
}

#[test]
fn a_write_waits_for_a_waiting_read_of_its_block_and_others_do_not() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    gateway.peer.hold_reads();
    read(&mut initiator, 1, 10, 1);
    wait_for("the read", || gateway.peer.waiting_reads() == 1);
    initiator.write(2, 10, 7, true);
    write(&mut initiator, 3, 11, 8);
    assert_eq!(gateway.peer.writes(), [8]);
    gateway.peer.release_reads();
    let data = initiator.expect(DATA_IN);
    assert_eq!((data.tag(), data.data), (1, vec![0; 512]));
    assert_eq!(initiator.expect(SCSI_RESPONSE).tag(), 2);
    assert_eq!(gateway.peer.writes(), [8, 7]);
}

#[test]
fn stores_read_no_more_for_a_connection_than_one_command_may_ask_for() {
    let gateway = TestGateway::start(1);
    let mut initiator = Initiator::login(gateway.portal, "iqn.2026-11.test:a");
    gateway.peer.hold_reads();
    initiator.read_much(1, 0, false);
    // Two objects each.
    wait_for("the first read", || gateway.peer.waiting_reads() == 2);
    initiator.expect_silence();
    assert_eq!(gateway.peer.waiting_reads(), 2);
    gateway.peer.release_reads();
    let mut ended = Vec::new();
    while ended.len() < 4 {
        let data = initiator.expect(DATA_IN);
        if data.header[1] & 1 == 1 {
            ended.push(data.tag());
        }
    }
    assert_eq!(ended, [1, 2, 3, 4]);
}
