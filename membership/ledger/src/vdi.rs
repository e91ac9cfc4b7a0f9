//! VDIs (virtual disks) as the ledger knows them: names, sizes and options, never their data.

use huntaway_wire::{OBJECT_SIZE_BYTES, Vid};

use crate::Name;

/// Most objects of one VDI: an object's index has 32 bits. With 4 MiB each, a VDI has at most 16 PiB.
pub const MAX_VDI_OBJECTS: u64 = 1 << 32;

/// Largest physical block a VDI may report, in bytes.
pub const MAX_PHYSICAL_BLOCK_SIZE_BYTES: u32 = 64 << 10;

/// A virtual disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vdi {
    /// Its id; never used again for another, also after it was deleted.
    pub vid: Vid,
    /// What people call it; no two have the same name.
    pub name: Name,
    /// Its identity towards initiators, for as long as it exists.
    pub uuid: [u8; 16],
    /// The root of its family: all versions with the same one share partitions.
    pub family: Vid,
    /// The version it was made from, whose data it shows where it has none of its own.
    pub parent: Option<Vid>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical block size in bytes: 512 or 4096.
    pub block_size: u32,
    /// Physical block size in bytes: what the disk reports as best for alignment.
    pub physical_block_size: u32,
    /// Space is taken only when it is written to.
    pub thin: bool,
    /// Ready for use: false only for a thick disk whose space is not all set aside yet.
    pub provisioned: bool,
    /// While a thick disk grows, the size that it is to have, in bytes: up to there, space may be set aside.
    pub growing_to_bytes: Option<u64>,
    /// Its data are being sanitized (SBC-3 §4.11), or were not to the end.
    pub sanitize: Option<Sanitize>,
}

/// A sanitize operation that is not known to have ended well. `may_exit` says whether initiators may go on with the disk
/// after it failed (AUSE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sanitize {
    /// It goes on. If the process that carries it out ends, it has failed.
    Running {
        /// Whether its failure may be left.
        may_exit: bool,
    },
    /// It failed, or was interrupted: some data are gone, and others may still be there.
    Failed {
        /// Whether that may be left.
        may_exit: bool,
    },
}

impl Vdi {
    /// What a new VDI like this one would be made with.
    pub fn options(&self) -> VdiOptions {
        VdiOptions {
            size_bytes: self.size_bytes,
            block_size: self.block_size,
            physical_block_size: self.physical_block_size,
            thin: self.thin,
        }
    }
}

/// What a new VDI is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VdiOptions {
    /// Size in bytes: a multiple of `block_size`.
    pub size_bytes: u64,
    /// Logical block size in bytes: 512 or 4096.
    pub block_size: u32,
    /// Physical block size in bytes: `block_size` times a power of two, at most [`MAX_PHYSICAL_BLOCK_SIZE_BYTES`].
    pub physical_block_size: u32,
    /// Whether space is taken only when it is written to.
    pub thin: bool,
}

/// Options that no VDI can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVdi {
    /// The block size is neither 512 nor 4096.
    #[error("the block size is 512 or 4096 bytes, not {block_size}")]
    BlockSize {
        /// The size asked for, in bytes.
        block_size: u32,
    },
    /// The physical block size does not fit the block size.
    #[error(
        "the physical block size is {block_size} bytes times a power of two, at most \
         {MAX_PHYSICAL_BLOCK_SIZE_BYTES}, not {physical_block_size}"
    )]
    PhysicalBlockSize {
        /// The size asked for, in bytes.
        physical_block_size: u32,
        /// The logical block size, in bytes.
        block_size: u32,
    },
    /// The size is 0, or not a whole number of blocks.
    #[error("the size is at least one block and a multiple of {block_size} bytes, not {size_bytes}")]
    Size {
        /// The size asked for, in bytes.
        size_bytes: u64,
        /// The logical block size, in bytes.
        block_size: u32,
    },
    /// The size takes more than [`MAX_VDI_OBJECTS`] objects.
    #[error("{size_bytes} bytes are more than a VDI can have ({})", max_size_bytes())]
    TooLarge {
        /// The size asked for, in bytes.
        size_bytes: u64,
    },
}

fn max_size_bytes() -> u64 {
    MAX_VDI_OBJECTS * u64::from(OBJECT_SIZE_BYTES)
}

impl VdiOptions {
    /// Checks that a VDI can have these options.
    ///
    /// # Errors
    /// [`InvalidVdi`] names the first one it cannot have.
    pub fn check(&self) -> Result<(), InvalidVdi> {
        let Self { size_bytes, block_size, physical_block_size, thin: _ } = *self;
        if !matches!(block_size, 512 | 4096) {
            return Err(InvalidVdi::BlockSize { block_size });
        }
        let whole = (block_size..=MAX_PHYSICAL_BLOCK_SIZE_BYTES).contains(&physical_block_size);
        if !whole || !physical_block_size.is_power_of_two() {
            return Err(InvalidVdi::PhysicalBlockSize { physical_block_size, block_size });
        }
        if size_bytes == 0 || !size_bytes.is_multiple_of(block_size.into()) {
            return Err(InvalidVdi::Size { size_bytes, block_size });
        }
        if size_bytes > max_size_bytes() {
            return Err(InvalidVdi::TooLarge { size_bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: VdiOptions =
        VdiOptions { size_bytes: 1 << 30, block_size: 512, physical_block_size: 4096, thin: true };

    #[test]
    fn sizes_are_whole_blocks_and_within_the_limit() {
        assert_eq!(GOOD.check(), Ok(()));
        assert_eq!(VdiOptions { size_bytes: 512, ..GOOD }.check(), Ok(()));
        assert_eq!(VdiOptions { size_bytes: 1 << 54, ..GOOD }.check(), Ok(()));
        let too_large = VdiOptions { size_bytes: (1 << 54) + 512, ..GOOD };
        assert_eq!(too_large.check(), Err(InvalidVdi::TooLarge { size_bytes: (1 << 54) + 512 }));
        for size_bytes in [0, 511, 1000, u64::MAX] {
            let refused = VdiOptions { size_bytes, ..GOOD }.check();
            assert_eq!(refused, Err(InvalidVdi::Size { size_bytes, block_size: 512 }));
        }
    }

    #[test]
    fn blocks_are_512_or_4096_bytes_and_physical_ones_no_smaller() {
        for block_size in [0, 1, 511, 1024, 8192, u32::MAX] {
            let refused = VdiOptions { block_size, ..GOOD }.check();
            assert_eq!(refused, Err(InvalidVdi::BlockSize { block_size }));
        }
        for (block_size, physical_block_size, good) in
            [(512, 512, true), (4096, 4096, true), (4096, 512, false), (512, 65536, true), (512, 1536, false)]
        {
            let checked = VdiOptions { block_size, physical_block_size, ..GOOD }.check();
            assert_eq!(checked.is_ok(), good, "{block_size} in {physical_block_size}");
        }
    }
}
