//! The Linux kernel's initiator, in a small guest: discovery, login, file systems, checksums, logout, login, fsck.

mod support;

use support::demo::{Demo, lun, write_secret};
use support::guest;
use support::needs::{Need, available};
use support::script::Script;

#[test]
fn ext4_keeps_its_files_across_logout_and_login() {
    let Some(guest) = Guest::available() else { return };
    let demo = Demo::start(lun("size=512MiB"));
    guest.job(&demo, "FS=ext4 MB=32 EXPECT='InitialR2T=No ImmediateData=Yes FirstBurstLength=262144'").run();
}

#[test]
fn xfs_with_digests_and_small_bursts() {
    let Some(guest) = Guest::available() else { return };
    let demo = Demo::start(lun("size=512MiB"));
    let settings = "node.conn[0].iscsi.HeaderDigest=CRC32C;node.conn[0].iscsi.DataDigest=CRC32C;\
                    node.session.iscsi.InitialR2T=No;node.session.iscsi.FirstBurstLength=16384;\
                    node.session.iscsi.MaxBurstLength=32768";
    let expected = "EXPECT='HeaderDigest=CRC32C DataDigest=CRC32C InitialR2T=No FirstBurstLength=16384 MaxBurstLength=32768'";
    guest.job(&demo, &format!("FS=xfs MB=24 {expected}")).env("ISCSI_CONF", settings).run();
}

#[test]
fn mutual_chap_proves_both_sides() {
    let Some(guest) = Guest::available() else { return };
    let secrets = tempfile::tempdir().unwrap();
    let account = |user: &str, secret: &str| {
        let file = secrets.path().join(user);
        write_secret(&file, secret);
        format!("{user}:{}", file.display())
    };
    let initiators = account("initiator", "the initiator's word");
    let targets = account("target", "the target's own word");
    let demo = Demo::builder()
        .args(lun("size=256MiB"))
        .args(["--chap", &initiators, "--mutual-chap", &targets])
        .start();
    guest
        .job(&demo, "FS=ext4 MB=8 EXPECT='username=initiator username_in=target'")
        .env("CHAP_USER", "initiator")
        .env("CHAP_PASS", "the initiator's word")
        .env("CHAP_USER_IN", "target")
        .env("CHAP_PASS_IN", "the target's own word")
        .run();
}

struct Guest;

impl Guest {
    fn available() -> Option<Self> {
        let needs = [guest::NEEDS, &[Need::Program("mkfs.ext4"), Need::Program("iscsiadm")]].concat();
        available(&needs).then_some(Self)
    }

    fn job(&self, demo: &Demo, arguments: &str) -> Script {
        guest::job("initiator", &[])
            .env("PORTALS", demo.portal_in_guest())
            .env("IQN", demo.target())
            .env("JOB_ARGS", arguments)
    }
}
