//! Partitions that go to another disk of the node, for the one that they are on has failed, or is to be taken away, or another one was
//! added.
//!
//! ```text
//!  the ledger:  Emptied            ─►   Ready                ─►  in sync again, as any learner
//!  the node:             the table changes, the replica begins anew
//! ```
//!
//! Which disk a partition is on is the table's to say, which disks hold which partitions nobody else knows. So nobody may count on this
//! node for a partition while its table changes: a process that dies finds either disk, and what is on it is good for nothing but
//! to be taught. The ledger sees to that ([`InSyncChange::Emptied`]): it has taken the node out, and lets nobody take it in before this
//! process says so, or another one has started, which has read the table by then. If the table cannot be written, nobody knows which
//! one is on the disk: nothing is said before another try succeeds.
//!
//! What is on a disk that works is given up only while all copies are whole, and what a disk had that a partition has left is removed
//! when they are so again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{io, thread};

use huntaway_ledger::keeper::Proposal;
use huntaway_ledger::{InSyncChange, InSyncSet, InSyncSets, Record, SetRecord, State};
use huntaway_membership::Driver as _;
use huntaway_replica::{Input, Recovered};
use huntaway_wire::{NodeId, OBJECT_SIZE_BYTES, Partition};

use super::step::WholeOrNothing;
use super::{Shared, new_replica};
use crate::locking::lock;

/// How often it is looked what is to be done.
const LOOK: Duration = Duration::from_millis(100);

/// A disk that failed keeps its partitions for so long: what made it fail may be about to take others as well.
const FAILED_FOR: Duration = Duration::from_secs(5);

/// Most partitions with objects that lack a copy at a time because their disk is to be taken away, though it works; and with none.
const MOST_GIVEN_UP: usize = 4;
const MOST_EMPTY_GIVEN_UP: usize = 64;

/// Most partitions whose disk is changed by one writing of the table: whoever comes to their replicas meanwhile leaves what he has.
const MOST_AT_ONCE: usize = 64;

/// What is to be done.
#[derive(Default)]
struct Rehoming {
    /// The partitions that are to go to another disk, each with that.
    under_way: BTreeMap<Partition, usize>,
    /// Those of a disk that works, which have been given up for that: nobody lacks many copies because of it.
    given_up: BTreeSet<Partition>,
    /// What is to be removed: disks with partitions that are on others.
    to_clear: BTreeSet<(usize, Partition)>,
    /// Disks that failed, and since when.
    failed: BTreeMap<usize, Instant>,
}

/// What is to be done next for a partition that is to go to another disk, or has gone there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The ledger is to have that the node has nothing.
    Empty,
    /// Nobody counts on it: its disk changes.
    Change,
    /// The ledger is to have that it may be taught.
    Ready,
    /// The ledger lets it be taught.
    Nothing,
}

/// By what the ledger says, and whether the change of the disk is on stable storage.
fn next(set: &InSyncSet, me: &NodeId, has_changed: bool) -> Next {
    let has_nothing = has_nothing(set, me);
    let is_kept_out = set.failed.contains(me) || !set.keepers().contains(me);
    match (has_changed, has_nothing && is_kept_out) {
        (false, false) => Next::Empty,
        (false, true) => Next::Change,
        (true, true) if set.failed.contains(me) => Next::Ready,
        // That the disk before failed may be heard of late.
        (true, false) if set.failed.contains(me) && !set.in_sync.contains(me) => Next::Empty,
        (true, _) => Next::Nothing,
    }
}

/// Whether the ledger would let the node give up what it has: it is not asked for what it would refuse.
fn is_spared(sets: &InSyncSets, set: &InSyncSet, me: &NodeId) -> bool {
    if !set.keepers().contains(me) {
        return true;
    }
    let is_up = |node: &NodeId| sets.node(*node).is_some_and(|known| known.is_up);
    let mut others = set.in_sync.iter().filter(|node| *node != me);
    let is_served = !set.is_lost() && others.any(|node| !set.doubtful.contains(node) && is_up(node));
    let counts = set.in_sync.contains(me) && !set.doubtful.contains(me);
    is_served && (!counts || set.in_sync.len() > sets.min_copies())
}

