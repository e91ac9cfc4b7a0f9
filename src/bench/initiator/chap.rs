//! The initiator's answers in CHAP (RFC 7143 §12.1.3, RFC 1994 §4.1), with MD5, which every target knows.

use iscsi_target::text::decode_number;
use md5::{Digest, Md5};

use crate::bench::error::ProtocolError;

/// The algorithm's number in CHAP_A.
pub(super) const MD5_NUMBER: &str = "5";

/// A user and the secret shared with the target. `Debug` does not show it.
#[derive(Clone, PartialEq)]
pub(crate) struct Account {
    /// CHAP_N.
    pub(crate) user: String,
    /// Proves who we are.
    pub(crate) secret: Vec<u8>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

/// CHAP_R for the target's CHAP_I and CHAP_C.
///
/// # Errors
/// One of them is not what it should be.
pub(super) fn response(
    account: &Account,
    identifier: &str,
    challenge: &str,
) -> Result<String, ProtocolError> {
    let identifier = decode_number(identifier).and_then(|number| u8::try_from(number).ok());
    let identifier = identifier.ok_or(ProtocolError::Key("CHAP_I"))?;
    let challenge = bytes(challenge).ok_or(ProtocolError::Key("CHAP_C"))?;
    let hash = Md5::new().chain_update([identifier]).chain_update(&account.secret).chain_update(challenge);
    Ok(hash.finalize().iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}")))
}

/// A binary value: hexadecimal after `0x`, base64 after `0b` (RFC 7143 §6.1).
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.get(2..)?.as_bytes();
    match text.get(..2)? {
        "0x" | "0X" => digits.rchunks(2).rev().map(hexadecimal).collect(),
        "0b" | "0B" => base64(digits),
        _ => None,
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0, |byte: u8, digit| Some(byte << 4 | (*digit as char).to_digit(16)? as u8))
}

fn base64(digits: &[u8]) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count) = (0u32, 0);
    let mut bytes = Vec::new();
    for digit in digits.iter().take_while(|digit| **digit != b'=') {
        let value = ALPHABET.iter().position(|letter| letter == digit)?;
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values_are_read_in_both_notations() {
        assert_eq!(bytes("0x0aFf"), Some(vec![0x0a, 0xff]));
        assert_eq!(bytes("0xfff"), Some(vec![0x0f, 0xff]));
        assert_eq!(bytes("0bAAECAw=="), Some(vec![0, 1, 2, 3]));
        for bad in ["", "0", "12", "0xg0", "0b*"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_response_is_the_hash_of_identifier_secret_and_challenge() {
        let account = Account { user: "alice".into(), secret: b"correct-horse-battery".to_vec() };
        let expected = Md5::digest(b"\x07correct-horse-battery\x01\x02");
        let expected = expected.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        assert_eq!(response(&account, "7", "0x0102").unwrap(), expected);
        assert!(response(&account, "256", "0x0102").is_err());
        assert!(!format!("{account:?}").contains("horse"));
    }
}
