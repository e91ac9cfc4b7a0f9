//! Records: what a ledger is made of.

use huntaway_wire::{NodeId, Vid};

use crate::{EpochRecord, Incarnation, Name, Sanitize, VdiOptions};

/// One agreed step of the cluster: an epoch or an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Who belongs to the cluster from now on.
    Epoch(EpochRecord),
    /// A process started on `node`: raises the pepoch of every partition the node is in sync for.
    Incarnation {
        /// The node.
        node: NodeId,
        /// The new process: a higher number than any before it on that node.
        incarnation: Incarnation,
    },
    /// A VDI was made.
    CreateVdi {
        /// Its id, higher than any before it.
        vid: Vid,
        /// Its name, which no other VDI has.
        name: Name,
        /// Its identity towards initiators.
        uuid: [u8; 16],
        /// What it is.
        options: VdiOptions,
    },
    /// All space of a thick VDI is set aside: it may be used from now on.
    ProvisionedVdi {
        /// The VDI.
        vid: Vid,
    },
    /// A VDI has another size. What lay beyond a smaller one is gone from the stores before this is recorded, and what
    /// a larger one of a thick VDI takes is set aside.
    ResizeVdi {
        /// The VDI.
        vid: Vid,
        /// Its new size, in bytes.
        size_bytes: u64,
    },
    /// A thick VDI is about to grow: until its next [`Self::ResizeVdi`], space beyond its end may be set aside.
    GrowVdi {
        /// The VDI.
        vid: Vid,
        /// The size that it is to have, in bytes.
        size_bytes: u64,
    },
    /// A VDI's data begin to be sanitized, or that has ended.
    SanitizeVdi {
        /// The VDI.
        vid: Vid,
        /// How that stands; `None`: it ended well, or its failure was left.
        sanitize: Option<Sanitize>,
    },
    /// A VDI is gone; the stores free what no other VDI shows.
    DeleteVdi {
        /// The VDI.
        vid: Vid,
    },
}

/// What anyone may ask a driver to put into the ledger. [`State::record_for`](crate::State::record_for) makes the
/// record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Make a VDI.
    CreateVdi {
        /// Its name, which no other VDI has.
        name: Name,
        /// What it is.
        options: VdiOptions,
    },
    /// All space of a thick VDI is set aside.
    ProvisionedVdi {
        /// The VDI.
        vid: Vid,
    },
    /// Begin to set space aside for a thick VDI that grows.
    GrowVdi {
        /// The VDI.
        vid: Vid,
        /// The size that it is to have, in bytes.
        size_bytes: u64,
    },
    /// Give a VDI another size, for which the stores are prepared. Its own size ends a growth that came to nothing.
    ResizeVdi {
        /// The VDI.
        vid: Vid,
        /// Its new size, in bytes.
        size_bytes: u64,
    },
    /// Note how sanitizing a VDI's data stands.
    SanitizeVdi {
        /// The VDI.
        vid: Vid,
        /// `None`: nothing is the matter.
        sanitize: Option<Sanitize>,
    },
    /// Delete a VDI.
    DeleteVdi {
        /// The VDI.
        vid: Vid,
    },
}