/// Whether the node gives up what a disk of it has that works: nobody lacks a copy, or it has none that counts.
fn is_given_up(sets: &InSyncSets, set: &InSyncSet, me: &NodeId) -> bool {
    is_spared(sets, set, me) && (set.is_whole() || has_nothing(set, me))
}

fn has_nothing(set: &InSyncSet, me: &NodeId) -> bool {
    !set.in_sync.contains(me) && !set.former.contains(me)
}

/// Whether nobody needs what another disk has of the partition than the one that it is on.
fn is_needless(sets: &InSyncSets, partition: Partition) -> bool {
    sets.set(partition).is_none_or(InSyncSet::is_whole)
}

impl Shared {
    /// Starts the thread that sees to it. It ends with the replicas.
    pub(super) fn start_rehoming(self: &Arc<Self>) -> io::Result<()> {
        let shared: Weak<Self> = Arc::downgrade(self);
        let rehome = move || {
            let _whole = WholeOrNothing("who moves partitions between disks");
            // No lock is needed for it: a disk that hangs keeps nobody waiting who wants to know what moves.
            let mut rehoming = Rehoming::default();
            shared.upgrade().iter().for_each(|shared| shared.sweep(&mut rehoming));
            while let Some(shared) =
                shared.upgrade().filter(|shared| !shared.has_ended.load(Ordering::Acquire))
            {
                shared.rehome(&mut rehoming);
                *lock(&shared.moving) = shared.moving(&rehoming);
                drop(shared);
                thread::sleep(LOOK);
            }
        };
        thread::Builder::new().name("rehoming".into()).spawn(rehome).map(drop)
    }

    /// How many partitions are to go from each disk.
    fn moving(&self, rehoming: &Rehoming) -> BTreeMap<usize, u16> {
        let mut moving = BTreeMap::new();
        for partition in rehoming.under_way.keys() {
            *moving.entry(self.disks.number(*partition)).or_default() += 1;
        }
        moving
    }

    /// What disks have of partitions that are on others, for whoever removes it was interrupted.
    fn sweep(&self, rehoming: &mut Rehoming) {
        if !self.disks.are_routed() {
            return;
        }
        for disk in 0..self.disks.count() {
            let Some(store) = self.disks.by_number(disk) else { continue };
            let left =
                Partition::all().filter(|at| self.disks.number(*at) != disk && store.has_something(*at));
            rehoming.to_clear.extend(left.map(|partition| (disk, partition)));
        }
    }

    fn rehome(&self, rehoming: &mut Rehoming) {
        if !self.ledger.has_lease() {
            return;
        }
        let state = self.ledger.state();
        rehoming.to_clear.retain(|(disk, partition)| {
            self.disks.number(*partition) != *disk
                && self.disks.by_number(*disk).is_some_and(|store| {
                    let is_needless = is_needless(state.sets(), *partition);
                    !is_needless || !store.clears(*partition)
                })
        });
        self.look_for_failed(rehoming);
        if !state.recovery().is_paused {
            self.begin_rehoming(&state, rehoming);
            self.give_up_some(&state, rehoming);
        }
        let me = &self.me.node;
        let mut changing: BTreeMap<usize, Vec<Partition>> = BTreeMap::new();
        // Others may have given up theirs since: it is chosen again when all copies are whole. Or the disk is to stay.
        let Rehoming { under_way, given_up, .. } = rehoming;
        under_way.retain(|partition, to| {
            let Some(set) = state.sets().set(*partition) else { return true };
            let at = self.disks.number(*partition);
            let is_to_go = self.disks.leaves(at)
                || self.disks.has_failed_since(at)
                || self.disks.fills(*partition) == Some(*to);
            let works = self.disks.by_number(at).is_some() && given_up.contains(partition);
            let goes = is_to_go && (!works || is_given_up(state.sets(), set, me));
            goes || next(set, me, false) != Next::Empty
        });
        for (partition, to) in &rehoming.under_way {
            let Some(set) = state.sets().set(*partition) else { continue };
            let is_spared = is_spared(state.sets(), set, me);
            match next(set, me, false) {
                Next::Change if is_spared => changing.entry(*to).or_default().push(*partition),
                Next::Empty if is_spared => self.says_emptied(*partition, set),
                Next::Empty | Next::Change | Next::Ready | Next::Nothing => {}
            }
        }
        for (to, partitions) in changing {
            for some in partitions.chunks(MOST_AT_ONCE) {
                self.change_disk(&state, rehoming, to, some);
            }
        }
        self.say_what_is_ready(rehoming);
    }

