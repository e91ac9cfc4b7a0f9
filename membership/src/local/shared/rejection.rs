//! Why a keeper takes no follower.

use huntaway_wire::encoding::{Encoding, Malformed, Reader, Writer};

use super::message::VERSION;

/// Why a keeper takes no follower, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No version is spoken by both.
    #[error(
        "the keeper of the ledger speaks version {oldest} to {newest} of this, this program {VERSION}: update \
         whichever of both is older"
    )]
    Versions {
        /// The oldest that the keeper speaks.
        oldest: u8,
        /// The newest.
        newest: u8,
    },
    /// It keeps the ledger of another cluster.
    #[error("this is the keeper of another cluster's ledger: see that the address is that of this cluster's")]
    Cluster,
    /// The other side has another key.
    #[error("the keeper has another cluster key than this program: see that both are given the same one")]
    Key,
    /// There are as many followers as there may be.
    #[error("the keeper has as many followers as it may have: it is tried again")]
    Full,
    /// The keeper knows less than the follower.
    #[error(
        "the keeper's ledger ends with record {last}, and does not have what this program knows of: an old copy \
         of the ledger is in use; put the newest one back"
    )]
    OldCopy {
        /// Its last record.
        last: u64,
    },
    /// The certificate that the follower showed is for another name.
    #[error(
        "the keeper was shown a certificate for another name than the ledger has for this process: see that it has the one \
         that was made for it"
    )]
    Certificate,
}

impl Encoding for Rejection {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Versions { oldest, newest } => to.raw(&[1, *oldest, *newest]),
            Self::Cluster => to.code(2),
            Self::Key => to.code(3),
            Self::Full => to.code(4),
            Self::OldCopy { last } => {
                to.code(5);
                last.encode(to);
            }
            Self::Certificate => to.code(6),
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.code()? {
            1 => Self::Versions { oldest: from.code()?, newest: from.code()? },
            2 => Self::Cluster,
            3 => Self::Key,
            4 => Self::Full,
            5 => Self::OldCopy { last: u64::decode(from)? },
            6 => Self::Certificate,
            code => return Err(Malformed::Unknown { what: "reason for a rejection", code }),
        })
    }
}
