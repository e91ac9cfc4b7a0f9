//! The repository's own rules, as tests: which crate may know which, what the cores without I/O may use, how files look.
//!
//! Each rule is one test. What it finds it lists as `file:line: what is wrong`, with the cure below.

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/manifest.rs"]
mod manifest;
#[path = "tidy/tree.rs"]
mod tree;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use manifest::Manifest;
use tree::{Source, sources};

/// Longest file, in lines.
const MAX_FILE_LINES: usize = 600;

/// Longest function, in lines, from its `fn` to its closing brace.
const MAX_FUNCTION_LINES: usize = 70;

/// Which of our crates each crate may be built with. The binary puts the parts together, so it knows most of them.
const ARROWS: [(&str, &[&str]); 13] = [
    (
        "huntaway",
        &[
            "huntaway-config",
            "huntaway-gateway",
            "huntaway-ledger",
            "huntaway-membership",
            "huntaway-replica",
            "huntaway-store",
            "huntaway-wire",
            "iscsi-target-rs",
        ],
    ),
    ("huntaway-config", &[]),
    (
        "huntaway-fuzz",
        &[
            "huntaway-config",
            "huntaway-ledger",
            "huntaway-replica",
            "huntaway-scsi",
            "huntaway-store",
            "huntaway-wire",
            "iscsi-target-rs",
        ],
    ),
    ("huntaway-gateway", &["huntaway-ledger", "huntaway-scsi", "huntaway-wire", "iscsi-target-rs"]),
    ("huntaway-judge", &[]),
    ("huntaway-ledger", &["huntaway-wire"]),
    ("huntaway-membership", &["huntaway-ledger", "huntaway-wire"]),
    ("huntaway-replica", &["huntaway-wire"]),
    ("huntaway-scsi", &[]),
    (
        "huntaway-sim",
        &[
            "huntaway-gateway",
            "huntaway-judge",
            "huntaway-ledger",
            "huntaway-replica",
            "huntaway-store",
            "huntaway-wire",
        ],
    ),
    ("huntaway-store", &["huntaway-ledger", "huntaway-membership", "huntaway-replica", "huntaway-wire"]),
    ("huntaway-wire", &[]),
    ("iscsi-target-rs", &[]),
];

/// Crates without I/O: no sockets, files, clock or threads.
const WITHOUT_IO: [&str; 5] =
    ["gateway/iscsi", "gateway/scsi", "store/replica", "membership/ledger", "tests/judge"];

/// The same for parts of crates that have I/O elsewhere.
const PARTS_WITHOUT_IO: [&str; 9] = [
    "gateway/src/fencing",
    "gateway/src/order.rs",
    "store/wire/src/encoding",
    "store/wire/src/encoding.rs",
    "store/wire/src/frame",
    "store/wire/src/frame.rs",
    "store/wire/src/hello",
    "store/wire/src/hello.rs",
    "store/wire/src/key.rs",
];

/// What a crate without I/O may not be built with.
const IO_CRATES: [&str; 8] = ["tokio", "mio", "socket2", "hyper", "rustix", "libc", "getrandom", "tempfile"];

/// Modules of `std` that a crate without I/O does not use.
const IO_MODULES: [&str; 7] = ["env", "fs", "io", "net", "os", "process", "thread"];

/// Words that a crate without I/O does not use.
const IO_WORDS: [&str; 3] = ["tokio", "Instant", "SystemTime"];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] =
    ["common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"];

/// Fails with everything that was found, if anything was.
fn report(found: Vec<String>, cure: &str) {
    assert!(found.is_empty(), "\n{}\n{} found. Cure: {cure}\n", found.join("\n"), found.len());
}

/// `file:line: what`.
fn at(path: &Path, line: usize, what: impl std::fmt::Display) -> String {
    format!("{}:{line}: {what}", path.display())
}

/// Lists what `rule` finds in each Rust file: lines and what is wrong there.
fn in_sources(rule: impl Fn(&Source) -> Vec<(usize, String)>) -> Vec<String> {
    let found = |source: &Source| {
        let lines = rule(source).into_iter();
        lines.map(|(line, what)| at(&source.path, line, what)).collect::<Vec<_>>()
    };
    sources().iter().flat_map(found).collect()
}

