//! Why the cluster is as it is, and what losing each node would mean.

use std::collections::BTreeMap;
use std::time::Duration;

use huntaway_ledger::{InSyncSet, Vdi};
use huntaway_store::{DiskState, DiskStatus};
use huntaway_wire::{NodeId, OBJECT_SIZE_BYTES, PARTITIONS, Partition};

use super::counts::{Condition, certain, partitions};
use super::report::{Explanation, Loss, VdiAtRisk};
use super::sight::Sight;

/// Objects of a VDI that are looked at, at most: with so many it has some in every partition.
const MOST_OBJECTS: u64 = 1 << 17;

/// What is to be said of the cluster as the node sees it.
pub(crate) fn explanation(sight: &Sight) -> Explanation {
    let conditions: BTreeMap<Partition, Condition> =
        partitions(sight.state.sets()).map(|(partition, _, condition)| (partition, condition)).collect();
    let vdis = sight.state.vdis().filter_map(|vdi| at_risk(vdi, &conditions)).collect();
    Explanation { reasons: reasons(sight), vdis, losses: losses(sight) }
}

fn reasons(sight: &Sight) -> Vec<String> {
    let (state, sets) = (&sight.state, sight.state.sets());
    let mut reasons = Vec::new();
    if !sight.has_ledger_lease {
        reasons.push(format!(
            "{} has no lease of the ledger, so it serves nothing, and all this may be past: see that the keeper runs, \
             and that {0} reaches it",
            sight.name(sight.node)
        ));
    }
    reasons.extend(sight.disks.iter().filter_map(|disk| of_disk(disk, &sight.name(sight.node))));
    for member in state.members() {
        let node = member.node;
        let wanted: Vec<_> = sets.sets().filter(|(_, set)| set.target.contains(&node)).collect();
        let is_up = sets.node(node).is_some_and(|state| state.is_up);
        // Of what nobody serves nothing is copied.
        let lacks = |(_, set): &&(Partition, &InSyncSet)| {
            let mut certain = certain(sets, set).peekable();
            certain.peek().is_some() && !certain.any(|other| other == node)
        };
        let failed = wanted.iter().filter(|(_, set)| set.failed.contains(&node)).count();
        let is_healthy = |at: &&(Partition, &InSyncSet)| !at.1.failed.contains(&node);
        let (is_wanted, lacking) = (wanted.len(), wanted.iter().filter(is_healthy).filter(lacks).count());
        if is_up && failed > 0 {
            reasons.push(format!(
                "{} of {} on a disk that failed or is to be taken away: its other disks take over; if it has none, or they have no \
                 room, put the disk right and start the node again, or drain the node",
                count(failed, "partition"),
                member.name
            ));
        }
        if !is_up && (member.weight > 0 || is_wanted > 0) {
            reasons.push(is_down(sight, member.name.as_str(), node, is_wanted));
        } else if is_up && lacking > 0 {
            reasons.push(format!(
                "{} is up, and does not have all of {} that it is to keep: they are copied to it",
                member.name,
                count(lacking, "partition")
            ));
        }
    }
    if state.recovery().is_paused {
        reasons.push("recovery is paused: nothing is copied before `huntaway recovery resume`".to_owned());
    }
    let keepers = state.members().iter().filter(|member| member.weight > 0).count();
    if keepers < sets.copies() {
        reasons.push(format!(
            "{} are wanted, and only {} of the nodes keep data: give others a weight",
            count(sets.copies(), "copy").replace("copys", "copies"),
            keepers
        ));
    }
    reasons.extend(closed_for(sight));
    reasons
}

fn of_disk(disk: &DiskStatus, node: &str) -> Option<String> {
    let directory = disk.directory.display();
    match &disk.state {
        DiskState::Serving if disk.leaves && disk.partitions > 0 => Some(format!(
            "disk {directory} of {node} is to be taken away: {} on it go to others",
            count(disk.partitions.into(), "partition")
        )),
        DiskState::Serving => None,
        DiskState::Failed if disk.partitions == 0 => Some(format!(
            "disk {directory} of {node} has failed, and nothing is on it any more: `huntaway node disk remove` lets the node \
             start without it"
        )),
        DiskState::Failed => Some(format!("disk {directory} of {node} has failed: see its log")),
        DiskState::Absent { reason } => Some(format!(
            "disk {directory} of {node} is not there: {reason}. Put it right and start the node again; or `huntaway node disk remove` \
             has the node's other disks take what it had"
        )),
    }
}

