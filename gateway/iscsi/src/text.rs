//! The text of Login and Text PDUs (RFC 7143 §6.1): `key=value` pairs, each ended by a zero byte, gathered from and
//! cut into PDUs by the C bit. What keys mean is decided elsewhere.

use thiserror::Error;

use crate::limits::Limits;

/// The longest key name, in bytes (RFC 7143 §6.1).
pub const MAX_KEY_BYTES: usize = 63;

/// The longest encoded value, in bytes. The longest known is a CHAP challenge of 1024 bytes in hexadecimal
/// (RFC 7143 §12.1.3).
pub const MAX_VALUE_BYTES: usize = 2 + 2 * 1024;

/// How much text a peer may make us hold and look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    /// Bytes of one negotiation message, gathered over all its PDUs. RFC 7143 §6.1 asks for at least 8192.
    pub text_bytes: usize,
    /// Pairs in one message.
    pub pairs: usize,
}

impl From<&Limits> for TextLimits {
    fn from(limits: &Limits) -> Self {
        Self { text_bytes: limits.text, pairs: limits.text_keys }
    }
}

/// Why a text is not a list of pairs, or not one we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TextError {
    /// The gathered text exceeds [`TextLimits::text_bytes`].
    #[error("more than {limit} bytes of text in one message")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// More than [`TextLimits::pairs`].
    #[error("more than {limit} keys in one message")]
    TooManyPairs {
        /// The limit.
        limit: usize,
    },
    /// A value longer than [`MAX_VALUE_BYTES`].
    #[error("a value is longer than {MAX_VALUE_BYTES} bytes")]
    ValueTooLong,
    /// A key that is empty, longer than [`MAX_KEY_BYTES`], or has characters no key has.
    #[error("a key is not a standard label")]
    BadKey,
    /// Text between two zero bytes without an equals sign.
    #[error("a pair has no '='")]
    NoEquals,
    /// A value that is not UTF-8.
    #[error("a value is not UTF-8")]
    NotUtf8,
}

/// One `key=value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// What precedes the first equals sign.
    pub key: &'a str,
    /// All that follows it.
    pub value: &'a str,
}

/// Reads a whole message. Empty stretches between zero bytes are padding and skipped; the last pair need not be
/// ended.
///
/// # Errors
/// The text is malformed or over a limit; the negotiation cannot go on.
pub fn decode<'a>(text: &'a [u8], limits: &TextLimits) -> Result<Vec<Pair<'a>>, TextError> {
    if text.len() > limits.text_bytes {
        return Err(TextError::TooLong { limit: limits.text_bytes });
    }
    let mut pairs = Vec::new();
    for piece in text.split(|&byte| byte == 0).filter(|piece| !piece.is_empty()) {
        if pairs.len() == limits.pairs {
            return Err(TextError::TooManyPairs { limit: limits.pairs });
        }
        pairs.push(decode_pair(piece)?);
    }
    Ok(pairs)
}

fn decode_pair(piece: &[u8]) -> Result<Pair<'_>, TextError> {
    let equals = piece.iter().position(|&byte| byte == b'=').ok_or(TextError::NoEquals)?;
    let (key, value) = (&piece[..equals], &piece[equals + 1..]);
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.iter().all(|&byte| is_label(byte)) {
        return Err(TextError::BadKey);
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(TextError::ValueTooLong);
    }
    let key = std::str::from_utf8(key).map_err(|_| TextError::BadKey)?;
    let value = std::str::from_utf8(value).map_err(|_| TextError::NotUtf8)?;
    Ok(Pair { key, value })
}

/// Characters of a standard label, and `#`, which the old public extension keys begin with (`X#NodeArchitecture`).
fn is_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+' | b'@' | b'_' | b'#')
}

