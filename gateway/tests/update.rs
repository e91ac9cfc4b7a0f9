//! What is served changes, and sessions stay: what their initiators are told, and when commands see what.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use huntaway_gateway::{InitiatorConfig, Served, TargetConfig, TargetError};
use support::{
    ASYNC_MESSAGE, Account, DATA_IN, Initiator, LOGIN_RESPONSE, MUCH_BYTES, PATIENCE, R2T, SCSI_RESPONSE,
    TARGET, TestGateway, anyone, served, target, try_login_while, wait_for,
};

const A: &str = "iqn.2026-11.test:a";

const CAPACITY_CHANGED: (u8, u8, u8) = (6, 0x2a, 0x09);
const MODES_CHANGED: (u8, u8, u8) = (6, 0x2a, 0x01);
const INQUIRY_CHANGED: (u8, u8, u8) = (6, 0x3f, 0x03);
const LUNS_CHANGED: (u8, u8, u8) = (6, 0x3f, 0x0e);
const NO_SUCH_LUN: (u8, u8, u8) = (5, 0x25, 0);
const WRITE_PROTECTED: (u8, u8, u8) = (7, 0x27, 0);

/// Disks for anyone.
fn disks(units: Vec<huntaway_gateway::UnitConfig>) -> Served {
    served(vec![target(vec![anyone()], units)])
}

/// An initiator that has been told of its new nexus at each of these LUNs.
fn login(gateway: &TestGateway, luns: u8) -> Initiator {
    let mut initiator = Initiator::login(gateway.portal, A);
    (1..luns).for_each(|lun| assert_eq!(initiator.test_unit(90, lun), Err((6, 0x29, 0))));
    initiator
}

#[test]
fn the_same_again_is_no_news() {
    let gateway = TestGateway::start(2);
    let mut initiator = login(&gateway, 2);
    gateway.update(gateway.disks(2)).unwrap();
    assert_eq!(initiator.test_unit(1, 0), Ok(()));
    assert_eq!(initiator.test_unit(2, 1), Ok(()));
}

#[test]
fn a_new_lun_is_told_and_found() {
    let gateway = TestGateway::start(1);
    let mut initiator = login(&gateway, 1);
    gateway.update(gateway.disks(2)).unwrap();
    assert_eq!(initiator.test_unit(1, 0), Err(LUNS_CHANGED));
    assert_eq!(initiator.test_unit(2, 0), Ok(()));
    assert_eq!(initiator.luns(3), [0, 1]);
    assert_eq!(initiator.test_unit(4, 1), Err(LUNS_CHANGED));
    assert_eq!(initiator.test_unit(5, 1), Ok(()));
}

#[test]
fn report_luns_tells_as_well_as_the_attention() {
    let gateway = TestGateway::start(1);
    let mut initiator = login(&gateway, 1);
    gateway.update(gateway.disks(2)).unwrap();
    assert_eq!(initiator.luns(1), [0, 1]);
    assert_eq!(initiator.test_unit(2, 0), Ok(()));
}

#[test]
fn a_removed_lun_is_told_and_gone() {
    let gateway = TestGateway::start(2);
    let mut initiator = login(&gateway, 2);
    gateway.update(gateway.disks(1)).unwrap();
    assert_eq!(initiator.test_unit(1, 1), Err(NO_SUCH_LUN));
    assert_eq!(initiator.test_unit(2, 0), Err(LUNS_CHANGED));
    assert_eq!(initiator.luns(3), [0]);
}

#[test]
fn what_a_removed_lun_had_to_tell_is_not_told_when_it_comes_back() {
    let gateway = TestGateway::start(2);
    let mut initiator = Initiator::login(gateway.portal, A);
    gateway.update(gateway.disks(1)).unwrap();
    gateway.update(gateway.disks(2)).unwrap();
    assert_eq!(initiator.test_unit(1, 1), Err(LUNS_CHANGED), "not power on");
    assert_eq!(initiator.test_unit(2, 1), Ok(()));
}

#[test]
fn another_size_is_told_there_and_nowhere_else() {
    let gateway = TestGateway::start(2);
    let mut initiator = login(&gateway, 2);
    for blocks in [32 << 11, 4 << 11] {
        let resized = gateway.disk(0, 1, u64::from(blocks) * 512);
        gateway.update(disks(vec![resized, gateway.unit(1)])).unwrap();
        assert_eq!(initiator.test_unit(1, 0), Err(CAPACITY_CHANGED));
        assert_eq!(initiator.last_block(2, 0), blocks - 1);
        assert_eq!(initiator.test_unit(3, 1), Ok(()));
    }
}

