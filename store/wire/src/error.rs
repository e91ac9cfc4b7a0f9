//! Why a store did not do what it was asked: refused (ask again) or broken (asking again will not help).

use crate::{Oid, Pepoch};

/// A request that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was done; the same request may succeed later or elsewhere.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something is broken; a person must look.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// Nothing was done and nothing is wrong with the data: what the sender should do next is in the variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sender's view of the partition is old: look up the primary again and resend with the newer pepoch.
    #[error("the partition's pepoch is {} by now", newest.0)]
    StaleEpoch {
        /// The newest pepoch the store knows.
        newest: Pepoch,
    },
    /// No room. Free some (UNMAP, delete) and try again.
    #[error("not enough space: {needed_bytes} bytes more are needed")]
    NoSpace {
        /// At least this much must become free.
        needed_bytes: u64,
    },
    /// It was given up on purpose: a reset came after it was received. Whoever still wants it sends it anew.
    #[error("the request was given up")]
    GivenUp,
    /// No store that serves it was reached in time, from here: it may be from another gateway.
    #[error("no store that serves it answered in time")]
    Unavailable,
    /// The store is shutting down or not yet open.
    #[error("the store is not serving")]
    NotServing,
}

/// The store cannot answer truthfully, so it does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A block does not match its checksum and no copy is left to read it from.
    #[error("block {block} of object {oid} does not match its checksum")]
    CorruptBlock {
        /// The object.
        oid: Oid,
        /// The block within the object, in blocks of 4 KiB.
        block: u32,
    },
    /// The index lists the object but its file is missing or unreadable.
    #[error("object {oid} is in the index but its file is missing or damaged")]
    DamagedObject {
        /// The object.
        oid: Oid,
    },
    /// The disk that holds the partition has failed and was stopped, or could not be opened.
    #[error("disk {disk} has failed or is missing")]
    DiskFailed {
        /// The disk's directory.
        disk: String,
    },
}
