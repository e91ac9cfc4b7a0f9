//! REQUEST SENSE (SPC-4): tells the oldest pending unit attention, or that there is nothing to tell.

use crate::cdb::Cdb;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{Action, Plan, cut};
use crate::sense::{Sense, SenseFormat};

const DESC_BIT: u8 = 0;

pub(crate) fn decode(_: &LogicalUnit, _: &ModeState, cdb: &Cdb) -> Result<Plan, Sense> {
    let format = if cdb.bit(1, DESC_BIT) { SenseFormat::Descriptor } else { SenseFormat::Fixed };
    Ok(Plan::now(Action::RequestSense { format, allocation_length: cdb.byte(4).into() }))
}

/// The data that REQUEST SENSE sends: `pending` is what [`UnitAttentions::take`](crate::UnitAttentions::take)
/// returned.
pub fn request_sense(pending: Option<Sense>, format: SenseFormat, allocation_length: u32) -> Vec<u8> {
    let sense = pending.unwrap_or(Sense::no_sense());
    cut(sense.encode(format).into_vec(), allocation_length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_pending_is_no_sense() {
        let data = request_sense(None, SenseFormat::Fixed, 252);
        assert_eq!(data, [0x70, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(request_sense(Some(Sense::power_on()), SenseFormat::Descriptor, 4), [0x72, 6, 0x29, 0]);
    }
}
