//! A Rust file as the rules see it: its code without comments and strings, and which lines are tests.
//!
//! This is a scanner, not a parser: it knows comments, strings and brackets, which is enough for formatted code.

/// The code of a file: comments and the contents of strings are blanks, so that every byte keeps its place.
pub(crate) struct Code {
    text: Vec<u8>,
}

/// A function, from the line of its `fn` to that of its closing brace, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first_line: usize,
    pub(crate) last_line: usize,
}

impl Code {
    pub(crate) fn of(source: &str) -> Self {
        Self { text: blanked(source.as_bytes()) }
    }

    /// The line of the byte at `offset`, from 1.
    fn line_at(&self, offset: usize) -> usize {
        1 + self.text[..offset].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// Lines on which `word` stands, not as part of a longer word.
    pub(crate) fn lines_with(&self, word: &str) -> Vec<usize> {
        self.offsets_of(word).into_iter().map(|offset| self.line_at(offset)).collect()
    }

    fn offsets_of(&self, word: &str) -> Vec<usize> {
        let word = word.as_bytes();
        let is_part =
            |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        (0..self.text.len())
            .filter(|&at| self.text[at..].starts_with(word))
            .filter(|&at| !is_part(word.first()) || at == 0 || !is_part(self.text.get(at - 1)))
            .filter(|&at| !is_part(word.last()) || !is_part(self.text.get(at + word.len())))
            .collect()
    }

    /// The modules named right below `root` (`std::fs`, `use std::{fs, io::Read}`), with the lines they stand on.
    pub(crate) fn modules_below(&self, root: &str) -> Vec<(usize, String)> {
        let path = format!("{root}::");
        let mut modules = Vec::new();
        for offset in self.offsets_of(&path) {
            let start = offset + path.len();
            if self.text.get(start) != Some(&b'{') {
                modules.push((self.line_at(start), self.word_at(start)));
                continue;
            }
            let mut depth = 0;
            let mut expected = false;
            for at in start..=self.closing(start) {
                match self.text[at] {
                    b'{' => (depth, expected) = (depth + 1, depth == 0),
                    b'}' => depth -= 1,
                    b',' => expected = depth == 1,
                    byte if expected && !byte.is_ascii_whitespace() => {
                        modules.push((self.line_at(at), self.word_at(at)));
                        expected = false;
                    }
                    _ => {}
                }
            }
        }
        modules
    }

    fn word_at(&self, start: usize) -> String {
        let word =
            self.text[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_');
        word.map(|&byte| char::from(byte)).collect()
    }

    /// The bracket that closes the one at `open`; the end of the file if there is none.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0;
        for (at, byte) in self.text.iter().enumerate().skip(open) {
            match byte {
                b'{' | b'(' | b'[' => depth += 1,
                b'}' | b')' | b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.text.len().saturating_sub(1)
    }

    /// The first `{` or `;` from `start` that is not within brackets.
    fn body_or_end(&self, start: usize) -> Option<usize> {
        let mut at = start;
        loop {
            match self.text.get(at)? {
                b'{' | b';' => return Some(at),
                b'(' | b'[' => at = self.closing(at) + 1,
                _ => at += 1,
            }
        }
    }

    /// All functions that have a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for offset in self.offsets_of("fn ") {
            let name = self.word_at(offset + 3);
            let Some(open) = self.body_or_end(offset).filter(|&at| self.text[at] == b'{') else { continue };
            if !name.is_empty() {
                let (first_line, last_line) = (self.line_at(offset), self.line_at(self.closing(open)));
                functions.push(Function { name, first_line, last_line });
            }
        }
        functions
    }

    /// For each line (line 1 at index 0) whether it is part of an item under `#[cfg(test)]`.
    pub(crate) fn test_lines(&self) -> Vec<bool> {
        let mut lines = vec![false; self.line_at(self.text.len()) + 1];
        for offset in self.offsets_of(TEST_ATTRIBUTE) {
            let Some(body) = self.body_or_end(offset + TEST_ATTRIBUTE.len()) else { continue };
            let end = if self.text[body] == b'{' { self.closing(body) } else { body };
            lines[self.line_at(offset) - 1..self.line_at(end)].fill(true);
        }
        lines
    }

    /// Names of the files that are modules of tests: `#[cfg(test)] mod NAME;`.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        let item = |offset: usize| {
            let start = offset + TEST_ATTRIBUTE.len();
            let end = self.body_or_end(start).filter(|&at| self.text[at] == b';')?;
            let text = String::from_utf8_lossy(&self.text[start..end]).into_owned();
            text.trim().rsplit_once("mod ").map(|(_, name)| name.to_owned())
        };
        self.offsets_of(TEST_ATTRIBUTE).into_iter().filter_map(item).collect()
    }
}

const TEST_ATTRIBUTE: &str = "#[cfg(test)]";

/// What the scanner is in the middle of.
#[derive(Clone, Copy)]
enum Within {
    Code,
    LineComment,
    BlockComment { depth: usize },
    Text { hashes: Option<usize> },
}

