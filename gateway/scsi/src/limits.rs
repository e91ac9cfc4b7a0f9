//! What one command may ask for at most. The block limits VPD page (B0h) tells initiators.
//!
//! Limits that an initiator sees in blocks are kept here in bytes, so that they mean the same at every block size.

/// Most bytes one READ, WRITE, ORWRITE, VERIFY or WRITE AND VERIFY moves or checks.
pub const MAXIMUM_TRANSFER_BYTES: u64 = 8 * 1024 * 1024;

/// The transfer size at which throughput is best.
pub const OPTIMAL_TRANSFER_BYTES: u64 = 1024 * 1024;

/// Most bytes one WRITE SAME covers.
pub const MAXIMUM_WRITE_SAME_BYTES: u64 = 16 * 1024 * 1024;

/// Most blocks one COMPARE AND WRITE compares and writes. A block never spans two objects, so that one primary can do
/// both at once.
pub const MAXIMUM_COMPARE_AND_WRITE_BLOCKS: u8 = 1;

/// Most bytes one WRITE ATOMIC writes, and what its first block is aligned to. It divides an object's 4 MiB, so an atomic
/// write lies in one object: one record of its primary's log holds all of it. A boundary within it asks for less than that.
pub const MAXIMUM_ATOMIC_BYTES: u64 = 128 * 1024;

/// A WRITE ATOMIC writes multiples of this: whole blocks of the store, with which nothing is merged.
pub const ATOMIC_GRANULARITY_BYTES: u64 = 4096;

/// Most bytes one UNMAP covers in all its descriptors.
pub const MAXIMUM_UNMAP_BYTES: u64 = 512 * 1024 * 1024;

/// Most descriptors in one UNMAP.
pub const MAXIMUM_UNMAP_DESCRIPTORS: u32 = 256;

/// Space is given back in pieces of this size.
pub const UNMAP_GRANULARITY_BYTES: u64 = 4096;

/// Most descriptors in one answer to GET LBA STATUS.
pub const MAXIMUM_LBA_STATUS_DESCRIPTORS: usize = 256;

/// Characters of a product identification (SPC-4).
pub const MAXIMUM_PRODUCT_LENGTH: usize = 16;

/// Characters of a serial number; ours, so that INQUIRY pages stay small.
pub const MAXIMUM_SERIAL_LENGTH: usize = 64;

/// Bytes of an iSCSI name (RFC 7143 §4.2.7.1).
pub const MAXIMUM_TARGET_NAME_LENGTH: usize = 223;
