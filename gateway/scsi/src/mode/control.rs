//! The control mode page (SPC-4): sense format, write protection, task management rules.

use super::ModePage;

const D_SENSE_BYTE: usize = 2;
const D_SENSE: u8 = 0x04;
const QUEUE_ALGORITHM_BYTE: usize = 3;
/// Commands with the SIMPLE attribute may be reordered freely.
const UNRESTRICTED_REORDERING: u8 = 0x10;
const SWP_BYTE: usize = 4;
const SWP: u8 = 0x08;
const BUSY_TIMEOUT: std::ops::Range<usize> = 8..10;
/// The initiator has to put up with BUSY for as long as it takes.
const UNLIMITED: [u8; 2] = [0xff, 0xff];

pub(super) static PAGE: ModePage = ModePage {
    code: 0x0a,
    subpage: 0,
    length: 12,
    only_thin: false,
    render: |_, modes, page| {
        if modes.descriptor_sense {
            page[D_SENSE_BYTE] |= D_SENSE;
        }
        page[QUEUE_ALGORITHM_BYTE] = UNRESTRICTED_REORDERING;
        if modes.software_write_protect {
            page[SWP_BYTE] |= SWP;
        }
        page[BUSY_TIMEOUT].copy_from_slice(&UNLIMITED);
    },
    render_changeable: |_, page| {
        page[D_SENSE_BYTE] |= D_SENSE;
        page[SWP_BYTE] |= SWP;
    },
    apply: |page, modes| {
        modes.descriptor_sense = page[D_SENSE_BYTE] & D_SENSE != 0;
        modes.software_write_protect = page[SWP_BYTE] & SWP != 0;
    },
};
