//! What `huntaway export` prints is understood by whom it is for: QEMU, libvirt, the kernel's initiator, multipath and
//! Kubernetes; and there is no secret in it.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::demo::{Demo, huntaway, lun, refused};
use support::guest;
use support::needs::{Need, available, skip};
use support::script::Script;
use tempfile::TempDir;

const SECRET: &str = "a secret that is planted";
const SECRET_IN: &str = "the target's planted secret";
const WRITABLE: &str = "the temporary directory is writable";
const CLASSIC: &[Need] = &[
    Need::Program("libvirtd"),
    Need::Program("virsh"),
    Need::File("/usr/lib/x86_64-linux-gnu/libvirt/storage-backend/libvirt_storage_backend_iscsi.so"),
];
const CONSUMERS: [&str; 5] = ["iscsiadm", "libvirt", "qemu", "multipath", "csi-pv"];

/// A demo with CHAP, and a configuration that declares just that.
struct Fixture {
    demo: Demo,
    directory: TempDir,
}

impl Fixture {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let secret = |name: &str, secret: &str| {
            let file = directory.path().join(name);
            fs::write(&file, format!("{secret}\n")).expect(WRITABLE);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect(WRITABLE);
            file
        };
        let (chap, mutual) = (secret("chap", SECRET), secret("mutual", SECRET_IN));
        let demo = Demo::builder()
            .args(lun("size=64MiB"))
            .args(["--chap".into(), format!("alice:{}", chap.display())])
            .args(["--mutual-chap".into(), format!("target:{}", mutual.display())])
            .start();
        let fixture = Self { demo, directory };
        fs::write(fixture.config(), configuration(&fixture.demo)).expect(WRITABLE);
        fixture
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("huntaway.yaml")
    }

    fn export(&self, consumer: &str, options: &[&str]) -> String {
        let output = huntaway()
            .args(["export", consumer, self.demo.target(), "--config"])
            .arg(self.config())
            .args(options)
            .output()
            .expect("huntaway can be started");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("it prints text")
    }

    /// What is exported, in a file.
    fn exported(&self, consumer: &str, options: &[&str]) -> PathBuf {
        let file = self.directory.path().join(consumer);
        fs::write(&file, self.export(consumer, options)).expect(WRITABLE);
        file
    }

    fn secret_file(&self) -> PathBuf {
        self.directory.path().join("chap")
    }
}

fn configuration(demo: &Demo) -> String {
    format!(
        "node:\n  name: a\n  data_directories: [data]\n  portals:\n    \
         - {{name: one, listen: '0.0.0.0:3260', advertise: '{portal}'}}\n    \
         - {{name: two, listen: '192.0.2.2:3262'}}\n    \
         - {{name: all, listen: '0.0.0.0:3261'}}\n\
         cluster: {{name: lab}}\n\
         targets:\n  \
         - iqn: {target}\n    portals: [one]\n    initiators: ['*']\n    \
         chap: {{user: alice, secret_file: chap}}\n    mutual_chap: {{user: target, secret_file: mutual}}\n    \
         luns: [{{lun: 0, vdi: demo-0, size: 64MiB}}]\n  \
         - iqn: iqn.2026-11.net.example:mixed\n    initiators:\n      \
         - {{name: 'iqn.2026-11.net.example:a', luns: [1], chap: {{user: bob, secret_file: chap}}}}\n      \
         - 'iqn.2026-11.net.example:*'\n    \
         luns: [{{lun: 1, vdi: one, size: 64MiB}}, {{lun: 2, vdi: two}}]\n",
        portal = demo.portal(),
        target = demo.target(),
    )
}

#[test]
fn no_secret_is_printed() {
    let fixture = Fixture::start();
    for consumer in CONSUMERS {
        let text = fixture.export(consumer, &[]);
        assert!(!text.contains("planted"), "{consumer}: {text}");
    }
}

