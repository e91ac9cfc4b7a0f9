//! What requests about members of the cluster do, about its copies, and about what recovery may take: each is a record.

use std::sync::Arc;

use huntaway_ledger::{
    EpochRecord, MAX_COPIES, MAX_VOTERS, MAX_WEIGHT, Member, Name, Record, RecoveryPolicy, State,
};
use huntaway_wire::Epoch;
use hyper::StatusCode;

use super::cluster_routes::{ALONE, propose};
use super::routes::Refusal;
use crate::cluster::{CopiesStatus, NewCopies, NewMember, NewPolicy, NodeStatus, PolicyStatus};
use crate::new_node::{canonical, check_address, member};
use crate::node::Storage;

/// Gives a node another weight, by an epoch of its own.
pub(super) async fn weigh(storage: &Storage, name: &str, weight: u32) -> Result<NodeStatus, Refusal> {
    let state = storage.state();
    let record = weighed(&state, name, weight)?;
    if let Some(record) = record {
        let refused = |why: String| format!("node {name} does not get the weight {weight}: {why}");
        propose(storage, Record::Epoch(record), refused).await?;
    }
    status_of(storage, name)
}

fn status_of(storage: &Storage, name: &str) -> Result<NodeStatus, Refusal> {
    let nodes = storage.sight().status(Vec::new()).nodes;
    nodes.into_iter().find(|node| node.name == name).ok_or_else(|| unknown(&storage.state(), name))
}

/// The epoch in which the node has that weight; `None` if it has it.
fn weighed(state: &State, name: &str, weight: u32) -> Result<Option<EpochRecord>, Refusal> {
    let mut members = state.members().to_vec();
    let member = members.iter_mut().find(|member| member.name.as_str() == name);
    let (member, cluster) = member.zip(state.cluster().cloned()).ok_or_else(|| unknown(state, name))?;
    if member.weight == weight {
        return Ok(None);
    }
    member.weight = weight;
    Ok(Some(EpochRecord { number: next(state), cluster, members, voters: state.voters().to_vec() }))
}

fn unknown(state: &State, name: &str) -> Refusal {
    let known: Vec<&str> = state.members().iter().map(|member| member.name.as_str()).collect();
    let report = format!("the cluster has no node `{name}`, but {}", known.join(", "));
    Refusal::new(StatusCode::NOT_FOUND, &report)
}

fn next(state: &State) -> Epoch {
    Epoch(state.epoch().0 + 1)
}

/// Has a node belong to the cluster: it may be started then.
pub(super) async fn add(storage: &Storage, new: NewMember) -> Result<NodeStatus, Refusal> {
    let state = storage.state();
    let name = new.name.clone();
    let record = added(&state, new)?;
    propose(storage, Record::Epoch(record), |why| format!("node {name} is not added: {why}")).await?;
    status_of(storage, &name)
}

/// The epoch with one node more.
fn added(state: &State, new: NewMember) -> Result<EpochRecord, Refusal> {
    let NewMember { name, address, zone, weight } = new;
    let address = canonical(address);
    let checked = |text: &str| {
        Name::new(text).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, &format!("`{text}`: {error}")))
    };
    let taken = |report: String| Err(Refusal::new(StatusCode::CONFLICT, &report));
    if weight > MAX_WEIGHT {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, &format!("a weight is {MAX_WEIGHT} at most")));
    }
    // On certificates upper and lower case are the same.
    let is_name = |known: &Name| known.as_str().eq_ignore_ascii_case(&name);
    if let Some(known) = state.members().iter().find(|member| is_name(&member.name)) {
        let addresses: Vec<String> = known.addresses.iter().map(ToString::to_string).collect();
        return taken(format!(
            "the cluster has a node `{}` at {}: start it, or take another name (upper and lower case are the same)",
            known.name,
            addresses.join(" ")
        ));
    }
    check_address(&name, address, state.members())
        .map_err(|report| Refusal::new(StatusCode::BAD_REQUEST, &report))?;
    if let Some((known, _)) = state.gateways().find(|(known, _)| is_name(known)) {
        return taken(format!(
            "a gateway without data is called `{known}`: take another name (upper and lower case are the same)"
        ));
    }
    let cluster = state.cluster().cloned();
    let cluster = cluster.ok_or_else(|| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the ledger is not known yet: ask again")
    })?;
    let new = member(checked(&name)?, address, checked(&zone)?, weight)
        .map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, &error))?;
    let mut voters = state.voters().to_vec();
    if voters.len() < MAX_VOTERS {
        voters.push(new.node);
    }
    let members: Vec<Member> = state.members().iter().cloned().chain([new]).collect();
    Ok(EpochRecord { number: next(state), cluster, members, voters })
}

