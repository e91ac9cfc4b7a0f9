//! Comparing all copies when somebody asks for it: the partitions that this process leads are read through on all nodes, as scrubbing
//! does it, many at a time where nothing is in them. Who asks does so again and again, and is told how far it is; a round that
//! nobody asks about any more ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use huntaway_membership::Driver as _;
use huntaway_replica::Found;
use huntaway_wire::comparison::{Compare, Compared, Difference, MAX_DIFFERENCES, PartitionSet};
use huntaway_wire::{Partition, Pepoch, Process};
use tokio::sync::mpsc;
use tokio::time::{Instant as Deadline, timeout_at};

use super::{Host, Shared};
use crate::locking::lock;

/// Partitions with objects that are read through at a time: few, for whoever reads them keeps leases as well.
const WITH_OBJECTS: usize = 4;

/// Partitions with nothing in them, at a time.
const EMPTY: usize = 1024;

/// What is read of each copy in a second.
const BYTES_PER_SECOND: u64 = 64 << 20;

/// A round that nobody asked about for so long is over; until then there is no other one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// Others have so long to answer.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// The round that is under way, and the question that is.
#[derive(Default)]
pub(super) struct Comparing {
    round: Option<Round>,
    /// Of rounds that are over: they were busy, and are to read no more.
    to_stand_still: Vec<Partition>,
    question: u64,
    answers: Option<(Compare, mpsc::Sender<(Process, Compared)>)>,
}

struct Round {
    number: u64,
    asked_at: Instant,
    done: PartitionSet,
    /// Their differences are all that were found.
    found: Found,
    under_way: BTreeMap<Partition, Begun>,
}

/// A partition that is read through.
#[derive(Clone, Copy)]
struct Begun {
    pepoch: Pepoch,
    /// How often it was read through before.
    passes: u64,
    has_objects: bool,
    /// Objects that were read so far.
    objects: u64,
}

impl Round {
    fn take(&mut self, partition: Partition, found: &Found) {
        self.done.insert(partition);
        let Found { objects, blocks, failed_objects, differing, differences } = found;
        self.found.objects += objects;
        self.found.blocks += blocks;
        self.found.failed_objects += failed_objects;
        self.found.differing += differing;
        let room = MAX_DIFFERENCES.saturating_sub(self.found.differences.len());
        self.found.differences.extend(differences.iter().take(room).copied());
    }

    fn compared(&self, asked: Compare) -> Compared {
        let Found { objects, blocks, failed_objects: failed, differing, ref differences } = self.found;
        let objects = objects + self.under_way.values().map(|begun| begun.objects).sum::<u64>();
        let differences =
            differences.iter().map(|(oid, block, node)| Difference { oid: *oid, block: *block, node: *node });
        let (done, differences) = (self.done, differences.collect());
        Compared { asked, waits: false, done, objects, blocks, failed, differing, differences }
    }
}

impl Shared {
    /// Begins the round, or goes on with it: how far it is.
    pub(super) fn compared(&self, asked: Compare) -> Compared {
        let mut comparing = lock(&self.comparing);
        let over = comparing.round.take_if(|round| match round.number == asked.round {
            true => asked.is_over,
            false => round.asked_at.elapsed() >= FORGOTTEN_AFTER,
        });
        if let Some(over) = over {
            self.stand_still(&mut comparing, &over);
            if asked.is_over {
                return over.compared(asked);
            }
        }
        let new = Round {
            number: asked.round,
            asked_at: Instant::now(),
            done: PartitionSet::default(),
            found: Found::default(),
            under_way: BTreeMap::new(),
        };
        if asked.is_over {
            return new.compared(asked);
        }
        if comparing.round.as_ref().is_some_and(|round| round.number != asked.round) {
            return Compared { waits: true, ..new.compared(asked) };
        }
        let round = comparing.round.get_or_insert(new);
        round.asked_at = Instant::now();
        round.compared(asked)
    }

    /// The other processes that are up.
    pub(super) fn others(&self) -> Vec<Process> {
        let state = self.ledger.state();
        let up = state.sets().nodes().filter(|(_, known)| known.is_up);
        let process =
            |(node, known): (_, huntaway_ledger::NodeState)| Process { node, incarnation: known.incarnation };
        up.map(process).filter(|process| *process != self.me).collect()
    }

    /// The partitions that are read through because somebody asked for it.
    pub(super) fn compared_now(&self) -> Vec<Partition> {
        let comparing = lock(&self.comparing);
        comparing.round.iter().flat_map(|round| round.under_way.keys().copied()).collect()
    }

