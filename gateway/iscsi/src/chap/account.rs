//! Who may log in by CHAP, and the target's own account for mutual CHAP.

use std::fmt;

use super::algorithm::ChapAlgorithm;

/// What CHAP is to prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chap {
    /// Initiators' accounts: any one of them lets the initiator in.
    pub accounts: Vec<ChapAccount>,
    /// The target's own account, with which it answers an initiator's challenge. Without one, an initiator that
    /// asks for mutual authentication is refused.
    pub mutual: Option<ChapAccount>,
    /// Algorithms the target agrees to; the initiator's order decides.
    pub algorithms: Vec<ChapAlgorithm>,
}

impl Chap {
    /// These accounts with every algorithm, one-way.
    #[must_use]
    pub fn new(accounts: Vec<ChapAccount>) -> Self {
        Self { accounts, mutual: None, algorithms: ChapAlgorithm::ALL.to_vec() }
    }
}

/// A CHAP name and its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChapAccount {
    /// The name (CHAP_N).
    pub user: String,
    /// The secret shared with the peer.
    pub secret: Secret,
}

/// A shared secret. It shows itself to nobody: `Debug` prints `***`. Comparing two takes a time that depends on them: it
/// is for configured ones, never for what a peer sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Wraps the secret's bytes. RFC 7143 §9.2.1 wants at least 12 of them, random; checking that is for whoever
    /// reads the configuration.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::{Chap, ChapAccount, Secret};

    #[test]
    fn debug_output_hides_secrets() {
        let account = ChapAccount { user: "alice".into(), secret: Secret::new(b"correct horse") };
        let shown = format!("{:?}", Chap::new(vec![account]));
        assert!(shown.contains("alice"));
        assert!(shown.contains("***"));
        assert!(!shown.contains("correct"));
        assert!(!shown.contains("99, 111"), "no byte list either: {shown}");
    }
}
