//! LOG SENSE (SPC-4): which log pages there are, and on thin logical units the logical block provisioning page. Log
//! parameters are not saved (SP), and none of them is a counter, so PC makes no difference.

use crate::cdb::Cdb;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{Action, Plan};
use crate::provisioning::{PROVISIONING_PAGE, USED_PARAMETER};
use crate::sense::Sense;

const SUPPORTED_PAGES: u8 = 0x00;
const ALL_SUBPAGES: u8 = 0xff;
/// Where the PARAMETER POINTER is.
const POINTER_BYTE: u16 = 5;

pub(crate) fn decode(unit: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let (code, subpage) = (cdb.byte(2) & 0x3f, cdb.byte(3));
    let (pointer, allocation_length) = (cdb.u16(5), u32::from(cdb.u16(7)));
    let pages = pages(unit);
    if !pages.iter().any(|(page, _)| *page == code) {
        return Err(Sense::invalid_field_in_cdb(2, Some(5)));
    }
    if !pages.contains(&(code, subpage)) {
        return Err(Sense::invalid_field_in_cdb(3, None));
    }
    let last_parameter = if code == PROVISIONING_PAGE { USED_PARAMETER } else { 0 };
    if pointer > last_parameter {
        return Err(Sense::invalid_field_in_cdb(POINTER_BYTE, None));
    }
    if code == PROVISIONING_PAGE {
        return Ok(Plan::now(Action::ProvisioningLog { first_parameter: pointer, allocation_length }));
    }
    Ok(Plan::data(supported(&pages, subpage == ALL_SUBPAGES), allocation_length))
}

/// The pages and subpages there are, in ascending order.
fn pages(unit: &LogicalUnit) -> Vec<(u8, u8)> {
    let mut pages = vec![(SUPPORTED_PAGES, 0), (SUPPORTED_PAGES, ALL_SUBPAGES)];
    if unit.is_thin() {
        pages.push((PROVISIONING_PAGE, 0));
    }
    pages
}

/// The supported log pages page, or with their subpages.
fn supported(pages: &[(u8, u8)], with_subpages: bool) -> Vec<u8> {
    const SPF: u8 = 0x40;
    let (header, list): (_, Vec<u8>) = if with_subpages {
        ([SPF, ALL_SUBPAGES], pages.iter().flat_map(|(code, subpage)| [*code, *subpage]).collect())
    } else {
        let whole = pages.iter().filter(|(_, subpage)| *subpage == 0);
        ([SUPPORTED_PAGES, 0], whole.map(|(code, _)| *code).collect())
    };
    let length = (list.len() as u16).to_be_bytes();
    [&header[..], &length, &list].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn log_sense(page: u8, subpage: u8, pointer: u8, allocation_length: u8) -> [u8; 10] {
        [0x4d, 0, page, subpage, 0, 0, pointer, 0, allocation_length, 0]
    }

    #[test]
    fn golden_lists_of_pages() {
        let (thin, thick) = (example::thin_unit(), example::thick_unit());
        assert_eq!(example::data(&thin, &log_sense(0, 0, 0, 255)), [0, 0, 0, 2, 0x00, 0x0c]);
        assert_eq!(example::data(&thick, &log_sense(0, 0, 0, 255)), [0, 0, 0, 1, 0x00]);
        let subpages = [0x40, 0xff, 0, 6, 0, 0, 0, 0xff, 0x0c, 0];
        assert_eq!(example::data(&thin, &log_sense(0, 0xff, 0, 255)), subpages);
        assert_eq!(example::data(&thin, &log_sense(0, 0xff, 0, 5)), subpages[..5]);
        assert_eq!(example::data(&thick, &log_sense(0, 0xff, 0, 255)), [0x40, 0xff, 0, 4, 0, 0, 0, 0xff]);
    }

    #[test]
    fn provisioning_page_begins_at_the_parameter_asked_for() {
        let unit = example::thin_unit();
        for page_control in 0..4 {
            for pointer in 0..=2 {
                let cdb = log_sense(page_control << 6 | 0x0c, 0, pointer, 99);
                let expected =
                    Action::ProvisioningLog { first_parameter: pointer.into(), allocation_length: 99 };
                assert_eq!(example::plan(&unit, &cdb), Ok(Plan::now(expected)));
            }
        }
    }

    #[test]
    fn what_is_not_there_is_refused_and_pointed_at() {
        let (thin, thick) = (example::thin_unit(), example::thick_unit());
        let invalid = |byte, bit| Err(Sense::invalid_field_in_cdb(byte, bit));
        assert_eq!(example::plan(&thin, &log_sense(0x0d, 0, 0, 255)), invalid(2, Some(5)));
        assert_eq!(example::plan(&thick, &log_sense(0x0c, 0, 0, 255)), invalid(2, Some(5)));
        assert_eq!(example::plan(&thin, &log_sense(0x0c, 1, 0, 255)), invalid(3, None));
        assert_eq!(example::plan(&thin, &log_sense(0x00, 1, 0, 255)), invalid(3, None));
        assert_eq!(example::plan(&thin, &log_sense(0x0c, 0, 3, 255)), invalid(5, None));
        assert_eq!(example::plan(&thin, &log_sense(0x00, 0, 1, 255)), invalid(5, None));
        let mut saving = log_sense(0x0c, 0, 0, 255);
        saving[1] = 1;
        assert_eq!(example::plan(&thin, &saving), invalid(1, Some(0)));
    }
}
