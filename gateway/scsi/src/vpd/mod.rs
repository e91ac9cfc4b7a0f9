//! Vital product data pages (SPC-4, SBC-3): what INQUIRY with EVPD tells.
//!
//! Adding a page is one file here and one entry in [`PAGES`]; page 00h lists what is there.

mod block_characteristics;
mod block_limits;
mod device_identification;
mod extended_inquiry;
mod provisioning;
mod supported_pages;
mod unit_serial_number;

use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;

/// One page: its code, and what makes the bytes after its four byte header.
pub(crate) struct VpdPage {
    pub(crate) code: u8,
    body: fn(&LogicalUnit, &ModeState) -> Vec<u8>,
}

/// All pages, in ascending order of their codes.
static PAGES: [VpdPage; 7] = [
    VpdPage { code: 0x00, body: supported_pages::body },
    VpdPage { code: 0x80, body: unit_serial_number::body },
    VpdPage { code: 0x83, body: device_identification::body },
    VpdPage { code: 0x86, body: extended_inquiry::body },
    VpdPage { code: 0xb0, body: block_limits::body },
    VpdPage { code: 0xb1, body: block_characteristics::body },
    VpdPage { code: 0xb2, body: provisioning::body },
];

/// The page with this code.
pub(crate) fn find(code: u8) -> Option<&'static VpdPage> {
    PAGES.iter().find(|page| page.code == code)
}

impl VpdPage {
    /// The whole page.
    pub(crate) fn render(&self, unit: &LogicalUnit, modes: &ModeState) -> Vec<u8> {
        let body = (self.body)(unit, modes);
        let [high, low] = (body.len() as u16).to_be_bytes();
        let mut page = vec![0, self.code, high, low];
        page.extend_from_slice(&body);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn codes_ascend_and_lengths_are_right() {
        assert!(PAGES.windows(2).all(|pair| pair[0].code < pair[1].code));
        let unit = example::thin_unit();
        for page in &PAGES {
            let bytes = page.render(&unit, &unit.default_modes());
            assert_eq!(bytes[1], page.code);
            assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len() - 4);
        }
    }
}
