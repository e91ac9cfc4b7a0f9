//! A cluster of several nodes: its records as bytes, its state as a whole, and epochs that have partitions kept by others.

mod fixture;

use fixture::{OPTIONS, create, epoch, member, name, state_after, vid, written};
use huntaway_ledger::{
    ApplyError, AtStake, DiskRecord, EpochRecord, InSyncChange, Incarnation, Ledger, MAX_HELD, MAX_MEMBERS,
    Member, Memory, Placement, Record, RecoveryPolicy, SetRecord, SnapshotError, StartId, State, Void,
};
use huntaway_wire::{Epoch, NodeId, Partition, Pepoch};

const A: NodeId = NodeId([1; 16]);
const B: NodeId = NodeId([2; 16]);
const C: NodeId = NodeId([3; 16]);

/// The records of more than one node, one of each kind, as version 1 writes them.
const GOLDEN: &str = include_str!("golden/cluster-version-1.hex");

fn node(node: NodeId, weight: u32) -> Member {
    Member { node, weight, name: name("node"), addresses: Vec::new(), ..member() }
}

fn epoch_of(number: u64, members: Vec<Member>) -> EpochRecord {
    let voters = members.iter().map(|member| member.node).collect();
    EpochRecord { members, voters, ..epoch(number) }
}

/// The members of `state`, with other weights for some, and without those that have none.
fn reweighted(state: &State, weights: &[(NodeId, Option<u32>)]) -> Record {
    let mut members = state.members().to_vec();
    for (node, weight) in weights {
        members.retain(|member| member.node != *node || weight.is_some());
        for member in members.iter_mut().filter(|member| member.node == *node) {
            member.weight = weight.unwrap_or(0);
        }
    }
    Record::Epoch(epoch_of(state.epoch().0 + 1, members))
}

fn started(node: NodeId, incarnation: u64, memory: Memory) -> Record {
    let (start, after) = (StartId(incarnation << 8), vec![StartId::FIRST, StartId((incarnation - 1) << 8)]);
    Record::Sets(SetRecord::NodeStarted { node, incarnation: Incarnation(incarnation), memory, start, after })
}

fn partition() -> Partition {
    Partition::new(7).expect("there are more partitions")
}

fn changed(state: &State, partition: Partition, change: InSyncChange) -> Record {
    let pepoch = state.pepoch(partition);
    Record::Sets(SetRecord::Changed { partition, pepoch, change })
}

fn new_cluster() -> Vec<Record> {
    let members = vec![node(A, 1), node(B, 2), node(C, 1)];
    vec![Record::Copies { copies: 2, min_copies: 1 }, Record::Epoch(epoch_of(1, members))]
}

