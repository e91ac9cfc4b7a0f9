//! One file per family of commands: from a CDB without unknown bits to a plan.
//!
//! Adding a command is one file here and one row in `table.rs`.

pub(crate) mod capacity;
pub(crate) mod compare_and_write;
pub(crate) mod inquiry;
pub(crate) mod lba_status;
pub(crate) mod log_sense;
pub(crate) mod mode_select;
pub(crate) mod mode_sense;
pub(crate) mod orwrite;
pub(crate) mod prefetch;
pub(crate) mod read;
pub(crate) mod read_defect_data;
pub(crate) mod report_luns;
pub(crate) mod report_opcodes;
pub(crate) mod request_sense;
pub(crate) mod sanitize;
pub(crate) mod start_stop;
pub(crate) mod sync_cache;
pub(crate) mod test_unit_ready;
pub(crate) mod unmap;
pub(crate) mod verify;
pub(crate) mod write;
pub(crate) mod write_atomic;
pub(crate) mod write_same;
