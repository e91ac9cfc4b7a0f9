//! What records do to the state, and which cannot follow.

mod fixture;

use fixture::{
    NODE, OPTIONS, STRANGER, create, epoch, incarnation, member, name, one_of_each, state_after, vid, written,
};
use huntaway_ledger::{
    ApplyError, Incarnation, InvalidVdi, Ledger, MAX_ADDRESSES, MAX_WEIGHT, MemberState, Operation, Record,
    Sanitize, SetRecord, State, VdiOptions, Void,
};
use huntaway_wire::{Epoch, Partition, Pepoch, Vid};

fn pepoch(state: &State) -> u32 {
    let pepochs: Vec<Pepoch> = Partition::all().map(|partition| state.pepoch(partition)).collect();
    assert!(pepochs.iter().all(|pepoch| *pepoch == pepochs[0]));
    pepochs[0].0
}

fn primary(state: &State) -> Option<huntaway_wire::NodeId> {
    state.primary(Partition::of(vid(1), 7))
}

/// `record` must be refused with `error` after `before`, and change nothing.
fn refused(before: &[Record], record: &Record, error: &ApplyError) {
    let mut state = state_after(before);
    let unchanged = state.clone();
    assert_eq!(state.apply(record).as_ref(), Err(error));
    assert_eq!(state, unchanged);
}

#[test]
fn an_empty_ledger_has_no_cluster_and_serves_nothing() {
    let state = State::default();
    assert_eq!((state.number(), state.epoch(), state.cluster()), (0, Epoch(0), None));
    assert_eq!((primary(&state), pepoch(&state)), (None, 0));
    refused(&[], &create(1, "a"), &ApplyError::NoEpoch);
    refused(&[], &incarnation(1), &ApplyError::UnknownNode { node: NODE });
}

#[test]
fn the_first_epoch_makes_its_node_the_primary_of_everything() {
    let state = state_after(&[Record::Epoch(epoch(1))]);
    assert_eq!((state.epoch(), state.members(), state.voters()), (Epoch(1), &[member()][..], &[NODE][..]));
    assert_eq!(state.cluster().unwrap().name.as_str(), "cluster-1");
    assert_eq!((primary(&state), pepoch(&state)), (Some(NODE), 1));
}

#[test]
fn each_start_of_the_process_raises_every_pepoch() {
    let mut state = state_after(&[Record::Epoch(epoch(1))]);
    for start in 1..=5 {
        let before = pepoch(&state);
        state.apply(&incarnation(start)).unwrap();
        assert_eq!(pepoch(&state), before + 1);
        assert_eq!(state.member(NODE).unwrap().incarnation, Incarnation(start));
    }
}

#[test]
fn operations_and_new_names_leave_the_pepochs_alone() {
    let mut renamed = epoch(2);
    renamed.members[0].name = name("node-1-renamed");
    renamed.members[0].incarnation = Incarnation(1);
    let before = [Record::Epoch(epoch(1)), incarnation(1), create(1, "a")];
    let mut state = state_after(&before);
    state.apply(&Record::Epoch(renamed)).unwrap();
    assert_eq!((pepoch(&state), state.epoch(), state.number()), (2, Epoch(2), 4));
    assert_eq!(state.vdi("a").unwrap().vid, vid(1));
}

#[test]
fn a_node_that_is_down_serves_nothing_and_is_not_forgotten() {
    let down = Record::Sets(SetRecord::NodesDown { nodes: vec![NODE] });
    let mut state = state_after(&[Record::Epoch(epoch(1)), down]);
    assert_eq!(primary(&state), None);
    assert_eq!(state.member(NODE).unwrap().state, MemberState::Down);
    // An epoch that was proposed before that does not bring it back.
    state.apply(&Record::Epoch(epoch(2))).unwrap();
    assert_eq!(primary(&state), None);
}

