//! The cluster's key, and proofs that one has it: HMAC-SHA256 (RFC 2104) over what both sides drew at random.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Bytes of a key, of a random number, and of a proof.
pub const KEY_BYTES: usize = 32;

const BLOCK_BYTES: usize = 64;

/// What all processes of a cluster have, and nobody else. It is never shown.
#[derive(Clone)]
pub struct ClusterKey([u8; KEY_BYTES]);

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cluster's key is {} hexadecimal digits", 2 * KEY_BYTES)]
pub struct InvalidKey;

impl ClusterKey {
    /// A key of these bytes, which were drawn at random.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The proof of whoever has the key and plays this part in the exchange of these messages. Each side puts something into them
    /// that it drew at random, so it is good for no other exchange.
    pub fn proof(&self, part: &[u8], messages: [&[u8]; 2]) -> [u8; KEY_BYTES] {
        let [part_length, first, second] =
            [part, messages[0], messages[1]].map(|bytes| (bytes.len() as u64).to_le_bytes());
        hmac(&self.0, &[&part_length, part, &first, messages[0], &second, messages[1]])
    }

    /// Whether it is that one. How long this takes tells nothing of the key.
    pub fn is_proof(&self, proof: &[u8; KEY_BYTES], part: &[u8], messages: [&[u8]; 2]) -> bool {
        self.proof(part, messages).ct_eq(proof).into()
    }
}

impl FromStr for ClusterKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let text = text.trim().as_bytes();
        if text.len() != 2 * KEY_BYTES {
            return Err(InvalidKey);
        }
        let mut bytes = [0; KEY_BYTES];
        for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(InvalidKey);
            // Two digits are less than 256.
            *byte = (digit(digits[0])? * 16 + digit(digits[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

/// `key` is no longer than a block.
fn hmac(key: &[u8], messages: &[&[u8]]) -> [u8; KEY_BYTES] {
    let padded = |pad: u8| {
        let mut block = [pad; BLOCK_BYTES];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let mut inner = Sha256::new_with_prefix(padded(0x36));
    messages.iter().for_each(|message| inner.update(message));
    let mut outer = Sha256::new_with_prefix(padded(0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn proofs_are_those_of_rfc_4231() {
        let first = hmac(&[0x0b; 20], &[b"Hi ", b"There"]);
        assert_eq!(hex(&first), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        let second = hmac(b"Jefe", &[b"what do ya want for nothing?"]);
        assert_eq!(hex(&second), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn a_proof_is_for_one_part_of_one_exchange() {
        let key = ClusterKey::new([7; KEY_BYTES]);
        let proof = key.proof(b"keeper", [b"a", b"b"]);
        assert!(key.is_proof(&proof, b"keeper", [b"a", b"b"]));
        assert!(!key.is_proof(&proof, b"member", [b"a", b"b"]));
        assert!(!key.is_proof(&proof, b"keeper", [b"b", b"b"]));
        assert!(!key.is_proof(&proof, b"keeper", [b"", b"ab"]));
        assert!(!ClusterKey::new([8; KEY_BYTES]).is_proof(&proof, b"keeper", [b"a", b"b"]));
    }

    #[test]
    fn a_key_is_read_from_its_digits_and_never_shown() {
        let key: ClusterKey = format!("{}\n", "0aF1".repeat(16)).parse().unwrap();
        assert_eq!(key.0[..2], [0x0a, 0xf1]);
        assert_eq!(format!("{key:?}"), "ClusterKey(..)");
        for text in ["", "0af1", &"0g".repeat(32), &"0".repeat(65)] {
            assert!(text.parse::<ClusterKey>().is_err(), "{text}");
        }
    }
}