/// Reads a numerical value: decimal without leading zeros, or hexadecimal after `0x` (RFC 7143 §6.1).
#[must_use]
pub fn decode_number(value: &str) -> Option<u64> {
    let hexadecimal = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
    let (digits, radix) = hexadecimal.map_or((value, 10), |digits| (digits, 16));
    let excess_zero = radix == 10 && digits.len() > 1 && digits.starts_with('0');
    // `from_str_radix` would take a sign.
    if excess_zero || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Pairs being written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TextWriter {
    bytes: Vec<u8>,
}

impl TextWriter {
    /// Appends one pair.
    pub fn push(&mut self, key: &str, value: &str) {
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
    }

    /// Appends another text's pairs.
    pub fn append(&mut self, mut other: Self) {
        self.bytes.append(&mut other.bytes);
    }

    /// The text as it goes into PDUs.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A message being gathered from PDUs whose C bit says that more follows.
#[derive(Debug, Default)]
pub struct TextInbox {
    bytes: Vec<u8>,
}

impl TextInbox {
    /// Adds one PDU's data.
    ///
    /// # Errors
    /// The message would exceed [`TextLimits::text_bytes`]; nothing was added.
    pub fn push(&mut self, data: &[u8], limits: &TextLimits) -> Result<(), TextError> {
        if self.bytes.len() + data.len() > limits.text_bytes {
            return Err(TextError::TooLong { limit: limits.text_bytes });
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// The whole message; the inbox is empty afterwards.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Bytes held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A message being sent, cut into PDUs.
#[derive(Debug, Default)]
pub struct TextOutbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl TextOutbox {
    /// Starts a message in place of any earlier one.
    pub fn start(&mut self, bytes: Vec<u8>) {
        *self = Self { bytes, sent: 0 };
    }

    /// The next at most `length_bytes` bytes. More follow (C bit) unless [`Self::is_empty`] afterwards.
    pub fn next_chunk(&mut self, length_bytes: usize) -> Vec<u8> {
        let end = self.bytes.len().min(self.sent.saturating_add(length_bytes));
        let chunk = self.bytes[self.sent..end].to_vec();
        self.sent = end;
        if self.is_empty() {
            *self = Self::default();
        }
        chunk
    }

    /// Bytes held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Everything was handed out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Pair, TextError, TextLimits, TextOutbox, TextWriter, decode, decode_number};

    const LIMITS: TextLimits = TextLimits { text_bytes: 100, pairs: 3 };

    #[test]
    fn pairs_are_read() {
        let text = b"A=1\0B=\0C=a=b,c\0";
        let expected = [("A", "1"), ("B", ""), ("C", "a=b,c")].map(|(key, value)| Pair { key, value });
        assert_eq!(decode(text, &LIMITS), Ok(expected.to_vec()));
    }

    #[test]
    fn padding_and_a_missing_end_are_forgiven() {
        let expected = vec![Pair { key: "A", value: "1" }, Pair { key: "B", value: "2" }];
        assert_eq!(decode(b"\0A=1\0\0\0B=2", &LIMITS), Ok(expected));
        assert_eq!(decode(b"", &LIMITS), Ok(vec![]));
        assert_eq!(decode(b"\0\0", &LIMITS), Ok(vec![]));
    }

    #[test]
    fn malformed_text_is_refused() {
        for (text, error) in [
            (&b"A"[..], TextError::NoEquals),
            (b"A=1\0 ", TextError::NoEquals),
            (b"=1", TextError::BadKey),
            (b"A B=1", TextError::BadKey),
            (b"A\xc3\xa4=1", TextError::BadKey),
            (b"A=\xff", TextError::NotUtf8),
            (b"A=1\0B=1\0C=1\0D=1", TextError::TooManyPairs { limit: 3 }),
            (&[b'a'; 101], TextError::TooLong { limit: 100 }),
        ] {
            assert_eq!(decode(text, &LIMITS), Err(error), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        for (value, number) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("0x0A", Some(10)),
            ("0XfF", Some(255)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("0xffffffffffffffff", Some(u64::MAX)),
            ("0x10000000000000000", None),
            ("010", None),
            ("", None),
            ("0x", None),
            ("+1", None),
            ("-1", None),
            ("0x+1", None),
            ("1a", None),
            ("1 ", None),
        ] {
            assert_eq!(decode_number(value), number, "{value:?}");
        }
    }

    #[test]
    fn a_message_is_cut_into_parts() {
        let mut writer = TextWriter::default();
        writer.push("Key", "value");
        let mut outbox = TextOutbox::default();
        assert!(outbox.is_empty());
        outbox.start(writer.into_bytes());
        assert_eq!(outbox.next_chunk(6), b"Key=va");
        assert!(!outbox.is_empty());
        assert_eq!(outbox.next_chunk(6), b"lue\0");
        assert!(outbox.is_empty());
        assert_eq!(outbox.next_chunk(6), b"");
    }
}
