//! A LUN where nothing is: the commands that an incorrect logical unit answers (SPC-4 §4.4, SAM-5 §5.11).

use crate::cdb::Cdb;
use crate::command::{inquiry, report_luns, request_sense};
use crate::plan::{Action, Plan};
use crate::sense::{Sense, SenseFormat};

const REQUEST_SENSE: u8 = 0x03;
const INQUIRY: u8 = 0x12;
const REPORT_LUNS: u8 = 0xa0;

/// As [`LogicalUnit::plan`](crate::LogicalUnit::plan), for a LUN that is not there.
///
/// INQUIRY says that nothing can be there, REPORT LUNS lists what is, REQUEST SENSE explains.
///
/// # Errors
/// LOGICAL UNIT NOT SUPPORTED for every other command; send it with CHECK CONDITION.
pub fn plan_without_logical_unit(cdb: &[u8]) -> Result<Plan, Sense> {
    let fields = Cdb::new(cdb);
    match cdb.first() {
        Some(&INQUIRY) => inquiry::plan_without_logical_unit(&fields),
        Some(&REPORT_LUNS) => report_luns::plan(&fields),
        Some(&REQUEST_SENSE) => {
            let format = if fields.bit(1, 0) { SenseFormat::Descriptor } else { SenseFormat::Fixed };
            let sense = Some(Sense::logical_unit_not_supported());
            let data = request_sense::request_sense(sense, format, fields.byte(4).into());
            Ok(Plan { data_out: 0, step: crate::plan::Step::Now(Action::Data(data)) })
        }
        _ => Err(Sense::logical_unit_not_supported()),
    }
}
