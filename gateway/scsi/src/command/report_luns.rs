//! REPORT LUNS (SPC-4). Which LUNs an initiator may see is not known here: the data are made by
//! [`report_luns`] from the list that the caller has.

use crate::cdb::Cdb;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{Action, Plan, SelectReport, cut};
use crate::sense::Sense;

/// LUNs above this one have no flat address (SAM-5).
pub const MAXIMUM_FLAT_LUN: u16 = 0x3fff;

/// The peripheral device addressing method reaches LUNs below this one.
const FIRST_FLAT_LUN: u16 = 0x100;
const FLAT_ADDRESSING: u16 = 0x4000;

pub(crate) fn decode(_: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    plan(cdb)
}

/// REPORT LUNS is answered the same whether there is a logical unit at the LUN or not.
pub(crate) fn plan(cdb: &Cdb) -> Result<Plan, Sense> {
    let select_report = match cdb.byte(2) {
        0x00 => SelectReport::LogicalUnits,
        0x01 => SelectReport::WellKnown,
        0x02 => SelectReport::All,
        _ => return Err(Sense::invalid_field_in_cdb(2, None)),
    };
    Ok(Plan::now(Action::LunInventory { select_report, allocation_length: cdb.u32(6) }))
}

/// The data that REPORT LUNS sends. `luns` are the flat LUNs that the initiator may see, in ascending order; those
/// above [`MAXIMUM_FLAT_LUN`] are left out.
pub fn report_luns(
    luns: impl IntoIterator<Item = u16>,
    select_report: SelectReport,
    allocation_length: u32,
) -> Vec<u8> {
    let mut data = vec![0; 8];
    if select_report != SelectReport::WellKnown {
        for lun in luns.into_iter().filter(|lun| *lun <= MAXIMUM_FLAT_LUN) {
            data.extend_from_slice(&encode_lun(lun));
        }
    }
    let list_length = (data.len() - 8) as u32;
    data[0..4].copy_from_slice(&list_length.to_be_bytes());
    cut(data, allocation_length)
}

/// The 8-byte address of a LUN up to [`MAXIMUM_FLAT_LUN`]: peripheral device addressing below 256, flat above.
fn encode_lun(lun: u16) -> [u8; 8] {
    let address = if lun < FIRST_FLAT_LUN { lun } else { FLAT_ADDRESSING | lun };
    let [high, low] = address.to_be_bytes();
    [high, low, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_inventory() {
        let data = report_luns([0, 1, 0x123], SelectReport::LogicalUnits, 512);
        assert_eq!(data.len(), 32);
        assert_eq!(&data[..8], [0, 0, 0, 24, 0, 0, 0, 0]);
        assert_eq!(&data[16..24], [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&data[24..], [0x41, 0x23, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn length_tells_of_what_is_cut_off() {
        let data = report_luns([0, 1, 2], SelectReport::All, 16);
        assert_eq!(data.len(), 16);
        assert_eq!(data[3], 24);
    }

    #[test]
    fn there_are_no_well_known_logical_units() {
        assert_eq!(report_luns([0, 1], SelectReport::WellKnown, 512), [0; 8]);
    }
}
