//! The description of one logical unit, and the two questions asked of it: what does this CDB come to, and what
//! does its parameter list. Both answers are pure functions of the description and the mode state.

use crate::command::compare_and_write;
use crate::limits;
use crate::mode::ModeState;
use crate::plan::{Action, BlockOperation, Compare, ParameterList, Pattern, Plan, Step};
use crate::sense::Sense;
use crate::table;

/// What the owner of a logical unit knows of it.
#[derive(Debug, Clone)]
pub struct LogicalUnitConfig {
    /// Identifies the logical unit for ever, the same through every target port: the designators in VPD page 83h
    /// are made of it.
    pub identifier: [u8; 16],
    /// The unit serial number (VPD page 80h), printable ASCII, at most
    /// [`MAXIMUM_SERIAL_LENGTH`](limits::MAXIMUM_SERIAL_LENGTH) characters.
    pub serial: String,
    /// The product identification, printable ASCII, at most 16 characters.
    pub product: String,
    /// The capacity in logical blocks, at least 1.
    pub blocks: u64,
    /// Bytes of a logical block: 512 or 4096.
    pub block_size: u32,
    /// Bytes of a physical block: a power of two from `block_size` to 64 KiB.
    pub physical_block_size: u32,
    /// Thin provisioned: UNMAP is offered.
    pub thin: bool,
    /// Every command that writes is refused.
    pub read_only: bool,
    /// Writes may be answered before they are on stable storage. If not set, initiators cannot set WCE.
    pub write_cache: bool,
    /// MODE SELECT can change nothing: others serve the disk, and would not know of it.
    pub modes_are_fixed: bool,
    /// Of a thin one: initiators are to be told when no more than this can be allocated, counted in whole threshold
    /// sets.
    pub soft_threshold_bytes: u64,
    /// The iSCSI name of the target.
    pub target_name: String,
    /// The target portal group tag of the portal in use; also the target port group.
    pub target_port_group: u16,
    /// RELATIVE TARGET PORT IDENTIFIER of the portal in use, not 0.
    pub relative_target_port: u16,
}

/// A [`LogicalUnitConfig`] that no logical unit can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There must be a block.
    #[error("a logical unit needs at least one block")]
    NoBlocks,
    /// The capacity in bytes must fit in 63 bits.
    #[error("{blocks} blocks of {block_size} bytes are too many")]
    TooLarge {
        /// As configured.
        blocks: u64,
        /// As configured.
        block_size: u32,
    },
    /// 512 and 4096 are the sizes we have.
    #[error("a logical block of {0} bytes is not supported, only 512 and 4096")]
    BlockSize(u32),
    /// See [`LogicalUnitConfig::physical_block_size`].
    #[error("a physical block of {0} bytes is not a power of two from the logical block to 65536 bytes")]
    PhysicalBlockSize(u32),
    /// A text is too long, or not printable ASCII (the target name: longer than an iSCSI name).
    #[error("the {field} {value:?} is longer than {maximum_length} bytes or not printable ASCII")]
    Text {
        /// Which text.
        field: &'static str,
        /// As configured.
        value: String,
        /// Most bytes it may have.
        maximum_length: usize,
    },
}

/// One logical unit as seen through one target port: an immutable description.
#[derive(Debug, Clone)]
pub struct LogicalUnit {
    config: LogicalUnitConfig,
}

/// The largest physical block we can describe without surprising anyone.
const MAXIMUM_PHYSICAL_BLOCK_BYTES: u32 = 65_536;

/// The largest capacity in bytes, so that byte offsets fit a signed 64-bit integer.
const MAXIMUM_CAPACITY_BYTES: u64 = i64::MAX as u64;

