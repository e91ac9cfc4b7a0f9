//! A new LUN, a grown LUN and a removed LUN are seen by the Linux kernel, QEMU and libvirt while they are logged in.

mod support;

use std::time::Duration;

use support::guest;
use support::needs::{Need, available};
use support::node::{Node, with_targets};
use support::qmp::Qemu;
use support::requests::Requests;
use support::script::{Outcome, Script};

const TARGET: &str = "iqn.2026-11.net.example:vm";
const MIB: u64 = 1 << 20;

/// Time for one client to see all changes.
const LIMIT: Duration = Duration::from_secs(260);

const KERNEL_NEEDS: &[Need] =
    &[Need::Program("iscsiadm"), Need::Program("mkfs.ext4"), Need::Program("resize2fs")];
const LIBVIRT_NEEDS: &[Need] = &[
    Need::Root,
    Need::Program("libvirtd"),
    Need::Program("virsh"),
    Need::Program("unshare"),
    Need::File("/usr/lib/x86_64-linux-gnu/libvirt/storage-backend/libvirt_storage_backend_iscsi-direct.so"),
];

/// What is served at first, and after each change that a client's script asks for.
const STAGES: [(&str, &str); 4] = [
    ("", "{lun: 0, vdi: first, size: 64MiB}, {lun: 1, vdi: second, size: 32MiB}"),
    (
        "add LUN 2 of 48 MiB",
        "{lun: 0, vdi: first, size: 64MiB}, {lun: 1, vdi: second, size: 32MiB}, {lun: 2, vdi: third, size: 48MiB}",
    ),
    (
        "grow LUN 0 to 192 MiB",
        "{lun: 0, vdi: first, size: 192MiB}, {lun: 1, vdi: second, size: 32MiB}, {lun: 2, vdi: third, size: 48MiB}",
    ),
    ("remove LUN 1", "{lun: 0, vdi: first, size: 192MiB}, {lun: 2, vdi: third, size: 48MiB}"),
];

/// The configuration of one of [`STAGES`].
fn stage(number: usize) -> String {
    let (_, luns) = STAGES[number];
    with_targets(&format!("[{{iqn: \"{TARGET}\", initiators: [\"iqn.*\"], luns: [{luns}]}}]"))
}

/// Has `script` ask for the changes of [`STAGES`], and carries them out.
fn change_for(script: Script, node: &Node, requests: &Requests) -> String {
    requests.serve(script.start(), LIMIT, |request| {
        let number = STAGES.iter().position(|(name, _)| *name == request);
        node.reload(&stage(number.unwrap_or_else(|| panic!("there is no stage {request:?}"))));
    })
}

#[test]
fn the_kernel_sees_a_new_a_grown_and_a_removed_lun() {
    if !available(KERNEL_NEEDS) || !available(guest::NEEDS) {
        return;
    }
    let node = Node::start(&stage(0));
    let requests = Requests::open();
    let job = guest::job("reload-disks", &[])
        .env("PORTALS", node.portal().replace("127.0.0.1", "10.0.2.2"))
        .env("IQN", TARGET)
        .env("ASK", requests.address_in_guest());
    let output = change_for(job, &node, &requests);
    assert!(output.contains("PASS"), "{output}");
}

#[test]
fn libvirt_sees_a_new_a_grown_and_a_removed_volume() {
    if !available(LIBVIRT_NEEDS) {
        return;
    }
    let node = Node::start(&stage(0));
    let requests = Requests::open();
    let (host, port) = node.portal().rsplit_once(':').unwrap();
    let script =
        Script::new("clients/libvirt-refresh").args([host, port, TARGET]).env("ASK", requests.address());
    change_for(script, &node, &requests);
}

#[test]
fn qemu_sees_a_new_a_grown_and_a_removed_lun() {
    if !available(&[Need::QemuIscsi, Need::Program("qemu-system-x86_64")]) {
        return;
    }
    let node = Node::start(&stage(0));
    let mut first = Qemu::start(node.portal(), TARGET, 0);
    let mut second = Qemu::start(node.portal(), TARGET, 1);
    assert_eq!((first.disk_bytes(), second.disk_bytes()), (64 * MIB, 32 * MIB));
    first.io("write -P 0x11 0 1M").unwrap();
    assert!(!image_is_there(&node, 2));

    node.reload(&stage(1));
    assert!(image_is_there(&node, 2), "the new LUN");
    first.io("read -P 0x11 0 1M").unwrap();
    second.io("write -P 0x22 0 1M").unwrap();

    assert!(first.resize(192 * MIB).is_err(), "larger than the LUN");
    node.reload(&stage(2));
    first.io("read -P 0x11 0 1M").unwrap();
    first.resize(192 * MIB).unwrap();
    assert_eq!(first.disk_bytes(), 192 * MIB);
    first.io("write -P 0x33 191M 1M").unwrap();
    first.io("read -P 0x33 191M 1M").unwrap();

    node.reload(&stage(3));
    assert!(second.io("read 0 4k").is_err(), "the removed LUN");
    assert!(!image_is_there(&node, 1), "the removed LUN");
    first.io("read -P 0x11 0 1M").unwrap();
    first.io("read -P 0x33 191M 1M").unwrap();
}

/// Whether `qemu-img info` finds a disk as this LUN.
fn image_is_there(node: &Node, lun: u16) -> bool {
    let Outcome { status, output } =
        Script::program("qemu-img").args(["info", &node.url(TARGET, lun)]).finish();
    let there = status.is_some_and(|status| status.success());
    assert!(there || output.contains("LUN"), "it failed for another reason: {output}");
    there
}
