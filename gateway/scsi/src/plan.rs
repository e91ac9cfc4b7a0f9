//! What a command comes to: the write data it wants, and what is to be done. The code around this crate does it.

use crate::extent::Extent;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::sanitize::SanitizeRequest;
use crate::sense::{Sense, SenseFormat};
use smallvec::SmallVec;

/// A decoded and checked command, before any data moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How many bytes of write data the command wants. The initiator may offer fewer:
    /// see [`LogicalUnit::fit_data`](crate::LogicalUnit::fit_data).
    pub data_out: u32,
    /// What to do.
    pub step: Step,
}

/// Whether a command can be acted on before its write data has been read.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Do this. If there is write data, it belongs to the block operation, unread.
    Now(Action),
    /// Gather `data_out` bytes, then ask [`LogicalUnit::parse_parameters`](crate::LogicalUnit::parse_parameters).
    AfterData(ParameterList),
}

/// What is to be done for a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send this, already cut to the allocation length, and GOOD.
    Data(Vec<u8>),
    /// Answer GOOD.
    Good,
    /// Do this to the blocks, then answer GOOD, with the data where there is some.
    Block(BlockOperation),
    /// REPORT LUNS: send what [`report_luns`](crate::report_luns) makes of the LUNs this initiator may see.
    LunInventory {
        /// Which LUNs are asked for.
        select_report: SelectReport,
        /// Most bytes to send.
        allocation_length: u32,
    },
    /// MODE SELECT: this is the new mode state. If it differs from the old one, every *other* I_T nexus of the
    /// logical unit gets the unit attention [`Sense::mode_parameters_changed`].
    SetModePages(ModeState),
    /// LOG SENSE: send what [`provisioning_log`](crate::provisioning_log) makes of the resources there are.
    ProvisioningLog {
        /// The PARAMETER POINTER.
        first_parameter: u16,
        /// Most bytes to send.
        allocation_length: u32,
    },
    /// SANITIZE: begin this, if [`Sanitization::check_begin`](crate::Sanitization::check_begin) allows it.
    Sanitize(SanitizeRequest),
    /// SANITIZE: forget that the last operation failed, if
    /// [`Sanitization::check_exit`](crate::Sanitization::check_exit) allows it.
    ExitSanitizeFailure,
    /// REQUEST SENSE: send what [`request_sense`](crate::request_sense) makes of the oldest pending unit attention or,
    /// without one, of what [`Sanitization::sense`](crate::Sanitization::sense) tells.
    RequestSense {
        /// The format that the DESC bit asks for.
        format: SenseFormat,
        /// Most bytes to send.
        allocation_length: u32,
    },
}

/// Something done to the blocks of the logical unit. `fua` says that the effect must be on stable storage before
/// GOOD: the command's FUA bit is set, or the write cache is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockOperation {
    /// Send the blocks.
    Read {
        /// Which blocks.
        extent: Extent,
        /// They must be on stable storage before they are sent.
        fua: bool,
    },
    /// Write the data to the blocks.
    Write {
        /// Which blocks.
        extent: Extent,
        /// Stable before GOOD.
        fua: bool,
    },
    /// Write the data to the blocks, all of them or none, whatever happens; no reader finds a part of it. It never
    /// crosses a multiple of [`MAXIMUM_ATOMIC_BYTES`](crate::limits::MAXIMUM_ATOMIC_BYTES).
    WriteAtomic {
        /// Which blocks.
        extent: Extent,
        /// Stable before GOOD.
        fua: bool,
    },
    /// Write the data to the blocks, stable before GOOD, and check that they can be read; whether the bytes are
    /// compared as well (BYTCHK) makes no difference where every block carries a checksum.
    WriteAndVerify {
        /// Which blocks.
        extent: Extent,
    },
    /// Compare the blocks with the first half of the data; if they are equal write the second half to them, so that
    /// nothing comes between comparing and writing. A difference is [`Sense::miscompare`], and nothing is written.
    CompareAndWrite {
        /// Which blocks: at most [`MAXIMUM_COMPARE_AND_WRITE_BLOCKS`](crate::limits::MAXIMUM_COMPARE_AND_WRITE_BLOCKS).
        extent: Extent,
        /// Stable before GOOD.
        fua: bool,
    },
    /// Set the bits of the blocks that are set in the data, so that no bit that others set meanwhile is lost.
    OrWrite {
        /// Which blocks.
        extent: Extent,
        /// Stable before GOOD.
        fua: bool,
    },
    /// Check that the blocks can be read, and perhaps that they hold the data.
    Verify {
        /// Which blocks.
        extent: Extent,
        /// With what the blocks are compared. A difference is [`Sense::miscompare`].
        compare: Compare,
    },
    /// Write one block of data to each of the blocks.
    WriteSame {
        /// Which blocks.
        extent: Extent,
        /// The blocks may become holes, **if the pattern is all zeros**; otherwise they must be written
        /// (SBC-3: what reads back must be the pattern).
        unmap: bool,
        /// What to write.
        pattern: Pattern,
        /// Stable before GOOD.
        fua: bool,
    },
    /// Give the blocks' space back; they read as zeros afterwards.
    Unmap {
        /// Which blocks; may be empty.
        extents: SmallVec<[Extent; 4]>,
        /// Stable before GOOD.
        fua: bool,
    },
    /// Bring earlier writes to the blocks to stable storage.
    Flush {
        /// Which blocks.
        extent: Extent,
        /// GOOD may be sent at once (IMMED).
        immediate: bool,
    },
    /// The blocks will be read soon.
    Prefetch {
        /// Which blocks.
        extent: Extent,
        /// GOOD may be sent at once (IMMED).
        immediate: bool,
    },
    /// Send what [`lba_status`](crate::lba_status) makes of which blocks hold data.
    LbaStatus {
        /// From this block to the end of the logical unit.
        extent: Extent,
        /// More descriptors than this are not wanted; at least 1.
        maximum_descriptors: usize,
        /// Most bytes to send.
        allocation_length: u32,
    },
}