/// One record of each kind that one node alone does not have, in an order that applies.
fn one_of_each() -> Vec<Record> {
    let disks = Record::Disks;
    let clone = Record::CloneVdi { of: vid(1), vid: vid(4), name: name("clone"), uuid: [4; 16] };
    let mut records = [
        new_cluster(),
        vec![
            started(A, 1, Memory::Kept),
            started(B, 1, Memory::Kept),
            started(C, 1, Memory::Kept),
            create(1, "disk-1"),
            create(2, "disk-2"),
            disks(DiskRecord::Hold { disks: vec![vid(1)], reads: false }),
            disks(DiskRecord::Commit { hold: 1 }),
            clone,
            disks(DiskRecord::Hold { disks: vec![vid(1)], reads: true }),
            disks(DiskRecord::RollBack { hold: 2, to: vid(1) }),
            disks(DiskRecord::Fence { disk: vid(2) }),
            disks(DiskRecord::Hold { disks: vec![vid(2), vid(4)], reads: false }),
            disks(DiskRecord::Abort { hold: 3 }),
            disks(DiskRecord::DeleteSnapshot { version: vid(1) }),
            disks(DiskRecord::DeleteDisk { disk: vid(4) }),
            disks(DiskRecord::Hold { disks: vec![vid(1)], reads: false }),
            Record::Sets(SetRecord::NodesDown { nodes: vec![A, C] }),
            Record::Sets(SetRecord::NodeUp { node: C }),
            started(A, 2, Memory::Stable),
        ],
    ]
    .concat();
    let changes: [fn(&State) -> Record; 2] =
        [|state| changed(state, partition(), InSyncChange::Renew), |_| started(B, 2, Memory::Damaged)];
    for change in changes {
        let record = change(&state_after(&records));
        records.push(record);
    }
    let state = state_after(&records);
    let (partition, shown) =
        Partition::all().find_map(|at| Some((at, state.sets().at_stake(at)?))).expect("B alone has some");
    let pepoch = state.pepoch(partition);
    records.push(Record::Sets(SetRecord::Forced { partition, pepoch, shown }));
    let (node, incarnation, start) = (NodeId([7; 16]), Incarnation(1), StartId(5));
    records.push(Record::GatewayStarted { name: name("gateway"), node, incarnation, start });
    let paused = RecoveryPolicy { is_paused: true, bytes_per_second: 9 << 20, move_after_seconds: 5 };
    records.push(Record::Recovery(paused));
    let state = state_after(&records);
    let (node, incarnation) = (A, Incarnation(2));
    let emptied = |at| changed(&state, at, InSyncChange::Emptied { node, incarnation });
    let can_do_without = |at: &Partition| state.clone().apply(&emptied(*at)).is_ok();
    let partition = Partition::all().find(can_do_without).expect("C has what A had, of some");
    records.push(emptied(partition));
    let ready = InSyncChange::Ready { node, incarnation };
    records.push(changed(&state_after(&records), partition, ready));
    records
}

#[test]
fn a_gateway_has_one_process_at_a_time_and_no_number_twice() {
    let (x, y) = (NodeId([21; 16]), NodeId([22; 16]));
    let start = |text: &str, node, incarnation, start| Record::GatewayStarted {
        name: name(text),
        node,
        incarnation: Incarnation(incarnation),
        start: StartId(start),
    };
    let mut state = state_after(&new_cluster());
    state.apply(&start("one", x, 1, 7)).unwrap();
    let before = state.clone();
    let other = || ApplyError::OtherGateway { name: name("one") };
    for wrong in [start("one", x, 1, 8), start("one", x, 3, 8), start("one", y, 2, 8)] {
        assert_eq!(state.apply(&wrong), Err(other()));
    }
    for (node, incarnation) in [(x, 1), (A, 1), (y, 2)] {
        let error = ApplyError::OtherGateway { name: name("two") };
        assert_eq!(state.apply(&start("two", node, incarnation, 8)), Err(error));
    }
    assert_eq!(state.apply(&start("node", y, 1, 8)), Err(ApplyError::NameOfNode { name: name("node") }));
    let members = [state.members(), &[node(x, 1)]].concat();
    let with = Record::Epoch(epoch_of(2, members));
    assert_eq!(state.apply(&with), Err(ApplyError::IsGateway { node: x }));
    assert_eq!(state, before);
    state.apply(&start("one", x, 2, 8)).unwrap();
    state.apply(&start("two", y, 1, 9)).unwrap();
    let newest: Vec<_> = state.processes().map(|process| (process.node, process.incarnation.0)).collect();
    assert_eq!(newest, [(A, 0), (B, 0), (C, 0), (x, 2), (y, 1)]);
    // They are no members: they change nothing of who keeps what.
    assert_eq!(state.sets(), state_after(&new_cluster()).sets());
    assert!(state.gateways().map(|(name, _)| name.as_str()).eq(["one", "two"]));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn records_are_read_as_they_were_written_and_written_as_they_always_were() {
    let records = one_of_each();
    let mut ledger = Ledger::default();
    let written = written(&records);
    for (bytes, record) in written.iter().zip(&records) {
        assert_eq!(&ledger.read(bytes).unwrap(), &(record.clone(), bytes.len()));
    }
    assert_eq!(**ledger.state(), state_after(&records));
    let golden: Vec<&str> = GOLDEN.lines().collect();
    assert_eq!(written.iter().map(|bytes| hex(bytes)).collect::<Vec<_>>(), golden);
}

#[test]
fn a_snapshot_is_the_state_after_every_record() {
    let (mut ledger, mut joined) = (Ledger::default(), Ledger::default());
    for record in &one_of_each() {
        ledger = ledger.follow(record).unwrap().ledger;
        // Who joined earlier goes on like the others.
        joined.read(&joined.follow(record).unwrap().bytes).unwrap();
        assert_eq!((joined.state(), joined.hash()), (ledger.state(), ledger.hash()));
        assert_eq!(joined.state().digest(), ledger.state().digest());
        joined = Ledger::of_snapshot(&ledger.snapshot().unwrap()).unwrap();
        assert_eq!((joined.state(), joined.hash()), (ledger.state(), ledger.hash()));
    }
}

#[test]
fn states_that_differ_have_other_digests() {
    let records = one_of_each();
    let digests: Vec<_> =
        (0..records.len()).map(|count| state_after(&records[..count]).digest().unwrap().0).collect();
    let mut distinct = digests.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), digests.len());
}

