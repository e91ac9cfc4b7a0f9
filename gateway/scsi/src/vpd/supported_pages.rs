//! Page 00h: the supported VPD pages (SPC-4).

use super::PAGES;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;

pub(super) fn body(_: &LogicalUnit, _: &ModeState) -> Vec<u8> {
    PAGES.iter().map(|page| page.code).collect()
}
