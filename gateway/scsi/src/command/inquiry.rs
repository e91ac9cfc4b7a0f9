//! INQUIRY (SPC-4): standard data, and the vital product data pages in `vpd/`.

use crate::cdb::Cdb;
use crate::logical_unit::{LogicalUnit, LogicalUnitConfig};
use crate::mode::ModeState;
use crate::plan::Plan;
use crate::sense::Sense;
use crate::vpd;

/// T10 VENDOR IDENTIFICATION, as long as its field.
pub(crate) const VENDOR: &[u8; 8] = b"HUNTAWAY";
/// PRODUCT REVISION LEVEL. Does not follow our version: it must not differ between gateways being upgraded.
const REVISION: &[u8; 4] = b"1   ";

/// Bytes of standard INQUIRY data: up to the end of the version descriptors' reserved bytes.
const STANDARD_LENGTH: usize = 96;

/// SAM-5, iSCSI, SPC-4, SBC-3, no version claimed (SPC-4).
const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, 0x0960, 0x0460, 0x04c0];
const VERSION_DESCRIPTORS_BYTE: usize = 58;

/// PERIPHERAL QUALIFIER 011b and DEVICE TYPE 1Fh: there cannot be a logical unit here.
const NO_LOGICAL_UNIT: u8 = 0x7f;

const EVPD_BIT: u8 = 0;

pub(crate) fn decode(unit: &LogicalUnit, modes: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let allocation_length = u32::from(cdb.u16(3));
    if cdb.bit(1, EVPD_BIT) {
        let page = vpd::find(cdb.byte(2)).ok_or(Sense::invalid_field_in_cdb(2, None))?;
        return Ok(Plan::data(page.render(unit, modes), allocation_length));
    }
    if cdb.byte(2) != 0 {
        return Err(Sense::invalid_field_in_cdb(2, None));
    }
    Ok(Plan::data(standard(unit.config()), allocation_length))
}

/// INQUIRY to a LUN where nothing is. There are no VPD pages of nothing.
pub(crate) fn plan_without_logical_unit(cdb: &Cdb) -> Result<Plan, Sense> {
    if cdb.bit(1, EVPD_BIT) || cdb.byte(2) != 0 {
        return Err(Sense::logical_unit_not_supported());
    }
    let mut data = standard_without_product();
    data[0] = NO_LOGICAL_UNIT;
    Ok(Plan::data(data, cdb.u16(3).into()))
}

fn standard(config: &LogicalUnitConfig) -> Vec<u8> {
    let mut data = standard_without_product();
    for (byte, character) in data[16..32].iter_mut().zip(config.product.bytes()) {
        *byte = character;
    }
    data
}

fn standard_without_product() -> Vec<u8> {
    /// Conforms to SPC-4.
    const VERSION: u8 = 0x06;
    /// LUNs as SAM-5 structures them (HISUP), data in the format of SPC-2 and later.
    const RESPONSE_FORMAT: u8 = 0x12;
    /// There are several target ports.
    const MULTIP: u8 = 0x10;
    /// Commands may be queued.
    const CMDQUE: u8 = 0x02;

    let mut data = vec![0; STANDARD_LENGTH];
    data[2] = VERSION;
    data[3] = RESPONSE_FORMAT;
    data[4] = (STANDARD_LENGTH - 5) as u8;
    data[6] = MULTIP;
    data[7] = CMDQUE;
    data[8..16].copy_from_slice(VENDOR);
    data[16..32].fill(b' ');
    data[32..36].copy_from_slice(REVISION);
    for (index, descriptor) in VERSION_DESCRIPTORS.into_iter().enumerate() {
        let start = VERSION_DESCRIPTORS_BYTE + 2 * index;
        data[start..start + 2].copy_from_slice(&descriptor.to_be_bytes());
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn golden_standard_data() {
        let mut expected = vec![0, 0, 6, 0x12, 91, 0, 0x10, 2];
        expected.extend_from_slice(b"HUNTAWAYVDI             1   ");
        expected.resize(58, 0);
        expected.extend_from_slice(&[0x00, 0xa0, 0x09, 0x60, 0x04, 0x60, 0x04, 0xc0]);
        expected.resize(96, 0);
        let unit = example::thin_unit();
        assert_eq!(example::data(&unit, &[0x12, 0, 0, 0, 255, 0]), expected);
        assert_eq!(example::data(&unit, &[0x12, 0, 0, 0, 5, 0]), expected[..5]);
        assert_eq!(example::data(&unit, &[0x12, 0, 0, 2, 0, 0]), expected, "16 bits of allocation length");
    }

    #[test]
    fn every_listed_page_is_served_and_no_other() {
        let unit = example::thin_unit();
        let pages = example::data(&unit, &[0x12, 1, 0, 0, 255, 0]);
        assert_eq!(pages, [0, 0, 0, 7, 0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2]);
        for code in 0..=255 {
            let cdb = [0x12, 1, code, 0, 255, 0];
            if pages[4..].contains(&code) {
                assert_eq!(example::data(&unit, &cdb)[1], code);
            } else {
                assert_eq!(example::plan(&unit, &cdb), Err(Sense::invalid_field_in_cdb(2, None)));
            }
        }
    }

    #[test]
    fn page_code_without_evpd_is_refused() {
        let expected = Err(Sense::invalid_field_in_cdb(2, None));
        assert_eq!(example::plan(&example::thin_unit(), &[0x12, 0, 1, 1, 0, 0]), expected);
    }

    #[test]
    fn provisioning_pages_of_thin_and_thick_units() {
        let cdb = [0x12, 1, 0xb2, 0, 255, 0];
        assert_eq!(example::data(&example::thin_unit(), &cdb), [0, 0xb2, 0, 4, 11, 0xe4, 2, 0]);
        assert_eq!(example::data(&example::thick_unit(), &cdb), [0, 0xb2, 0, 4, 0, 0, 0, 0]);
    }
}