/// Has a node belong to the cluster no more. Its uuid never comes back.
pub(super) async fn remove(storage: &Storage, name: &str) -> Result<(), Refusal> {
    let record = removed(&storage.state(), name)?;
    let said = |why: String| format!("node {name} is not removed: {why}");
    propose(storage, Record::Epoch(record), said).await.map(drop)
}

/// The epoch without it.
fn removed(state: &State, name: &str) -> Result<EpochRecord, Refusal> {
    let member = state.members().iter().find(|member| member.name.as_str() == name);
    let (member, cluster) = member.zip(state.cluster().cloned()).ok_or_else(|| unknown(state, name))?;
    let not_yet = |report: String| Err(Refusal::new(StatusCode::CONFLICT, &report));
    let sets = state.sets();
    let kept = sets.sets().filter(|(_, set)| set.in_sync.contains(&member.node)).count();
    if member.weight > 0 {
        return not_yet(format!("node {name} is to keep data: `huntaway node drain {name}` first"));
    }
    if kept > 0 {
        return not_yet(format!("node {name} keeps {kept} partitions still: wait until others have them"));
    }
    if sets.node(member.node).is_some_and(|node| node.is_up) {
        return not_yet(format!("node {name} runs: stop it first"));
    }
    let gone = member.node;
    let members = state.members().iter().filter(|member| member.node != gone).cloned().collect();
    let voters = state.voters().iter().filter(|voter| **voter != gone).copied().collect();
    Ok(EpochRecord { number: next(state), cluster, members, voters })
}

/// Says how many copies there are to be from now on.
pub(super) async fn set_copies(storage: &Arc<Storage>, new: NewCopies) -> Result<CopiesStatus, Refusal> {
    if !storage.is_clustered() {
        return Err(Refusal::new(StatusCode::CONFLICT, ALONE));
    }
    let state = storage.state();
    let CopiesStatus { copies, min_copies } = with_copies(&state, new)?;
    if (copies, min_copies) != (state.sets().copies(), state.sets().min_copies()) {
        let said = |why: String| format!("there are as many copies as before: {why}");
        propose(storage, Record::Copies { copies, min_copies }, said).await?;
    }
    Ok(CopiesStatus { copies, min_copies })
}

/// As many as are asked for, if there can be so many, and nothing stops being written for it.
fn with_copies(state: &State, new: NewCopies) -> Result<CopiesStatus, Refusal> {
    let sets = state.sets();
    let copies = new.copies.unwrap_or(sets.copies());
    // Of fewer copies fewer are needed, as in a new cluster, or one node that is away would keep everything from being written.
    let most = if copies < sets.copies() { copies.div_ceil(2) } else { copies };
    let min_copies = new.min_copies.unwrap_or(sets.min_copies().min(most));
    let not_so = |report: String| Err(Refusal::new(StatusCode::CONFLICT, &report));
    if !(1..=MAX_COPIES).contains(&copies) {
        return not_so(format!("there are 1 to {MAX_COPIES} copies of everything, not {copies}"));
    }
    if !(1..=copies).contains(&min_copies) {
        return not_so(format!(
            "writes can need 1 to {copies} of {copies} copies, not {min_copies}: say another --min-copies"
        ));
    }
    let keepers = state.members().iter().filter(|member| member.weight > 0).count();
    if copies > keepers && copies > sets.copies() {
        return not_so(format!(
            "there can be {keepers} copies of everything, for so many nodes keep data, not {copies}: `huntaway node add` and \
             start another one first"
        ));
    }
    let lacking = sets.sets().filter(|(_, set)| set.in_sync.len() < min_copies).count();
    if lacking > 0 && min_copies > sets.min_copies() {
        return not_so(format!(
            "partitions with fewer than {min_copies} copies in sync, {lacking} by now, would not be written to: `huntaway recovery \
             wait` first"
        ));
    }
    Ok(CopiesStatus { copies, min_copies })
}

/// Says what recovery may take from now on.
pub(super) async fn pace_recovery(storage: &Arc<Storage>, new: NewPolicy) -> Result<PolicyStatus, Refusal> {
    let before = storage.state().recovery();
    let policy = RecoveryPolicy {
        is_paused: new.is_paused.unwrap_or(before.is_paused),
        bytes_per_second: new.bytes_per_second.unwrap_or(before.bytes_per_second),
        move_after_seconds: new.delay_seconds.unwrap_or(before.move_after_seconds),
    };
    if policy != before {
        propose(storage, Record::Recovery(policy), |why| format!("recovery goes on as before: {why}"))
            .await?;
    }
    Ok(storage.sight().policy())
}

