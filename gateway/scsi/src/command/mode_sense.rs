//! MODE SENSE (6) and (10) (SPC-4 §6.13, §6.14): header, block descriptor, pages.

use crate::cdb::Cdb;
use crate::logical_unit::LogicalUnit;
use crate::mode::{ModePage, ModeState, PAGES};
use crate::plan::Plan;
use crate::sense::Sense;

const DBD_BIT: u8 = 3;
const LLBAA_BIT: u8 = 4;

/// PAGE CODE: all pages; SUBPAGE CODE: all subpages. Our pages have none but the page itself (00h).
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;

/// The device-specific parameter (SBC-3 §6.5.1).
const WRITE_PROTECTED: u8 = 0x80;
const DPOFUA: u8 = 0x10;

pub(crate) fn decode_6(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let pages = select_pages(unit, modes, cdb)?;
    let descriptor = if cdb.bit(1, DBD_BIT) { Vec::new() } else { short_descriptor(unit) };
    let length = 3 + descriptor.len() + pages.len();
    let mut data = vec![length as u8, 0, device_specific_parameter(unit, modes), descriptor.len() as u8];
    data.extend_from_slice(&descriptor);
    data.extend_from_slice(&pages);
    Ok(Plan::data(data, cdb.byte(4).into()))
}

pub(crate) fn decode_10(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    const LONGLBA: u8 = 0x01;
    let pages = select_pages(unit, modes, cdb)?;
    let (descriptor, flags) = match (cdb.bit(1, DBD_BIT), cdb.bit(1, LLBAA_BIT)) {
        (true, _) => (Vec::new(), 0),
        (false, false) => (short_descriptor(unit), 0),
        (false, true) => (long_descriptor(unit), LONGLBA),
    };
    let [high, low] = ((6 + descriptor.len() + pages.len()) as u16).to_be_bytes();
    let parameter = device_specific_parameter(unit, modes);
    let mut data = vec![high, low, 0, parameter, flags, 0, 0, descriptor.len() as u8];
    data.extend_from_slice(&descriptor);
    data.extend_from_slice(&pages);
    Ok(Plan::data(data, cdb.u16(7).into()))
}

/// The pages asked for by PC, PAGE CODE and SUBPAGE CODE, one after the other.
fn select_pages(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Vec<u8>, Sense> {
    let defaults = unit.default_modes();
    let render = |page: &ModePage| match cdb.byte(2) >> 6 {
        0b00 => Ok(page.values(modes)),
        0b01 => Ok(page.changeable(unit)),
        0b10 => Ok(page.values(&defaults)),
        _ => Err(Sense::saving_not_supported()),
    };
    let code = cdb.byte(2) & 0x3f;
    let selected = || PAGES.into_iter().filter(|page| code == ALL_PAGES || code == page.code);
    if selected().next().is_none() {
        return Err(Sense::invalid_field_in_cdb(2, Some(5)));
    }
    if !matches!(cdb.byte(3), 0 | ALL_SUBPAGES) {
        return Err(Sense::invalid_field_in_cdb(3, None));
    }
    let mut pages = Vec::new();
    for page in selected() {
        pages.extend_from_slice(&render(page)?);
    }
    Ok(pages)
}

fn device_specific_parameter(unit: &LogicalUnit, modes: &ModeState) -> u8 {
    if unit.is_read_only() || modes.software_write_protect { DPOFUA | WRITE_PROTECTED } else { DPOFUA }
}

/// The short LBA mode parameter block descriptor (SBC-3 §6.5.2.2).
pub(super) fn short_descriptor(unit: &LogicalUnit) -> Vec<u8> {
    let blocks = u32::try_from(unit.blocks()).unwrap_or(u32::MAX);
    // The block length has three bytes here; its upper neighbour is reserved, and zero for our sizes.
    [blocks.to_be_bytes(), unit.block_size().to_be_bytes()].concat()
}

/// The long LBA mode parameter block descriptor (SBC-3 §6.5.2.3).
pub(super) fn long_descriptor(unit: &LogicalUnit) -> Vec<u8> {
    let mut descriptor = unit.blocks().to_be_bytes().to_vec();
    descriptor.extend_from_slice(&[0; 4]);
    descriptor.extend_from_slice(&unit.block_size().to_be_bytes());
    descriptor
}