#[test]
fn other_flags_are_told_and_hold() {
    let gateway = TestGateway::start(1);
    let mut initiator = login(&gateway, 1);
    let mut read_only = gateway.unit(0);
    read_only.read_only = true;
    gateway.update(disks(vec![read_only])).unwrap();
    assert_eq!(initiator.test_unit(1, 0), Err(MODES_CHANGED));
    initiator.write(2, 0, 7, true);
    assert_eq!(initiator.expect(SCSI_RESPONSE).sense(), WRITE_PROTECTED);
}

#[test]
fn another_disk_in_the_same_place_is_told() {
    let gateway = TestGateway::start(1);
    let mut initiator = login(&gateway, 1);
    gateway.update(disks(vec![gateway.disk(0, 9, 8 << 20)])).unwrap();
    assert_eq!(initiator.test_unit(1, 0), Err(INQUIRY_CHANGED));
    assert_eq!(initiator.test_unit(2, 0), Err(LUNS_CHANGED));
    assert_eq!(initiator.test_unit(3, 0), Ok(()));
}

#[test]
fn mode_parameters_stay_when_the_size_changes() {
    let gateway = TestGateway::start(1);
    let mut initiator = login(&gateway, 1);
    let d_sense = |initiator: &mut Initiator| {
        initiator.command(8, 0, &[0x1a, 0x08, 0x0a, 0, 255, 0], 255, None);
        initiator.expect(DATA_IN).data
    };
    let mut list = d_sense(&mut initiator);
    list[..4].fill(0);
    list[4 + 2] |= 0x04;
    let length = list.len() as u8;
    initiator.command(1, 0, &[0x15, 0x10, 0, 0, length, 0], length.into(), Some(&list));
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    gateway.update(disks(vec![gateway.disk(0, 1, 16 << 20)])).unwrap();
    initiator.command(2, 0, &[0; 6], 0, None);
    let sense = initiator.expect(SCSI_RESPONSE).data;
    assert_eq!(sense[2..6], [0x72, 6, 0x2a, 0x09], "in descriptor format");
    assert_eq!(d_sense(&mut initiator)[4 + 2] & 0x04, 0x04);
}

#[test]
fn commands_under_way_to_what_is_removed_end_well_and_the_update_waits_for_them() {
    let gateway = TestGateway::start(2);
    let mut initiator = login(&gateway, 2);
    for (changed, sense) in [
        (disks(vec![gateway.disk(0, 1, 4 << 20), gateway.unit(1)]), CAPACITY_CHANGED),
        (disks(vec![gateway.unit(1)]), NO_SUCH_LUN),
    ] {
        gateway.peer.hold();
        initiator.write(1, 0, 7, true);
        wait_for("the write", || gateway.peer.waiting() == 1);
        let update = gateway.start_update(changed);
        initiator.expect_silence();
        assert!(!update.is_finished(), "a store has the write");
        gateway.peer.release();
        assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0, "the write ends well");
        gateway.runtime.block_on(update).unwrap().unwrap();
        assert_eq!(initiator.test_unit(2, 0), Err(sense));
    }
}

#[test]
fn nobody_sees_the_new_size_before_being_told() {
    let gateway = TestGateway::start(1);
    let mut initiator = login(&gateway, 1);
    for round in 1..=50_u32 {
        let new = (8 << 11) + round * 8;
        let update = gateway.start_update(disks(vec![gateway.disk(0, 1, u64::from(new) * 512)]));
        loop {
            initiator.command(1, 0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8, None);
            let answer = initiator.receive();
            if answer.opcode() == SCSI_RESPONSE {
                assert_eq!(answer.sense(), CAPACITY_CHANGED);
                break;
            }
            assert_ne!(answer.data[..4], (new - 1).to_be_bytes(), "not told yet");
        }
        assert_eq!(initiator.last_block(2, 0), new - 1, "whoever is told finds it so");
        gateway.runtime.block_on(update).unwrap().unwrap();
    }
}

