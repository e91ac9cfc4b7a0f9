//! How the cluster is, by what it agreed on: who has what of each partition, and what losing a node would mean. Pure; progress of
//! recovery has no say in it.

mod closed;
mod comparison;
mod counts;
mod explanation;
#[cfg(test)]
pub(crate) mod fixture;
mod report;
mod sight;

pub(crate) use closed::{closed, forced, may_be_lost};
pub(crate) use explanation::{ago, explanation};
pub(crate) use report::{
    Closed, ClusterStatus, Comparison, CopiesStatus, Explanation, Force, Forced, Health, Loss, LunStatus,
    NewCopies, NewMember, NewPolicy, NewWeight, NodeStatus, ObjectPlace, PartitionCounts, PolicyStatus,
    RecoveryOfAll, Round,
};
#[cfg(test)]
pub(crate) use report::{DifferenceFound, Party};
pub(crate) use sight::Sight;
