//! MODE SENSE (6) and (10) (SPC-4): header, block descriptor, pages.

use crate::cdb::Cdb;
use crate::logical_unit::LogicalUnit;
use crate::mode::{self, ModePage, ModeState};
use crate::plan::Plan;
use crate::sense::Sense;

const DBD_BIT: u8 = 3;
const LLBAA_BIT: u8 = 4;

/// PAGE CODE: all pages; SUBPAGE CODE: all subpages, the page itself (00h) included.
const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;

/// The device-specific parameter (SBC-3).
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
        0b00 => Ok(page.values(unit, modes)),
        0b01 => Ok(page.changeable(unit)),
        0b10 => Ok(page.values(unit, &defaults)),
        _ => Err(Sense::saving_not_supported()),
    };
    let (code, subpage) = (cdb.byte(2) & 0x3f, cdb.byte(3));
    let of_code = || mode::pages(unit).filter(|page| code == ALL_PAGES || code == page.code);
    if of_code().next().is_none() {
        return Err(Sense::invalid_field_in_cdb(2, Some(5)));
    }
    let selected: Vec<_> =
        of_code().filter(|page| subpage == ALL_SUBPAGES || subpage == page.subpage).collect();
    // A single subpage of all pages is reserved.
    if selected.is_empty() || (code == ALL_PAGES && !matches!(subpage, 0 | ALL_SUBPAGES)) {
        return Err(Sense::invalid_field_in_cdb(3, None));
    }
    let mut pages = Vec::new();
    for page in selected {
        pages.extend_from_slice(&render(page)?);
    }
    Ok(pages)
}

fn device_specific_parameter(unit: &LogicalUnit, modes: &ModeState) -> u8 {
    if unit.is_read_only() || modes.software_write_protect { DPOFUA | WRITE_PROTECTED } else { DPOFUA }
}

/// The short LBA mode parameter block descriptor (SBC-3).
pub(super) fn short_descriptor(unit: &LogicalUnit) -> Vec<u8> {
    let blocks = u32::try_from(unit.blocks()).unwrap_or(u32::MAX);
    // The block length has three bytes here; its upper neighbour is reserved, and zero for our sizes.
    [blocks.to_be_bytes(), unit.block_size().to_be_bytes()].concat()
}

/// The long LBA mode parameter block descriptor (SBC-3).
pub(super) fn long_descriptor(unit: &LogicalUnit) -> Vec<u8> {
    let mut descriptor = unit.blocks().to_be_bytes().to_vec();
    descriptor.extend_from_slice(&[0; 4]);
    descriptor.extend_from_slice(&unit.block_size().to_be_bytes());
    descriptor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use crate::logical_unit::LogicalUnitConfig;

    const CACHING: [u8; 20] = [8, 18, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const CONTROL: [u8; 12] = [0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
    const EXCEPTIONS: [u8; 12] = [0x1c, 10, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const RECOVERY: [u8; 12] = [0x01, 10, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0];
    const THRESHOLDS: [u8; 24] =
        [0x5c, 2, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0, 0, 0, 2, 0];
    const SHORT_DESCRIPTOR: [u8; 8] = [0, 0x20, 0, 0, 0, 0, 2, 0];

    #[test]
    fn golden_answers() {
        let unit = example::thin_unit();
        let pages = [&RECOVERY[..], &CACHING, &CONTROL, &EXCEPTIONS].concat();
        let all = [&[67, 0, 0x10, 8][..], &SHORT_DESCRIPTOR, &pages].concat();
        assert_eq!(example::data(&unit, &[0x1a, 0, 0x3f, 0, 255, 0]), all);
        let with_subpages = [&[91, 0, 0x10, 8][..], &SHORT_DESCRIPTOR, &pages, &THRESHOLDS].concat();
        assert_eq!(example::data(&unit, &[0x1a, 0, 0x3f, 0xff, 255, 0]), with_subpages);
        let thresholds = [&[27, 0, 0x10, 0][..], &THRESHOLDS].concat();
        assert_eq!(example::data(&unit, &[0x1a, 8, 0x1c, 2, 255, 0]), thresholds);
        assert_eq!(example::data(&unit, &[0x1a, 0, 0x3f, 0, 4, 0]), all[..4]);
        let one = [&[15, 0, 0x10, 0][..], &CONTROL].concat();
        assert_eq!(example::data(&unit, &[0x1a, 8, 0x0a, 0, 255, 0]), one);
        let long_descriptor = [0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0];
        let long = [&[0, 42, 0, 0x10, 1, 0, 0, 16][..], &long_descriptor, &CACHING].concat();
        assert_eq!(example::data(&unit, &[0x5a, 0x10, 0x08, 0, 0, 0, 0, 0, 255, 0]), long);
        let short = [&[0, 34, 0, 0x10, 0, 0, 0, 8][..], &SHORT_DESCRIPTOR, &CACHING].concat();
        assert_eq!(example::data(&unit, &[0x5a, 0, 0x08, 0, 0, 0, 0, 0, 255, 0]), short);
    }

    #[test]
    fn page_control_chooses_values() {
        let unit = example::thin_unit();
        let mut modes = unit.default_modes();
        modes.write_cache = false;
        let wce = |page_control: u8| {
            let cdb = Cdb::new(&[0x1a, 8, page_control << 6 | 0x08, 0, 255, 0]);
            let pages = select_pages(&unit, &modes, &cdb);
            pages.map(|page| page[2])
        };
        assert_eq!([wce(0), wce(1), wce(2)], [Ok(0), Ok(4), Ok(4)]);
        assert_eq!(wce(3), Err(Sense::saving_not_supported()));
    }

    #[test]
    fn unknown_pages_are_refused() {
        let unit = example::thin_unit();
        let no_page = Err(Sense::invalid_field_in_cdb(2, Some(5)));
        assert_eq!(example::plan(&unit, &[0x1a, 0, 0x02, 0, 255, 0]), no_page);
        let no_subpage = Err(Sense::invalid_field_in_cdb(3, None));
        for (code, subpage) in [(0x3f, 1), (0x3f, 2), (0x1c, 1), (0x08, 2)] {
            assert_eq!(example::plan(&unit, &[0x1a, 0, code, subpage, 255, 0]), no_subpage);
        }
        let thick = example::thick_unit();
        assert_eq!(example::plan(&thick, &[0x1a, 0, 0x1c, 2, 255, 0]), no_subpage);
        assert_eq!(example::data(&thick, &[0x1a, 8, 0x01, 0, 255, 0])[4 + 7], 0, "no thresholds, no reports");
    }

    #[test]
    fn write_protection_shows() {
        let unit = example::thin_unit();
        let mut modes = unit.default_modes();
        modes.software_write_protect = true;
        assert_eq!(device_specific_parameter(&unit, &modes), 0x90);
        let unit = example::read_only(&unit);
        assert_eq!(device_specific_parameter(&unit, &unit.default_modes()), 0x90);
    }

    #[test]
    fn write_through_by_configuration_cannot_be_changed() {
        let config = LogicalUnitConfig { write_cache: false, ..example::config() };
        let unit = LogicalUnit::new(config).unwrap();
        assert_eq!(example::data(&unit, &[0x1a, 8, 0x48, 0, 255, 0])[6], 0);
    }
}
