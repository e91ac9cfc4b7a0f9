//! Judging the suite's results, and telling them to a reader.

use std::collections::BTreeMap;
use std::fmt::Write;

/// More tests must pass than pass on tgt 1.0.85 (of 230).
const PASSES_TO_BEAT: usize = 161;

/// Families of tests of commands that are not offered yet, and why. Every other family must not fail.
const NOT_OFFERED: [(&str, &str); 7] = [
    ("ExtendedCopy", "EXTENDED COPY is not offered yet"),
    ("Prin", "persistent reservations are not offered yet"),
    ("Prout", "persistent reservations are not offered yet"),
    ("ReceiveCopyResults", "EXTENDED COPY is not offered yet"),
    ("Reserve6", "reservations are not offered yet"),
    ("Sanitize.Reservations", "reservations are not offered yet"),
    ("PreventAllow", "a disk has no medium to remove"),
];

/// Tests that are wrong themselves in Debian 12's libiscsi 1.19, on which kind of LUN, and how. Their result says nothing.
const WRONG_TESTS: [(&str, &str, &str); 6] = [
    ("iSCSITMF.LUNResetSimpleAsync", "", "the test looks for the answer before it has sent the request"),
    (
        "Sanitize.Reset",
        "",
        "the test expects that sanitizing takes longer than five seconds, and no longer than a minute",
    ),
    ("WriteVerify10.Dpo", "read-only", "the test writes though it is told not to"),
    ("WriteVerify12.Dpo", "read-only", "the test writes though it is told not to"),
    ("WriteVerify16.Dpo", "read-only", "the test writes though it is told not to"),
    (
        "GetLBAStatus.UnmapSingle",
        "thin",
        "the test expects the status to begin behind the LBA that it asks for; it passes with 512-byte physical blocks",
    ),
];

/// What the suite says when a test of an offered command does not apply, and why it is so.
const DOES_NOT_APPLY: [(&str, &str); 9] = [
    ("fully provisioned", "a thick LUN cannot be unmapped; the thin LUN runs it"),
    ("UNMAP is not implemented", "a thick LUN cannot be unmapped; the thin LUN runs it"),
    ("not write-protected", "the read-only LUN runs it"),
    ("--dataloss flag is not set", "a read-only LUN cannot be written to; the other LUNs run it"),
    ("--allow-sanitize flag is not set", "a read-only LUN cannot be sanitized; the other LUNs run it"),
    ("CRYPTO_ERASE is not implemented", "there are no keys whose loss would erase anything"),
    ("BLOCK_ERASE is not implemented", "a thick LUN cannot be unmapped; the thin LUN runs it"),
    ("not removable", "a disk has no medium to remove"),
    ("does not support 0-blocks", "block limits say that WRITE SAME of 0 blocks is refused (WSNZ=1)"),
];

/// One test of the suite.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// `Suite.Test`.
    pub(crate) test: String,
    /// PASS, SKIP, FAIL, HANG or CRASH; VOID if the test itself is wrong.
    pub(crate) result: String,
    /// What it said, if it did not pass.
    pub(crate) said: String,
}

/// The results on one LUN.
pub(crate) struct Suite {
    /// The LUN's kind.
    pub(crate) name: &'static str,
    /// All tests.
    pub(crate) rows: Vec<Row>,
}

impl Suite {
    /// Reads what `tests/conformance/suite` printed for a LUN, or what is committed of it.
    pub(crate) fn parse(name: &'static str, tsv: &str) -> Self {
        let mut rows = parse(tsv);
        for row in &mut rows {
            let wrong = WRONG_TESTS.iter().find(|(test, lun, _)| row.test == *test && name.contains(lun));
            if let Some((_, _, how)) = wrong {
                row.result = "VOID".to_owned();
                row.said = (*how).to_owned();
            }
        }
        Self { name, rows }
    }

    /// The text that [`Suite::parse`] reads.
    pub(crate) fn tsv(&self) -> String {
        self.rows.iter().map(|row| format!("{}\t{}\t{}\n", row.test, row.result, row.said)).collect()
    }
}

/// Reads lines of test, result and what the test said.
pub(crate) fn parse(tsv: &str) -> Vec<Row> {
    let row = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        Row {
            test: fields.next().unwrap_or_default(),
            result: fields.next().unwrap_or_default(),
            said: fields.next().unwrap_or_default(),
        }
    };
    tsv.lines().filter(|line| !line.is_empty()).map(row).collect()
}