#[test]
fn damage_of_a_snapshot_is_noticed() {
    let mut ledger = Ledger::default();
    for record in &[Record::Epoch(epoch(1)), create(1, "disk")] {
        ledger = ledger.follow(record).unwrap().ledger;
    }
    let bytes = ledger.snapshot().unwrap();
    for place in (0..200).chain((200..bytes.len()).step_by(997)) {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1;
        assert_eq!(Ledger::of_snapshot(&flipped).unwrap_err(), SnapshotError::Damaged, "byte {place}");
    }
    for length in [0, 10, 64, bytes.len() - 1] {
        assert_eq!(Ledger::of_snapshot(&bytes[..length]).unwrap_err(), SnapshotError::Damaged);
    }
}

#[test]
fn what_cannot_be_read_is_not_written() {
    let state = state_after(&new_cluster());
    let refused = |record: &Record| state.clone().apply(record).unwrap_err();
    let nodes = vec![A; MAX_MEMBERS + 1];
    let down = SetRecord::NodesDown { nodes: nodes.clone() };
    assert_eq!(refused(&Record::Sets(down)), Void::TooMuch.into());
    let shown = AtStake { absent: nodes, present: Vec::new(), flushed: true };
    let forced = SetRecord::Forced { partition: partition(), pepoch: Pepoch(1), shown };
    assert_eq!(refused(&Record::Sets(forced)), Void::TooMuch.into());
    let hold = DiskRecord::Hold { disks: vec![vid(1); MAX_HELD + 1], reads: false };
    assert!(matches!(refused(&Record::Disks(hold)), ApplyError::Over(_)));
}

#[test]
fn the_copies_of_a_new_cluster_are_where_the_placement_says() {
    let state = state_after(&new_cluster());
    let Record::Epoch(epoch) = &new_cluster()[1] else { panic!("an epoch") };
    let placement = Placement::new(epoch, 2);
    for (partition, set) in state.sets().sets() {
        assert_eq!((set.target.as_slice(), &set.in_sync), (placement.nodes(partition), &set.target));
    }
    assert_eq!(state.sets().sets().count(), Partition::all().count());
}

#[test]
fn who_is_added_learns_and_who_is_to_go_stays_until_others_have_everything() {
    let mut state = state_after(&new_cluster());
    for node in [A, B, C] {
        state.apply(&started(node, 1, Memory::Kept)).unwrap();
    }
    state.apply(&reweighted(&state, &[(C, Some(0))])).unwrap();
    let of_c: Vec<Partition> = Partition::all()
        .filter(|partition| state.sets().set(*partition).unwrap().in_sync.contains(&C))
        .collect();
    assert!(!of_c.is_empty(), "it has what it had");
    let without = reweighted(&state, &[(C, None)]);
    assert_eq!(state.apply(&without), Err(Void::StillUp { node: C }.into()));
    for partition in of_c {
        let candidates = state.sets().candidates(partition);
        assert_eq!(candidates.len(), 1);
        let (node, incarnation) = (candidates[0], Incarnation(1));
        let promote = changed(&state, partition, InSyncChange::Promote { node, incarnation });
        state.apply(&promote).unwrap();
    }
    assert!(state.sets().sets().all(|(_, set)| set.is_whole() && !set.in_sync.contains(&C)));
    state.apply(&Record::Sets(SetRecord::NodesDown { nodes: vec![C] })).unwrap();
    state.apply(&reweighted(&state, &[(C, None)])).unwrap();
    assert_eq!((state.members().len(), state.sets().node(C)), (2, None));
    assert_eq!(state.apply(&started(C, 2, Memory::Kept)), Err(Void::Past.into()));
}

