//! The read-write error recovery mode page (SBC-3). Nothing is recovered or retried that an initiator could tell of; what
//! can be chosen is whether thresholds of logical block provisioning are reported.

use super::ModePage;

const LBPERE_BYTE: usize = 7;
/// Logical block provisioning error reporting enabled.
const LBPERE: u8 = 0x80;

pub(super) static PAGE: ModePage = ModePage {
    code: 0x01,
    subpage: 0,
    length: 12,
    only_thin: false,
    render: |_, modes, page| {
        if modes.threshold_reporting {
            page[LBPERE_BYTE] |= LBPERE;
        }
    },
    render_changeable: |unit, page| {
        if unit.is_thin() {
            page[LBPERE_BYTE] |= LBPERE;
        }
    },
    apply: |page, modes| modes.threshold_reporting = page[LBPERE_BYTE] & LBPERE != 0,
};
