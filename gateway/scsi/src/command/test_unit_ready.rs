//! TEST UNIT READY (SPC-4). A logical unit that cannot be reached is noticed before a plan is made.

use crate::cdb::Cdb;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;
use crate::plan::{Action, Plan};
use crate::sense::Sense;

pub(crate) fn decode(_: &LogicalUnit, _: &ModeState, _: &Cdb) -> Result<Plan, Sense> {
    Ok(Plan::now(Action::Good))
}
