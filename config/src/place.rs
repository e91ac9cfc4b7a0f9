//! Places in a configuration file: which bytes a value was written with.

use std::ops::Deref;

/// The text of a file and what people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As it was given on the command line, such as `huntaway.yaml`.
    pub name: String,
    /// The text, without a byte order mark.
    pub text: String,
}

/// A piece of a source's text, in bytes from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// A value and where it was written. A default's place is that of the section it belongs to. Two are equal if their
/// values are, wherever they stand.
#[derive(Debug, Clone, Copy)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> At<T> {
    pub(crate) fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for At<T> {}
