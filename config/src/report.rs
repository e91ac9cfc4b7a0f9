//! What is wrong with a configuration, for people: file, line, column, the line itself, a caret, and the cure.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::{Source, Span};

/// Most problems that a report shows; it counts the rest.
const MAX_SHOWN: usize = 100;

/// Most characters of a line that are shown, and how many of them may stand before the place.
const MAX_LINE_CHARACTERS: usize = 160;
const MAX_CHARACTERS_BEFORE: usize = 100;

/// Whether a configuration can be used with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but probably means something else.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What to write or do instead.
    pub cure: String,
}

impl Problem {
    /// Something that must be mended.
    pub fn error(span: Span, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { severity: Severity::Error, span, message: message.into(), cure: cure.into() }
    }

    /// Something that is probably not meant.
    pub fn warning(span: Span, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message, cure) }
    }
}

/// Everything that is wrong, in the order of the file. Its `Display` is meant to be printed as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    source: Arc<Source>,
    problems: Vec<Problem>,
}

impl Report {
    /// Puts `problems` of `source` in order.
    pub fn new(source: Arc<Source>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        Self { source, problems }
    }

    /// Whether anything makes the configuration unusable.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// What is wrong, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }
}

impl Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.problems.iter().take(MAX_SHOWN) {
            show(f, &self.source, problem)?;
        }
        if self.problems.len() > MAX_SHOWN {
            writeln!(f, "and {} more, not shown\n", self.problems.len() - MAX_SHOWN)?;
        }
        let counted = |count: usize, what: &str| match count {
            0 => None,
            1 => Some(format!("1 {what}")),
            _ => Some(format!("{count} {what}s")),
        };
        let errors = counted(self.count(Severity::Error), "error");
        let warnings = counted(self.count(Severity::Warning), "warning");
        let counts = errors.into_iter().chain(warnings).collect::<Vec<_>>();
        if counts.is_empty() { f.write_str("no problems") } else { f.write_str(&counts.join(", ")) }
    }
}

fn show(f: &mut fmt::Formatter<'_>, source: &Source, problem: &Problem) -> fmt::Result {
    let place = Place::of(&source.text, problem.span);
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    writeln!(f, "{}:{}:{}: {severity}: {}", source.name, place.line, place.column, problem.message)?;
    if !source.text.is_empty() {
        let number = place.line.to_string();
        writeln!(f, "  {number} | {}{}", place.before, place.rest)?;
        writeln!(f, "  {:width$} | {}", "", place.carets(), width = number.len())?;
    }
    writeln!(f, "  {}\n", problem.cure)
}

/// A span as people find it: line and column count from 1, a column is a character.
struct Place {
    line: usize,
    column: usize,
    /// What of the line stands before the span, what from there on, and how much of that is the span's.
    before: String,
    rest: String,
    marked: String,
}