#[test]
fn writes_to_a_disk_that_grows_stay_in_order() {
    let gateway = TestGateway::start(1);
    let mut initiator = login(&gateway, 1);
    gateway.peer.hold();
    initiator.write(1, 0, 7, true);
    wait_for("the write", || gateway.peer.waiting() == 1);
    let update = gateway.start_update(disks(vec![gateway.disk(0, 1, 16 << 20)]));
    wait_for("the update", || initiator.test_unit(2, 0) == Err(CAPACITY_CHANGED));
    initiator.write(3, 0, 8, true);
    initiator.expect_silence();
    assert_eq!(gateway.peer.writes(), [7], "the second waits for the first");
    gateway.peer.release();
    assert_eq!(initiator.expect(SCSI_RESPONSE).tag(), 1);
    assert_eq!(initiator.expect(SCSI_RESPONSE).tag(), 3);
    assert_eq!(gateway.peer.writes(), [7, 8]);
    gateway.runtime.block_on(update).unwrap().unwrap();
}

#[test]
fn commands_under_way_to_what_stays_hold_nothing_up() {
    let gateway = TestGateway::start(2);
    let mut initiator = login(&gateway, 2);
    gateway.peer.hold();
    initiator.write(1, 0, 7, true);
    wait_for("the write", || gateway.peer.waiting() == 1);
    gateway.update(gateway.disks(1)).unwrap();
    assert_eq!(initiator.test_unit(2, 0), Err(LUNS_CHANGED));
    gateway.peer.release();
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
}

#[test]
fn a_session_that_goes_on_through_another_connection_is_told_what_changed_meanwhile() {
    let gateway = TestGateway::start(1);
    let mut other = Initiator::login(gateway.portal, "iqn.2026-11.test:b");
    let mut old = Initiator::start_login(gateway.portal, A);
    let response = old.expect(LOGIN_RESPONSE);
    let tsih = u16::from_be_bytes([response.header[14], response.header[15]]);
    assert_eq!(old.test_unit(1, 0), Err((6, 0x29, 0)));
    gateway.peer.hold();
    old.write(2, 0, 7, true);
    wait_for("the write", || gateway.peer.waiting() == 1);
    let read_only = |size| huntaway_gateway::UnitConfig { read_only: true, ..gateway.disk(0, 1, size) };
    let first = gateway.start_update(disks(vec![read_only(8 << 20)]));
    wait_for("the first update", || other.test_unit(3, 0) == Err(MODES_CHANGED));
    let mut new = Initiator::start_login_to(gateway.portal, A, tsih);
    old.expect_end();
    let second = gateway.start_update(disks(vec![read_only(16 << 20)]));
    wait_for("the second update", || other.test_unit(3, 0) == Err(CAPACITY_CHANGED));
    gateway.peer.release();
    assert_eq!(new.expect(LOGIN_RESPONSE).header[36], 0);
    assert_eq!(new.test_unit(4, 0), Err(MODES_CHANGED));
    assert_eq!(new.test_unit(5, 0), Err(CAPACITY_CHANGED));
    gateway.runtime.block_on(async { (first.await.unwrap().unwrap(), second.await.unwrap().unwrap()) });
}

#[test]
fn write_data_that_is_owed_to_a_removed_lun_is_not_waited_for_for_ever() {
    let gateway = TestGateway::start(1);
    let mut initiator = login(&gateway, 1);
    initiator.write(1, 0, 7, false);
    initiator.expect(R2T);
    gateway.update(disks(Vec::new())).unwrap();
    let response = initiator.expect(SCSI_RESPONSE);
    assert_eq!((response.tag(), response.sense()), (1, NO_SUCH_LUN));
}

#[test]
fn write_data_that_comes_in_time_is_written_to_the_removed_lun() {
    let gateway = TestGateway::start(1);
    let mut initiator = login(&gateway, 1);
    initiator.write(1, 0, 7, false);
    let r2t = initiator.expect(R2T);
    let update = gateway.start_update(disks(Vec::new()));
    wait_for("the update", || gateway_has_no_lun(&mut initiator));
    initiator.data_out(&r2t, 7);
    assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    gateway.runtime.block_on(update).unwrap().unwrap();
    assert_eq!(gateway.peer.writes(), [7]);
}

fn gateway_has_no_lun(initiator: &mut Initiator) -> bool {
    initiator.test_unit(50, 0) == Err(NO_SUCH_LUN)
}