/// What VERIFY compares the blocks with (the BYTCHK field, SBC-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Nothing: they must be readable.
    None,
    /// The write data, as long as the extent.
    Full,
    /// One block of write data, the same for every block of the extent.
    SameBlock,
}

/// What WRITE SAME writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Zeros; there is no write data (NDOB).
    Zero,
    /// The write data, one block.
    Data,
}

/// The SELECT REPORT field of REPORT LUNS (SPC-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectReport {
    /// Logical units, as opposed to well known ones (00h).
    LogicalUnits,
    /// Well known logical units only (01h): there are none.
    WellKnown,
    /// Both (02h).
    All,
}

/// Which parameter list a command's write data is. Opaque: only the command that made it can read the list.
#[derive(Clone, Copy)]
pub struct ParameterList {
    pub(crate) name: &'static str,
    /// The PARAMETER LIST LENGTH: less data than this is not the whole list.
    pub(crate) length: u16,
    /// What of the CDB's byte 1 decides how the list is read.
    pub(crate) flags: u8,
    pub(crate) parse: ParseParameters,
}

/// Reads a whole parameter list, with the flags of the CDB.
pub(crate) type ParseParameters = fn(&LogicalUnit, &ModeState, u8, &[u8]) -> Result<Action, Sense>;

impl std::fmt::Debug for ParameterList {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ParameterList({}, {} bytes)", self.name, self.length)
    }
}

impl PartialEq for ParameterList {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.length, self.flags) == (other.name, other.length, other.flags)
    }
}

impl Plan {
    /// A command that needs no write data.
    pub(crate) fn now(action: Action) -> Self {
        Self { data_out: 0, step: Step::Now(action) }
    }

    /// A block operation without write data.
    pub(crate) fn block(operation: BlockOperation) -> Self {
        Self::now(Action::Block(operation))
    }

    /// A block operation with `data_out` bytes of write data.
    pub(crate) fn block_with_data(data_out: u32, operation: BlockOperation) -> Self {
        Self { data_out, step: Step::Now(Action::Block(operation)) }
    }

    /// Answers with the first `allocation_length` bytes of `data`.
    pub(crate) fn data(data: Vec<u8>, allocation_length: u32) -> Self {
        Self::now(Action::Data(cut(data, allocation_length)))
    }

    /// Wants a parameter list first.
    pub(crate) fn after_data(list: ParameterList) -> Self {
        Self { data_out: list.length.into(), step: Step::AfterData(list) }
    }
}

/// `data` without what lies beyond the allocation length (SPC-4).
pub(crate) fn cut(mut data: Vec<u8>, allocation_length: u32) -> Vec<u8> {
    data.truncate(usize::try_from(allocation_length).unwrap_or(usize::MAX));
    data
}