#[test]
fn an_incarnation_is_newer_than_the_last_and_of_a_member() {
    let before = [Record::Epoch(epoch(1)), incarnation(3)];
    for number in [0, 2, 3] {
        let (found, current) = (Incarnation(number), Incarnation(3));
        refused(&before, &incarnation(number), &ApplyError::OldIncarnation { node: NODE, found, current });
    }
    let stranger = Record::Incarnation { node: STRANGER, incarnation: Incarnation(9) };
    refused(&before, &stranger, &ApplyError::UnknownNode { node: STRANGER });
    let (found, current) = (Incarnation(0), Incarnation(3));
    let forgetful = Record::Epoch(epoch(2));
    refused(&before, &forgetful, &ApplyError::OtherIncarnation { node: NODE, found, current });
}

#[test]
fn epochs_follow_one_another_within_one_cluster() {
    let before = [Record::Epoch(epoch(1))];
    for number in [0, 1, 3, u64::MAX] {
        let error = ApplyError::EpochOutOfOrder { found: Epoch(number), current: Epoch(1) };
        refused(&before, &Record::Epoch(epoch(number)), &error);
    }
    let error = ApplyError::EpochOutOfOrder { found: Epoch(2), current: Epoch(0) };
    refused(&[], &Record::Epoch(epoch(2)), &error);
    let mut other = epoch(2);
    other.cluster.name = name("cluster-2");
    refused(&before, &Record::Epoch(other), &ApplyError::OtherCluster { name: name("cluster-2") });
}

#[test]
fn an_epoch_has_members_and_voters_within_the_limits() {
    let with = |change: fn(&mut huntaway_ledger::EpochRecord)| {
        let mut changed = epoch(1);
        change(&mut changed);
        Record::Epoch(changed)
    };
    refused(&[], &with(|e| e.members.clear()), &ApplyError::Members { members: 0 });
    refused(&[], &with(|e| e.members.push(member())), &ApplyError::Members { members: 2 });
    let crowded = with(|e| e.members[0].addresses = vec!["[::1]:1".parse().unwrap(); MAX_ADDRESSES + 1]);
    refused(&[], &crowded, &ApplyError::Members { members: 1 });
    let heavy = with(|e| e.members[0].weight = MAX_WEIGHT + 1);
    refused(&[], &heavy, &ApplyError::Weight { node: NODE, weight: MAX_WEIGHT + 1 });
    refused(&[], &with(|e| e.voters.clear()), &ApplyError::Voters);
    refused(&[], &with(|e| e.voters = vec![STRANGER]), &ApplyError::Voters);
    refused(&[], &with(|e| e.voters.push(NODE)), &ApplyError::Voters);
}

#[test]
fn the_only_copy_of_the_data_stays_a_member() {
    let before = [Record::Epoch(epoch(1))];
    let mut replaced = epoch(2);
    replaced.members[0].node = STRANGER;
    replaced.voters = vec![STRANGER];
    refused(&before, &Record::Epoch(replaced.clone()), &Void::StillUp { node: NODE }.into());
    let down = [before[0].clone(), Record::Sets(SetRecord::NodesDown { nodes: vec![NODE] })];
    refused(&down, &Record::Epoch(replaced), &ApplyError::LastCopy { node: NODE });
    let mut emptied = epoch(2);
    emptied.members[0].weight = 0;
    refused(&before, &Record::Epoch(emptied), &ApplyError::LastCopy { node: NODE });
}

