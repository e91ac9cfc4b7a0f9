//! What people read about a bad file, word by word: each `bad/NAME.yaml` has its report in `bad/NAME.txt`, and files that
//! are only warned about are in `warned/`. After a change that is meant, `HUNTAWAY_BLESS=1 cargo test -p huntaway-config`
//! writes the reports anew; read the difference.

use std::fs;
use std::path::{Path, PathBuf};

use huntaway_config::{Report, parse};

/// Fewest bad files that must be there: a wrong folder would please every test.
const FEWEST_BAD_FILES: usize = 40;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the test's files can be used")
        .map(|entry| entry.expect("the test's files can be used").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// Compares the report of each file of a folder with the one that is expected.
fn check(folder: &str, report_of: impl Fn(&str, &str) -> Report) -> usize {
    let files = files(folder);
    let mut different = Vec::new();
    for file in &files {
        let name = file
            .file_name()
            .expect("the test's files can be used")
            .to_str()
            .expect("the test's files can be used");
        let text = fs::read_to_string(file).expect("the test's files can be used");
        let report = format!("{}\n", report_of(name, &text));
        let expected = file.with_extension("txt");
        if std::env::var_os("HUNTAWAY_BLESS").is_some() {
            fs::write(&expected, &report).expect("the test's files can be used");
        }
        if fs::read_to_string(&expected).unwrap_or_default() != report {
            different.push(format!("{}:\n{report}", file.display()));
        }
    }
    assert!(different.is_empty(), "not as in the .txt beside it:\n{}", different.join("\n"));
    files.len()
}

#[test]
fn each_bad_file_is_explained_as_expected() {
    let count = check("bad", |name, text| match parse(name, text) {
        Ok(_) => panic!("{name} is accepted"),
        Err(report) => report,
    });
    assert!(count >= FEWEST_BAD_FILES);
}

#[test]
fn each_doubtful_file_is_accepted_with_a_warning() {
    let count = check("warned", |name, text| {
        let checked = parse(name, text).unwrap_or_else(|report| panic!("{name} is refused: {report}"));
        assert!(!checked.warnings.is_empty(), "{name}");
        checked.warnings
    });
    assert!(count > 0);
}
