//! What a keeper of the ledger says to what comes, one thing at a time.

mod fixture;

use std::time::Duration;

use fixture::{create, epoch, member, vid};
use huntaway_ledger::keeper::{
    Follower, HOLD_PATIENCE, HoldEnd, Input, Keeper, LEDGER_LEASE, MAX_FOLLOWERS, MAX_UNANSWERED, NotLeased,
    NotStarted, Output, Proposal, ProposalAnswer, Start,
};
use huntaway_ledger::{
    DiskRecord, EpochRecord, Incarnation, Ledger, Member, Memory, Record, SetRecord, StartId, State,
};
use huntaway_wire::{NodeId, Process};

const A: NodeId = NodeId([1; 16]);
const B: NodeId = NodeId([2; 16]);
const C: NodeId = NodeId([3; 16]);
const FOLLOWER: Follower = Follower(77);
const SILENCE: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn process(node: NodeId, incarnation: u64) -> Process {
    Process { node, incarnation: Incarnation(incarnation) }
}

fn start(node: NodeId, incarnation: u64) -> Start {
    let (start, after) = (StartId(incarnation * 100), vec![StartId::FIRST, StartId((incarnation - 1) * 100)]);
    Start { process: process(node, incarnation), memory: Memory::Kept, start, after }
}

/// Three nodes with three copies of eight partitions, and one disk, kept since a second.
fn keeper() -> Keeper {
    let mut ledger = Ledger::default();
    ledger.plant(|state| *state = State::with_partitions(8));
    let members: Vec<Member> = [A, B, C].map(|node| Member { node, ..member() }).to_vec();
    let first = EpochRecord { voters: vec![A], members, ..epoch(1) };
    for record in [Record::Copies { copies: 3, min_copies: 1 }, Record::Epoch(first), create(1, "disk")] {
        ledger = ledger.follow(&record).expect("a new cluster").ledger;
    }
    let mut keeper = Keeper::new(ms(0), ledger, SILENCE);
    for node in [A, B, C] {
        assert!(matches!(
            keeper.step(ms(700), Input::Started(start(node, 1)))[..],
            [_, Output::Started { .. }]
        ));
    }
    assert_eq!(keeper.step(ms(700), Input::Connected { by: FOLLOWER }), [connected(FOLLOWER, false)]);
    keeper
}

fn connected(by: Follower, remembers: bool) -> Output {
    Output::Connected { by, remembers }
}

fn last(keeper: &Keeper) -> u64 {
    keeper.ledger().state().number()
}

/// What it says when the node asks for a lease, knowing everything, or what it knows.
fn ask(keeper: &mut Keeper, now: Duration, process: Process, applied: Option<u64>) -> Option<NotLeased> {
    let applied = applied.unwrap_or(last(keeper));
    let outputs = keeper.step(now, Input::AskedLease { process, ask: 5, applied });
    outputs.into_iter().find_map(|output| match output {
        Output::Leased { ask: 5, .. } => Some(None),
        Output::NotLeased { ask: 5, why, .. } => Some(Some(why)),
        _ => None,
    })?
}

/// Time goes by.
fn pass(keeper: &mut Keeper, from: u64, to: u64) {
    (from..to).step_by(50).for_each(|time| drop(keeper.step(ms(time), Input::Tick)));
}

fn propose(keeper: &mut Keeper, now: Duration, number: u64, proposal: Proposal) -> Option<ProposalAnswer> {
    let input = Input::Proposed { by: FOLLOWER, number, unanswered_from: 1, proposal };
    answer(keeper.step(now, input), number)
}

fn answer(outputs: Vec<Output>, wanted: u64) -> Option<ProposalAnswer> {
    outputs.into_iter().find_map(|output| match output {
        Output::Answered { by: FOLLOWER, number, answer } if number == wanted => Some(answer),
        _ => None,
    })
}

fn is_up(keeper: &Keeper, node: NodeId) -> bool {
    keeper.ledger().state().sets().node(node).is_some_and(|state| state.is_up)
}

