//! The load generator of `huntaway bench`: it measures any iSCSI target with an initiator of its own, and checks that what it
//! reads is what it wrote. What it measures, it prints as a table and as lines of JSON.
//!
//! One thread, session and connection each. With several targets each load is measured on all of them in turn (A B A B ...), so
//! that noise of the machine hits all alike.

mod block;
mod comparison;
mod conditions;
mod cpu;
mod error;
mod histogram;
mod initiator;
mod journal;
mod load;
mod loads;
mod measurement;
mod report;
mod run;
mod target;
mod verifier;
mod worker;

pub(crate) use comparison::{Comparison, Progress, conditions};
pub(crate) use conditions::Pinned;
pub(crate) use load::Load;
pub(crate) use loads::{Loads, parse_loads};
pub(crate) use report::{table, verified};
pub(crate) use run::Settings;
pub(crate) use target::Target;