impl Place {
    fn of(text: &str, span: Span) -> Self {
        let start = text.floor_char_boundary(span.start);
        let end = text.ceil_char_boundary(span.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let line_end = line_start + text[line_start..line_end].trim_end_matches('\r').len();
        let start = start.min(line_end);
        let column = text[line_start..start].chars().count();
        let marked = text[start..end.clamp(start, line_end)].chars().count();
        let mut characters: Vec<char> = text[line_start..line_end].chars().map(harmless).collect();
        mask_secrets(&mut characters);
        let skipped = column.saturating_sub(MAX_CHARACTERS_BEFORE);
        let mut before = if skipped > 0 { String::from("…") } else { String::new() };
        before.extend(&characters[skipped..column]);
        let shown = MAX_LINE_CHARACTERS - (column - skipped);
        let rest = &characters[column..];
        let marked = rest.iter().take(shown.min(marked)).collect();
        let mut rest: String = rest.iter().take(shown).collect();
        if characters.len() - column > shown {
            rest.push('…');
        }
        let line = text[..line_start].matches('\n').count() + 1;
        Self { line, column: column + 1, before, rest, marked }
    }

    /// Carets below what is marked, at least one. A tab stays a tab: it is as wide as the one above.
    fn carets(&self) -> String {
        let mut carets = String::new();
        for character in self.before.chars() {
            match character {
                '\t' => carets.push('\t'),
                _ => carets.extend(std::iter::repeat_n(' ', character.width().unwrap_or(0))),
            }
        }
        carets.extend(std::iter::repeat_n('^', self.marked.trim_end().width().max(1)));
        carets
    }
}

/// Hides what someone wrote after `secret:` or `password:` by mistake: a report may end up in a log.
fn mask_secrets(line: &mut [char]) {
    for key in ["secret", "password"] {
        let key: Vec<char> = key.chars().collect();
        for at in 0..line.len().saturating_sub(key.len()) {
            let (before, from) = line.split_at_mut(at);
            let is_word = before.last().is_none_or(|character| !character.is_alphanumeric());
            let (word, after) = from.split_at_mut(key.len());
            if !is_word || word != &*key {
                continue;
            }
            let Some(colon) = after.iter().position(|character| !matches!(character, '"' | '\'' | ' '))
            else {
                continue;
            };
            if after[colon] == ':' {
                let value = after[colon + 1..].iter_mut().take_while(|character| !matches!(character, '}'));
                value
                    .filter(|character| !matches!(character, ' ' | '\t'))
                    .for_each(|character| *character = '*');
            }
        }
    }
}

/// A character that does nothing to a terminal.
fn harmless(character: char) -> char {
    if character.is_control() && character != '\t' { '\u{fffd}' } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, marked: &str) -> String {
        let start = text.find(marked).unwrap();
        let source = Source { name: "f".into(), text: text.into() };
        let problem = Problem::error(Span { start, end: start + marked.len() }, "bad", "mend it");
        Report::new(Arc::new(source), vec![problem]).to_string()
    }

    #[test]
    fn a_caret_stands_below_the_place() {
        let report = shown("a: 1\nbb: wrong\nc: 2\n", "wrong");
        assert_eq!(report, "f:2:5: error: bad\n  2 | bb: wrong\n    |     ^^^^^\n  mend it\n\n1 error");
    }

    #[test]
    fn columns_are_characters_and_carets_follow_the_width() {
        let report = shown("名: é, wrong", "wrong");
        assert_eq!(report, "f:1:7: error: bad\n  1 | 名: é, wrong\n    |        ^^^^^\n  mend it\n\n1 error");
    }

    #[test]
    fn tabs_stay_tabs_and_returns_do_not_show() {
        let report = shown("a:\twrong\r\nb: 1\r\n", "wrong");
        assert_eq!(report, "f:1:4: error: bad\n  1 | a:\twrong\n    |   \t^^^^^\n  mend it\n\n1 error");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}wrong{}", "x".repeat(1000), "y".repeat(1000));
        let report = shown(&text, "wrong");
        assert!(report.starts_with("f:1:1001: error: bad\n  1 | …xxx"), "{report}");
        assert!(report.lines().all(|line| line.chars().count() < 180), "{report}");
    }

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert!(!shown("a: \u{1b}[31m wrong", "wrong").contains('\u{1b}'));
    }

    #[test]
    fn a_secret_in_the_file_is_not_repeated() {
        for line in
            ["  secret: geheim", "{user: vm, secret: geheim}, wrong", "{\"password\" : \"geheim\", a: b"]
        {
            let text = format!("{line}\nwrong");
            let source = Source { name: "f".into(), text: text.clone() };
            let problem = Problem::error(Span { start: 2, end: text.len() }, "bad", "mend it");
            let report = Report::new(Arc::new(source), vec![problem]).to_string();
            assert!(!report.contains("geheim") && report.contains("***"), "{report}");
        }
        assert!(shown("secret_file: secrets/vm", "secrets/vm").contains("secret_file: secrets/vm"));
    }

    #[test]
    fn places_outside_the_text_or_inside_a_character_are_bearable() {
        let source = Arc::new(Source { name: "f".into(), text: "é\n".into() });
        for start in 0..9 {
            let problem = Problem::error(Span { start, end: start + 3 }, "bad", "mend it");
            assert!(Report::new(Arc::clone(&source), vec![problem]).to_string().contains("bad"));
        }
    }
}