#[test]
fn what_cannot_be_served_changes_nothing() {
    let gateway = TestGateway::start(1);
    let mut initiator = login(&gateway, 1);
    let twice = disks(vec![gateway.unit(0), gateway.unit(0)]);
    assert_eq!(gateway.update(twice), Err(TargetError::LunTwice(0)));
    let mut other_case = target(vec![anyone()], Vec::new());
    other_case.name = TARGET.to_uppercase();
    let both = served(vec![target(vec![anyone()], vec![gateway.unit(0), gateway.unit(1)]), other_case]);
    assert!(matches!(gateway.update(both), Err(TargetError::TargetTwice(_))));
    assert_eq!(initiator.test_unit(1, 0), Ok(()));
    assert_eq!(initiator.luns(2), [0]);
}

#[test]
fn metrics_of_a_lun_go_with_it_and_begin_anew() {
    const BYTES: &str = "huntaway_gateway_transferred_bytes_total";
    const FAILURES: &str = "huntaway_gateway_failed_commands_total";
    let gateway = TestGateway::start(2);
    let mut initiator = login(&gateway, 2);
    let label = format!("{TARGET}/1");
    let label = ("lun", label.as_str());
    assert!(gateway.counter(BYTES, label).is_some());
    assert!(gateway.counter(FAILURES, label).is_some(), "power on");
    gateway.update(disks(vec![gateway.unit(0), gateway.disk(1, 2, 16 << 20)])).unwrap();
    assert!(gateway.counter(BYTES, label).is_some(), "a grown disk keeps its metrics");
    gateway.update(gateway.disks(1)).unwrap();
    wait_for("the metrics to go", || {
        gateway.counter(BYTES, label).is_none() && gateway.counter(FAILURES, label).is_none()
    });
    assert_eq!(initiator.test_unit(1, 1), Err(NO_SUCH_LUN));
    assert_eq!(gateway.counter(FAILURES, label), None);
    gateway.update(gateway.disks(2)).unwrap();
    assert_eq!(gateway.counter(BYTES, label), Some(0.0));
}

