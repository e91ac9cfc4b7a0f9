//! A SCSI block device server (SAM-5, SPC-4, SBC-3) as pure functions.
//!
//! This crate knows what a CDB means, what is wrong with it, and what to answer. It does not move data, keep
//! blocks, hold queues or know a transport: the code around it gathers write data, does the block operations and
//! sends data, status and sense.
//!
//! One command goes like this:
//!
//! ```
//! use huntaway_scsi::{
//!     Action, BlockOperation, LogicalUnit, LogicalUnitConfig, Sense, Step, UnitAttentions, request_sense,
//! };
//!
//! let unit = LogicalUnit::new(LogicalUnitConfig {
//!     identifier: [7; 16],
//!     serial: "07070707".into(),
//!     product: "VDI".into(),
//!     blocks: 2048,
//!     block_size: 512,
//!     physical_block_size: 4096,
//!     thin: true,
//!     read_only: false,
//!     write_cache: true,
//!     modes_are_fixed: false,
//!     soft_threshold_bytes: 64 << 20,
//!     target_name: "iqn.2026-11.dev.huntaway:demo".into(),
//!     target_port_group: 1,
//!     relative_target_port: 1,
//! })?;
//! let mut modes = unit.default_modes(); // one for each logical unit
//! let mut attentions = UnitAttentions::new(); // one for each I_T_L nexus
//!
//! // WRITE(10) of 2 blocks at LBA 16, for which the initiator offers 1024 bytes.
//! let (cdb, offered_bytes) = ([0x2a, 0, 0, 0, 0, 16, 0, 0, 2, 0], 1024);
//!
//! let outcome = (|| {
//!     if let Some(sense) = attentions.intercept(&cdb) {
//!         return Err(sense);
//!     }
//!     let mut plan = unit.plan(&modes, &cdb)?;
//!     unit.fit_data(&mut plan, offered_bytes)?;
//!     let data = vec![0xa5; plan.data_out.min(offered_bytes) as usize]; // gathered by the transport
//!     match plan.step {
//!         Step::Now(action) => Ok((action, data)),
//!         Step::AfterData(list) => Ok((unit.parse_parameters(&modes, list, &data)?, data)),
//!     }
//! })();
//!
//! match outcome {
//!     // CHECK CONDITION with these bytes:
//!     Err(sense) => drop(sense.encode(modes.sense_format())),
//!     // GOOD, after what the action asks for:
//!     Ok((Action::Block(BlockOperation::Write { extent, fua }), data)) => {
//!         assert_eq!((extent.lba, extent.blocks, fua, data.len()), (16, 2, false, 1024));
//!     }
//!     Ok((Action::SetModePages(new_modes), _)) => modes = new_modes,
//!     Ok((Action::RequestSense { format, allocation_length }, _)) => {
//!         drop(request_sense(attentions.take(), format, allocation_length));
//!     }
//!     Ok(_) => {}
//! }
//! # Ok::<(), huntaway_scsi::ConfigError>(())
//! ```
//!
//! - [`LogicalUnit`] describes a logical unit and answers `plan` and `parse_parameters`.
//! - [`Plan`], [`Action`] and [`BlockOperation`] are what a command comes to.
//! - [`Sense`] is why one failed; also what the code around uses for its own failures.
//! - [`Sanitization`] is what SANITIZE has brought a logical unit to, and which commands it stops.
//! - [`UnitAttentions`] is what an I_T_L nexus has yet to be told.
//! - [`plan_without_logical_unit`] answers for a LUN where nothing is.
//!
//! Inside, `table.rs` has one row for each command; `command/` decodes them, `vpd/` and `mode/` have one file for
//! each page.

mod absent;
mod addressing;
mod cdb;
mod command;
#[cfg(test)]
mod example;
mod extent;
pub mod limits;
mod logical_unit;
mod mode;
mod plan;
mod provisioning;
mod sanitize;
mod sense;
mod table;
mod unit_attention;
mod vpd;

pub use absent::plan_without_logical_unit;
pub use command::lba_status::{Provisioning, lba_status};
pub use command::report_luns::{MAXIMUM_FLAT_LUN, report_luns};
pub use command::request_sense::request_sense;
pub use extent::Extent;
pub use logical_unit::{ConfigError, LogicalUnit, LogicalUnitConfig};
pub use mode::ModeState;
pub use plan::{Action, BlockOperation, Compare, ParameterList, Pattern, Plan, SelectReport, Step};
pub use provisioning::{Resources, provisioning_log};
pub use sanitize::{Sanitization, SanitizeMethod, SanitizeRequest};
pub use sense::{
    FIXED_SENSE_LENGTH, FieldPointer, FieldSource, MAXIMUM_SENSE_LENGTH, Sense, SenseBytes, SenseFormat,
    SenseKey,
};
pub use table::{command_name, tells_of_the_target_only};
pub use unit_attention::{MAXIMUM_UNIT_ATTENTIONS, UnitAttentions};