#[test]
fn a_start_is_recorded_once_and_not_while_the_one_before_may_act() {
    let mut keeper = keeper();
    let started = |node, incarnation: u64| Output::Started {
        process: process(node, incarnation),
        start: StartId(incarnation * 100),
    };
    assert_eq!(keeper.step(ms(710), Input::Started(start(A, 1))), [started(A, 1)], "it is sent again");
    assert_eq!(ask(&mut keeper, ms(720), process(A, 1), None), None);
    let refused = |incarnation: u64, why| {
        let (process, start) = (process(A, incarnation), StartId(incarnation * 100));
        [Output::NotStarted { process, start, why }]
    };
    assert_eq!(keeper.step(ms(800), Input::Started(start(A, 2))), refused(2, NotStarted::StillRuns));
    let over = ms(720) + LEDGER_LEASE * 11 / 10;
    assert!(
        matches!(&keeper.step(over, Input::Started(start(A, 2)))[..], [_, done] if *done == started(A, 2))
    );
    let other = Start { start: StartId(9), ..start(A, 2) };
    let why = NotStarted::Past { last: Incarnation(2) };
    let past = Output::NotStarted { process: process(A, 2), start: StartId(9), why };
    assert_eq!(keeper.step(over, Input::Started(other)), [past], "another start with the same number");
    assert_eq!(ask(&mut keeper, over, process(A, 1), None), Some(NotLeased::OtherProcess));
    let stranger = keeper.step(over, Input::Started(start(NodeId([9; 16]), 1)));
    assert!(matches!(stranger[..], [Output::NotStarted { why: NotStarted::Stranger, .. }]));
}

#[test]
fn who_knows_too_little_or_too_much_has_no_lease() {
    let mut keeper = keeper();
    let needed = last(&keeper) - 2;
    assert_eq!(
        ask(&mut keeper, ms(710), process(A, 1), Some(needed - 1)),
        Some(NotLeased::Behind { needed })
    );
    assert_eq!(ask(&mut keeper, ms(710), process(A, 1), Some(needed)), None);
    let last = last(&keeper);
    assert_eq!(ask(&mut keeper, ms(710), process(A, 1), Some(last + 1)), Some(NotLeased::Ahead { last }));
    assert_eq!(ask(&mut keeper, ms(710), process(NodeId([9; 16]), 1), None), Some(NotLeased::Stranger));
}

#[test]
fn nodes_that_fail_together_are_down_together() {
    let mut keeper = keeper();
    let mut last_time = 700;
    for (time, node) in [(1_000, B), (1_300, A), (1_400, C), (1_900, A)] {
        pass(&mut keeper, std::mem::replace(&mut last_time, time), time);
        assert_eq!(ask(&mut keeper, ms(time), process(node, 1), None), None);
    }
    pass(&mut keeper, 1_900, 2_001);
    assert!(is_up(&keeper, B), "C is half-way silent");
    assert_eq!(ask(&mut keeper, ms(2_100), process(B, 1), None), Some(NotLeased::GoingDown));
    pass(&mut keeper, 2_100, 2_350);
    assert_eq!(ask(&mut keeper, ms(2_350), process(A, 1), None), None);
    let before = last(&keeper);
    keeper.step(ms(2_410), Input::Tick);
    assert_eq!((is_up(&keeper, A), is_up(&keeper, B), is_up(&keeper, C)), (true, false, false));
    assert_eq!(last(&keeper), before + 1);
    assert_eq!(
        ask(&mut keeper, ms(2_415), process(B, 1), Some(before)),
        Some(NotLeased::Behind { needed: before + 1 })
    );
    assert!(!is_up(&keeper, B), "it does not know that it is down");
    assert_eq!(
        ask(&mut keeper, ms(2_420), process(B, 1), None),
        Some(NotLeased::Behind { needed: before + 2 })
    );
    assert!(is_up(&keeper, B));
    assert_eq!(ask(&mut keeper, ms(2_430), process(B, 1), None), None);
}

