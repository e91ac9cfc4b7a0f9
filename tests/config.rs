//! `huntaway config`: what it accepts, what it says, with which status; and that every file we show to people is good.

mod support;

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use support::demo::huntaway;
use tempfile::TempDir;

/// A good file with a doubt and a secret file.
const TEXT: &str = "\
node: {name: a, data_directories: [disk], portals: [{listen: 127.0.0.1:0}]}
targets:
- iqn: iqn.2026-11.net.example:vm
  initiators: ['*', iqn.2026-11.net.example:never]
  chap: {user: vm, secret_file: secret}
  luns: [{lun: 0, vdi: root, size: 1GiB}]
";

/// What must not be printed.
const SECRET: &str = "correct-horse-battery";

/// A directory with [`TEXT`] and its secret.
fn files(mode: u32) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("the test's files can be used");
    let file = directory.path().join("huntaway.yaml");
    fs::write(&file, TEXT).expect("the test's files can be used");
    fs::write(directory.path().join("secret"), SECRET).expect("the test's files can be used");
    fs::set_permissions(directory.path().join("secret"), Permissions::from_mode(mode))
        .expect("the test's files can be used");
    (directory, file)
}

fn config(args: &[&str]) -> Output {
    huntaway().arg("config").args(args).output().expect("huntaway can be started")
}

fn check(file: &Path, options: &[&str]) -> Output {
    let file = file.to_str().expect("the path is text");
    config(&[&["check", file], options].concat())
}

/// Runs `huntaway config check -` on a text.
fn check_input(text: &str, options: &[&str]) -> Output {
    let mut command = huntaway();
    command.args(["config", "check", "-"]).args(options);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test's files can be used");
    child
        .stdin
        .take()
        .expect("the test's files can be used")
        .write_all(text.as_bytes())
        .expect("the test's files can be used");
    child.wait_with_output().expect("the test's files can be used")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("it prints text")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("it prints text")
}

#[test]
fn a_good_file_is_accepted_and_its_warnings_are_shown() {
    let (_directory, file) = files(0o600);
    let output = check(&file, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stdout(&output).ends_with("huntaway.yaml can be used: 1 target and 1 LUN\n"), "{output:?}");
    assert!(stderr(&output).contains(":4:21: warning: no initiator comes to this entry"), "{output:?}");
    assert!(stderr(&output).ends_with("1 warning\n"), "{output:?}");
}

#[test]
fn a_bad_file_is_refused_with_all_its_mistakes() {
    let (_directory, file) = files(0o600);
    fs::write(&file, TEXT.replace("1GiB", "1GB").replace("lun: 0", "lun: 300")).unwrap();
    let output = check(&file, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = stderr(&output);
    assert!(report.contains("huntaway.yaml:6:16: error: `300` is not a LUN"), "{report}");
    assert!(report.contains("huntaway.yaml:6:38: error: `1GB` is not a size"), "{report}");
    assert!(report.ends_with("2 errors, 1 warning\n") && output.stdout.is_empty(), "{report}");
}

#[test]
fn secret_files_are_checked_unless_told_otherwise() {
    let (_directory, file) = files(0o644);
    let output = check(&file, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = stderr(&output);
    assert!(
        report.contains(":5:33: error:") && report.contains("mode 0644") && report.contains("chmod 600"),
        "{report}"
    );
    assert!(report.ends_with("1 error, 1 warning\n") && !report.contains(SECRET), "{report}");
    assert!(check(&file, &["--no-secrets"]).status.success());
}

#[test]
fn a_secret_in_the_file_itself_is_not_printed() {
    let text = TEXT.replace("secret_file: secret", &format!("secret: {SECRET}"));
    let output = check_input(&text, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("write the secret into a file"), "{output:?}");
    assert!(!stderr(&output).contains(SECRET) && !stdout(&output).contains(SECRET), "{output:?}");
}

#[test]
fn standard_input_is_read_too() {
    assert!(check_input(TEXT, &["--no-secrets"]).status.success());
    let report = stderr(&check_input("node: [", &[]));
    assert!(report.starts_with("<standard input>:1:"), "{report}");
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_named() {
    let (directory, file) = files(0o600);
    let missing = check(&directory.path().join("other.yaml"), &[]);
    assert!(
        !missing.status.success() && stderr(&missing).contains("other.yaml: No such file"),
        "{missing:?}"
    );
    fs::write(&file, b"node: \xff").unwrap();
    assert!(stderr(&check(&file, &[])).contains("is not text in UTF-8 (byte 7)"));
}

#[test]
fn the_example_is_accepted() {
    let example = stdout(&config(&["example"]));
    let output = check_input(&example, &["--no-secrets"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn every_file_in_the_documentation_is_accepted() {
    let mut seen = 0;
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            let yaml = block.split("```").next().unwrap_or_default();
            let output = check_input(yaml, &["--no-secrets"]);
            assert!(output.status.success() && output.stderr.is_empty(), "{document}: {output:?}");
            seen += 1;
        }
    }
    assert!(seen > 0, "README shows a configuration");
}

#[test]
fn the_mistake_in_the_readme_is_reported_as_shown_there() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let yaml = readme.split("```yaml\n").nth(1).and_then(|block| block.split("```").next()).unwrap();
    let report = stderr(&check_input(&yaml.replace("cache:", "cahce:"), &["--no-secrets"]));
    let report = report.replace("<standard input>", "huntaway.yaml");
    let shown = report.rsplit_once("\n\n").unwrap().0;
    assert!(readme.contains(&format!("```\n{shown}\n```")), "README does not show this:\n{shown}");
}

#[test]
fn the_file_of_the_package_is_accepted() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/debian/huntaway.yaml");
    let output = check(&file, &[]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_schema_is_json() {
    let schema: serde_json::Value = serde_json::from_str(&stdout(&config(&["schema"]))).unwrap();
    assert_eq!(schema["required"], serde_json::json!(["node"]));
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"));
}