fn is_down(sight: &Sight, name: &str, node: NodeId, is_wanted: usize) -> String {
    let has_run = sight.state.member(node).is_some_and(|member| member.incarnation.0 > 0);
    let since = match sight.down.get(&node) {
        _ if !has_run => " and never ran".to_owned(),
        Some(down) => format!(" for {}", ago(*down)),
        None => format!(" since before {} could see it", sight.name(sight.node)),
    };
    let partitions = count(is_wanted, "partition");
    format!(
        "{name} is down{since}: {partitions} that it is to keep are without it until it is started, or drained"
    )
}

/// Why partitions are closed, or take no writes, the same ones together.
fn closed_for(sight: &Sight) -> Vec<String> {
    let sets = sight.state.sets();
    let mut closed: BTreeMap<String, usize> = BTreeMap::new();
    for (_, set, condition) in partitions(sets).filter(|(_, _, condition)| !condition.is_served()) {
        let names = |nodes: &[NodeId]| {
            let mut names = sight.names(nodes);
            names.sort();
            names.join(", ")
        };
        let is_up = |node: &NodeId| sets.node(*node).is_some_and(|state| state.is_up);
        let absent: Vec<NodeId> = set.in_sync.iter().filter(|node| !is_up(node)).copied().collect();
        let failed: Vec<NodeId> =
            set.in_sync.iter().filter(|node| set.failed.contains(node)).copied().collect();
        let in_sync = names(&set.in_sync);
        let why = match condition {
            Condition::BelowMinCopies => format!(
                "only {in_sync} in sync where {} have to be: read, and not written before others are",
                sets.min_copies()
            ),
            _ if set.is_lost() => format!("closed until the disk of {in_sync} is back that had them"),
            _ if !failed.is_empty() => format!(
                "closed until {} {} again with a disk that works: nobody else is sure to have all",
                names(&failed),
                if failed.len() == 1 { "starts" } else { "start" }
            ),
            _ if absent.is_empty() => format!("{in_sync} may have lost what was not flushed, and compare"),
            _ if set.is_all_doubtful() => {
                format!(
                    "closed until {} back: all of {in_sync} may have lost what was not flushed",
                    are(&names(&absent))
                )
            }
            _ => format!("closed until one of them is back who had all: {}", names(&absent)),
        };
        *closed.entry(why).or_default() += 1;
    }
    let sentence = |(why, partitions): (String, usize)| format!("{}: {why}", count(partitions, "partition"));
    closed.into_iter().map(sentence).collect()
}

/// How far the VDI is concerned; `None` if it is not.
fn at_risk(vdi: &Vdi, conditions: &BTreeMap<Partition, Condition>) -> Option<VdiAtRisk> {
    let mut seen = vec![false; PARTITIONS.into()];
    let mut risk = VdiAtRisk { name: vdi.name.to_string(), partitions: 0, down: 0, of: 0 };
    for index in 0..vdi.size_bytes.div_ceil(OBJECT_SIZE_BYTES.into()).min(MOST_OBJECTS) {
        let partition = Partition::of(vdi.family, index as u32);
        if std::mem::replace(&mut seen[partition.index()], true) {
            continue;
        }
        let condition = conditions.get(&partition).copied().unwrap_or(Condition::Down);
        risk.of += 1;
        risk.partitions += usize::from(!condition.has_its_copies());
        risk.down += usize::from(!condition.is_served());
        if risk.of == usize::from(PARTITIONS) {
            break;
        }
    }
    Some(risk).filter(|risk| risk.partitions > 0)
}

/// Of each node that is up.
fn losses(sight: &Sight) -> Vec<Loss> {
    let (state, sets) = (&sight.state, sight.state.sets());
    let loss = |member: &huntaway_ledger::Member| {
        let node = member.node;
        let mut loss = Loss { node: member.name.to_string(), last_copies: 0, below_min_copies: 0, led: 0 };
        let served = partitions(sets).filter(|(_, _, condition)| *condition != Condition::Down);
        for (partition, set, condition) in served.filter(|(_, set, _)| set.in_sync.contains(&node)) {
            loss.led += usize::from(state.primary(partition) == Some(node));
            if certain(sets, set).all(|other| other == node) {
                loss.last_copies += 1;
            } else if condition.is_served() && set.in_sync.len() <= sets.min_copies() {
                loss.below_min_copies += 1;
            }
        }
        loss
    };
    let is_up = |node: NodeId| sets.node(node).is_some_and(|state| state.is_up);
    let mut losses: Vec<Loss> =
        state.members().iter().filter(|member| is_up(member.node)).map(loss).collect();
    losses.sort_by(|one, other| one.node.cmp(&other.node));
    losses
}