#[test]
fn a_keeper_that_was_held_up_takes_nobody_down_for_it_but_who_is_silent() {
    let mut keeper = keeper();
    for node in [A, B, C] {
        assert_eq!(ask(&mut keeper, ms(710), process(node, 1), None), None);
    }
    keeper.step(ms(4_000), Input::Tick);
    for node in [A, B] {
        assert_eq!(ask(&mut keeper, ms(4_000), process(node, 1), None), None);
    }
    pass(&mut keeper, 4_000, 4_800);
    assert!([A, B, C].into_iter().all(|node| is_up(&keeper, node)));
    for node in [A, B] {
        assert_eq!(ask(&mut keeper, ms(4_800), process(node, 1), None), None);
    }
    pass(&mut keeper, 4_800, 5_000);
    assert_eq!([A, B, C].map(|node| is_up(&keeper, node)), [true, true, false]);
    // However often that happens, silence is noticed.
    for time in (5_000..15_000).step_by(1_000) {
        assert_eq!(ask(&mut keeper, ms(time), process(A, 1), None), None);
    }
    assert_eq!([A, B].map(|node| is_up(&keeper, node)), [true, false]);
}

#[test]
fn nodes_have_time_to_find_a_new_keeper() {
    let ledger = keeper().ledger().clone();
    let mut keeper = Keeper::new(ms(0), ledger, SILENCE);
    pass(&mut keeper, 0, 2_900);
    assert!(is_up(&keeper, A));
    assert_eq!(ask(&mut keeper, ms(2_900), process(A, 1), None), None);
    pass(&mut keeper, 2_900, 3_100);
    assert_eq!([A, B].map(|node| is_up(&keeper, node)), [true, false]);
}

#[test]
fn who_leaves_is_down_at_once_and_stays_so() {
    let mut keeper = keeper();
    assert_eq!(ask(&mut keeper, ms(710), process(A, 1), None), None);
    keeper.step(ms(720), Input::Left { process: process(A, 1) });
    assert!(!is_up(&keeper, A));
    assert_eq!(ask(&mut keeper, ms(730), process(A, 1), None), Some(NotLeased::GoingDown));
    assert!(matches!(keeper.step(ms(740), Input::Started(start(A, 2)))[..], [_, Output::Started { .. }]));
}

#[test]
fn what_is_new_gets_the_next_vid_and_what_is_sent_again_the_same_answer() {
    let mut keeper = keeper();
    let proposal = Proposal::Record(create(1, "other"));
    let record = last(&keeper) + 1;
    let agreed = Some(ProposalAnswer::Agreed { record });
    assert_eq!(propose(&mut keeper, ms(710), 1, proposal.clone()), agreed);
    assert_eq!(propose(&mut keeper, ms(720), 1, proposal.clone()), agreed);
    assert_eq!(last(&keeper), record);
    assert_eq!(keeper.ledger().state().vdi("other").map(|vdi| vdi.vid), Some(vid(2)));
    let refused = Some(ProposalAnswer::Refused { at: record });
    assert_eq!(propose(&mut keeper, ms(730), 2, proposal), refused, "the name is taken");
    let down = Record::Sets(SetRecord::NodesDown { nodes: vec![A] });
    let answer = propose(&mut keeper, ms(740), 3, Proposal::Record(down));
    assert_eq!(answer, Some(ProposalAnswer::NotProposable));
}

#[test]
fn no_disk_becomes_smaller_for_whoever_knows_it_smaller() {
    let mut keeper = keeper();
    let mut resize = |number, size_bytes| {
        let proposal = Proposal::Record(Record::ResizeVdi { vid: vid(1), size_bytes });
        propose(&mut keeper, ms(710), number, proposal)
    };
    assert!(matches!(resize(1, 4 << 30), Some(ProposalAnswer::Agreed { .. })));
    assert_eq!(resize(2, 3 << 30), Some(ProposalAnswer::NotProposable));
    assert_eq!(resize(3, 4 << 30), Some(ProposalAnswer::NotProposable), "it has that size");
    assert_eq!(keeper.ledger().state().vdi("disk").map(|vdi| vdi.size_bytes), Some(4 << 30));
}

