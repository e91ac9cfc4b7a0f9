//! A LUN where nothing is: the commands that an incorrect logical unit answers (SPC-4, SAM-5).

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
/// LOGICAL UNIT NOT SUPPORTED for every other command, INVALID FIELD IN CDB for a REPORT LUNS that asks for
/// something unknown; send it with CHECK CONDITION.
pub fn plan_without_logical_unit(cdb: &[u8]) -> Result<Plan, Sense> {
    let fields = Cdb::new(cdb);
    match cdb.first() {
        Some(&INQUIRY) => inquiry::plan_without_logical_unit(&fields),
        Some(&REPORT_LUNS) => report_luns::plan(&fields),
        Some(&REQUEST_SENSE) => {
            let format = if fields.bit(1, 0) { SenseFormat::Descriptor } else { SenseFormat::Fixed };
            let sense = Some(Sense::logical_unit_not_supported());
            let data = request_sense::request_sense(sense, format, fields.byte(4).into());
            Ok(Plan::now(Action::Data(data)))
        }
        _ => Err(Sense::logical_unit_not_supported()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{SelectReport, Step};

    #[test]
    fn inquiry_says_that_nothing_is_there() {
        let plan = plan_without_logical_unit(&[0x12, 0, 0, 0, 36, 0]).unwrap();
        let Step::Now(Action::Data(data)) = plan.step else { panic!("{plan:?}") };
        assert_eq!((data.len(), data[0]), (36, 0x7f));
        let absent = Err(Sense::logical_unit_not_supported());
        assert_eq!(plan_without_logical_unit(&[0x12, 1, 0x83, 0, 36, 0]), absent);
    }

    #[test]
    fn inventory_and_explanation_are_given_and_all_else_is_refused() {
        let action =
            Action::LunInventory { select_report: SelectReport::LogicalUnits, allocation_length: 256 };
        let report_luns = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(plan_without_logical_unit(&report_luns), Ok(Plan::now(action)));
        let sense = vec![0x72, 5, 0x25, 0, 0, 0, 0, 0];
        assert_eq!(plan_without_logical_unit(&[3, 1, 0, 0, 252, 0]), Ok(Plan::now(Action::Data(sense))));
        for cdb in [&[][..], &[0; 6], &[0x28; 10]] {
            assert_eq!(plan_without_logical_unit(cdb), Err(Sense::logical_unit_not_supported()));
        }
    }
}