    fn look_for_failed(&self, rehoming: &mut Rehoming) {
        for disk in (0..self.disks.count()).filter(|disk| self.disks.has_failed_since(*disk)) {
            rehoming.failed.entry(disk).or_insert_with(Instant::now);
        }
    }

    /// Which partitions go elsewhere, and where.
    fn begin_rehoming(&self, state: &State, rehoming: &mut Rehoming) {
        for (partition, to) in &mut rehoming.under_way {
            // What has been given up is on no disk that failed meanwhile: if need be it is taught on the one that it is on.
            let at = self.disks.number(*partition);
            if self.disks.by_number(*to).is_none()
                && let Some(other) = self.instead(*partition).or(self.disks.by_number(at).map(|_| at))
            {
                *to = other;
            }
        }
        let has_failed = |disk| rehoming.failed.get(&disk).is_some_and(|since| since.elapsed() >= FAILED_FOR);
        let failed: BTreeSet<usize> = (0..self.disks.count()).filter(|disk| has_failed(*disk)).collect();
        let goes =
            |disk| failed.contains(&disk) || self.disks.leaves(disk) && self.disks.by_number(disk).is_none();
        for partition in Partition::all().filter(|at| goes(self.disks.number(*at))) {
            if rehoming.under_way.contains_key(&partition) || state.sets().set(partition).is_none() {
                continue;
            }
            if let Some(to) = self.instead(partition) {
                rehoming.under_way.insert(partition, to);
            }
        }
    }

    /// Where the partition goes: to a disk that has room for all that it takes, as far as that is known.
    fn instead(&self, partition: Partition) -> Option<usize> {
        let needed_bytes = self.needed_bytes(partition);
        self.disks.instead(partition, |store| store.available(false).available_bytes > needed_bytes)
    }

    fn has_room(&self, disk: usize, partition: Partition) -> bool {
        let store = self.disks.by_number(disk);
        store.is_some_and(|store| store.available(false).available_bytes > self.needed_bytes(partition))
    }

    fn needed_bytes(&self, partition: Partition) -> u64 {
        self.bytes(partition) + u64::from(OBJECT_SIZE_BYTES)
    }

