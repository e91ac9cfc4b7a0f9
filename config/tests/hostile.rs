//! Files that nobody means: whatever stands in them, `parse` answers, soon, and with a report that can be printed.

use std::time::{Duration, Instant};

use huntaway_config::{EXAMPLE, MAX_CONFIG_BYTES, Report, parse};
use proptest::prelude::{any, prop};
use proptest::proptest;

/// Longest that any file may take, on a busy machine and without optimization.
const PATIENCE: Duration = Duration::from_secs(30);

/// Parses and prints. A report names its file, and has an end.
fn answer(text: &str) -> Result<(), Report> {
    let begun = Instant::now();
    let answer = parse("f", text).map(|checked| assert!(!checked.warnings.to_string().is_empty()));
    if let Err(report) = &answer {
        let printed = report.to_string();
        assert!(report.has_errors() && printed.starts_with("f:"), "{printed}");
        assert!(printed.len() < 200_000, "{} bytes are not read by anybody", printed.len());
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    answer
}

fn refused(text: &str) -> String {
    answer(text).expect_err("it is refused").to_string()
}

/// A file that is right but for `targets`.
fn with_targets(targets: &str) -> String {
    format!(
        "node: {{name: a, data_directories: [disk], portals: [{{listen: 127.0.0.1:0}}]}}\ntargets:\n{targets}"
    )
}

#[test]
fn a_file_that_is_too_long_is_not_looked_at() {
    assert!(refused(&"#".repeat(MAX_CONFIG_BYTES + 1)).contains("is this the right file?"));
    answer(&format!("{EXAMPLE}{}", "#\n".repeat((MAX_CONFIG_BYTES - EXAMPLE.len()) / 2))).unwrap();
}

#[test]
fn aliases_of_aliases_do_not_multiply() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", "));
    }
    assert!(refused(&bomb).contains("this file says too much"));
}

#[test]
fn nesting_ends_somewhere() {
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), "? ".repeat(100_000)] {
        refused(&text);
    }
    let chain: String = (1..1000).map(|level| format!("- &a{level} [*a{}]\n", level - 1)).collect();
    assert!(refused(&format!("- &a0 [x]\n{chain}")).contains("this file says too much"));
}

#[test]
fn a_mistake_in_each_line_is_reported_in_part() {
    let report = refused(&"key: value\n".repeat(60_000));
    assert!(report.contains("more, not shown") && report.ends_with("60001 errors"), "{report}");
}

#[test]
fn many_entries_are_compared_in_bearable_time() {
    let patterns: String = (0..256).map(|n| format!("    - iqn.*a*a*a*a*a*a*b{n}\n")).collect();
    let target = |n: usize| {
        format!("- iqn: iqn.2026-11.net.example:{n}\n  initiators:\n{patterns}  luns: [{{lun: 0, vdi: x}}]\n")
    };
    answer(&with_targets(&(0..200).map(target).collect::<String>())).unwrap();
    let luns: String = (0..256).map(|n| format!("  - {{lun: {n}, vdi: shared}}\n")).collect();
    let target = |n: usize| {
        format!(
            "- iqn: iqn.2026-11.net.example:{n}\n  initiators: ['iqn.2026-11.net.example:{n}']\n  luns:\n{luns}"
        )
    };
    answer(&with_targets(&(0..100).map(target).collect::<String>())).unwrap();
    let report = answer(&with_targets(&"- {}\n".repeat(2000))).expect_err("there are too many");
    assert!(report.problems().iter().any(|problem| problem.message.contains("more than 1024")));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = answer(&text);
    }

    #[test]
    fn no_text_of_yaml_marks_makes_it_panic(text in "[-:?,\\[\\]{}&*!|>'\"%@`#~a\u{e9}\n\t\r 0<]{0,60}") {
        let _ = answer(&text);
    }

    #[test]
    fn no_change_of_the_example_makes_it_panic(
        changes in prop::collection::vec((0..EXAMPLE.len(), any::<u8>(), 0..3_u8), 1..8)
    ) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for (place, byte, kind) in changes {
            let place = place.min(bytes.len() - 1);
            match kind {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => drop(bytes.drain(place..(place + usize::from(byte % 32) + 1).min(bytes.len() - 1).max(place))),
            }
        }
        let _ = answer(&String::from_utf8_lossy(&bytes));
    }
}
