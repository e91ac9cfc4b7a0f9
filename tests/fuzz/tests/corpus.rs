//! Promise: what a fuzzer once found stays mended. Replays the committed corpus of every fuzz target, and makes sessions
//! at random, since it takes many steps until one of them matters.

use std::fs;
use std::path::{Path, PathBuf};

use huntaway_fuzz::TARGETS;

/// Most files of one target, and the longest of them in bytes: the corpus is for reading again, not for reaching far.
const MAX_FILES: usize = 120;
const MAX_FILE_BYTES: u64 = 64 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The files in a directory, by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    files.sort();
    files
}

#[test]
fn nothing_in_the_corpus_breaks_a_target() {
    for (name, run) in TARGETS {
        for file in files(&corpus().join(name)) {
            println!("{}", file.display());
            run(&fs::read(&file).expect("a readable file"));
        }
    }
}

#[test]
fn no_bytes_or_few_break_no_target() {
    for (_, run) in TARGETS {
        run(&[]);
        for byte in 0..=255 {
            run(&[byte]);
            run(&[byte; 64]);
            run(&[byte; 300]);
        }
    }
}

/// Sessions made at random, and the bytes each is made of.
const SESSIONS: u64 = 4_000;
const SESSION_BYTES: usize = 1_500;

#[test]
fn sessions_made_at_random_break_nothing() {
    for seed in 1..=SESSIONS {
        println!("session {seed}");
        let mut state = seed;
        let words = std::iter::repeat_with(|| {
            // xorshift64* (Vigna 2016)
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()
        });
        let bytes: Vec<u8> = words.flatten().take(SESSION_BYTES).collect();
        huntaway_fuzz::session::run(&bytes);
    }
}

#[test]
fn the_corpus_is_small_and_every_target_has_one() {
    let mut names: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    let found = files(&corpus());
    let found: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(found, names);
    for name in names {
        let files = files(&corpus().join(&name));
        assert!((1..=MAX_FILES).contains(&files.len()), "{name}: {} files", files.len());
        for file in files {
            let length = fs::metadata(&file).expect("a file").len();
            assert!(length <= MAX_FILE_BYTES, "{}: {length} bytes", file.display());
        }
    }
}
