//! What is taught first, how much at a time, and what happens after failures.

use std::sync::Arc;

use huntaway_wire::Incarnation;

use super::*;

const ME: Process = process(1);

const fn process(node: u8) -> Process {
    Process { node: NodeId([node; 16]), incarnation: Incarnation(1) }
}

fn partition(number: u16) -> Partition {
    Partition::new(number).unwrap()
}

fn limits() -> RecoveryLimits {
    RecoveryLimits { learners: 2, learners_of_a_node: 2, bytes_per_second: 1600, ..RecoveryLimits::default() }
}

/// Three copies are wanted, and two for writes.
fn configuration(pepoch: u32, in_sync: &[u8], candidates: &[u8]) -> Configuration {
    let processes = |nodes: &[u8]| -> Vec<Process> { nodes.iter().map(|node| process(*node)).collect() };
    Configuration {
        pepoch: Pepoch(pepoch),
        in_sync: processes(in_sync),
        doubtful: Vec::new(),
        damaged: Vec::new(),
        failed: Vec::new(),
        is_lost: false,
        primary: ME.node,
        candidates: processes(candidates),
        keepers: Vec::new(),
        copies: 3,
        min_copies: 2,
        gateways: Vec::new(),
        vdis: Arc::default(),
    }
}

struct Node {
    recovery: Recovery,
    now: Moment,
}

impl Node {
    fn new(limits: RecoveryLimits) -> Self {
        Self { recovery: Recovery::new(limits), now: Moment(1 << 40) }
    }

    fn configured(&mut self, number: u16, configuration: &Configuration) {
        self.recovery.configured(self.now, partition(number), ME, configuration, 4000);
    }

    /// Partitions and learners, after so long.
    fn next_after(&mut self, us: u64) -> Vec<(u16, u8)> {
        self.now = self.now.after(us);
        let place = |to_teach: &ToTeach| (to_teach.partition.value(), to_teach.learner.node.0[0]);
        self.recovery.next(self.now).iter().map(place).collect()
    }

    fn paces(&mut self) -> Vec<u64> {
        self.recovery.next(self.now).iter().map(|to_teach| to_teach.bytes_per_second).collect()
    }
}

#[test]
fn the_fewest_copies_come_first_and_what_merely_moves_waits() {
    let mut node = Node::new(RecoveryLimits { learners: 1, ..limits() });
    node.configured(1, &configuration(1, &[1, 2, 3], &[4]));
    node.configured(2, &configuration(1, &[1, 2], &[4]));
    node.configured(3, &configuration(1, &[1], &[4]));
    assert_eq!(node.next_after(0), [(3, 4)]);
    node.configured(3, &configuration(2, &[1, 4], &[]));
    assert_eq!(node.next_after(0), [(2, 4)]);
    node.configured(2, &configuration(2, &[1, 2, 4], &[]));
    assert_eq!(node.next_after(59_000_000), []);
    node.configured(1, &configuration(2, &[1, 2, 3], &[4]));
    assert_eq!(node.next_after(2_000_000), [(1, 4)], "it waited since it was first known of");
}

#[test]
fn what_clients_wait_for_comes_before_all_and_has_room() {
    let mut node = Node::new(RecoveryLimits { learners: 1, ..limits() });
    node.configured(1, &configuration(1, &[1], &[2]));
    node.configured(2, &configuration(1, &[1], &[2]));
    assert_eq!(node.next_after(0), [(1, 2)]);
    node.recovery.asked_for(partition(2));
    assert_eq!(node.next_after(0), [(1, 2), (2, 2)]);
    node.configured(3, &configuration(1, &[1, 3], &[2]));
    node.recovery.asked_for(partition(3));
    assert_eq!(node.next_after(0), [(1, 2), (2, 2)], "it takes writes");
}

#[test]
fn a_node_is_taught_so_much_at_a_time() {
    let mut node = Node::new(RecoveryLimits { learners: 3, ..limits() });
    for number in 1..5 {
        node.configured(number, &configuration(1, &[1, 2], &[3]));
    }
    node.configured(5, &configuration(1, &[1, 2], &[4]));
    assert_eq!(node.next_after(0), [(1, 3), (2, 3), (5, 4)]);
}