#[cfg(test)]
mod tests {
    use huntaway_ledger::{Incarnation, StartId};
    use huntaway_wire::NodeId;

    use super::*;
    use crate::cluster::fixture;

    #[test]
    fn there_are_as_many_copies_as_nodes_keep_and_writes_need_no_more_than_there_are() {
        let (state, whole) = (fixture::state(3, 2, 1), fixture::state(3, 3, 2));
        let set_of = |state: &State, copies, min_copies| {
            let set = with_copies(state, NewCopies { copies, min_copies });
            set.map(|set| (set.copies, set.min_copies)).map_err(|refusal| refusal.report)
        };
        let set = |copies, min_copies| set_of(&state, copies, min_copies);
        assert_eq!(set(Some(3), None), Ok((3, 1)));
        // One of two that is away stops nothing, unless that is asked for.
        assert_eq!(set_of(&whole, Some(2), None), Ok((2, 1)));
        assert_eq!(set_of(&whole, Some(2), Some(2)), Ok((2, 2)));
        assert_eq!(set_of(&whole, Some(3), None), Ok((3, 2)));
        assert!(set(Some(0), None).unwrap_err().contains("1 to 8 copies"));
        assert_eq!(set(None, Some(2)), Ok((2, 2)));
        assert!(set(Some(4), None).unwrap_err().contains("for so many nodes keep data"));
        assert!(set(Some(1), Some(2)).unwrap_err().contains("1 to 1 of 1 copies, not 2"));
        assert!(set(None, Some(0)).unwrap_err().contains("say another --min-copies"));
        // The third copies are not there yet.
        assert!(set(Some(3), Some(3)).unwrap_err().contains("recovery wait"), "{:?}", set(Some(3), Some(3)));
    }

    /// What is said to a node at that address, in a cluster whose nodes are at these.
    fn added_to(others: &[&str], address: &str) -> Result<EpochRecord, String> {
        added_as("new", others, address)
    }

    fn added_as(name: &str, others: &[&str], address: &str) -> Result<EpochRecord, String> {
        let mut state = fixture::state(others.len() as u8, 1, 1);
        let mut members = state.members().to_vec();
        for (member, address) in members.iter_mut().zip(others) {
            member.addresses = vec![address.parse().unwrap()];
        }
        let cluster = state.cluster().cloned().unwrap();
        let epoch = EpochRecord { number: next(&state), cluster, members, voters: state.voters().to_vec() };
        state.apply(&Record::Epoch(epoch)).unwrap();
        let gateway = Record::GatewayStarted {
            name: Name::new("gateway-1").unwrap(),
            node: NodeId([9; 16]),
            incarnation: Incarnation(1),
            start: StartId(1),
        };
        state.apply(&gateway).unwrap();
        let (name, zone) = (name.to_owned(), "new".to_owned());
        let new = NewMember { name, address: address.parse().unwrap(), zone, weight: 1 };
        added(&state, new).map_err(|refusal| refusal.report)
    }

    #[test]
    fn names_differ_in_more_than_case() {
        for name in ["node-1", "Node-1", "gateway-1", "GATEWAY-1"] {
            let refused = added_as(name, &["192.0.2.1:7000"], "192.0.2.2:7000").unwrap_err();
            assert!(refused.contains(&name.to_lowercase()), "{refused}");
        }
    }

    #[test]
    fn a_node_that_others_cannot_reach_is_not_added() {
        let elsewhere = ["192.0.2.1:7000", "192.0.2.2:7000"];
        for address in ["127.0.0.1:7000", "[::1]:7000", "[::ffff:127.0.0.1]:7000"] {
            let refused = added_to(&elsewhere, address).unwrap_err();
            assert!(refused.contains("node-1 at 192.0.2.1:7000 cannot reach `new`"), "{refused}");
        }
        assert!(added_to(&elsewhere, "192.0.2.3:7000").is_ok());
        assert!(added_to(&["127.0.0.1:7001"], "127.0.0.1:7000").is_ok());
        assert!(added_to(&["[::ffff:127.0.0.1]:7001"], "127.0.0.1:7000").is_ok());
        assert!(added_to(&elsewhere, "[::ffff:0.0.0.0]:7000").is_err());
        assert!(added_to(&elsewhere, "[::ffff:192.0.2.2]:7000").is_err(), "node-2 is there");
    }
}
