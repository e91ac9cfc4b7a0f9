//! A sanitize operation that a crash interrupts is not forgotten: the disk is found failed until another one succeeds.

mod support;

use support::demo::{Demo, lun};
use support::initiator::{Initiator, Login};
use support::node::{Node, with_targets};

const IN_PROGRESS: (u8, u8, u8) = (2, 0x04, 0x1b);
const FAILED: (u8, u8, u8) = (3, 0x31, 0x03);
const INVALID_FIELD: (u8, u8, u8) = (5, 0x24, 0x00);

const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];

fn log_in(demo: &Demo) -> Initiator {
    log_in_at(demo.portal(), demo.target(), &[0, 1])
}

fn log_in_at(portal: &str, target: &str, luns: &[u8]) -> Initiator {
    let login =
        Login { portal, initiator: "iqn.2026-11.test:a", target: Some(target), account: None, mutual: None };
    let mut initiator = login.log_in().expect("anyone may log in");
    for lun in luns {
        assert_eq!(initiator.ask(*lun, &[0; 6], 0), Err((6, 0x29, 0)));
    }
    initiator
}

fn sanitize(initiator: &mut Initiator, lun: u8, byte_1: u8) -> Result<(), (u8, u8, u8)> {
    // An OVERWRITE of 31 passes goes on for as long as a test needs it to.
    let list = [31, 0, 0, 1, 0x5a];
    let length = if byte_1 & 0x1f == 1 { list.len() } else { 0 };
    initiator.tell(lun, &[0x48, byte_1, 0, 0, 0, 0, 0, 0, length as u8, 0], &list[..length])
}

#[test]
fn what_a_crash_interrupts_has_failed_after_the_restart() {
    let scratch = tempfile::tempdir().expect("a temporary directory can be made");
    let directory = scratch.path().join("data");
    let luns = [lun("size=1GiB,thin=true"), lun("size=1GiB,thin=true")].concat();
    let mut demo = Demo::builder().args(luns).directory(&directory).start();
    let mut initiator = log_in(&demo);
    // Both begin; the second one allows its failure to be left.
    assert_eq!(sanitize(&mut initiator, 0, 0x81), Ok(()));
    assert_eq!(sanitize(&mut initiator, 1, 0xa1), Ok(()));
    assert_eq!(initiator.ask(0, &READ, 512), Err(IN_PROGRESS));
    demo.kill();

    let mut demo = Demo::builder().directory(&directory).start();
    let mut initiator = log_in(&demo);
    for lun in [0, 1] {
        assert_eq!(initiator.ask(lun, &READ, 512), Err(FAILED));
        let sense = initiator.ask(lun, &[0x03, 0, 0, 0, 18, 0], 18).expect("REQUEST SENSE is answered");
        assert_eq!((sense[2] & 0xf, sense[12], sense[13]), FAILED);
    }
    assert_eq!(sanitize(&mut initiator, 0, 0x1f), Err(INVALID_FIELD));
    assert_eq!(sanitize(&mut initiator, 1, 0x1f), Ok(()));
    assert!(initiator.ask(1, &READ, 512).is_ok());
    drop(initiator);
    assert!(demo.stop().success());

    let mut demo = Demo::builder().directory(&directory).start();
    let mut initiator = log_in(&demo);
    assert_eq!(initiator.ask(0, &READ, 512), Err(FAILED), "a restart mends nothing");
    assert!(initiator.ask(1, &READ, 512).is_ok());
    assert_eq!(sanitize(&mut initiator, 0, 0x02), Ok(()));
    assert_eq!(initiator.ask(0, &READ, 512), Ok(vec![0; 512]));
    drop(initiator);
    assert!(demo.stop().success());

    let demo = Demo::builder().directory(&directory).start();
    assert_eq!(log_in(&demo).ask(0, &READ, 512), Ok(vec![0; 512]));
}

#[test]
fn the_operator_sees_which_disk_is_being_sanitized_or_failed_to_be() {
    const TARGET: &str = "iqn.2026-11.test:vm";
    let scratch = tempfile::tempdir().expect("a temporary directory can be made");
    let luns = "{lun: 0, vdi: root, size: 1GiB}";
    let targets = format!("[{{iqn: \"{TARGET}\", initiators: [\"iqn.*\"], luns: [{luns}]}}]");
    let mut node = Node::start_in(scratch.path(), &with_targets(&targets));
    let show = |node: &Node| node.run(["vdi", "show", "root"]);
    assert!(show(&node).contains("ready"), "{}", show(&node));
    let mut initiator = log_in_at(node.portal(), TARGET, &[0]);
    assert_eq!(sanitize(&mut initiator, 0, 0x81), Ok(()));
    assert!(show(&node).contains("being sanitized"), "{}", show(&node));
    node.kill();

    let node = Node::start_on(scratch.path());
    assert!(show(&node).contains("failed to be sanitized"), "{}", show(&node));
    assert!(node.run(["vdi", "list", "-o", "json"]).contains("\"sanitize\": \"failed\""));
    let mut initiator = log_in_at(node.portal(), TARGET, &[0]);
    assert_eq!(sanitize(&mut initiator, 0, 0x02), Ok(()));
    assert!(show(&node).contains("ready"), "{}", show(&node));
}