#[test]
fn a_growth_that_ends_late_ends_no_other() {
    let mut keeper = keeper();
    let has_bytes = keeper.ledger().state().vdi("disk").map(|vdi| vdi.size_bytes).expect("there is one");
    let grow = Record::GrowVdi { vid: vid(1), size_bytes: 2 * has_bytes };
    let begun = propose(&mut keeper, ms(710), 1, Proposal::Record(grow));
    assert!(matches!(begun, Some(ProposalAnswer::Agreed { .. })), "{begun:?}");
    let late = Record::ResizeVdi { vid: vid(1), size_bytes: has_bytes };
    let ended = propose(&mut keeper, ms(720), 2, Proposal::Record(late));
    assert_eq!(ended, Some(ProposalAnswer::NotProposable));
    let goes_on_to = keeper.ledger().state().vdi("disk").and_then(|vdi| vdi.growing_to_bytes);
    assert_eq!(goes_on_to, Some(2 * has_bytes));
}

#[test]
fn proposals_and_followers_have_a_bound() {
    let mut keeper = keeper();
    let fence = || Proposal::Record(Record::Disks(DiskRecord::Fence { disk: vid(1) }));
    for number in 1..=MAX_UNANSWERED as u64 {
        assert!(matches!(
            propose(&mut keeper, ms(710), number, fence()),
            Some(ProposalAnswer::Agreed { .. })
        ));
    }
    assert_eq!(propose(&mut keeper, ms(720), 1_000, fence()), Some(ProposalAnswer::TooMany));
    let (number, proposal) = (1_001, fence());
    let input = Input::Proposed { by: FOLLOWER, number, unanswered_from: 1_001, proposal };
    assert!(matches!(answer(keeper.step(ms(730), input), 1_001), Some(ProposalAnswer::Agreed { .. })));
    assert_eq!(propose(&mut keeper, ms(740), 5, fence()), None, "it has the answer");

    let by = |number| Follower(1_000 + number);
    for number in 0..MAX_FOLLOWERS as u64 - 1 {
        assert_eq!(keeper.step(ms(750), Input::Connected { by: by(number) }), [connected(by(number), false)]);
    }
    let late = by(9_999);
    assert_eq!(keeper.step(ms(760), Input::Connected { by: late }), [connected(late, false)]);
    let input = Input::Proposed { by: late, number: 1, unanswered_from: 1, proposal: fence() };
    let forgotten = Output::Answered { by: late, number: 1, answer: ProposalAnswer::Forgotten };
    assert_eq!(keeper.step(ms(760), input), [forgotten]);
    for by in [by(7), FOLLOWER] {
        keeper.step(ms(770), Input::Disconnected { by });
    }
    assert_eq!(keeper.step(ms(780), Input::Connected { by: late }), [connected(late, false)]);
    assert_eq!(keeper.step(ms(790), Input::Connected { by: FOLLOWER }), [connected(FOLLOWER, true)]);
    assert_eq!(keeper.step(ms(800), Input::Disconnected { by: FOLLOWER }), []);
    assert_eq!(keeper.step(ms(810), Input::Connected { by: by(7) }), [connected(by(7), false)]);
}

#[test]
fn a_hold_ends_when_all_who_lead_hold_as_things_are_or_after_a_second() {
    let mut keeper = keeper();
    let hold = || Proposal::Hold { disks: vec![vid(1)], then: HoldEnd::Freeze };
    let reports = |keeper: &mut Keeper, node, hold, leads| {
        let outputs = keeper.step(ms(720), Input::Holds { process: process(node, 1), hold, leads });
        answer(outputs, 1)
    };
    assert_eq!(propose(&mut keeper, ms(710), 1, hold()), None);
    let leads = [A, B, C].map(|node| keeper.ledger().state().leads(node));
    assert_eq!(reports(&mut keeper, A, 1, leads[0]), None);
    assert_eq!(reports(&mut keeper, B, 1, leads[1]), None);
    assert_eq!(reports(&mut keeper, C, 1, leads[0]), None, "this is not what it leads");
    let record = last(&keeper) + 1;
    assert_eq!(reports(&mut keeper, C, 1, leads[2]), Some(ProposalAnswer::Agreed { record }));
    assert_eq!(keeper.ledger().state().disks().working(vid(1)), Some(vid(2)));

    assert_eq!(propose(&mut keeper, ms(730), 2, hold()), None);
    assert_eq!(answer(keeper.step(ms(729) + HOLD_PATIENCE, Input::Tick), 2), None);
    let outputs = keeper.step(ms(730) + HOLD_PATIENCE, Input::Tick);
    assert!(matches!(answer(outputs, 2), Some(ProposalAnswer::NotHeld { .. })));
    assert!(keeper.ledger().state().disks().held(2).is_empty());
}

