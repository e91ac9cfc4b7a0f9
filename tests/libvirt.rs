//! libvirt uses the target as a storage pool, with and without CHAP, and boots a domain whose disk is the LUN.
//!
//! It knows two kinds of pool: `iscsi-direct` has an initiator of its own; the classic `iscsi` drives iscsiadm, and so needs a
//! kernel with an initiator: that of the small guest.

mod support;

use std::time::Duration;

use support::demo::{Demo, lun, write_secret};
use support::guest;
use support::needs::{Need, available};
use support::script::Script;

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Program("libvirtd"),
    Need::Program("virsh"),
    Need::Program("unshare"),
    Need::File("/usr/lib/x86_64-linux-gnu/libvirt/storage-backend/libvirt_storage_backend_iscsi-direct.so"),
    Need::QemuIscsi,
];

const CLASSIC_NEEDS: &[Need] = &[
    Need::Program("libvirtd"),
    Need::Program("virsh"),
    Need::Program("iscsiadm"),
    Need::File("/usr/lib/x86_64-linux-gnu/libvirt/storage-backend/libvirt_storage_backend_iscsi.so"),
];

/// The CHAP account of the targets that ask for one.
const USER: &str = "alice";
const SECRET: &str = "a secret for libvirt";

#[test]
fn a_pool_and_a_domain_on_the_lun() {
    if !available(NEEDS) || !available(guest::NEEDS) {
        return;
    }
    let guest = guest::directory();
    let demo = Demo::start(lun("size=256MiB"));
    pool(&demo).env("GUEST", guest).limit(Duration::from_secs(300)).run();
}

#[test]
fn a_pool_with_a_chap_secret() {
    if !available(NEEDS) {
        return;
    }
    let demo = demo_with_chap();
    pool(&demo).env("CHAP_USER", USER).env("CHAP_PASS", SECRET).limit(Duration::from_secs(120)).run();
}

#[test]
fn a_classic_pool_has_the_luns_as_its_volumes() {
    if !available(CLASSIC_NEEDS) || !available(guest::NEEDS) {
        return;
    }
    let demo = Demo::start([lun("size=64MiB"), lun("size=96MiB")].concat());
    classic_pool(&demo).env("JOB_ARGS", "LUNS=2").run();
}

#[test]
fn a_classic_pool_with_a_chap_secret() {
    if !available(CLASSIC_NEEDS) || !available(guest::NEEDS) {
        return;
    }
    let demo = demo_with_chap();
    classic_pool(&demo).env("CHAP_USER", USER).env("CHAP_PASS", SECRET).run();
}

fn demo_with_chap() -> Demo {
    let secrets = tempfile::tempdir().expect("a temporary directory can be made");
    let file = secrets.path().join("secret");
    write_secret(&file, SECRET);
    // the file was read when the demo is ready
    Demo::builder()
        .args(lun("size=64MiB"))
        .args(["--chap".into(), format!("{USER}:{}", file.display())])
        .start()
}

fn pool(demo: &Demo) -> Script {
    Script::new("clients/libvirt-pool").args(["127.0.0.1", &demo.port().to_string(), demo.target()])
}

fn classic_pool(demo: &Demo) -> Script {
    guest::job("libvirt", &["libvirt"]).env("PORTALS", demo.portal_in_guest()).env("IQN", demo.target())
}
