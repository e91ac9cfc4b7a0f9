//! The files of the repository that the rules look at.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::code::Code;

/// Directories whose name says that they are not ours, or not source.
const SKIPPED: [&str; 2] = ["target", "huntaway-demo"];

/// One Rust file.
pub(crate) struct Source {
    /// Relative to the repository.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) code: Code,
    /// The whole file is there for tests: in a `tests` or `benches` directory, or declared under `#[cfg(test)]`.
    pub(crate) is_test: bool,
}

impl Source {
    /// For each line whether it is test code.
    pub(crate) fn test_lines(&self) -> Vec<bool> {
        let mut lines = self.code.test_lines();
        if self.is_test {
            lines.fill(true);
        }
        lines
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files whose name ends in `suffix`, relative to the repository, sorted.
pub(crate) fn files(suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(root(), suffix, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no {suffix} below {}", root().display());
    found
}

fn collect(dir: &Path, suffix: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable directory") {
        let path = entry.expect("a readable directory").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if !name.starts_with('.') && !SKIPPED.contains(&&*name) {
                collect(&path, suffix, found);
            }
        } else if name.ends_with(suffix) {
            found.push(path.strip_prefix(root()).expect("below the root").to_owned());
        }
    }
}

pub(crate) fn read(path: &Path) -> String {
    let read = fs::read_to_string(root().join(path));
    read.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust files.
pub(crate) fn sources() -> Vec<Source> {
    let mut sources: Vec<Source> = files(".rs")
        .into_iter()
        .map(|path| {
            let text = read(&path);
            let in_test_dir = |part: &std::ffi::OsStr| part == "tests" || part == "benches";
            let is_test = path.parent().is_some_and(|dir| dir.iter().any(in_test_dir));
            Source { code: Code::of(&text), path, text, is_test }
        })
        .collect();
    let test_files: BTreeSet<PathBuf> = sources.iter().flat_map(declared_test_files).collect();
    for source in &mut sources {
        source.is_test |= source.path.ancestors().any(|path| test_files.contains(&path.with_extension("rs")));
    }
    sources
}

/// The files that `source` declares as modules of tests.
fn declared_test_files(source: &Source) -> Vec<PathBuf> {
    let dir = source.path.parent().unwrap_or(Path::new(""));
    let stem = source.path.file_stem().unwrap_or_default();
    let below =
        if stem == "lib" || stem == "main" || stem == "mod" { dir.to_owned() } else { dir.join(stem) };
    source.code.test_modules().iter().map(|name| below.join(format!("{name}.rs"))).collect()
}