#[test]
fn old_copies_of_who_was_removed_count_no_more_and_that_is_another_pepoch() {
    let mut state = state_after(&new_cluster());
    let of_c: Vec<Partition> = Partition::all()
        .filter(|partition| state.sets().set(*partition).unwrap().in_sync.contains(&C))
        .collect();
    state.apply(&Record::Sets(SetRecord::NodesDown { nodes: vec![C] })).unwrap();
    let before = state.clone();
    assert!(of_c.iter().all(|at| before.sets().set(*at).unwrap().keepers().contains(&C)));
    state.apply(&reweighted(&state, &[(C, None)])).unwrap();
    for partition in of_c {
        let (before, after) = (before.sets().set(partition).unwrap(), state.sets().set(partition).unwrap());
        assert!(!after.keepers().contains(&C) && after.pepoch > before.pepoch);
    }
}

#[test]
fn who_alone_has_something_is_not_removed() {
    let mut state = state_after(&new_cluster());
    let down = |nodes: &[NodeId]| Record::Sets(SetRecord::NodesDown { nodes: nodes.to_vec() });
    state.apply(&down(&[A, B])).unwrap();
    state.apply(&down(&[C])).unwrap();
    let without = reweighted(&state, &[(C, None)]);
    assert_eq!(state.apply(&without), Err(ApplyError::LastCopy { node: C }));
}

#[test]
fn who_is_added_is_not_there_before_its_start_is_recorded() {
    let mut state = state_after(&new_cluster());
    let (d, number) = (NodeId([4; 16]), state.epoch().0 + 1);
    let mut members = state.members().to_vec();
    members.push(Member { incarnation: Incarnation(3), ..node(d, 1) });
    let (found, current) = (Incarnation(3), Incarnation(0));
    let error = ApplyError::OtherIncarnation { node: d, found, current };
    assert_eq!(state.apply(&Record::Epoch(epoch_of(number, members.clone()))), Err(error));
    members[3].incarnation = Incarnation(0);
    state.apply(&Record::Epoch(epoch_of(number, members))).unwrap();
    let is_up = |state: &State| state.sets().node(d).unwrap().is_up;
    assert_eq!(state.apply(&Record::Sets(SetRecord::NodeUp { node: d })), Err(Void::Past.into()));
    assert!(!is_up(&state) && Partition::all().all(|at| !state.sets().candidates(at).contains(&d)));
    state.apply(&started(d, 3, Memory::Kept)).unwrap();
    assert!(is_up(&state) && Partition::all().any(|at| state.sets().candidates(at).contains(&d)));
}

#[test]
fn somebody_keeps_data() {
    let state = state_after(&new_cluster());
    let nobody = reweighted(&state, &[(A, Some(0)), (B, Some(0)), (C, Some(0))]);
    assert_eq!(state.clone().apply(&nobody), Err(ApplyError::LastCopy { node: A }));
}

#[test]
fn several_nodes_say_what_is_on_their_disks_when_they_start() {
    let mut state = state_after(&new_cluster());
    let bare = Record::Incarnation { node: A, incarnation: Incarnation(5) };
    assert_eq!(state.apply(&bare), Err(ApplyError::BareStart { node: A }));
}

