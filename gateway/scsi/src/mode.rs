//! Mode parameters: the state that MODE SELECT changes, and the pages that show it.
//!
//! Adding a page is one file in `mode/` and one entry in [`PAGES`]. Pages are not saveable.

mod caching;
mod control;
mod informational_exceptions;

use crate::logical_unit::LogicalUnit;
use crate::sense::SenseFormat;

/// What MODE SELECT can change of one logical unit. Lives outside the logical unit: it changes while commands run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModeState {
    /// D_SENSE: sense data is sent in descriptor format.
    pub descriptor_sense: bool,
    /// WCE: writes may be answered before they are on stable storage.
    pub write_cache: bool,
    /// SWP: every command that writes is refused.
    pub software_write_protect: bool,
}

/// What is set of a logical unit that no MODE SELECT has touched; [`LogicalUnit::limit_modes`] says what of it counts.
impl Default for ModeState {
    fn default() -> Self {
        Self { descriptor_sense: false, write_cache: true, software_write_protect: false }
    }
}

impl ModeState {
    /// The format in which sense data is to be sent with a status.
    pub fn sense_format(&self) -> SenseFormat {
        if self.descriptor_sense { SenseFormat::Descriptor } else { SenseFormat::Fixed }
    }
}

/// One mode page of page_0 format (SPC-4).
pub(crate) struct ModePage {
    pub(crate) code: u8,
    /// Bytes of the whole page, its two header bytes included.
    pub(crate) length: usize,
    /// Writes the parameters for this state into a page of zeros that has its header.
    pub(crate) render: fn(&ModeState, &mut [u8]),
    /// Sets the bits that MODE SELECT may change in a page of zeros that has its header.
    pub(crate) render_changeable: fn(&LogicalUnit, &mut [u8]),
    /// Takes the changeable fields from a page whose other bits are known to be right.
    pub(crate) apply: fn(&[u8], &mut ModeState),
}

/// The pages we have, in ascending order of their codes.
pub(crate) static PAGES: [&ModePage; 3] = [&caching::PAGE, &control::PAGE, &informational_exceptions::PAGE];

impl ModePage {
    /// The page with its values for `modes`.
    pub(crate) fn values(&self, modes: &ModeState) -> Vec<u8> {
        let mut page = self.empty();
        (self.render)(modes, &mut page);
        page
    }

    /// The page with ones where MODE SELECT may change something.
    pub(crate) fn changeable(&self, unit: &LogicalUnit) -> Vec<u8> {
        let mut page = self.empty();
        (self.render_changeable)(unit, &mut page);
        page
    }

    fn empty(&self) -> Vec<u8> {
        let mut page = vec![0; self.length];
        page[0] = self.code;
        page[1] = (self.length - 2) as u8;
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn pages_are_in_order_and_have_room_for_their_headers() {
        assert!(PAGES.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert!(PAGES.iter().all(|page| (3..=257).contains(&page.length) && page.code < 0x3f));
    }

    #[test]
    fn changeable_bits_are_exactly_those_that_change_the_state() {
        let unit = example::thin_unit();
        let modes = unit.default_modes();
        for page in PAGES {
            let values = page.values(&modes);
            let changeable = page.changeable(&unit);
            for byte in 2..page.length {
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