    fn stand_still(&self, comparing: &mut Comparing, round: &Round) {
        comparing.to_stand_still.extend(round.under_way.keys());
        self.stop(comparing);
    }

    /// Nobody waits for those that are busy: they are looked at again soon.
    fn stop(&self, comparing: &mut Comparing) {
        let is_busy = |at: &Partition| self.try_at(*at, |place| place.replica.scrub_at(0)).is_none();
        comparing.to_stand_still.retain(is_busy);
    }

    /// Looks what was read through, and has others read. To be called a few times in a second.
    pub(super) fn compare(&self) {
        let mut comparing = lock(&self.comparing);
        if let Some(forgotten) = comparing.round.take_if(|round| round.asked_at.elapsed() > FORGOTTEN_AFTER) {
            return self.stand_still(&mut comparing, &forgotten);
        }
        self.stop(&mut comparing);
        let Comparing { round: Some(round), to_stand_still, .. } = &mut *comparing else { return };
        for (partition, mut begun) in std::mem::take(&mut round.under_way) {
            let goes_on = self.try_at(partition, |place| {
                let is_same = place.replica.configuration().pepoch == begun.pepoch;
                let passes = place.replica.mended().filter(|_| is_same).map(|mended| mended.passes);
                if passes == Some(begun.passes) {
                    begun.objects = place.replica.found().map_or(0, |found| found.objects);
                    return true;
                }
                // Whoever leads it by now begins anew.
                if let Some(found) = place.replica.found().filter(|_| passes.is_some()) {
                    round.take(partition, found);
                }
                place.replica.scrub_at(0);
                false
            });
            if goes_on.unwrap_or(true) {
                round.under_way.insert(partition, begun);
            }
        }
        self.compare_more(round, to_stand_still);
    }

    fn compare_more(&self, round: &mut Round, busy: &[Partition]) {
        let state = self.ledger.state();
        let full = round.under_way.values().filter(|begun| begun.has_objects).count();
        let mut left =
            [EMPTY.saturating_sub(round.under_way.len() - full), WITH_OBJECTS.saturating_sub(full)];
        for partition in Partition::all() {
            if left == [0, 0] {
                return;
            }
            let is_here = state.primary(partition) == Some(self.me.node);
            let is_known = round.done.contains(partition) || round.under_way.contains_key(&partition);
            if !is_here || is_known || busy.contains(&partition) {
                continue;
            }
            let has_objects = self.has_objects(partition);
            let kind = usize::from(has_objects);
            if left[kind] == 0 {
                continue;
            }
            let begun = self.try_at(partition, |place| {
                if !place.replica.scrub_anew() {
                    return None;
                }
                place.replica.scrub_at(BYTES_PER_SECOND / WITH_OBJECTS as u64);
                let passes = place.replica.mended().map_or(0, |mended| mended.passes);
                let pepoch = place.replica.configuration().pepoch;
                Some(Begun { pepoch, passes, has_objects, objects: 0 })
            });
            let Some(begun) = begun.flatten() else { continue };
            round.under_way.insert(partition, begun);
            left[kind] -= 1;
        }
    }

    /// Another process tells how far it is.
    pub(super) fn was_compared(&self, from: Process, compared: Compared) {
        if let Some((asked, answers)) = &lock(&self.comparing).answers
            && *asked == compared.asked
        {
            // There is room for what each process answers; who answers more often is not heard.
            let _ = answers.try_send((from, compared));
        }
    }
}

impl Host {
    /// Has every process that is up compare the in-sync copies of all partitions that it leads, in a round of that number, or go on
    /// with it; or to end it, if it is over. Returns what each tells of how far it is. What differs is put right. One at a time asks.
    pub async fn compare(&self, round: u64, is_over: bool) -> Vec<(Process, Compared)> {
        let shared = &*self.shared;
        let others = shared.others();
        let (sender, mut receiver) = mpsc::channel(others.len().max(1));
        let asked = {
            let mut comparing = lock(&shared.comparing);
            comparing.question += 1;
            let question = comparing.question;
            let asked = Compare { asker: shared.me, round, question, is_over };
            comparing.answers = Some((asked, sender));
            asked
        };
        others.iter().for_each(|process| shared.links.ask(*process, &asked));
        let mut told = vec![(shared.me, shared.compared(asked))];
        let deadline = Deadline::now() + ANSWER_TIME;
        while told.len() <= others.len() {
            let Ok(Some((from, compared))) = timeout_at(deadline, receiver.recv()).await else { break };
            if told.iter().all(|(known, _)| *known != from) {
                told.push((from, compared));
            }
        }
        told
    }
}
