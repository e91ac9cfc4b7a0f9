//! The caching mode page (SBC-3): whether writes may be answered before they are stable.

use super::ModePage;

const WCE_BYTE: usize = 2;
const WCE: u8 = 0x04;

pub(super) static PAGE: ModePage = ModePage {
    code: 0x08,
    subpage: 0,
    length: 20,
    only_thin: false,
    render: |_, modes, page| {
        if modes.write_cache {
            page[WCE_BYTE] |= WCE;
        }
    },
    // The operator's choice of write-through binds initiators too.
    render_changeable: |unit, page| {
        if unit.config().write_cache {
            page[WCE_BYTE] |= WCE;
        }
    },
    apply: |page, modes| modes.write_cache = page[WCE_BYTE] & WCE != 0,
};
