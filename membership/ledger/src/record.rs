//! Records: what a ledger is made of.

use huntaway_wire::{NodeId, Vid};

use crate::frame;
use crate::{
    DecodeError, DiskRecord, EncodeError, EpochRecord, Incarnation, Name, RecordHash, RecoveryPolicy,
    Sanitize, SetRecord, StartId, VdiOptions,
};

/// One agreed step of the cluster: an epoch or an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Who belongs to the cluster from now on.
    Epoch(EpochRecord),
    /// How many replicas partitions have: one each, until something else is recorded. It may come before the first epoch.
    Copies {
        /// So many, as far as there are nodes that keep data.
        copies: usize,
        /// Fewer have to be in sync for writes to be taken.
        min_copies: usize,
    },
    /// A process started on `node`, which is alone: raises the pepoch of every partition. Where there are several nodes, this takes a
    /// [`SetRecord::NodeStarted`].
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
    /// A VDI is gone, and with it all that it had. Nothing was made from it; see [`DiskRecord::DeleteDisk`] for others.
    DeleteVdi {
        /// The VDI.
        vid: Vid,
    },
    /// A VDI was made that shows what a snapshot has.
    CloneVdi {
        /// The version that the snapshot froze.
        of: Vid,
        /// The id of the new VDI, higher than any before it.
        vid: Vid,
        /// Its name, which no other VDI has.
        name: Name,
        /// Its identity towards initiators.
        uuid: [u8; 16],
    },
    /// What recovery may take from now on.
    Recovery(RecoveryPolicy),
    /// A gateway that keeps no data started: the one of that name before it is no more.
    GatewayStarted {
        /// Its name, which no node has.
        name: Name,
        /// What its processes are called by: always the same, and drawn at random the first time.
        node: NodeId,
        /// The process: 1, or one more than the last one.
        incarnation: Incarnation,
        /// Drawn at random.
        start: StartId,
    },
    /// About nodes, and which of them have what.
    Sets(SetRecord),
    /// About snapshots, and what is made from them.
    Disks(DiskRecord),
}

impl Record {
    /// The same, but that what is new in it gets this vid.
    pub fn with_vid(self, vid: Vid) -> Self {
        match self {
            Self::CreateVdi { name, uuid, options, .. } => Self::CreateVdi { vid, name, uuid, options },
            Self::CloneVdi { of, name, uuid, .. } => Self::CloneVdi { of, vid, name, uuid },
            record => record,
        }
    }

    /// The vid of what is new in it.
    pub fn new_vid(&self) -> Option<Vid> {
        match self {
            Self::CreateVdi { vid, .. } | Self::CloneVdi { vid, .. } => Some(*vid),
            _ => None,
        }
    }

    /// Whether this is what became of `proposed`, or of something that says the same.
    pub fn carries_out(&self, proposed: &Self) -> bool {
        match self.new_vid() {
            Some(vid) => proposed.clone().with_vid(vid) == *self,
            None => proposed == self,
        }
    }

    /// As bytes that are no part of a ledger, to be proposed.
    ///
    /// # Errors
    /// [`EncodeError`]: no ledger could have it.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        frame::encode(0, RecordHash::default(), self)
    }

    /// What [`Self::to_bytes`] made.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (record, length) = frame::decode(0, RecordHash::default(), bytes)?;
        if length == bytes.len() { Ok(record) } else { Err(DecodeError::Payload) }
    }
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
