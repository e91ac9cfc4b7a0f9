//! The informational exceptions control mode page (SPC-4): no failure predictions are made.

use super::ModePage;

const FLAGS_BYTE: usize = 2;
/// Informational exceptions are disabled.
const DEXCPT: u8 = 0x08;

pub(super) static PAGE: ModePage = ModePage {
    code: 0x1c,
    subpage: 0,
    length: 12,
    only_thin: false,
    render: |_, _, page| page[FLAGS_BYTE] |= DEXCPT,
    render_changeable: |_, _| {},
    apply: |_, _| {},
};