#[test]
fn a_clone_and_a_disk_that_went_back_have_the_size_of_the_snapshot() {
    let disks = Record::Disks;
    let mut state = state_after(&[
        Record::Epoch(epoch(1)),
        create(1, "disk"),
        disks(DiskRecord::Hold { disks: vec![vid(1)], reads: false }),
        disks(DiskRecord::Commit { hold: 1 }),
        Record::ResizeVdi { vid: vid(1), size_bytes: 2 << 30 },
        Record::CloneVdi { of: vid(1), vid: vid(3), name: name("clone"), uuid: [3; 16] },
    ]);
    assert_eq!(state.vdi("disk").unwrap().size_bytes, 2 << 30);
    let clone = state.vdi("clone").unwrap();
    assert_eq!((clone.size_bytes, clone.family, clone.parent), (OPTIONS.size_bytes, vid(1), Some(vid(1))));
    state.apply(&disks(DiskRecord::Hold { disks: vec![vid(1)], reads: true })).unwrap();
    let resize = Record::ResizeVdi { vid: vid(1), size_bytes: 3 << 30 };
    assert_eq!(state.apply(&resize), Err(ApplyError::InUse { name: name("disk") }), "it is held");
    state.apply(&disks(DiskRecord::RollBack { hold: 2, to: vid(1) })).unwrap();
    assert_eq!(state.vdi("disk").unwrap().size_bytes, OPTIONS.size_bytes);
    let gone = Record::DeleteVdi { vid: vid(1) };
    assert_eq!(state.apply(&gone), Err(ApplyError::InUse { name: name("disk") }), "it has a snapshot");
    state.apply(&disks(DiskRecord::DeleteDisk { disk: vid(1) })).unwrap();
    assert_eq!((state.vdi("disk"), state.epoch()), (None, Epoch(1)));
    state.apply(&create(5, "disk")).unwrap();
}

/// A witness alone, and nodes that keep data after it.
fn witness_first() -> Vec<Record> {
    let members = vec![node(C, 0), node(A, 1), node(B, 1)];
    vec![
        Record::Copies { copies: 2, min_copies: 2 },
        Record::Epoch(epoch_of(1, members[..1].to_vec())),
        Record::Epoch(epoch_of(2, members)),
    ]
}

#[test]
fn a_cluster_may_begin_with_a_witness() {
    let mut state = state_after(&witness_first());
    let first = |node| {
        let (incarnation, memory) = (Incarnation(1), Memory::Kept);
        Record::Sets(SetRecord::NodeStarted { node, incarnation, memory, start: StartId(7), after: vec![] })
    };
    state.apply(&first(A)).unwrap();
    assert!(state.sets().sets().all(|(_, set)| !set.is_lost() && set.in_sync == [A]));
    state.apply(&first(B)).unwrap();
    let partition = partition();
    let promote = InSyncChange::Promote { node: B, incarnation: Incarnation(1) };
    state.apply(&changed(&state, partition, promote)).unwrap();
    assert!(state.sets().set(partition).unwrap().is_whole());
    let other_disk = SetRecord::NodeStarted {
        node: B,
        incarnation: Incarnation(2),
        memory: Memory::Kept,
        start: StartId(8),
        after: vec![],
    };
    state.apply(&Record::Sets(other_disk)).unwrap();
    assert_eq!(state.sets().set(partition).unwrap().in_sync, [A], "it ran on another disk before");
}

#[test]
fn who_was_removed_is_not_added_again_if_it_ever_ran() {
    let mut state = state_after(&new_cluster());
    for node in [A, B, C] {
        state.apply(&started(node, 1, Memory::Kept)).unwrap();
    }
    state.apply(&Record::Sets(SetRecord::NodesDown { nodes: vec![C] })).unwrap();
    let again = |state: &State, node: Member| {
        let members = [state.members(), &[node]].concat();
        Record::Epoch(epoch_of(state.epoch().0 + 1, members))
    };
    state.apply(&reweighted(&state, &[(C, None)])).unwrap();
    let dismissed = ApplyError::from(Void::Dismissed { node: C });
    let mut ledger = Ledger::default();
    for record in [new_cluster(), vec![started(C, 1, Memory::Kept)]].concat() {
        ledger = ledger.follow(&record).unwrap().ledger;
    }
    ledger = ledger.follow(&Record::Sets(SetRecord::NodesDown { nodes: vec![C] })).unwrap().ledger;
    ledger = ledger.follow(&reweighted(ledger.state(), &[(C, None)])).unwrap().ledger;
    let joined = Ledger::of_snapshot(&ledger.snapshot().unwrap()).unwrap();
    for state in [&state, &**joined.state()] {
        assert_eq!(state.clone().apply(&again(state, node(C, 1))), Err(dismissed.clone()));
    }
    // Who never ran sent nothing.
    let d = NodeId([4; 16]);
    state.apply(&again(&state, node(d, 1))).unwrap();
    state.apply(&reweighted(&state, &[(d, None)])).unwrap();
    state.apply(&again(&state, node(d, 1))).unwrap();
}