fn are(names: &str) -> String {
    format!("{names} {}", if names.contains(',') { "are" } else { "is" })
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A time for people.
pub(crate) fn ago(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use huntaway_ledger::{InSyncChange, Record, SetRecord};

    use super::*;
    use crate::cluster::Health;
    use crate::cluster::closed::closed;
    use crate::cluster::fixture::{node, sight, state};

    #[test]
    fn a_node_that_is_down_is_named_and_the_next_loss_is_told() {
        let mut seen = sight(state(3, 3, 2));
        let before = explanation(&seen);
        assert!(before.reasons.is_empty() && before.vdis.is_empty(), "{before:?}");
        assert_eq!(seen.status(Vec::new()).health, Health::Ok);
        let down = SetRecord::NodesDown { nodes: vec![node(2)] };
        Arc::make_mut(&mut seen.state).apply(&Record::Sets(down)).unwrap();
        seen.down.insert(node(2), Duration::from_secs(42));
        assert_eq!(seen.status(Vec::new()).health, Health::Degraded);
        let told = explanation(&seen);
        assert!(told.reasons[0].starts_with("node-2 is down for 42 s: 4096 partitions"), "{told:?}");
        let losses: Vec<_> =
            told.losses.iter().map(|loss| (&*loss.node, loss.last_copies, loss.below_min_copies)).collect();
        assert_eq!(losses, [("node-1", 0, 4096), ("node-3", 0, 4096)]);
        let [vdi] = &*told.vdis else { panic!("{told:?}") };
        assert_eq!((vdi.name.as_str(), vdi.partitions, vdi.down), ("root", vdi.of, 0));
        assert!((1..=256).contains(&vdi.of), "a disk of 256 objects: {vdi:?}");
    }

    #[test]
    fn a_disk_that_failed_is_named_and_what_waits_for_it_can_be_opened() {
        let mut seen = sight(state(2, 2, 1));
        let partition = Partition::new(7).unwrap();
        let failed = |seen: &Sight, number| {
            let change =
                InSyncChange::Failed { node: node(number), incarnation: huntaway_ledger::Incarnation(1) };
            let pepoch = seen.state.pepoch(partition);
            Record::Sets(SetRecord::Changed { partition, pepoch, change })
        };
        let record = failed(&seen, 1);
        Arc::make_mut(&mut seen.state).apply(&record).unwrap();
        let told = explanation(&seen);
        assert_eq!(told.reasons.len(), 1, "{told:?}");
        assert!(told.reasons[0].starts_with("1 partition of node-1 on a disk that failed"), "{told:?}");
        assert!(closed(&seen.state).is_empty());
        let record = failed(&seen, 2);
        Arc::make_mut(&mut seen.state).apply(&record).unwrap();
        let told = explanation(&seen);
        let closed_until = "1 partition: closed until node-2 starts again with a disk that works";
        assert!(told.reasons.iter().any(|why| why.starts_with(closed_until)), "{told:?}");
        assert_eq!(closed(&seen.state).len(), 1);
    }

    #[test]
    fn nothing_is_well_without_the_last_copy() {
        let mut seen = sight(state(2, 2, 1));
        let down = |number| Record::Sets(SetRecord::NodesDown { nodes: vec![node(number)] });
        Arc::make_mut(&mut seen.state).apply(&down(1)).unwrap();
        assert_eq!(explanation(&seen).losses[0].last_copies, 4096);
        Arc::make_mut(&mut seen.state).apply(&down(2)).unwrap();
        assert_eq!(seen.status(Vec::new()).health, Health::Unavailable);
        let told = explanation(&seen);
        assert!(
            told.reasons.iter().any(|why| why.contains("until one of them is back who had all: node-2")),
            "{told:?}"
        );
        assert!(told.losses.is_empty());
    }

    #[test]
    fn who_hears_nothing_of_the_ledger_says_so() {
        let seen = Sight { has_ledger_lease: false, ..sight(state(2, 2, 1)) };
        assert_eq!(seen.status(Vec::new()).health, Health::Unavailable);
        assert!(explanation(&seen).reasons[0].contains("no lease of the ledger"));
    }

    #[test]
    fn times_are_in_units_that_people_use() {
        let times = [5, 119, 120, 7_300, 200_000].map(|seconds| ago(Duration::from_secs(seconds)));
        assert_eq!(times, ["5 s", "119 s", "2 min", "2 h", "2 days"]);
    }
}