    /// A disk that works gives up a few partitions at a time, of which nobody lacks a copy: the next ones when these have theirs again.
    fn give_up_some(&self, state: &State, rehoming: &mut Rehoming) {
        let me = &self.me.node;
        let set = |at: &Partition| state.sets().set(*at);
        rehoming.given_up.retain(|at| {
            let lacks = set(at).is_some_and(|set| set.target.contains(me) && !set.in_sync.contains(me));
            lacks || rehoming.under_way.contains_key(at)
        });
        let leaves = |disk| self.disks.leaves(disk) && self.disks.by_number(disk).is_some();
        let is_filling = self.disks.is_filling();
        // Those that have gone to where they are to be, and are not whole there, are to be seen to by nobody.
        let mut is_filled = is_filling && rehoming.under_way.is_empty();
        let (full, empty): (Vec<Partition>, Vec<Partition>) =
            rehoming.given_up.iter().partition(|at| self.has_objects(**at));
        let mut left =
            [MOST_EMPTY_GIVEN_UP.saturating_sub(empty.len()), MOST_GIVEN_UP.saturating_sub(full.len())];
        for partition in Partition::all() {
            let leaves = leaves(self.disks.number(partition));
            let fills = if is_filling { self.disks.fills(partition) } else { None };
            if !leaves && fills.is_none() {
                continue;
            }
            is_filled &= fills.is_none();
            let Some(set) = set(&partition).filter(|_| !rehoming.under_way.contains_key(&partition)) else {
                continue;
            };
            if left == [0, 0] || !is_given_up(state.sets(), set, me) {
                continue;
            }
            let kind = usize::from(self.has_objects(partition));
            let to = fills
                .filter(|disk| self.has_room(*disk, partition))
                .or_else(|| if leaves { self.instead(partition) } else { None });
            let Some(to) = to.filter(|_| left[kind] > 0) else {
                continue;
            };
            left[kind] -= 1;
            rehoming.under_way.insert(partition, to);
            rehoming.given_up.insert(partition);
        }
        if is_filled && let Err(error) = self.disks.are_filled() {
            tracing::warn!(%error, "that a disk has its share is not noted in the table of disks: that is tried again");
        }
    }

    fn says_emptied(&self, partition: Partition, set: &InSyncSet) {
        let (node, incarnation) = (self.me.node, self.me.incarnation);
        self.says(partition, set, InSyncChange::Emptied { node, incarnation });
    }

    fn says(&self, partition: Partition, set: &InSyncSet, change: InSyncChange) {
        let record = SetRecord::Changed { partition, pepoch: set.pepoch, change };
        // It is said again while it is so.
        self.ledger.propose_unheard(Proposal::Record(Record::Sets(record)));
    }

    /// Has some partitions be on another disk, with nothing of them there, and their replicas begin anew.
    fn change_disk(&self, state: &State, rehoming: &mut Rehoming, to: usize, partitions: &[Partition]) {
        let Some(store) = self.disks.by_number(to) else { return };
        let mut places = Vec::new();
        for partition in partitions {
            // Who is busy is looked at the next time.
            let Some(place) = self.door(*partition).try_place() else { continue };
            let pepoch = state.sets().set(*partition).map(|set| set.pepoch);
            // What it said in an earlier pepoch is past.
            let knows = pepoch == Some(place.replica.configuration().pepoch);
            if knows && store.clears(*partition) {
                places.push((*partition, self.disks.number(*partition), place));
            }
        }
        let changed: Vec<Partition> = places.iter().map(|(partition, ..)| *partition).collect();
        if changed.is_empty() {
            return;
        }
        if let Err(error) = self.disks.reroute(&changed, to) {
            tracing::error!(%error, "the table of disks cannot be written: what is to be on another disk waits for that");
            return;
        }
        let mut after = Vec::new();
        for (partition, from, mut place) in places {
            rehoming.under_way.remove(&partition);
            rehoming.to_clear.insert((from, partition));
            let configuration = Arc::new(place.replica.configuration().clone());
            place.begins_anew(new_replica(partition, self.me, Recovered::default()));
            self.door(partition).moves(&self.waiting_bytes[to]);
            self.step_at(partition, &mut place, Input::Configured(configuration), &mut after);
            drop(place);
            after.drain(..).for_each(|after| self.carry_out_after(partition, after));
            self.go_on(partition);
        }
    }