#[test]
fn an_old_copy_of_what_nobody_serves_is_not_removed() {
    let mut state = state_after(&new_cluster());
    for node in [A, B, C] {
        state.apply(&started(node, 1, Memory::Kept)).unwrap();
    }
    let down = |nodes: &[NodeId]| Record::Sets(SetRecord::NodesDown { nodes: nodes.to_vec() });
    state.apply(&down(&[C])).unwrap();
    let start = StartId(9);
    for node in [A, B] {
        let (incarnation, memory) = (Incarnation(2), Memory::Kept);
        let other_disk = SetRecord::NodeStarted { node, incarnation, memory, start, after: Vec::new() };
        state.apply(&Record::Sets(other_disk)).unwrap();
    }
    let of_c = |set: &huntaway_ledger::InSyncSet| set.is_lost() && set.former.contains(&C);
    let (lost, _) = state.sets().sets().find(|(_, set)| of_c(set)).expect("C has old copies of some");
    let without = reweighted(&state, &[(C, None)]);
    assert_eq!(state.clone().apply(&without), Err(ApplyError::LastCopy { node: C }));
    for partition in Partition::all() {
        if let Some(shown) = state.sets().at_stake(partition) {
            let pepoch = state.pepoch(partition);
            let forced = SetRecord::Forced { partition, pepoch, shown };
            state.apply(&Record::Sets(forced)).unwrap();
            state.apply(&changed(&state, partition, InSyncChange::Collected)).unwrap();
        }
    }
    state.apply(&without).unwrap();
    assert!(!state.sets().set(lost).unwrap().keepers().contains(&C));
}

#[test]
fn as_many_members_keep_data_as_have_to_be_in_sync() {
    let state = state_after(&new_cluster());
    let refused = |record: &Record| state.clone().apply(record).unwrap_err();
    let error = |keepers, min_copies| ApplyError::TooFewKeepers { keepers, min_copies };
    assert_eq!(refused(&Record::Copies { copies: 4, min_copies: 4 }), error(3, 4));
    let mut state = state.clone();
    state.apply(&Record::Copies { copies: 4, min_copies: 3 }).unwrap();
    let fewer = reweighted(&state, &[(C, Some(0))]);
    assert_eq!(state.apply(&fewer), Err(error(2, 3)));
    let alone = [Record::Copies { copies: 2, min_copies: 2 }, Record::Epoch(epoch_of(1, vec![node(A, 1)]))];
    let mut state = state_after(&alone[..1]);
    assert_eq!(state.apply(&alone[1]), Err(error(1, 2)));
}

#[test]
fn who_was_needed_for_the_number_of_copies_goes_when_that_is_less() {
    let mut state = state_after(&new_cluster());
    for node in [A, B, C] {
        state.apply(&started(node, 1, Memory::Kept)).unwrap();
    }
    state.apply(&Record::Copies { copies: 3, min_copies: 3 }).unwrap();
    for partition in Partition::all() {
        for node in state.sets().candidates(partition) {
            let promote = InSyncChange::Promote { node, incarnation: Incarnation(1) };
            state.apply(&changed(&state, partition, promote)).unwrap();
        }
    }
    state.apply(&Record::Copies { copies: 2, min_copies: 2 }).unwrap();
    let is_settled = |set: &huntaway_ledger::InSyncSet| set.in_sync == set.target && set.target.len() == 2;
    assert!(state.sets().sets().all(|(_, set)| is_settled(set)));
    state.apply(&Record::Copies { copies: 3, min_copies: 2 }).unwrap();
    assert!(state.sets().sets().all(|(_, set)| set.target.len() == 3 && set.in_sync.len() == 2));
}