impl LogicalUnit {
    /// Checks the description.
    ///
    /// # Errors
    /// [`ConfigError`] says which field is impossible; correct it.
    pub fn new(config: LogicalUnitConfig) -> Result<Self, ConfigError> {
        let LogicalUnitConfig { blocks, block_size, physical_block_size, .. } = config;
        if !matches!(block_size, 512 | 4096) {
            return Err(ConfigError::BlockSize(block_size));
        }
        if !physical_block_size.is_power_of_two()
            || !(block_size..=MAXIMUM_PHYSICAL_BLOCK_BYTES).contains(&physical_block_size)
        {
            return Err(ConfigError::PhysicalBlockSize(physical_block_size));
        }
        if blocks == 0 {
            return Err(ConfigError::NoBlocks);
        }
        if blocks > MAXIMUM_CAPACITY_BYTES / u64::from(block_size) {
            return Err(ConfigError::TooLarge { blocks, block_size });
        }
        check_text("product", &config.product, limits::MAXIMUM_PRODUCT_LENGTH, is_printable_ascii)?;
        check_text("serial", &config.serial, limits::MAXIMUM_SERIAL_LENGTH, is_printable_ascii)?;
        let is_name = |name: &str| !name.is_empty() && !name.contains('\0');
        check_text("target name", &config.target_name, limits::MAXIMUM_TARGET_NAME_LENGTH, is_name)?;
        Ok(Self { config })
    }

    /// Decodes a CDB and checks every field of it.
    ///
    /// Unit attentions and reservations are judged before (see [`UnitAttentions`](crate::UnitAttentions)).
    ///
    /// # Errors
    /// The sense data to send with CHECK CONDITION; nothing else is to be done.
    pub fn plan(&self, modes: &ModeState, cdb: &[u8]) -> Result<Plan, Sense> {
        table::plan(self, modes, cdb)
    }

    /// Reads the write data of a command whose plan is [`Step::AfterData`].
    ///
    /// # Errors
    /// The sense data to send with CHECK CONDITION; nothing was changed. `data` that is shorter than the list is a
    /// PARAMETER LIST LENGTH ERROR.
    pub fn parse_parameters(
        &self,
        modes: &ModeState,
        list: ParameterList,
        data: &[u8],
    ) -> Result<Action, Sense> {
        let data = data.get(..list.length.into()).ok_or(Sense::parameter_list_length_error())?;
        (list.parse)(self, modes, list.flags, data)
    }

    /// Fits a plan to the write data that the initiator offers, which may be less or more than the CDB says.
    ///
    /// Of a WRITE, WRITE AND VERIFY, ORWRITE or comparing VERIFY the blocks that come in full are handled. `data_out` stays
    /// as it is, so that the residual count is exact: take `min(data_out, offered_bytes)` bytes. When the plan is
    /// [`Step::AfterData`] the parameter list itself tells whether it is complete.
    ///
    /// # Errors
    /// INVALID FIELD IN COMMAND INFORMATION UNIT when the offer ends inside a block, is less than all that WRITE ATOMIC
    /// wants, or not exactly the one block that WRITE SAME wants. INVALID FIELD IN CDB when the offer is not exactly the two halves that COMPARE AND
    /// WRITE wants: whoever offers data for 0 blocks (256, perhaps, in a field of 8 bits) must not take GOOD for a
    /// lock. The plan is unchanged.
    pub fn fit_data(&self, plan: &mut Plan, offered_bytes: u32) -> Result<(), Sense> {
        let Step::Now(Action::Block(operation)) = &mut plan.step else { return Ok(()) };
        let extent = match operation {
            BlockOperation::Write { extent, .. }
            | BlockOperation::WriteAndVerify { extent }
            | BlockOperation::OrWrite { extent, .. }
            | BlockOperation::Verify { extent, compare: Compare::Full } => extent,
            BlockOperation::CompareAndWrite { .. } => {
                return if offered_bytes == plan.data_out {
                    Ok(())
                } else {
                    Err(Sense::invalid_field_in_cdb(compare_and_write::BLOCKS_BYTE, None))
                };
            }
            BlockOperation::WriteAtomic { .. } if offered_bytes < plan.data_out => {
                return Err(Sense::invalid_data_length());
            }
            BlockOperation::WriteSame { pattern: Pattern::Data, .. }
            | BlockOperation::Verify { compare: Compare::SameBlock, .. }
                if plan.data_out > 0 =>
            {
                return if offered_bytes == plan.data_out {
                    Ok(())
                } else {
                    Err(Sense::invalid_data_length())
                };
            }
            _ => return Ok(()),
        };
        if offered_bytes < plan.data_out {
            if !offered_bytes.is_multiple_of(self.block_size()) {
                return Err(Sense::invalid_data_length());
            }
            extent.blocks = u64::from(offered_bytes / self.block_size());
        }
        Ok(())
    }