#[test]
fn failures_are_followed_by_growing_pauses_and_tried_again_for_ever() {
    let mut node = Node::new(limits());
    node.configured(1, &configuration(1, &[1], &[2]));
    let mut pause = 500_000;
    for _ in 0..100 {
        assert_eq!(node.next_after(0), [(1, 2)]);
        node.recovery.gave_up(node.now, partition(1), process(2));
        assert_eq!(node.next_after(pause - 1), []);
        node.now = node.now.after(1);
        pause = (2 * pause).min(60_000_000);
    }
}

#[test]
fn who_drops_out_again_and_again_comes_back_later_and_later() {
    let mut node = Node::new(limits());
    let mut pepoch = 1;
    for pause in [500_000, 1_000_000, 2_000_000] {
        node.configured(1, &configuration(pepoch, &[1, 2, 3], &[]));
        node.configured(1, &configuration(pepoch + 1, &[1, 2], &[3]));
        assert_eq!(node.next_after(pause - 1), []);
        assert_eq!(node.next_after(1), [(1, 3)]);
        pepoch += 2;
    }
    node.configured(1, &configuration(pepoch, &[1, 2, 3], &[]));
    node.now = node.now.after(61_000_000);
    node.configured(1, &configuration(pepoch + 1, &[1, 2], &[3]));
    assert_eq!(node.next_after(500_000), [(1, 3)], "it was in sync for long");
}

#[test]
fn who_is_primary_in_between_comes_back_later_and_later_as_well() {
    let mut node = Node::new(limits());
    let first = |pepoch| Configuration { primary: process(2).node, ..configuration(pepoch, &[2, 1], &[]) };
    let mut pepoch = 1;
    for pause in [500_000, 1_000_000, 2_000_000] {
        node.configured(1, &first(pepoch));
        node.configured(1, &configuration(pepoch + 1, &[1], &[2]));
        assert_eq!(node.next_after(pause - 1), []);
        assert_eq!(node.next_after(1), [(1, 2)]);
        pepoch += 2;
    }
    node.configured(1, &first(pepoch));
    node.now = node.now.after(61_000_000);
    node.configured(1, &configuration(pepoch + 1, &[1], &[2]));
    assert_eq!(node.next_after(500_000), [(1, 2)], "it was in sync for long");
}

#[test]
fn another_learner_has_its_turn_while_one_waits() {
    let mut node = Node::new(limits());
    node.configured(1, &configuration(1, &[1], &[2, 3]));
    assert_eq!(node.next_after(0), [(1, 2)]);
    node.recovery.gave_up(node.now, partition(1), process(2));
    assert_eq!(node.next_after(0), [(1, 3)]);
}

#[test]
fn a_learner_that_was_away_before_it_was_taught_is_taught_when_it_is_back() {
    let mut node = Node::new(limits());
    node.configured(1, &configuration(1, &[1], &[2]));
    assert_eq!(node.next_after(0), [(1, 2)]);
    node.configured(1, &configuration(1, &[1], &[]));
    assert_eq!(node.next_after(0), []);
    node.configured(1, &configuration(1, &[1], &[3]));
    assert_eq!(node.next_after(0), [(1, 3)]);
}

#[test]
fn the_pace_is_shared_and_halves_while_clients_wait() {
    let mut node = Node::new(limits());
    node.configured(1, &configuration(1, &[1, 2, 3], &[4]));
    assert_eq!(node.next_after(60_000_000), [(1, 4)]);
    node.configured(2, &configuration(1, &[1, 2], &[4]));
    assert_eq!(node.paces(), [800, 800]);
    for pace in [400, 200, 100] {
        node.now = node.now.after(1_000_000);
        node.recovery.latency(node.now, 30_000);
        node.recovery.latency(node.now, 30_000);
        assert_eq!(node.paces(), [pace, pace]);
    }
    node.now = node.now.after(1_000_000);
    node.recovery.latency(node.now, 30_000);
    assert_eq!(node.paces(), [0, 50], "what is needed never stops");
    node.now = node.now.after(1_000_000);
    node.recovery.latency(node.now, 1000);
    assert_eq!(node.paces(), [100, 100]);
}