/// Lists the lines with one of `words` in the code of each file, tests included or not.
fn words_in_sources(words: &[&str], also_in_tests: bool) -> Vec<String> {
    in_sources(|source| {
        let tests = source.test_lines();
        let wanted = |line: &usize| also_in_tests || !tests[line - 1];
        let lines = |word: &&str| {
            let lines = source.code.lines_with(word).into_iter().filter(wanted);
            lines.map(|line| (line, format!("`{word}`"))).collect::<Vec<_>>()
        };
        words.iter().flat_map(lines).collect()
    })
}

#[test]
fn crates_know_only_those_they_may() {
    let mut found = Vec::new();
    for crate_manifest in manifest::all() {
        let Manifest { path, name, .. } = &crate_manifest;
        let Some((_, allowed)) = ARROWS.iter().find(|(crate_name, _)| crate_name == name) else {
            found.push(at(path, 1, format!("{name} is not in the table of crates")));
            continue;
        };
        for (line, dependency) in crate_manifest.dependencies() {
            let ours = ARROWS.iter().any(|(crate_name, _)| *crate_name == dependency);
            if ours && !allowed.contains(&&*dependency) {
                found.push(at(path, line, format!("{name} may not know {dependency}")));
            }
        }
    }
    report(found, "move what is shared to a crate that both may know (ARROWS in tests/tidy.rs)");
}

#[test]
fn the_table_of_crates_names_crates_that_exist() {
    let names: Vec<String> = manifest::all().into_iter().map(|manifest| manifest.name).collect();
    let missing = ARROWS.iter().filter(|(name, _)| !names.contains(&(*name).to_owned()));
    let found = missing.map(|(name, _)| format!("{name}: there is no such crate")).collect();
    report(found, "take it out of ARROWS in tests/tidy.rs");
}

#[test]
fn crates_without_io_are_built_without_io_crates() {
    let mut found = Vec::new();
    for dir in WITHOUT_IO {
        let crate_manifest = manifest::of(dir);
        for (line, dependency) in crate_manifest.dependencies() {
            if IO_CRATES.contains(&&*dependency) {
                found.push(at(&crate_manifest.path, line, dependency));
            }
        }
    }
    report(found, "hand in what is read, the time and random numbers; do the I/O in the crate around it");
}

#[test]
fn crates_without_io_use_no_socket_file_clock_or_thread() {
    let found = in_sources(|source| {
        let in_crate = WITHOUT_IO.iter().any(|dir| source.path.starts_with(Path::new(dir).join("src")));
        if !in_crate && !PARTS_WITHOUT_IO.iter().any(|part| source.path.starts_with(part)) {
            return Vec::new();
        }
        let tests = source.test_lines();
        let modules = source.code.modules_below("std").into_iter();
        let modules = modules.filter(|(_, module)| IO_MODULES.contains(&&**module));
        let words = IO_WORDS
            .iter()
            .flat_map(|word| source.code.lines_with(word).into_iter().map(|line| (line, (*word).to_owned())));
        modules
            .map(|(line, module)| (line, format!("std::{module}")))
            .chain(words)
            .filter(|(line, _)| !tests[line - 1])
            .collect()
    });
    report(found, "hand in what is read, written or told by a clock (addresses are in core::net)");
}

#[test]
fn every_file_says_what_it_is() {
    let found = in_sources(|source| {
        let silent = !source.text.starts_with("//! ");
        silent.then(|| (1, "does not open with `//!`".to_owned())).into_iter().collect()
    });
    report(found, "begin the file with a `//!` line: what it is, what it is not");
}

#[test]
fn files_are_short() {
    let found = in_sources(|source| {
        let lines = source.text.lines().count();
        let long = lines > MAX_FILE_LINES;
        long.then(|| (MAX_FILE_LINES + 1, format!("the file has {lines} lines"))).into_iter().collect()
    });
    report(found, &format!("a file is one concept of at most {MAX_FILE_LINES} lines: split it by nouns"));
}

#[test]
fn functions_fit_a_screen() {
    let found = in_sources(|source| {
        let functions = source.code.functions().into_iter();
        let sized = functions.map(|function| (function.last_line + 1 - function.first_line, function));
        let long = sized.filter(|(lines, _)| *lines > MAX_FUNCTION_LINES);
        long.map(|(lines, function)| (function.first_line, format!("{} has {lines} lines", function.name)))
            .collect()
    });
    report(found, &format!("at most {MAX_FUNCTION_LINES} lines: keep the branches, move the work out"));
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut found = in_sources(|source| {
        let lines = source.text.lines().enumerate();
        let marked = lines.flat_map(|(index, line)| {
            marks.iter().filter(|mark| line.contains(**mark)).map(move |mark| (index + 1, (*mark).to_owned()))
        });
        marked.collect()
    });
    found.extend(words_in_sources(&["dbg!", "todo!", "unimplemented!"], true));
    report(found, "finish it, or leave it out and say so where people look for it");
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let found = words_in_sources(&[".unwrap()", ".unwrap_err()"], false);
    report(found, "return an error, or `expect` with the invariant visible in the same function");
}