    /// The mode state of a logical unit that no MODE SELECT has touched.
    pub fn default_modes(&self) -> ModeState {
        self.limit_modes(ModeState::default())
    }

    /// The mode state in force where `modes` is set: what this logical unit is not configured to have is off.
    pub fn limit_modes(&self, modes: ModeState) -> ModeState {
        ModeState {
            write_cache: modes.write_cache && self.config.write_cache,
            threshold_reporting: modes.threshold_reporting && self.config.thin,
            ..modes
        }
    }

    /// What is set from now on where `before` was, and this logical unit's mode state becomes `modes`. What it cannot
    /// change stays: another logical unit of the same disk may be configured to have it.
    pub fn change_modes(&self, before: ModeState, modes: ModeState) -> ModeState {
        let changed = |is_changeable, new, old| if is_changeable { new } else { old };
        let Self { config } = self;
        ModeState {
            write_cache: changed(config.write_cache, modes.write_cache, before.write_cache),
            threshold_reporting: changed(config.thin, modes.threshold_reporting, before.threshold_reporting),
            ..modes
        }
    }

    /// The capacity in logical blocks.
    pub fn blocks(&self) -> u64 {
        self.config.blocks
    }

    /// Bytes of a logical block.
    pub fn block_size(&self) -> u32 {
        self.config.block_size
    }

    /// Whether space is allocated as it is written, and UNMAP is offered.
    pub fn is_thin(&self) -> bool {
        self.config.thin
    }

    /// Whether every command that writes is refused, whatever the mode pages say.
    pub fn is_read_only(&self) -> bool {
        self.config.read_only
    }

    pub(crate) fn config(&self) -> &LogicalUnitConfig {
        &self.config
    }

    /// The binary logarithm of the number of logical blocks in a physical one.
    pub(crate) fn physical_block_exponent(&self) -> u8 {
        (self.config.physical_block_size / self.config.block_size).trailing_zeros() as u8
    }

    /// The number of bytes of `blocks` logical blocks, for extents within the transfer limit.
    ///
    /// # Errors
    /// INVALID FIELD IN CDB for what cannot be asked for in one command.
    pub(crate) fn transfer_bytes(&self, blocks: u64) -> Result<u32, Sense> {
        blocks
            .checked_mul(u64::from(self.block_size()))
            .and_then(|bytes| u32::try_from(bytes).ok())
            .ok_or(Sense::invalid_field_in_cdb(0, None))
    }
}

fn check_text(
    field: &'static str,
    value: &str,
    maximum_length: usize,
    is_valid: impl Fn(&str) -> bool,
) -> Result<(), ConfigError> {
    if value.len() > maximum_length || !is_valid(value) {
        return Err(ConfigError::Text { field, value: value.to_owned(), maximum_length });
    }
    Ok(())
}

fn is_printable_ascii(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn error(change: impl Fn(&mut LogicalUnitConfig)) -> Option<ConfigError> {
        let mut config = example::config();
        change(&mut config);
        LogicalUnit::new(config).err()
    }

    #[test]
    fn impossible_descriptions_are_refused() {
        assert_eq!(error(|config| config.blocks = 0), Some(ConfigError::NoBlocks));
        assert_eq!(error(|config| config.block_size = 513), Some(ConfigError::BlockSize(513)));
        for size in [0, 256, 5000, 1 << 17] {
            let expected = Some(ConfigError::PhysicalBlockSize(size));
            assert_eq!(error(|config| config.physical_block_size = size), expected);
        }
        assert!(matches!(error(|config| config.blocks = u64::MAX), Some(ConfigError::TooLarge { .. })));
        let is_text = |error: Option<ConfigError>| matches!(error, Some(ConfigError::Text { .. }));
        assert!(is_text(error(|config| config.product = "x".repeat(17))));
        assert!(is_text(error(|config| config.serial = "caf\u{e9}".to_owned())));
        assert!(is_text(error(|config| config.target_name = String::new())));
        assert!(is_text(error(|config| config.target_name = "x".repeat(224))));
    }

    #[test]
    fn physical_block_exponent_counts_logical_blocks() {
        assert_eq!(example::thin_unit().physical_block_exponent(), 3);
        let config = LogicalUnitConfig { block_size: 4096, ..example::config() };
        assert_eq!(LogicalUnit::new(config).unwrap().physical_block_exponent(), 0);
    }
}
