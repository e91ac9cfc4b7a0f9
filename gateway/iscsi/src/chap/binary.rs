//! Binary values in text: hexadecimal after `0x`, base64 after `0b` (RFC 7143 §6.1, RFC 4648 §4).

use thiserror::Error;

/// Why a value is not the binary string that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum BinaryError {
    /// Neither `0x` nor `0b` in front.
    #[error("a binary value begins with neither 0x nor 0b")]
    NoPrefix,
    /// No digits, a character that is no digit, or misplaced padding.
    #[error("a binary value has a character that is no digit")]
    NotDigits,
    /// More bytes than the key allows.
    #[error("a binary value is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
}

/// Reads a hexadecimal or base64 constant of at most `limit` bytes. The length is judged before anything is
/// decoded.
pub(super) fn decode(value: &str, limit: usize) -> Result<Vec<u8>, BinaryError> {
    let (prefix, digits) = value.split_at_checked(2).ok_or(BinaryError::NoPrefix)?;
    match prefix {
        "0x" | "0X" => decode_hexadecimal(digits.as_bytes(), limit),
        "0b" | "0B" => decode_base64(digits.as_bytes(), limit),
        _ => Err(BinaryError::NoPrefix),
    }
}

/// Writes a hexadecimal constant.
pub(super) fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("0x");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// An odd number of digits counts as if one zero stood in front: n digits are (n+1)/2 bytes.
fn decode_hexadecimal(digits: &[u8], limit: usize) -> Result<Vec<u8>, BinaryError> {
    if digits.is_empty() {
        return Err(BinaryError::NotDigits);
    }
    let length = digits.len().div_ceil(2);
    if length > limit {
        return Err(BinaryError::TooLong { limit });
    }
    let mut bytes = Vec::with_capacity(length);
    let (odd, pairs) = digits.split_at(digits.len() % 2);
    if let [digit] = odd {
        bytes.push(hexadecimal_digit(*digit)?);
    }
    for pair in pairs.chunks_exact(2) {
        bytes.push(hexadecimal_digit(pair[0])? << 4 | hexadecimal_digit(pair[1])?);
    }
    Ok(bytes)
}

fn hexadecimal_digit(digit: u8) -> Result<u8, BinaryError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BinaryError::NotDigits),
    }
}

/// Padding may be complete or absent. Bits beyond the last whole byte must be zero, so that one byte string has
/// one encoding.
fn decode_base64(digits: &[u8], limit: usize) -> Result<Vec<u8>, BinaryError> {
    let padding = digits.iter().rev().take_while(|&&digit| digit == b'=').count();
    let digits_only = &digits[..digits.len() - padding];
    let complete = digits.len().is_multiple_of(4) && padding <= 2;
    if digits_only.is_empty() || digits_only.len() % 4 == 1 || (padding > 0 && !complete) {
        return Err(BinaryError::NotDigits);
    }
    let length = digits_only.len() * 3 / 4;
    if length > limit {
        return Err(BinaryError::TooLong { limit });
    }
    let mut bytes = Vec::with_capacity(length);
    let (mut bits, mut held_bits) = (0_u32, 0_u32);
    for &digit in digits_only {
        bits = bits << 6 | u32::from(base64_digit(digit)?);
        held_bits += 6;
        if held_bits >= 8 {
            held_bits -= 8;
            bytes.push((bits >> held_bits) as u8);
            bits &= (1 << held_bits) - 1;
        }
    }
    if bits == 0 { Ok(bytes) } else { Err(BinaryError::NotDigits) }
}

fn base64_digit(digit: u8) -> Result<u8, BinaryError> {
    match digit {
        b'A'..=b'Z' => Ok(digit - b'A'),
        b'a'..=b'z' => Ok(digit - b'a' + 26),
        b'0'..=b'9' => Ok(digit - b'0' + 52),
        b'+' => Ok(62),
        b'/' => Ok(63),
        _ => Err(BinaryError::NotDigits),
    }
}

#[cfg(test)]
mod tests {
    use super::{BinaryError, decode, encode};

    #[test]
    fn hexadecimal_is_read_in_either_case() {
        assert_eq!(decode("0x00fF10", 3), Ok(vec![0, 255, 16]));
        assert_eq!(decode("0XaB", 3), Ok(vec![0xab]));
    }

    #[test]
    fn an_odd_hexadecimal_digit_is_a_byte_of_its_own() {
        assert_eq!(decode("0xf10", 2), Ok(vec![15, 16]));
    }

    #[test]
    fn base64_is_read_with_and_without_padding() {
        assert_eq!(decode("0bZm9vYmFy", 6), Ok(b"foobar".to_vec()));
        assert_eq!(decode("0BZm9vYg==", 6), Ok(b"foob".to_vec()));
        assert_eq!(decode("0bZm9vYg", 6), Ok(b"foob".to_vec()));
        assert_eq!(decode("0bZm9vYmE=", 6), Ok(b"fooba".to_vec()));
        assert_eq!(decode("0b+/+/", 6), Ok(vec![0xfb, 0xff, 0xbf]));
    }

    #[test]
    fn malformed_values_are_refused() {
        for value in ["", "0", "5", "ff", "Zm9v", "0é"] {
            assert_eq!(decode(value, 8), Err(BinaryError::NoPrefix), "{value}");
        }
        for value in
            ["0x", "0xg", "0x1 2", "0b", "0b=", "0bA", "0bAA=", "0bAA===", "0bA=AA", "0bZm9vYh==", "0b-_-_"]
        {
            assert_eq!(decode(value, 8), Err(BinaryError::NotDigits), "{value}");
        }
    }

    #[test]
    fn a_value_over_the_limit_is_refused() {
        assert_eq!(decode("0x000102", 2), Err(BinaryError::TooLong { limit: 2 }));
        assert_eq!(decode("0bAAEC", 2), Err(BinaryError::TooLong { limit: 2 }));
        assert_eq!(decode("0bAAE", 2), Ok(vec![0, 1]));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&bytes), 256), Ok(bytes));
    }
}
