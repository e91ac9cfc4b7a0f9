//! Partitions that stay closed until somebody comes back, or a person has them opened, and what that may cost.

use huntaway_ledger::{AtStake, SetRecord, State};
use huntaway_wire::{Incarnation, NodeId, Partition, Pepoch};

use super::report::{Closed, Party};

/// All of them. Those that open by themselves, for all that have something are there, are not among them.
pub(crate) fn closed(state: &State) -> Vec<Closed> {
    let party = |node: NodeId, incarnation: Option<Incarnation>| Party {
        name: state.member(node).map_or_else(|| node.to_string(), |member| member.name.to_string()),
        uuid: node.to_string(),
        incarnation: incarnation
            .or_else(|| Some(state.sets().node(node)?.incarnation))
            .map_or(0, |incarnation| incarnation.0),
    };
    let sets = state.sets();
    let closed = |(partition, set): (Partition, &huntaway_ledger::InSyncSet)| {
        let AtStake { absent, present, flushed } = sets.at_stake(partition)?;
        let is_up = |node: &NodeId| sets.node(*node).is_some_and(|state| state.is_up);
        // Whose members are all there, and not lost, compare what they have and go on.
        let is_there = |node: &NodeId| is_up(node) && !set.failed.contains(node);
        let waits = set.is_lost() || !set.in_sync.iter().all(is_there);
        waits.then(|| Closed {
            partition: partition.value(),
            pepoch: set.pepoch.0,
            absent: absent.into_iter().map(|node| party(node, None)).collect(),
            present: present.into_iter().map(|(node, process)| party(node, Some(process))).collect(),
            flushed,
        })
    };
    sets.sets().filter_map(closed).collect()
}

/// The record that opens it, with what a person was shown.
///
/// # Errors
/// It names what there is not.
pub(crate) fn forced(state: &State, shown: &Closed) -> Result<SetRecord, String> {
    let partition = Partition::new(shown.partition).map_err(|error| error.to_string())?;
    let node = |party: &Party| {
        let mut nodes = state.sets().nodes().map(|(node, _)| node);
        nodes
            .find(|node| node.to_string() == party.uuid)
            .ok_or_else(|| format!("there is no node {}", party.uuid))
    };
    let present = |party: &Party| Ok::<_, String>((node(party)?, Incarnation(party.incarnation)));
    let pepoch = Pepoch(shown.pepoch);
    let shown = AtStake {
        absent: shown.absent.iter().map(node).collect::<Result<_, _>>()?,
        present: shown.present.iter().map(present).collect::<Result<_, _>>()?,
        flushed: shown.flushed,
    };
    Ok(SetRecord::Forced { partition, pepoch, shown })
}

/// What may be lost with it, in words.
pub(crate) fn may_be_lost(closed: &Closed) -> String {
    let names = |parties: &[Party]| {
        let mut names: Vec<&str> = parties.iter().map(|party| party.name.as_str()).collect();
        names.sort_unstable();
        names.join(", ")
    };
    if closed.present.is_empty() {
        return format!(
            "cannot be opened: no node is up that could; {} had everything",
            names(&closed.absent)
        );
    }
    let with = names(&closed.present);
    let without = if closed.absent.is_empty() {
        String::new()
    } else {
        format!(" and without {}", names(&closed.absent))
    };
    let lost = if closed.flushed {
        "any write may be lost, flushed or not, and what was replaced or discarded may come back"
    } else {
        "writes that were acknowledged and not flushed may be lost"
    };
    format!("opens with what {with} has{without}: {lost}")
}

#[cfg(test)]
mod tests {
    use huntaway_ledger::{Memory, Record, StartId};

    use super::*;
    use crate::cluster::fixture::{node, state};

    /// Node 2 had everything last, and is down; node 1 was in sync before.
    fn one_is_back() -> State {
        let mut state = state(2, 2, 1);
        let (memory, start, after) = (Memory::Kept, StartId(5), vec![StartId::FIRST]);
        let (one, incarnation) = (node(1), Incarnation(2));
        for record in [
            SetRecord::NodesDown { nodes: vec![node(1)] },
            SetRecord::NodesDown { nodes: vec![node(2)] },
            SetRecord::NodeStarted { node: one, incarnation, memory, start, after },
        ] {
            state.apply(&Record::Sets(record)).unwrap();
        }
        state
    }

    #[test]
    fn what_is_shown_opens_the_partition_and_nothing_else_does() {
        let mut state = one_is_back();
        let shown = closed(&state);
        assert_eq!(shown.len(), 4096);
        let first = &shown[0];
        assert!(first.flushed && first.absent[0].name == "node-2" && first.present[0].name == "node-1");
        assert!(may_be_lost(first).contains("without node-2: any write may be lost, flushed or not"));
        let understated = Closed { flushed: false, ..first.clone() };
        assert!(state.apply(&Record::Sets(forced(&state, &understated).unwrap())).is_err());
        state.apply(&Record::Sets(forced(&state, first).unwrap())).unwrap();
        assert_eq!(closed(&state).len(), 4095);
    }

    #[test]
    fn without_anybody_there_is_nothing_to_open() {
        let mut state = state(1, 1, 1);
        assert!(closed(&state).is_empty());
        state.apply(&Record::Sets(SetRecord::NodesDown { nodes: vec![node(1)] })).unwrap();
        assert!(may_be_lost(&closed(&state)[0]).starts_with("cannot be opened"));
    }
}
