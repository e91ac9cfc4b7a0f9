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
use support::demo::{Demo, lun};
use support::needs::{Need, available};
use support::script::Script;

/// Time for all tests of the suite on one LUN; a test that hangs takes a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// A fully provisioned LUN, as most targets have.
#[test]
fn thick_lun() {
    check("thick", "size=128MiB,thin=false,physical_block_size=512");
}

/// A thin LUN whose physical blocks are larger than its logical blocks.
#[test]
fn thin_lun_with_4_kib_physical_blocks() {
    check("thin", "size=128MiB,thin=true,physical_block_size=4096");
}

/// The suite's test of write protection, which it skips on other LUNs. It tries commands that are not offered yet, too.
#[test]
fn read_only_lun() {
    let good =
        |row: &Row| row.result == "PASS" || (row.result == "SKIP" && row.said.contains("not implemented"));
    check_some("size=128MiB,read_only=true", "\\.ReadOnly\\.", good);
}

/// The suite's tests of GET LBA STATUS go wrong with larger physical blocks.
#[test]
fn thin_lun_with_512_byte_physical_blocks() {
    check_some("size=128MiB,physical_block_size=512", "\\.GetLBAStatus\\.", |row| row.result == "PASS");
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
    let suites = ["thick", "thin"].map(|name| Suite::parse(name, &read(&results_file(name))));
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

/// Runs the suite on a LUN with these options, through two portals, and compares with the committed results.
fn check(name: &'static str, options: &str) {
    if !available(&[Need::Program("iscsi-test-cu")]) {
        return;
    }
    let demo = Demo::builder().args(lun(options)).portals(2).start();
    let urls = [demo.url_through(0, 0), demo.url_through(1, 0)];
    let output = Script::new("conformance/suite").args(urls).limit(LIMIT).run();
    let suite = Suite::parse(name, &output);
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