#[test]
fn a_thick_vdi_is_ready_once_it_is_provisioned_and_a_thin_one_at_once() {
    let thin = VdiOptions { thin: true, ..OPTIONS };
    let create_thin =
        Record::CreateVdi { vid: vid(2), name: name("thin"), uuid: *b"another disk's 1", options: thin };
    let mut state = state_after(&[Record::Epoch(epoch(1)), create(1, "thick"), create_thin]);
    assert!(state.vdi("thin").unwrap().provisioned);
    let thick = state.vdi("thick").unwrap();
    assert_eq!((thick.vid, thick.family, thick.parent), (vid(1), vid(1), None));
    assert_eq!((thick.size_bytes, thick.block_size, thick.physical_block_size), (1 << 30, 512, 4096));
    assert_eq!((thick.uuid, thick.thin, thick.provisioned), (*b"uuid of the disk", false, false));
    state.apply(&Record::ProvisionedVdi { vid: vid(1) }).unwrap();
    assert!(state.vdi("thick").unwrap().provisioned);
    for (value, text) in [(1, "thick"), (2, "thin")] {
        let again = state.apply(&Record::ProvisionedVdi { vid: vid(value) });
        assert_eq!(again, Err(ApplyError::AlreadyProvisioned { name: name(text) }));
    }
    assert_eq!(state.vdis().map(|vdi| vdi.name.as_str()).collect::<Vec<_>>(), ["thick", "thin"]);
}

#[test]
fn a_name_can_be_used_again_and_a_vid_never() {
    let before = one_of_each()[..5].to_vec();
    let mut state = state_after(&before);
    assert_eq!((state.vdi("disk-1"), state.vdi_by_vid(vid(1))), (None, None));
    refused(&before, &create(1, "disk-2"), &ApplyError::VidUsed { vid: vid(1), last: 1 });
    state.apply(&create(2, "disk-1")).unwrap();
    assert_eq!(state.vdi("disk-1").unwrap().vid, vid(2));
    assert_eq!(state.apply(&create(3, "disk-1")), Err(ApplyError::NameTaken { name: name("disk-1") }));
}

#[test]
fn a_vdi_takes_another_size_and_is_otherwise_the_same() {
    let before = [Record::Epoch(epoch(1)), create(1, "a"), create(2, "b")];
    let mut state = state_after(&before);
    let old = state.vdi("a").unwrap().clone();
    for size_bytes in [2 << 30, 512, 1 << 54] {
        state.apply(&Record::ResizeVdi { vid: vid(1), size_bytes }).unwrap();
        let expected = huntaway_ledger::Vdi { size_bytes, ..old.clone() };
        assert_eq!(state.vdi("a"), Some(&expected));
    }
    assert_eq!(state.vdi("b").unwrap().size_bytes, OPTIONS.size_bytes);
    let operation = Operation::ResizeVdi { vid: vid(1), size_bytes: 1024 };
    let record = Record::ResizeVdi { vid: vid(1), size_bytes: 1024 };
    assert_eq!(state.record_for(operation, [0; 16]), Ok(record));
}

#[test]
fn a_vdi_takes_no_impossible_size_nor_the_one_it_has() {
    let before = [Record::Epoch(epoch(1)), create(1, "a")];
    let resize = |value, size_bytes| Record::ResizeVdi { vid: vid(value), size_bytes };
    for size_bytes in [0, 1000] {
        refused(&before, &resize(1, size_bytes), &InvalidVdi::Size { size_bytes, block_size: 512 }.into());
    }
    let size_bytes = (1 << 54) + 512;
    refused(&before, &resize(1, size_bytes), &InvalidVdi::TooLarge { size_bytes }.into());
    let size_bytes = OPTIONS.size_bytes;
    refused(&before, &resize(1, size_bytes), &ApplyError::SameSize { name: name("a"), size_bytes });
    refused(&before, &resize(2, 1024), &ApplyError::UnknownVdi { vid: vid(2) });
}

