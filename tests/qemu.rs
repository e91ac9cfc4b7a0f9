//! QEMU's own iSCSI driver uses a LUN: as an image, as a guest's disk, and to boot from.

mod support;

use std::time::Duration;

use support::demo::{Demo, lun};
use support::guest;
use support::needs::{Need, available};
use support::script::Script;

#[test]
fn qemu_img_and_qemu_io_agree_with_the_lun() {
    if !available(&[Need::QemuIscsi, Need::Program("qemu-io"), Need::Program("jq")]) {
        return;
    }
    let demo = Demo::start(lun("size=256MiB"));
    let url = demo.url(0);
    Script::new("clients/qemu").args([&url, "images"]).limit(Duration::from_secs(180)).run();
}

#[test]
fn a_guest_has_the_lun_as_its_disk() {
    if !available(&[Need::QemuIscsi]) || !available(guest::NEEDS) {
        return;
    }
    let guest = guest::directory();
    let demo = Demo::start(lun("size=256MiB"));
    let url = demo.url(0);
    Script::new("clients/qemu").args([&url, "guest"]).args([&guest]).limit(Duration::from_secs(300)).run();
}

#[test]
fn a_guest_boots_from_the_lun() {
    let boot =
        [Need::QemuIscsi, Need::Program("syslinux"), Need::Program("mcopy"), Need::Program("mkfs.vfat")];
    if !available(&boot) || !available(guest::NEEDS) {
        return;
    }
    let guest = guest::directory();
    let demo = Demo::start(lun("size=256MiB"));
    let url = demo.url(0);
    Script::new("clients/qemu").args([&url, "boot"]).args([&guest]).limit(Duration::from_secs(180)).run();
}
