//! libvirt uses the target as a storage pool, with and without CHAP, and boots a domain whose disk is the LUN.

mod support;

use std::fs;
use std::time::Duration;

use support::demo::{Demo, lun};
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
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("secret");
    fs::write(&file, "a secret for libvirt\n").unwrap();
    let demo = Demo::builder()
        .args(lun("size=64MiB"))
        .args(["--chap".into(), format!("alice:{}", file.display())])
        .start();
    pool(&demo)
        .env("CHAP_USER", "alice")
        .env("CHAP_PASS", "a secret for libvirt")
        .limit(Duration::from_secs(120))
        .run();
}

fn pool(demo: &Demo) -> Script {
    Script::new("clients/libvirt-pool").args(["127.0.0.1", &demo.port().to_string(), demo.target()])
}