fn blanked(source: &[u8]) -> Vec<u8> {
    let mut text = source.to_vec();
    let mut within = Within::Code;
    let mut at = 0;
    while at < source.len() {
        let rest = &source[at..];
        let (next, length) = match within {
            Within::Code => code_token(source, at),
            Within::LineComment if rest[0] == b'\n' => (Within::Code, 1),
            Within::BlockComment { depth } => block_comment_token(rest, depth),
            Within::Text { hashes } => text_token(rest, hashes),
            other => (other, 1),
        };
        let code_stays = matches!((&within, &next), (Within::Code, Within::Code)) && rest[0] != b'\'';
        for byte in text[at..at + length].iter_mut().filter(|byte| !code_stays && **byte != b'\n') {
            *byte = b' ';
        }
        within = next;
        at += length;
    }
    text
}

/// What begins at `at` in code, and its length.
fn code_token(source: &[u8], at: usize) -> (Within, usize) {
    let rest = &source[at..];
    let after_word = at > 0 && (source[at - 1].is_ascii_alphanumeric() || source[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => (Within::LineComment, 2),
        [b'/', b'*', ..] => (Within::BlockComment { depth: 1 }, 2),
        [b'"', ..] => (Within::Text { hashes: None }, 1),
        [b'r', b'"' | b'#', ..] if !after_word => raw_text(rest, 1),
        [b'b', b'r', b'"' | b'#', ..] if !after_word => raw_text(rest, 2),
        [b'\'', ..] => (Within::Code, character_length(rest)),
        _ => (Within::Code, 1),
    }
}

fn raw_text(rest: &[u8], prefix: usize) -> (Within, usize) {
    let hashes = rest[prefix..].iter().take_while(|&&byte| byte == b'#').count();
    match rest.get(prefix + hashes) {
        Some(b'"') => (Within::Text { hashes: Some(hashes) }, prefix + hashes + 1),
        _ => (Within::Code, prefix),
    }
}

/// The length of a character literal, or 1 for the mark of a lifetime.
fn character_length(rest: &[u8]) -> usize {
    let start = if rest.get(1) == Some(&b'\\') { 3 } else { 2 };
    let limit = rest.len().min(start + 10);
    let close = (start..limit).find(|&at| rest[at] == b'\'');
    let lifetime = start == 2 && rest.get(2) != Some(&b'\'') && rest.get(1).is_some_and(u8::is_ascii);
    close.filter(|_| !lifetime).map_or(1, |close| close + 1)
}

fn block_comment_token(rest: &[u8], depth: usize) -> (Within, usize) {
    match rest {
        [b'*', b'/', ..] if depth == 1 => (Within::Code, 2),
        [b'*', b'/', ..] => (Within::BlockComment { depth: depth - 1 }, 2),
        [b'/', b'*', ..] => (Within::BlockComment { depth: depth + 1 }, 2),
        _ => (Within::BlockComment { depth }, 1),
    }
}

fn text_token(rest: &[u8], hashes: Option<usize>) -> (Within, usize) {
    let closes = |count: usize| rest.len() > count && rest[1..=count].iter().all(|&byte| byte == b'#');
    match (rest[0], hashes) {
        (b'\\', None) => (Within::Text { hashes }, rest.len().min(2)),
        (b'"', None) => (Within::Code, 1),
        (b'"', Some(count)) if closes(count) => (Within::Code, count + 1),
        _ => (Within::Text { hashes }, 1),
    }
}

#[test]
fn comments_and_strings_are_blanked_and_code_is_not() {
    let blank = |source: &str| String::from_utf8(blanked(source.as_bytes())).unwrap();
    assert_eq!(blank("a // b\nc"), "a     \nc");
    assert_eq!(blank("a /* b /* c */ */ d"), "a                 d");
    assert_eq!(blank(r#"f("x\"y", b"{") + g"#), "f(      , b   ) + g");
    assert_eq!(
        blank(r##"f(r#"a"b"#, 'a', '"', '\'', '\u{7f}', &'a x)"##),
        "f(        ,    ,    ,     ,         , & a x)"
    );
}

#[test]
fn functions_and_tests_are_found() {
    let code = Code::of(
        "fn a(x: [u8; 2]) {\n  b(|| { });\n}\ntrait T { fn c(); }\n#[cfg(test)]\nmod tests {\n\n}\nx",
    );
    let a = Function { name: "a".to_owned(), first_line: 1, last_line: 3 };
    assert_eq!(code.functions(), [a]);
    assert_eq!(code.test_lines()[..9], [false, false, false, false, true, true, true, true, false]);
    assert_eq!(Code::of("#[cfg(test)]\npub(crate) mod golden;\nmod x;").test_modules(), ["golden"]);
}

#[test]
fn modules_of_a_crate_are_found_in_groups_too() {
    let code = Code::of(
        "use std::fs::File;\nuse std::{\n  io::{Read, net},\n  thread,\n};\nlet x = std::env::args();",
    );
    let found: Vec<_> = code.modules_below("std");
    let expected = [(1, "fs"), (3, "io"), (4, "thread"), (6, "env")];
    assert_eq!(found, expected.map(|(line, name)| (line, name.to_owned())));
    assert_eq!(code.lines_with("net"), [3]);
}
