//! The logical block provisioning mode page (SBC-3): one threshold, of the space that is left. It is the operator's, so
//! initiators cannot change it; whether they are told is in the read-write error recovery page.
//!
//! | bytes | field |
//! |---|---|
//! | 0-3 | header: page code with SPF, subpage code, page length |
//! | 4 | SITUA: 0, all initiators are told |
//! | 5-15 | reserved |
//! | 16 | ENABLED, THRESHOLD TYPE (0: soft), THRESHOLD ARMING (0: armed while there is more) |
//! | 17 | THRESHOLD RESOURCE (1: available LBA mapping resources) |
//! | 18-19 | reserved |
//! | 20-23 | THRESHOLD COUNT, in threshold sets |

use super::ModePage;
use crate::provisioning;

/// Where the page's only threshold descriptor begins: what a unit attention points at.
pub(crate) const DESCRIPTOR_BYTE: usize = 16;

const ENABLED: u8 = 0x80;
const AVAILABLE_RESOURCES: u8 = 0x01;

pub(super) static PAGE: ModePage = ModePage {
    code: 0x1c,
    subpage: 0x02,
    length: DESCRIPTOR_BYTE + 8,
    only_thin: true,
    render: |unit, _, page| {
        let count = provisioning::soft_threshold_sets(unit);
        page[DESCRIPTOR_BYTE..DESCRIPTOR_BYTE + 2].copy_from_slice(&[ENABLED, AVAILABLE_RESOURCES]);
        page[DESCRIPTOR_BYTE + 4..].copy_from_slice(&count.to_be_bytes());
    },
    render_changeable: |_, _| {},
    apply: |_, _| {},
};