#[test]
fn a_disk_goes_back_when_reads_are_held_too() {
    let mut keeper = keeper();
    let all_hold = |keeper: &mut Keeper, hold, number| {
        [A, B, C].into_iter().find_map(|node| {
            let leads = keeper.ledger().state().leads(node);
            answer(keeper.step(ms(720), Input::Holds { process: process(node, 1), hold, leads }), number)
        })
    };
    let disks = vec![vid(1)];
    propose(&mut keeper, ms(710), 1, Proposal::Hold { disks: disks.clone(), then: HoldEnd::Freeze });
    assert!(matches!(all_hold(&mut keeper, 1, 1), Some(ProposalAnswer::Agreed { .. })));
    let then = HoldEnd::RollBack { to: vid(1) };
    propose(&mut keeper, ms(710), 2, Proposal::Hold { disks: disks.clone(), then });
    assert!(matches!(all_hold(&mut keeper, 2, 2), Some(ProposalAnswer::Agreed { .. })));
    assert_eq!(keeper.ledger().state().disks().working(vid(1)), Some(vid(3)));
    let then = HoldEnd::RollBack { to: vid(2) };
    propose(&mut keeper, ms(710), 3, Proposal::Hold { disks, then });
    let refused = all_hold(&mut keeper, 3, 3);
    assert!(matches!(refused, Some(ProposalAnswer::Refused { .. })), "that one is deleted: {refused:?}");
    assert!(keeper.ledger().state().disks().held(3).is_empty());
}

#[test]
fn the_next_keeper_waits_and_ends_holds_of_the_one_before() {
    let mut keeper = keeper();
    assert_eq!(ask(&mut keeper, ms(710), process(A, 1), None), None);
    propose(&mut keeper, ms(710), 1, Proposal::Hold { disks: vec![vid(1)], then: HoldEnd::Freeze });
    let mut next = Keeper::new(ms(800), keeper.ledger().clone(), SILENCE);
    next.step(ms(810), Input::Tick);
    assert!(next.ledger().state().disks().held(1).is_empty());
    next.step(ms(820), Input::Suspected { nodes: vec![A] });
    next.step(ms(1_459), Input::Tick);
    assert!(is_up(&next, A), "the other one may have given it a lease until now");
    assert!(matches!(
        next.step(ms(1_459), Input::Started(start(A, 2)))[..],
        [Output::NotStarted { why: NotStarted::StillRuns, .. }]
    ));
    for node in [B, C] {
        ask(&mut next, ms(1_459), process(node, 1), None);
    }
    next.step(ms(1_460), Input::Tick);
    assert!(!is_up(&next, A));
}

#[test]
fn what_all_know_is_what_everybody_who_may_serve_acts_on() {
    let mut keeper = keeper();
    let there = last(&keeper);
    for node in [A, B, C] {
        assert_eq!(ask(&mut keeper, ms(710), process(node, 1), None), None);
    }
    let fence = Proposal::Record(Record::Disks(DiskRecord::Fence { disk: vid(1) }));
    propose(&mut keeper, ms(720), 1, fence);
    for node in [A, B] {
        ask(&mut keeper, ms(730), process(node, 1), None);
    }
    assert_eq!(keeper.known_by_all(ms(740)), there);
    keeper.step(ms(740), Input::Left { process: process(C, 1) });
    assert_eq!(keeper.known_by_all(ms(750)), there + 1, "who is down has to know nothing");
}
