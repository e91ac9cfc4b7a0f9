//! Secret files: who may read them, what is in them, and that nothing shows it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use huntaway_config::{Config, Report, Secrets, parse, read_secrets};
use tempfile::TempDir;

/// What must not be seen.
const SECRET: &str = "correct-horse-battery";

const TEXT: &str = "\
node: {name: a, data_directories: [disk], portals: [{listen: 127.0.0.1:0}]}
targets:
- iqn: iqn.2026-11.net.example:vm
  initiators: ['*']
  chap: {user: vm, secret_file: vm}
  mutual_chap: {user: huntaway, secret_file: target}
";

struct Files {
    directory: TempDir,
    config: Config,
}

impl Files {
    /// A configuration whose two secret files are good.
    fn new() -> Self {
        let config = parse("f", TEXT).expect("the test's files can be used").config;
        let files = Self { directory: tempfile::tempdir().expect("the test's files can be used"), config };
        files.write("vm", SECRET.as_bytes(), 0o600);
        files.write("target", b"another-secret-of-a-target\n", 0o640);
        files
    }

    fn write(&self, name: &str, content: &[u8], mode: u32) {
        let path = self.path().join(name);
        fs::write(&path, content).expect("the test's files can be used");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("the test's files can be used");
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn read(&self) -> Result<Secrets, Report> {
        read_secrets(&self.config, self.path())
    }

    /// The report, without the directory's name.
    fn refused(&self) -> String {
        let report = self.read().expect_err("it is refused").to_string();
        assert!(!report.contains(SECRET), "{report}");
        report.replace(&format!("{}/", self.path().display()), "")
    }
}

#[test]
fn the_line_of_a_file_is_the_secret_of_its_accounts() {
    for end in ["", "\n", "\r\n"] {
        let files = Files::new();
        files.write("vm", format!("{SECRET}{end}").as_bytes(), 0o600);
        let secrets = files.read().unwrap();
        let target = &files.config.targets[0];
        assert_eq!(secrets.of(target.chap.chap.as_ref().unwrap()), Some(SECRET.as_bytes()));
        assert_eq!(
            secrets.of(target.chap.mutual_chap.as_ref().unwrap()),
            Some(&b"another-secret-of-a-target"[..])
        );
    }
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", Files::new().read().unwrap());
    assert!(shown.contains("***") && shown.contains("vm") && !shown.contains(SECRET), "{shown}");
}

#[test]
fn a_file_that_others_could_use_is_refused_at_its_line() {
    for mode in [0o604, 0o602, 0o601, 0o620, 0o644, 0o660, 0o666, 0o777] {
        let files = Files::new();
        files.write("vm", SECRET.as_bytes(), mode);
        let expected = format!(
            "f:5:33: error: vm has mode {mode:04o}: others than the node could use its secret\n  5 |   chap: {{user: vm, secret_file: vm}}\n    \
             |                                 ^^\n  chmod 600 vm (or 640: its group may read it)\n\n1 error"
        );
        assert_eq!(files.refused(), expected);
    }
    for mode in [0o600, 0o640, 0o400, 0o440, 0o700] {
        let files = Files::new();
        files.write("vm", SECRET.as_bytes(), mode);
        files.read().unwrap_or_else(|report| panic!("{mode:o}: {report}"));
    }
}

#[test]
fn a_file_without_one_good_line_is_refused() {
    let long = [b'x'; 256];
    let cases: [(&[u8], &str); 7] = [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"elevenbytes\n", "11 bytes are too easily guessed"),
        (b"two-lines-of\nsecrets-here\n", "more than one line"),
        (b"a-good-secret\n\n", "more than one line"),
        (&long, "its line is too long"),
        (&[b'y'; 100_000], "its line is too long"),
    ];
    for (content, reason) in cases {
        let files = Files::new();
        files.write("vm", content, 0o600);
        let report = files.refused();
        assert!(report.contains(reason) && report.contains("openssl rand -hex 16 > vm"), "{report}");
    }
    let files = Files::new();
    files.write("vm", &[b'z'; 255], 0o600);
    files.read().unwrap();
}

#[test]
fn what_is_not_a_file_is_refused() {
    let files = Files::new();
    fs::remove_file(files.path().join("vm")).unwrap();
    assert!(files.refused().contains("cannot read vm: No such file"));
    fs::create_dir(files.path().join("vm")).unwrap();
    assert!(files.refused().contains("vm is not a regular file"));
}

#[test]
fn every_file_is_looked_at() {
    let files = Files::new();
    files.write("vm", b"short", 0o600);
    files.write("target", b"a-good-secret", 0o666);
    assert!(files.refused().ends_with("2 errors"));
}

#[test]
fn one_secret_for_both_directions_is_refused() {
    let files = Files::new();
    files.write("target", SECRET.as_bytes(), 0o600);
    let report = files.refused();
    assert!(report.starts_with("f:6:46: error: `mutual_chap` has the secret of a `chap`"), "{report}");
}
