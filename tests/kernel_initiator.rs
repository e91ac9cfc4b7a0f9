//! The Linux kernel's initiator, in a small guest: discovery, login, file systems, checksums, logout, login, fsck.

mod support;

use std::fs::{self, DirEntry};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use support::demo::{Demo, lun, write_secret};
use support::needs::{Need, available};
use support::requests::Requests;
use support::script::Script;
use support::{guest, wait};

/// Time for the guest's commands.
const LIMIT: Duration = Duration::from_secs(260);

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
fn digests_guard_writes_of_all_sizes_in_large_bursts() {
    let Some(guest) = Guest::available().filter(|_| available(&[Need::Program("fio")])) else { return };
    let demo = Demo::start(lun("size=256MiB"));
    let settings = "node.conn[0].iscsi.HeaderDigest=CRC32C;node.conn[0].iscsi.DataDigest=CRC32C;\
                    node.session.iscsi.InitialR2T=No";
    let expected = "EXPECT='HeaderDigest=CRC32C DataDigest=CRC32C ImmediateData=Yes FirstBurstLength=262144 MaxBurstLength=1048576'";
    let job = guest.job_with("initiator", &["fio"], &demo).env("ISCSI_CONF", settings);
    let output = job.env("JOB_ARGS", format!("FS=ext4 MB=16 FIO=48M {expected}")).run();
    assert!(output.contains("48M written and verified"), "{output}");
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

#[test]
fn every_command_and_page_is_used_and_space_is_given_back() {
    let needs = [Need::Program("sg_opcodes"), Need::Program("fio"), Need::Program("blkdiscard")];
    let Some(guest) = Guest::available().filter(|_| available(&needs)) else { return };
    let demo = Demo::start(lun("size=256MiB"));
    let requests = Requests::open();
    let job = guest.job_with("commands", &["sg3", "fio"], &demo).env("ASK", requests.address_in_guest());
    let used_mib = || allocated_bytes(&demo.directory().join("objects")) >> 20;
    let output = requests.serve(job.start(), LIMIT, |request| match request {
        // the file system's own tables, which may be in as many objects
        "see little space used" => wait::until(request, LIMIT, || (used_mib() < 24).then_some(())),
        "see 64 MiB used" => wait::until(request, LIMIT, || (used_mib() >= 64).then_some(())),
        other => panic!("it asks for {other:?}"),
    });
    assert!(output.contains("PASS"), "{output}");
}

/// Space that the files below a directory take of the disk.
fn allocated_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("a directory can be listed");
    let bytes = |entry: DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => allocated_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        // it was removed meanwhile
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(bytes).sum()
}

struct Guest;

impl Guest {
    fn available() -> Option<Self> {
        let needs = [guest::NEEDS, &[Need::Program("mkfs.ext4"), Need::Program("iscsiadm")]].concat();
        available(&needs).then_some(Self)
    }

    fn job(&self, demo: &Demo, arguments: &str) -> Script {
        self.job_with("initiator", &[], demo).env("JOB_ARGS", arguments)
    }

    fn job_with(&self, name: &str, parts: &[&str], demo: &Demo) -> Script {
        guest::job(name, parts).env("PORTALS", demo.portal_in_guest()).env("IQN", demo.target())
    }
}