#[test]
fn only_a_thick_vdi_begins_to_grow_and_another_size_or_its_own_ends_that() {
    let thin = VdiOptions { thin: true, ..OPTIONS };
    let create_thin =
        Record::CreateVdi { vid: vid(2), name: name("b"), uuid: *b"another disk's 1", options: thin };
    let grow = |value, size_bytes| Record::GrowVdi { vid: vid(value), size_bytes };
    let before = vec![Record::Epoch(epoch(1)), create(1, "a"), create_thin];
    for (value, text, size_bytes) in [(2, "b", 2 << 30), (1, "a", OPTIONS.size_bytes), (1, "a", 512)] {
        let error = ApplyError::CannotGrow { name: name(text), size_bytes };
        refused(&before, &grow(value, size_bytes), &error);
    }
    let growing = [before, vec![grow(1, 2 << 30)]].concat();
    let state = state_after(&growing);
    let vdi = state.vdi("a").unwrap();
    assert_eq!((vdi.size_bytes, vdi.growing_to_bytes), (OPTIONS.size_bytes, Some(2 << 30)));
    refused(&growing, &grow(1, 3 << 30), &ApplyError::CannotGrow { name: name("a"), size_bytes: 3 << 30 });
    for size_bytes in [OPTIONS.size_bytes, 2 << 30, 512] {
        let mut state = state.clone();
        state.apply(&Record::ResizeVdi { vid: vid(1), size_bytes }).unwrap();
        let vdi = state.vdi("a").unwrap();
        assert_eq!((vdi.size_bytes, vdi.growing_to_bytes), (size_bytes, None));
    }
}

#[test]
fn what_does_not_exist_is_neither_provisioned_nor_deleted() {
    let before = [Record::Epoch(epoch(1)), create(1, "a")];
    refused(&before, &Record::ProvisionedVdi { vid: vid(2) }, &ApplyError::UnknownVdi { vid: vid(2) });
    refused(&before, &Record::DeleteVdi { vid: vid(2) }, &ApplyError::UnknownVdi { vid: vid(2) });
}

#[test]
fn how_sanitizing_stands_is_kept_until_something_else_is_recorded() {
    let sanitize = |sanitize| Record::SanitizeVdi { vid: vid(1), sanitize };
    let states = [
        Some(Sanitize::Running { may_exit: false }),
        Some(Sanitize::Running { may_exit: true }),
        Some(Sanitize::Failed { may_exit: false }),
        Some(Sanitize::Failed { may_exit: true }),
        None,
    ];
    let mut records = vec![Record::Epoch(epoch(1)), create(1, "a")];
    refused(&records, &sanitize(None), &ApplyError::SameSanitize { name: name("a") });
    let other = Record::SanitizeVdi { vid: vid(2), sanitize: None };
    refused(&records, &other, &ApplyError::UnknownVdi { vid: vid(2) });
    for state in states {
        records.push(sanitize(state));
        assert_eq!(state_after(&records).vdi("a").and_then(|vdi| vdi.sanitize), state);
        refused(&records, &sanitize(state), &ApplyError::SameSanitize { name: name("a") });
    }
    let mut ledger = Ledger::default();
    for (bytes, record) in written(&records).iter().zip(&records) {
        assert_eq!(&ledger.read(bytes).unwrap().0, record);
    }
}

#[test]
fn a_vdi_of_impossible_size_is_refused() {
    let options = VdiOptions { size_bytes: 1000, ..OPTIONS };
    let record = Record::CreateVdi { vid: vid(1), name: name("a"), uuid: [0; 16], options };
    let error = InvalidVdi::Size { size_bytes: 1000, block_size: 512 };
    refused(&[Record::Epoch(epoch(1))], &record, &error.into());
}

#[test]
fn operations_become_records_with_the_next_vid_until_there_is_none() {
    let operation = || Operation::CreateVdi { name: name("next"), options: OPTIONS };
    let state = state_after(&[Record::Epoch(epoch(1)), create(7, "a")]);
    let uuid = *b"uuid of the disk";
    assert_eq!(state.record_for(operation(), uuid), Ok(create(8, "next")));
    let full = state_after(&[Record::Epoch(epoch(1)), create(Vid::MAX.value(), "a")]);
    assert_eq!(full.record_for(operation(), uuid), Err(ApplyError::VidsUsedUp));
}

#[test]
fn the_same_records_give_the_same_state() {
    assert_eq!(state_after(&one_of_each()), state_after(&one_of_each()));
}