#[test]
fn progress_is_what_learners_lack() {
    let mut node = Node::new(limits());
    node.configured(1, &configuration(1, &[1], &[2, 3]));
    node.configured(2, &configuration(1, &[1, 2, 3], &[]));
    let progress = node.recovery.progress();
    assert_eq!((progress.partitions_left, progress.bytes_left, progress.time_left), (1, 8000, None));
    node.recovery.copied(node.now, partition(1), 500);
    node.next_after(0);
    node.now = node.now.after(4_000_000);
    node.recovery.copied(node.now, partition(1), 2500);
    let progress = node.recovery.progress();
    assert_eq!((progress.bytes_left, progress.bytes_per_second), (6000, 500));
    assert_eq!(progress.time_left, Some(Duration::from_secs(12)));
    node.configured(1, &configuration(2, &[1, 2, 3], &[]));
    assert_eq!(node.recovery.progress().partitions_left, 0);
}

#[test]
fn whoever_is_not_primary_teaches_nobody() {
    let mut node = Node::new(limits());
    node.configured(1, &configuration(1, &[1], &[2]));
    node.configured(1, &Configuration { primary: process(2).node, ..configuration(2, &[1, 2], &[3]) });
    assert_eq!(node.next_after(0), []);
    assert_eq!(node.recovery.progress(), Progress::default());
}

#[test]
fn what_merely_moves_is_in_nobodys_way_who_lacks_a_copy() {
    let mut node = Node::new(limits());
    // Both have their copies; nodes 4 and 5 are to have others.
    node.configured(1, &configuration(1, &[1, 2, 3], &[4]));
    node.configured(2, &configuration(1, &[1, 2, 3], &[4]));
    assert_eq!(node.next_after(limits().move_after_us + 1), [(1, 4), (2, 4)]);
    node.configured(3, &configuration(1, &[1], &[4]));
    node.configured(4, &configuration(1, &[1, 2, 3], &[5]));
    assert_eq!(node.next_after(limits().move_after_us + 1), [(1, 4), (2, 4), (3, 4)]);
}

#[test]
fn partitions_with_nothing_in_them_hold_up_nobody() {
    let mut node = Node::new(RecoveryLimits { learners: 1, learners_of_nothing: 3, ..limits() });
    for number in 1..6 {
        node.recovery.configured(node.now, partition(number), ME, &configuration(1, &[1, 2], &[3]), 0);
    }
    for number in 6..8 {
        node.configured(number, &configuration(1, &[1, 2], &[3]));
    }
    assert_eq!(node.next_after(0), [(1, 3), (2, 3), (3, 3), (6, 3)]);
    assert_eq!(node.paces()[3], 1600, "the others copy nothing");
    node.configured(6, &configuration(2, &[1, 2, 3], &[]));
    node.recovery.configured(node.now, partition(2), ME, &configuration(2, &[1, 2, 3], &[]), 0);
    assert_eq!(node.next_after(0), [(1, 3), (3, 3), (4, 3), (7, 3)]);
}

#[test]
fn paused_it_begins_nothing_and_what_is_under_way_stands_still() {
    let mut node = Node::new(limits());
    node.configured(1, &configuration(1, &[1, 2], &[3]));
    assert_eq!(node.next_after(1), [(1, 3)]);
    node.recovery.may_take(true, 800, 0);
    node.configured(2, &configuration(1, &[1], &[2]));
    let paces = |node: &mut Node| -> Vec<(u16, u64)> {
        let told = node.recovery.next(node.now);
        told.iter().map(|told| (told.partition.value(), told.bytes_per_second)).collect()
    };
    assert_eq!(paces(&mut node), [(1, 0)]);
    node.recovery.may_take(false, 800, 0);
    assert_eq!(paces(&mut node), [(1, 400), (2, 400)]);
}

#[test]
fn what_merely_moves_waits_as_long_as_it_is_told() {
    let mut node = Node::new(limits());
    node.recovery.may_take(false, 800, 5_000_000);
    node.configured(1, &configuration(1, &[1, 2, 3], &[4]));
    assert_eq!(node.next_after(4_900_000), []);
    assert_eq!(node.next_after(200_000), [(1, 4)]);
}