/// What is not good enough: a failure of a command that is offered, or a skip without a reason.
pub(crate) fn complaints(suite: &Suite) -> Vec<String> {
    let mut complaints = Vec::new();
    for row in &suite.rows {
        let acceptable = match row.result.as_str() {
            "PASS" => true,
            _ => reason(row).is_some(),
        };
        if !acceptable {
            complaints.push(format!("{}: {} {} {}", suite.name, row.test, row.result, row.said));
        }
    }
    complaints
}

/// True if some LUN passes more tests than tgt does.
pub(crate) fn beats_tgt(suites: &[Suite]) -> bool {
    suites.iter().any(|suite| count(&suite.rows, "PASS") > PASSES_TO_BEAT)
}

/// Why a test may be without PASS; None if it may not.
fn reason(row: &Row) -> Option<&'static str> {
    if row.result == "VOID" {
        return Some("the test itself is wrong");
    }
    let not_offered = NOT_OFFERED.iter().find(|(family, _)| row.test.starts_with(family));
    let does_not_apply =
        DOES_NOT_APPLY.iter().find(|(text, _)| row.result == "SKIP" && row.said.contains(text));
    not_offered.or(does_not_apply).map(|(_, why)| *why)
}

fn count(rows: &[Row], result: &str) -> usize {
    rows.iter().filter(|row| row.result == result).count()
}

/// The text of `tests/CONFORMANCE.md`.
pub(crate) fn summary(suites: &[Suite]) -> String {
    let mut text = String::from(
        "# Conformance\n\n\
         Results of libiscsi's suite (`iscsi-test-cu` of Debian 12's package libiscsi-bin), one process per test, through two\n\
         portals. Written by `tests/conformance/update`; `cargo test --test conformance` compares. Each result is in\n\
         `tests/conformance/*.tsv`: *thick* is a fully provisioned LUN, *thin* a thin one with 4 KiB physical blocks and CHAP (a\n\
         user whose name begins with 0x), *read-only* one that cannot be written to, with CHAP (0b); there only the tests of write\n\
         protection try to write. A test that says it could not check something is a SKIP here (the suite itself counts it as\n\
         passed); a test that is wrong itself is VOID.\n\n",
    );
    write_totals(&mut text, suites);
    write_families(&mut text, suites);
    for suite in suites {
        write_exceptions(&mut text, suite);
    }
    text
}

const RESULTS: [&str; 6] = ["PASS", "SKIP", "FAIL", "HANG", "CRASH", "VOID"];

fn write_totals(text: &mut String, suites: &[Suite]) {
    text.push_str(
        "| LUN | tests | PASS | SKIP | FAIL | HANG | CRASH | VOID |\n|---|---|---|---|---|---|---|---|\n",
    );
    for suite in suites {
        let counts = RESULTS.map(|result| count(&suite.rows, result).to_string()).join(" | ");
        let _ = writeln!(text, "| {} | {} | {counts} |", suite.name, suite.rows.len());
    }
}

fn write_families(text: &mut String, suites: &[Suite]) {
    text.push_str("\n## By family: passed of all\n\n| family |");
    suites.iter().for_each(|suite| text.push_str(&format!(" {} |", suite.name)));
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(suites.len())));
    let mut families: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    for (index, suite) in suites.iter().enumerate() {
        for row in &suite.rows {
            let family = row.test.split('.').next().unwrap_or(&row.test);
            let counts = families.entry(family).or_insert_with(|| vec![(0, 0); suites.len()]);
            counts[index].0 += usize::from(row.result == "PASS");
            counts[index].1 += 1;
        }
    }
    for (family, counts) in families {
        let cells: Vec<String> = counts.iter().map(|(passed, all)| format!("{passed} of {all}")).collect();
        let _ = writeln!(text, "| {family} | {} |", cells.join(" | "));
    }
}

fn write_exceptions(text: &mut String, suite: &Suite) {
    let _ = write!(
        text,
        "\n## Not passed: {}\n\n| test | result | what it says | why |\n|---|---|---|---|\n",
        suite.name
    );
    for row in suite.rows.iter().filter(|row| row.result != "PASS") {
        let said = row.said.replace("[SKIPPED] ", "").replace('|', "\\|");
        let _ = writeln!(
            text,
            "| {} | {} | {said} | {} |",
            row.test,
            row.result,
            reason(row).unwrap_or_default()
        );
    }
}
