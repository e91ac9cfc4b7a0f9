//! How the cluster is, by what it agreed on: who has what of each partition, and what losing a node would mean. Pure; progress of
//! recovery has no say in it.

mod closed;
mod counts;
mod explanation;
#[cfg(test)]
pub(crate) mod fixture;
mod report;
mod sight;

pub(crate) use closed::{closed, forced, may_be_lost};
pub(crate) use explanation::{ago, explanation};
#[cfg(test)]
pub(crate) use report::Party;
pub(crate) use report::{
    Closed, ClusterStatus, Explanation, Force, Forced, Health, Loss, LunStatus, NewMember, NewPolicy, NewWeight,
    NodeStatus, ObjectPlace, PolicyStatus,
};
pub(crate) use sight::Sight;