#[test]
fn no_response_is_lost_during_200_updates() {
    let gateway = TestGateway::start(2);
    let stop = AtomicBool::new(false);
    let (mut written, mut attentions) = (0, 0);
    let mut initiator = login(&gateway, 1);
    std::thread::scope(|scope| {
        let io = scope.spawn(|| {
            let mut last = false;
            while !last {
                last = stop.load(Ordering::Relaxed);
                // Eight at once, overlapping in pairs.
                (0..8).for_each(|tag| initiator.write(tag, tag as u8 / 2, 7, tag % 3 != 0));
                let mut answers = 0;
                while answers < 8 {
                    let pdu = initiator.receive();
                    match pdu.opcode() {
                        R2T => initiator.data_out(&pdu, 7),
                        SCSI_RESPONSE if pdu.header[3] == 0 => {
                            (answers, written) = (answers + 1, written + 1)
                        }
                        SCSI_RESPONSE => {
                            assert!([CAPACITY_CHANGED, LUNS_CHANGED].contains(&pdu.sense()), "{pdu:?}");
                            (answers, attentions) = (answers + 1, attentions + 1);
                        }
                        _ => panic!("{pdu:?}"),
                    }
                }
            }
        });
        for round in 0..200_u64 {
            let mut units = vec![gateway.disk(0, 1, (8 + round % 3) << 20)];
            units.extend((round % 2 == 0).then(|| gateway.unit(1)));
            gateway.update(disks(units)).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        io.join().unwrap();
    });
    assert!(written > 0 && attentions > 0, "{written} written, {attentions} attentions");
}

/// Waits until an answer of [`Initiator::read_much`] fills the output.
fn wait_for_full_output(gateway: &TestGateway, lun: u8) {
    const BYTES: &str = "huntaway_gateway_transferred_bytes_total";
    let label = format!("{TARGET}/{lun}");
    wait_for("a read", || gateway.counter(BYTES, ("lun", &label)) >= Some(MUCH_BYTES.into()));
}

/// Stores have four large reads; the answer of one fills the output, which nobody takes.
fn read_until_full(gateway: &TestGateway, initiator: &mut Initiator, lun: u8) {
    gateway.peer.hold();
    initiator.read_much(1, lun, true);
    wait_for("the flushes of all reads", || gateway.peer.waiting() == 4);
    gateway.peer.release();
    wait_for_full_output(gateway, lun);
}

/// The update comes to its end.
fn finish(gateway: &TestGateway, update: tokio::task::JoinHandle<Result<(), TargetError>>) {
    let finished = gateway.runtime.block_on(async { tokio::time::timeout(PATIENCE, update).await });
    assert!(matches!(finished, Ok(Ok(Ok(())))), "the update must end well: {finished:?}");
}

#[test]
fn a_write_that_has_ended_holds_no_update_up_though_nobody_takes_its_answer() {
    let gateway = TestGateway::start(2);
    let mut initiator = login(&gateway, 2);
    gateway.peer.hold();
    initiator.write_unit(1, 1, 0, 7, true);
    wait_for("the write", || gateway.peer.waiting() == 1);
    initiator.read_much(2, 0, false);
    wait_for_full_output(&gateway, 0);
    let update = gateway.start_update(gateway.disks(1));
    gateway.peer.release();
    finish(&gateway, update);
    let (mut bytes, mut written) = (0, false);
    while bytes < 4 * MUCH_BYTES as usize || !written {
        let pdu = initiator.receive();
        match pdu.opcode() {
            DATA_IN => bytes += pdu.data.len(),
            _ => written = (pdu.opcode(), pdu.tag(), pdu.header[3]) == (SCSI_RESPONSE, 1, 0),
        }
    }
}

#[test]
fn a_session_that_takes_slowly_what_it_read_from_a_removed_lun_is_closed() {
    let gateway = TestGateway::start(2);
    let mut slow = login(&gateway, 2);
    let mut other = Initiator::login(gateway.portal, "iqn.2026-11.test:b");
    read_until_full(&gateway, &mut slow, 1);
    std::thread::scope(|scope| {
        let (_stop, stopped) = std::sync::mpsc::channel();
        // Its keep-alive has nothing to object.
        scope.spawn(move || slow.take_slowly(&stopped));
        let update = gateway.start_update(gateway.disks(1));
        finish(&gateway, update);
    });
    wait_for("the session to end", || gateway.gateway().sessions().len() == 1);
    assert_eq!(other.test_unit(1, 0), Err(LUNS_CHANGED));
    assert_eq!(other.test_unit(2, 0), Ok(()));
}

#[test]
fn a_session_that_does_not_take_what_it_read_from_another_lun_stays() {
    let gateway = TestGateway::start(2);
    let mut slow = login(&gateway, 2);
    read_until_full(&gateway, &mut slow, 0);
    let update = gateway.start_update(gateway.disks(1));
    finish(&gateway, update);
    assert_eq!(gateway.gateway().sessions().len(), 1);
}

#[test]
fn a_login_that_began_before_an_update_is_judged_by_it() {
    let gateway = TestGateway::empty();
    let account = Account("alice", "correct-horse-battery");
    let alice = || InitiatorConfig { authentication: account.required(), ..anyone() };
    let luns = |count: u16| (0..count).map(|lun| gateway.unit(lun)).collect();
    let keys = format!("InitiatorName={A} TargetName={TARGET}");
    for (changed, status) in [
        (served(Vec::new()), 0x0203),
        (served(vec![target(Vec::new(), luns(1))]), 0x0202),
        (served(vec![TargetConfig { portals: Some(Vec::new()), ..target(vec![alice()], luns(1)) }]), 0x0203),
        (served(vec![target(vec![alice()], luns(2))]), 0),
    ] {
        gateway.update(served(vec![target(vec![alice()], luns(1))])).unwrap();
        let update = || gateway.update(changed).unwrap();
        match try_login_while(gateway.portal, &keys, Some(account), false, update) {
            Ok(mut session) => assert_eq!((status, session.luns(1)), (0, vec![0, 1])),
            Err(refused) => assert_eq!(refused, status),
        }
    }
}

#[test]
fn a_login_at_the_same_time_as_an_update_is_refused_or_revoked() {
    let gateway = TestGateway::start(1);
    let (mut refused, mut revoked) = (0, 0);
    for round in 0..200 {
        gateway.update(gateway.disks(1)).unwrap();
        let mut session = Initiator::start_login(gateway.portal, A);
        (0..round % 20).for_each(|_| std::thread::yield_now());
        gateway.update(served(vec![target(Vec::new(), vec![gateway.unit(0)])])).unwrap();
        match session.receive().header[36..38] {
            [2, 2] => refused += 1,
            [0, 0] => {
                session.expect(ASYNC_MESSAGE);
                session.logout(1);
                revoked += 1;
            }
            ref status => panic!("{status:?}"),
        }
        wait_for("the session to end", || gateway.gateway().sessions().is_empty());
    }
    assert_eq!(refused + revoked, 200);
}