#[test]
fn nothing_is_imported_by_star() {
    let found = in_sources(|source| {
        let tests = source.test_lines();
        let lines = source.text.lines().enumerate();
        let starred = lines.filter(|(index, line)| {
            let line = line.trim_start();
            let import = line.starts_with("use ") || line.starts_with("pub ") || line.ends_with("::*,");
            let of_the_tested = line == "use super::*;" && tests[*index];
            import && line.contains("::*") && !of_the_tested
        });
        starred.map(|(index, line)| (index + 1, format!("`{}`", line.trim()))).collect()
    });
    report(found, "name what is imported (`use super::*` is for `mod tests`)");
}

#[test]
fn names_of_files_say_what_is_inside() {
    let found = in_sources(|source| {
        let parts = source.path.iter().map(|part| part.to_string_lossy());
        let empty = parts.filter(|part| EMPTY_NAMES.contains(&part.trim_end_matches(".rs")));
        empty.map(|part| (1, format!("`{part}` says nothing"))).collect()
    });
    report(found, "name the file by its noun: what it is, not what it is good for");
}

/// The files with unsafe code: the kernel writes into buffers that io_uring was given, and reads from mapped files.
const UNSAFE: [&str; 2] = ["store/src/disk/ring.rs", "store/src/disk/mapping.rs"];

#[test]
fn nothing_is_unsafe_but_what_the_kernel_reads_and_writes_by_itself() {
    let mut found = words_in_sources(&["unsafe", "unsafe_code"], true);
    found.retain(|place| !UNSAFE.iter().any(|file| place.starts_with(file)));
    let denied = manifest::of("").value("workspace.lints.rust", "unsafe_code");
    if denied.as_deref() != Some("deny") {
        found.push("Cargo.toml:1: [workspace.lints.rust] does not say unsafe_code = \"deny\"".to_owned());
    }
    for file in UNSAFE.map(Path::new) {
        let text = tree::read(file);
        let is_unsafe = |line: &str| line.contains("unsafe {") || line.starts_with("unsafe impl");
        let blocks = text.lines().zip(1..).filter(|(line, _)| is_unsafe(line));
        let unexplained = blocks.filter(|(_, number)| {
            let before = text.lines().take(number - 1).collect::<Vec<_>>();
            let comment = before.iter().rev().take_while(|line| line.trim_start().starts_with("//"));
            !comment.into_iter().any(|line| line.contains("SAFETY:"))
        });
        found.extend(unexplained.map(|(_, number)| at(file, number, "no `// SAFETY:` before it")));
    }
    report(found, "use a safe call (rustix, std)");
}

#[test]
fn every_crate_is_described_and_linted() {
    let mut found = Vec::new();
    for crate_manifest in manifest::all() {
        let path = &crate_manifest.path;
        if crate_manifest.value("package", "description").is_none_or(|text| text.is_empty()) {
            found.push(at(path, 1, "no description"));
        }
        if crate_manifest.value("lints", "workspace").as_deref() != Some("true") {
            found.push(at(path, 1, "the workspace's lints are not taken over"));
        }
    }
    report(found, "add `description = \"...\"` to [package], and [lints] with `workspace = true`");
}

#[test]
fn the_readme_has_the_two_commands() {
    let readme = tree::read(Path::new("README.md"));
    let commands = ["cargo run --release -- demo", "tests/run"];
    let missing = commands.iter().filter(|command| !readme.lines().any(|line| line == **command));
    let mut found: Vec<String> =
        missing.map(|command| at(Path::new("README.md"), 1, format!("no line `{command}`"))).collect();
    let mode = std::fs::metadata(tree::root().join("tests/run")).map_or(0, |file| file.permissions().mode());
    if mode & 0o111 == 0 {
        found.push("tests/run:1: is missing or not executable".to_owned());
    }
    report(found, "a newcomer needs two commands: one that serves a disk, one that runs the tests");
}
