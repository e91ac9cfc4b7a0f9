//! Configurations: any text is read or refused, soon, alike each time, and with a report that can be printed.

use huntaway_config::{Report, Span, parse};

/// Longest report, in bytes: nobody reads more.
const MAX_REPORT_BYTES: usize = 200_000;

/// Takes the text of a configuration.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match parse("f", &text) {
        Ok(checked) => {
            assert!(!checked.warnings.has_errors());
            check(&checked.warnings, &text);
            let again = parse("f", &text).expect("what was taken once is taken again");
            assert_eq!(format!("{:?}", again.config), format!("{:?}", checked.config));
        }
        Err(report) => {
            assert!(report.has_errors());
            assert!(report.to_string().starts_with("f:"), "a report names the file");
            check(&report, &text);
        }
    }
}

fn check(report: &Report, text: &str) {
    let printed = report.to_string();
    assert!(!printed.is_empty() && printed.len() < MAX_REPORT_BYTES, "{} bytes", printed.len());
    let control = printed.chars().find(|character| character.is_control() && !"\n\t".contains(*character));
    assert_eq!(control, None, "what is printed on a terminal is text");
    for problem in report.problems() {
        assert!(!problem.message.is_empty() && !problem.cure.is_empty());
        let Span { start, end } = problem.span;
        assert!(start <= end && end <= text.len(), "{:?} of {} bytes", problem.span, text.len());
    }
}
