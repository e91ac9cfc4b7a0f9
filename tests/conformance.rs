//! libiscsi's conformance suite gives the results that are committed in `tests/conformance/*.tsv`, and those are good enough.
//! `tests/conformance/update` runs this to write them anew, with their summary `tests/CONFORMANCE.md`.

mod support;

#[path = "conformance/report.rs"]
mod report;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use report::{Row, Suite, beats_tgt, complaints, parse, summary};
use support::demo::{Demo, lun, write_secret};
use support::needs::{Need, available};
use support::script::Script;

/// Time for all tests of the suite on one LUN; a test that hangs takes a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// A secret of CHAP.
const SECRET: &str = "correct-horse-battery";

/// A kind of LUN that the whole suite runs on.
struct Variant {
    name: &'static str,
    options: &'static str,
    /// Who must log in by CHAP. Names that begin like numbers are names.
    user: Option<&'static str>,
    /// Only the suite's tests of write protection write.
    read_only: bool,
}

const VARIANTS: [Variant; 3] = [
    Variant {
        name: "thick",
        options: "size=64MiB,thin=false,physical_block_size=512",
        user: None,
        read_only: false,
    },
    Variant {
        name: "thin",
        options: "size=64MiB,thin=true,physical_block_size=4096",
        user: Some("0xanna"),
        read_only: false,
    },
    Variant {
        name: "read-only",
        options: "size=64MiB,read_only=true",
        user: Some("0banna"),
        read_only: true,
    },
];

/// A fully provisioned LUN, as most targets have.
#[test]
fn thick_lun() {
    check(&VARIANTS[0]);
}

/// A thin LUN whose physical blocks are larger than its logical blocks, with CHAP.
#[test]
fn thin_lun_with_4_kib_physical_blocks() {
    check(&VARIANTS[1]);
}

/// A LUN that initiators may only read, with CHAP.
#[test]
fn read_only_lun() {
    check(&VARIANTS[2]);
}

/// The suite's tests of GET LBA STATUS go wrong with larger physical blocks.
#[test]
fn thin_lun_with_512_byte_physical_blocks() {
    check_some("size=64MiB,physical_block_size=512", "\\.GetLBAStatus\\.", |row| row.result == "PASS");
}

/// Runs the tests whose name matches, on a LUN with these options; all must be good.
fn check_some(options: &str, tests: &str, good: impl Fn(&Row) -> bool) {
    if !available(&[Need::Program("iscsi-test-cu")]) {
        return;
    }
    let demo = Demo::start(lun(options));
    let output = Script::new("conformance/suite").args([demo.url(0)]).env("ONLY", tests).limit(LIMIT).run();
    let rows = parse(&output);
    assert!(!rows.is_empty() && rows.iter().all(good), "{output}");
}

#[test]
fn the_summary_is_of_the_committed_results() {
    let suites = VARIANTS.map(|Variant { name, .. }| Suite::parse(name, &read(&results_file(name))));
    let file = directory().with_file_name("CONFORMANCE.md");
    let summary = summary(&suites);
    if is_update() {
        fs::write(&file, &summary).unwrap();
    }
    assert!(read(&file) == summary, "{} is out of date: run tests/conformance/update", file.display());
    let complaints: Vec<String> = suites.iter().flat_map(complaints).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(beats_tgt(&suites), "too few tests pass");
}

/// Runs the suite on a LUN through two portals, and compares with the committed results.
fn check(variant: &Variant) {
    let Variant { name, options, user, read_only } = *variant;
    if !available(&[Need::Program("iscsi-test-cu")]) {
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary directory can be made");
    let secret = scratch.path().join("secret");
    write_secret(&secret, SECRET);
    let mut builder = Demo::builder().args(lun(options)).portals(2);
    if let Some(user) = user {
        builder = builder.args(["--chap".to_owned(), format!("{user}:{}", secret.display())]);
    }
    let demo = builder.start();
    let account = user.map_or_else(String::new, |user| format!("{user}%{SECRET}@"));
    let urls =
        [0, 1].map(|portal| demo.url_through(portal, 0).replace("iscsi://", &format!("iscsi://{account}")));
    let read_only = if read_only { "1" } else { "" };
    let suite = Script::new("conformance/suite").args(urls).env("READ_ONLY", read_only);
    let suite = Suite::parse(name, &suite.limit(LIMIT).run());
    if is_update() {
        fs::write(results_file(name), suite.tsv()).expect("tests/conformance is writable");
    }
    let expected = Suite::parse(name, &read(&results_file(name)));
    let differences = differences(&expected.rows, &suite.rows);
    assert!(differences.is_empty(), "{name}: not as expected:\n{}", differences.join("\n"));
}

/// One line for each test whose result is not the expected one.
fn differences(expected: &[Row], rows: &[Row]) -> Vec<String> {
    let describe = |row: Option<&Row>| match row {
        Some(row) => format!("{} {}", row.result, row.said).trim().to_owned(),
        None => "no such test".to_owned(),
    };
    let mut tests: Vec<&str> = expected.iter().chain(rows).map(|row| row.test.as_str()).collect();
    tests.sort_unstable();
    tests.dedup();
    let find = |rows: &[Row], test: &str| rows.iter().find(|row| row.test == test).cloned();
    tests
        .into_iter()
        .filter_map(|test| {
            let (was, is) = (find(expected, test), find(rows, test));
            let same = was.as_ref().map(|row| &row.result) == is.as_ref().map(|row| &row.result);
            (!same).then(|| {
                format!("{test}: expected {}, got {}", describe(was.as_ref()), describe(is.as_ref()))
            })
        })
        .collect()
}

fn is_update() -> bool {
    env::var("HUNTAWAY_UPDATE_CONFORMANCE").is_ok_and(|value| value == "1")
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

fn results_file(name: &str) -> PathBuf {
    directory().join(name).with_extension("tsv")
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
