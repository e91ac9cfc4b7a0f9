//! Names that people give: of clusters, nodes, zones and VDIs.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// Longest name, in bytes (an iSCSI name or a file name of that length is still valid).
pub const MAX_NAME_BYTES: usize = 255;

/// A checked name: 1 to [`MAX_NAME_BYTES`] characters of `A-Z a-z 0-9 . _ : -`. Compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// A text that cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Its length is 0, or over [`MAX_NAME_BYTES`].
    #[error("a name has 1 to {MAX_NAME_BYTES} characters, this one has {length_bytes}")]
    Length {
        /// The text's length in bytes.
        length_bytes: usize,
    },
    /// It holds a character that names may not have.
    #[error("{character:?} may not be in a name: use letters, digits and . _ : -")]
    Character {
        /// The first such character.
        character: char,
    },
}

impl Name {
    /// Checks that `text` can be a name.
    ///
    /// # Errors
    /// [`InvalidName`] says what is wrong with it.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        if text.is_empty() || text.len() > MAX_NAME_BYTES {
            return Err(InvalidName::Length { length_bytes: text.len() });
        }
        match text.chars().find(|&character| !is_allowed(character)) {
            Some(character) => Err(InvalidName::Character { character }),
            None => Ok(Self(text)),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | ':' | '-')
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Maps keyed by `Name` are searched with a plain text.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_digits_and_four_marks_make_a_name() {
        for text in ["a", "vm-01.root_disk:7", "Z", &"x".repeat(MAX_NAME_BYTES)] {
            assert_eq!(Name::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(Name::new(""), Err(InvalidName::Length { length_bytes: 0 }));
        assert_eq!(Name::new("x".repeat(256)), Err(InvalidName::Length { length_bytes: 256 }));
        for (text, character) in [("a b", ' '), ("a/b", '/'), ("é", 'é'), ("a\0", '\0'), ("a\n", '\n')] {
            assert_eq!(Name::new(text), Err(InvalidName::Character { character }));
        }
    }
}