#[test]
fn what_cannot_be_exported_is_said_with_what_can() {
    let fixture = Fixture::start();
    let config = fixture.config();
    let config = config.to_str().unwrap();
    let mixed = "iqn.2026-11.net.example:mixed";
    let demo = fixture.demo.target();
    let cases: [(&[&str], &str); 9] = [
        (&["nfs", mixed], "possible values: iscsiadm, libvirt, qemu, multipath, csi-pv"),
        (
            &["qemu", "iqn.2026-11.net.example:x"],
            "there are iqn.2026-11.dev.huntaway:demo, iqn.2026-11.net.example:mixed",
        ),
        (&["qemu", demo, "--lun", "7"], "has no LUN 7 for this initiator; there are 0"),
        (&["qemu", mixed], "say which with --initiator NAME"),
        (&["qemu", mixed, "--initiator", "iqn.2026-11.org.other:b"], "may not log in"),
        (
            &["qemu", mixed, "--initiator", "iqn.2026-11.net.example:b"],
            "write `advertise: HOST:PORT` in the file",
        ),
        (&["qemu", demo, "--portal", "three"], "neither a portal's name nor HOST:PORT"),
        (&["qemu", demo, "--type", "iscsi"], "for libvirt's pools only"),
        (
            &["csi-pv", mixed, "--initiator", "iqn.2026-11.net.example:b", "--portal", "two"],
            "the size of LUN 2 is not in the file",
        ),
    ];
    for (arguments, expected) in cases {
        let error = refused([&["export"], arguments, &["--config", config]].concat());
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

#[test]
fn the_initiator_decides_user_and_luns() {
    let fixture = Fixture::start();
    let output = |initiator: &str| {
        let arguments = ["export", "qemu", "iqn.2026-11.net.example:mixed", "--portal", "two", "--initiator"];
        let output =
            huntaway().args(arguments).args([initiator, "--config"]).arg(fixture.config()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let first = output("iqn.2026-11.net.example:A");
    assert!(first.contains("user=bob") && first.contains("lun=1") && !first.contains("lun=2"), "{first}");
    assert!(
        first.contains("portal=192.0.2.2:3262") && first.contains("initiator-name=iqn.2026-11.net.example:a")
    );
    let other = output("iqn.2026-11.net.example:b");
    assert!(!other.contains("user=") && other.contains("lun=1") && other.contains("lun=2"), "{other}");
}

#[test]
fn qemu_takes_the_options_and_the_url() {
    if !available(&[Need::QemuIscsi, Need::Program("qemu-io"), Need::Program("qemu-system-x86_64")]) {
        return;
    }
    let fixture = Fixture::start();
    let file = fixture.exported("qemu", &[]);
    Script::new("clients/recipe")
        .args([Path::new("qemu"), &file, &fixture.secret_file()])
        .limit(Duration::from_secs(120))
        .run();
}

#[test]
fn libvirt_takes_the_commands() {
    let needs = [
        Need::Root,
        Need::Program("libvirtd"),
        Need::Program("virsh"),
        Need::Program("unshare"),
        Need::File(
            "/usr/lib/x86_64-linux-gnu/libvirt/storage-backend/libvirt_storage_backend_iscsi-direct.so",
        ),
        Need::QemuIscsi,
    ];
    if !available(&needs) {
        return;
    }
    let fixture = Fixture::start();
    let file = fixture.exported("libvirt", &[]);
    Script::new("clients/libvirt-pool")
        .args(["127.0.0.1", &fixture.demo.port().to_string(), fixture.demo.target()])
        .env("RECIPE", file)
        .limit(Duration::from_secs(120))
        .run();
}

#[test]
fn libvirt_takes_the_commands_for_a_pool_of_the_kernels_initiator() {
    let needs = [guest::NEEDS, CLASSIC].concat();
    if !available(&needs) {
        return;
    }
    let fixture = Fixture::start();
    let commands =
        fixture.export("libvirt", &["--type", "iscsi", "--portal", &fixture.demo.portal_in_guest()]);
    let file = fixture.secret_file().display().to_string();
    let arguments = format!("RECIPE={} FILE={} SECRET={}", word(&commands), word(&file), word(SECRET));
    guest::job("libvirt-recipe", &["libvirt"])
        .env("IQN", fixture.demo.target())
        .env("JOB_ARGS", arguments)
        .run();
}

/// Text as one word of a shell.
fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[test]
fn the_kernels_initiator_logs_in_by_the_script() {
    let needs = [guest::NEEDS, &[Need::Program("mkfs.ext4"), Need::Program("iscsiadm")]].concat();
    if !available(&needs) {
        return;
    }
    let guest = guest::directory();
    let fixture = Fixture::start();
    let script = fixture.export("iscsiadm", &["--portal", &fixture.demo.portal_in_guest()]);
    let arguments = format!("RECIPE={} SECRET={} SECRET_IN={}", word(&script), word(SECRET), word(SECRET_IN));
    Script::new("clients/guest-run")
        .args([&guest])
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/jobs/recipe")])
        .env("IQN", fixture.demo.target())
        .env("JOB_ARGS", arguments)
        .env("LIMIT", "240")
        .limit(Duration::from_secs(260))
        .run();
}

#[test]
fn multipath_takes_the_section() {
    if !available(&[Need::Root, Need::Program("multipath"), Need::Program("unshare")]) {
        return;
    }
    let fixture = Fixture::start();
    let file = fixture.exported("multipath", &[]);
    let section = Script::new("clients/recipe").args([Path::new("multipath"), &file]).run();
    assert!(section.contains("path_grouping_policy \"multibus\""), "{section}");
    assert!(section.contains("fast_io_fail_tmo 5"), "{section}");
}

#[test]
fn kubernetes_takes_the_manifests() {
    if !available(&[Need::Program("python3")]) {
        return;
    }
    let pip = Script::program("python3").args(["-c", "import ensurepip"]).finish();
    if !pip.status.is_some_and(|status| status.success()) {
        return skip("python3 cannot make virtual environments");
    }
    let fixture = Fixture::start();
    let file = fixture.exported("csi-pv", &["--portal", "one", "--portal", "[2001:db8::1]:3260"]);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubernetes-validate");
    Script::new("clients/recipe")
        .args([Path::new("csi-pv"), &file, &directory])
        .limit(Duration::from_secs(180))
        .run();
}
