//! The hashes CHAP may use (RFC 7143 §12.1.3; numbers from IANA's list of PPP authentication algorithms).

use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;
use sha3::Sha3_256;
use smallvec::SmallVec;

/// A CHAP algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChapAlgorithm {
    /// CHAP with MD5, which every initiator offers.
    Md5,
    /// CHAP with SHA-1.
    Sha1,
    /// CHAP with SHA-256.
    Sha256,
    /// CHAP with SHA3-256.
    Sha3_256,
}

/// A challenge response; the longest hash has 32 bytes.
pub(super) type Response = SmallVec<[u8; 32]>;

impl ChapAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha3_256];

    /// Its number in CHAP_A.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Md5 => 5,
            Self::Sha1 => 6,
            Self::Sha256 => 7,
            Self::Sha3_256 => 8,
        }
    }

    /// Bytes of a response. Challenges that we send have the same length.
    #[must_use]
    pub const fn response_bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3_256 => 32,
        }
    }

    /// The response to a challenge: the hash of identifier, secret and challenge (RFC 1994 §4.1).
    pub(super) fn response(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Response {
        #[cfg(test)]
        COMPUTED.with(|computed| computed.set(computed.get() + 1));
        match self {
            Self::Md5 => hash::<Md5>(identifier, secret, challenge),
            Self::Sha1 => hash::<Sha1>(identifier, secret, challenge),
            Self::Sha256 => hash::<Sha256>(identifier, secret, challenge),
            Self::Sha3_256 => hash::<Sha3_256>(identifier, secret, challenge),
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Responses computed by this thread.
    pub(super) static COMPUTED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

fn hash<D: Digest>(identifier: u8, secret: &[u8], challenge: &[u8]) -> Response {
    let digest = D::new().chain_update([identifier]).chain_update(secret).chain_update(challenge).finalize();
    Response::from_slice(&digest)
}