    /// What is marked in the ledger, and is on a disk that is at work, may be taught.
    fn say_what_is_ready(&self, rehoming: &Rehoming) {
        // What was changed above is known of a moment later.
        let state = self.ledger.state();
        for (partition, set) in state.sets().sets().filter(|(_, set)| set.failed.contains(&self.me.node)) {
            let works = || self.try_at(partition, |place| !place.has_failed) == Some(true);
            if rehoming.under_way.contains_key(&partition)
                || self.disks.store(partition).is_none()
                || !works()
            {
                continue;
            }
            let (node, incarnation) = (self.me.node, self.me.incarnation);
            match next(set, &self.me.node, true) {
                Next::Empty if is_spared(state.sets(), set, &self.me.node) => {
                    self.says_emptied(partition, set)
                }
                Next::Ready => self.says(partition, set, InSyncChange::Ready { node, incarnation }),
                Next::Empty | Next::Change | Next::Nothing => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use huntaway_ledger::{Memory, StartId};
    use huntaway_wire::{Incarnation, Pepoch};

    use super::*;
    use crate::disk::{Crash, SimulatedDisk};
    use crate::disk_table::{DiskEntry, DiskTable};
    use crate::superblock::{BootId, DiskId};

    const ME: NodeId = NodeId([1; 16]);
    const OTHER: NodeId = NodeId([2; 16]);

    /// A partition that a node of two disks keeps, and another node.
    struct World {
        sets: InSyncSets,
        incarnation: Incarnation,
        state: SimulatedDisk,
        table: DiskTable,
        /// The last write that each disk has.
        has: [u32; 2],
        acknowledged: u32,
        /// The process has changed the disk.
        has_changed: bool,
    }

    fn at() -> Partition {
        Partition::new(7).unwrap()
    }

    impl World {
        fn new() -> Self {
            let entry = |id| DiskEntry::new(DiskId([id; 16]), 1);
            let disks = vec![entry(1), entry(2)];
            let (boot, routes) = (BootId([3; 16]), Some(vec![0; 4096].into()));
            let table = DiskTable { node: ME, boot, is_complete: true, disks, routes };
            let state = SimulatedDisk::new(1 << 20);
            table.store(&state).unwrap();
            let sets = InSyncSets::new(2, 1, &[ME, OTHER], [(at(), vec![ME, OTHER])]);
            let (has, acknowledged) = ([1, 0], 1);
            Self { sets, incarnation: Incarnation(1), state, table, has, acknowledged, has_changed: false }
        }

        fn route(&self) -> usize {
            self.table.routes.as_ref().unwrap()[at().index()].into()
        }

        fn set(&self) -> &InSyncSet {
            self.sets.set(at()).unwrap()
        }

        fn says(&mut self, change: InSyncChange) {
            let (partition, pepoch): (_, Pepoch) = (at(), self.set().pepoch);
            // It may be past.
            let _ = self.sets.apply(&SetRecord::Changed { partition, pepoch, change });
        }

        fn is_written(&mut self) {
            self.acknowledged += 1;
            if self.set().in_sync.contains(&ME) {
                let disk = self.route();
                self.has[disk] = self.acknowledged;
            }
        }

        fn is_taught(&mut self) {
            if self.sets.candidates(at()).contains(&ME) {
                let disk = self.route();
                self.has[disk] = self.acknowledged;
                self.says(InSyncChange::Promote { node: ME, incarnation: self.incarnation });
            }
        }

        /// The next step of a move to the disk on which the partition is not. `false`: the process died.
        fn goes_on(&mut self) -> bool {
            let (node, incarnation) = (ME, self.incarnation);
            match next(self.set(), &ME, self.has_changed) {
                Next::Empty => self.says(InSyncChange::Emptied { node, incarnation }),
                Next::Ready => self.says(InSyncChange::Ready { node, incarnation }),
                Next::Nothing => self.has_changed &= !self.set().in_sync.contains(&ME),
                Next::Change => {
                    let to = 1 - self.route();
                    self.has[to] = 0;
                    // Others go on meanwhile.
                    self.is_taught();
                    let routes = Some(vec![to as u8; 4096].into());
                    let table = DiskTable { routes, ..self.table.clone() };
                    if table.store(&self.state).is_err() {
                        return false;
                    }
                    (self.table, self.has_changed) = (table, true);
                }
            }
            true
        }

        fn dies(&mut self, crash: Crash, seed: u64) {
            self.state.crash(crash, seed);
            self.table = DiskTable::load(&self.state).unwrap().unwrap();
            // What a process starts with is on stable storage.
            self.table.store(&self.state).unwrap();
            let last = StartId(self.incarnation.0);
            self.incarnation = Incarnation(self.incarnation.0 + 1);
            let (incarnation, start) = (self.incarnation, StartId(self.incarnation.0));
            let (node, memory, after) = (ME, Memory::Kept, vec![last]);
            self.sets.apply(&SetRecord::NodeStarted { node, incarnation, memory, start, after }).unwrap();
            self.has_changed = false;
        }
    }

    #[test]
    fn a_disk_that_works_gives_up_nothing_that_a_set_lacks_copies_of() {
        let third = NodeId([3; 16]);
        let nodes = [ME, OTHER, third];
        let mut sets = InSyncSets::new(3, 1, &nodes, [(at(), nodes.into())]);
        let is_given_up = |sets: &InSyncSets, node| super::is_given_up(sets, sets.set(at()).unwrap(), &node);
        let change = |sets: &mut InSyncSets, change| {
            let pepoch = sets.set(at()).unwrap().pepoch;
            sets.apply(&SetRecord::Changed { partition: at(), pepoch, change }).unwrap();
        };
        assert!(is_given_up(&sets, ME) && is_given_up(&sets, OTHER) && is_needless(&sets, at()));
        let incarnation = Incarnation(1);
        // Both were asked to, and one was faster.
        change(&mut sets, InSyncChange::Emptied { node: OTHER, incarnation });
        assert!(!is_given_up(&sets, ME) && is_spared(&sets, sets.set(at()).unwrap(), &ME));
        assert!(!is_needless(&sets, at()), "what the other disk of it has may be the last copy");
        change(&mut sets, InSyncChange::Drop { node: ME, incarnation });
        assert!(!is_given_up(&sets, ME), "it has an old copy, and the set only one");
        assert!(is_given_up(&sets, OTHER), "it has nothing anyway");
        sets.apply(&SetRecord::NodesDown { nodes: vec![third] }).unwrap();
        assert!(!is_spared(&sets, sets.set(at()).unwrap(), &OTHER), "nobody serves it");
    }

    #[test]
    fn nobody_counts_on_a_disk_that_lacks_something_whenever_a_process_dies_that_moves_a_partition() {
        let (mut moved, mut died) = (0, 0);
        for seed in 0..3000_u64 {
            let mut world = World::new();
            let mut draw = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for _ in 0..60 {
                draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (what, of_it) = ((draw >> 33) % 10, draw >> 40);
                match what {
                    0..=1 => world.is_written(),
                    2..=3 => world.is_taught(),
                    4..=8 => {
                        let dies_within = of_it.is_multiple_of(4);
                        if dies_within {
                            world.state.die_after(of_it / 4 % 8);
                        }
                        let before = world.route();
                        let goes_on = world.goes_on();
                        moved += usize::from(before != world.route());
                        if !goes_on || dies_within {
                            died += 1;
                            world.dies(if of_it & 64 == 0 { Crash::Process } else { Crash::Power }, seed);
                        }
                    }
                    _ => world.dies(Crash::Process, seed),
                }
                if world.set().in_sync.contains(&ME) {
                    let (route, has) = (world.route(), world.has);
                    assert_eq!(has[route], world.acknowledged, "seed {seed}: {has:?}, on {route}");
                }
            }
        }
        assert!(moved > 1000 && died > 1000, "{moved} moves, {died} deaths");
    }
}
