//! Mode parameters: the state that MODE SELECT changes, and the pages that show it.
//!
//! Adding a page is one file in `mode/` and one entry in [`PAGES`]. Pages are not saveable.

mod caching;
mod control;
mod error_recovery;
mod informational_exceptions;
mod logical_block_provisioning;

use crate::logical_unit::LogicalUnit;
use crate::sense::SenseFormat;
use smallvec::SmallVec;

/// What MODE SELECT can change of one logical unit. Lives outside the logical unit: it changes while commands run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModeState {
    /// D_SENSE: sense data is sent in descriptor format.
    pub descriptor_sense: bool,
    /// WCE: writes may be answered before they are on stable storage.
    pub write_cache: bool,
    /// SWP: every command that writes is refused.
    pub software_write_protect: bool,
    /// LBPERE: initiators are told of thresholds of logical block provisioning.
    pub threshold_reporting: bool,
}

/// What is set of a logical unit that no MODE SELECT has touched; [`LogicalUnit::limit_modes`] says what of it counts.
impl Default for ModeState {
    fn default() -> Self {
        Self {
            descriptor_sense: false,
            write_cache: true,
            software_write_protect: false,
            threshold_reporting: true,
        }
    }
}

impl ModeState {
    /// The format in which sense data is to be sent with a status.
    pub fn sense_format(&self) -> SenseFormat {
        if self.descriptor_sense { SenseFormat::Descriptor } else { SenseFormat::Fixed }
    }
}

/// SPF: the page has the sub_page format.
pub(crate) const SPF: u8 = 0x40;

/// One mode page (SPC-4).
pub(crate) struct ModePage {
    pub(crate) code: u8,
    /// The SUBPAGE CODE; 0 for a page of page_0 format.
    pub(crate) subpage: u8,
    /// Bytes of the whole page, its header included.
    pub(crate) length: usize,
    /// Thick logical units do not have it.
    pub(crate) only_thin: bool,
    /// Writes the parameters for this state into a page of zeros that has its header.
    pub(crate) render: fn(&LogicalUnit, &ModeState, &mut [u8]),
    /// Sets the bits that MODE SELECT may change in a page of zeros that has its header.
    pub(crate) render_changeable: fn(&LogicalUnit, &mut [u8]),
    /// Takes the changeable fields from a page whose other bits are known to be right.
    pub(crate) apply: fn(&[u8], &mut ModeState),
}

/// The pages we have, in ascending order of their codes and subpage codes.
static PAGES: [&ModePage; 5] = [
    &error_recovery::PAGE,
    &caching::PAGE,
    &control::PAGE,
    &informational_exceptions::PAGE,
    &logical_block_provisioning::PAGE,
];

/// The pages that this logical unit has.
pub(crate) fn pages(unit: &LogicalUnit) -> impl Iterator<Item = &'static ModePage> {
    PAGES.into_iter().filter(|page| !page.only_thin || unit.is_thin())
}

/// Where the page 1Ch/02h has its threshold descriptor.
pub(crate) use logical_block_provisioning::DESCRIPTOR_BYTE as THRESHOLD_DESCRIPTOR_BYTE;

impl ModePage {
    /// The page with its values for `modes`.
    pub(crate) fn values(&self, unit: &LogicalUnit, modes: &ModeState) -> Vec<u8> {
        let mut page = self.empty();
        (self.render)(unit, modes, &mut page);
        page
    }

    /// The page with ones where MODE SELECT may change something.
    pub(crate) fn changeable(&self, unit: &LogicalUnit) -> Vec<u8> {
        let mut page = self.empty();
        if !unit.config().modes_are_fixed {
            (self.render_changeable)(unit, &mut page);
        }
        page
    }

    /// The page's header.
    pub(crate) fn header(&self) -> SmallVec<[u8; 4]> {
        if self.subpage == 0 {
            return SmallVec::from_slice(&[self.code, (self.length - 2) as u8]);
        }
        let [high, low] = ((self.length - 4) as u16).to_be_bytes();
        SmallVec::from_slice(&[SPF | self.code, self.subpage, high, low])
    }

    fn empty(&self) -> Vec<u8> {
        let mut page = self.header().into_vec();
        page.resize(self.length, 0);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn pages_are_in_order_and_have_room_for_their_headers() {
        assert!(PAGES.is_sorted_by_key(|page| (page.code, page.subpage)));
        assert!(PAGES.iter().all(|page| (3..=257).contains(&page.length) && page.code < 0x3f));
    }

    #[test]
    fn changeable_bits_are_exactly_those_that_change_the_state() {
        let unit = example::thin_unit();
        let modes = unit.default_modes();
        for page in PAGES {
            let values = page.values(&unit, &modes);
            let changeable = page.changeable(&unit);
            for byte in page.header().len()..page.length {
                for bit in 0..8 {
                    let mut changed = values.clone();
                    changed[byte] ^= 1 << bit;
                    let mut state = modes;
                    (page.apply)(&changed, &mut state);
                    assert_eq!(state != modes, changeable[byte] & (1 << bit) != 0, "{byte}.{bit}");
                }
            }
        }
    }
}
