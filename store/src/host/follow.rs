//! The ledger: what it says goes to the replicas, and only then the lease that rests on that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use huntaway_ledger::State;
use huntaway_membership::Driver as _;
use huntaway_replica::{Configuration, Hold, Input, Moment, Process, Vdis};
use huntaway_wire::{OBJECT_SIZE_BYTES, Partition, Pepoch};
use tokio::time::{MissedTickBehavior, interval};

use super::agreed::{configuration, processes, vdis};
use super::door::Comes;
use super::{Shared, now};
use crate::locking::lock;

/// How often it is looked whether there is a longer lease: it is asked for a few times in each.
const LEASE_LOOK: Duration = Duration::from_millis(40);

/// What replicas hold for snapshots: each hold with the partitions that told of it, and the pepochs in which they did.
#[derive(Default)]
pub(super) struct Holding {
    holds: BTreeMap<Hold, BTreeMap<Partition, Pepoch>>,
}

/// What the replicas know.
#[derive(Default)]
struct Known {
    state: Arc<State>,
    gateways: Vec<Process>,
    vdis: Arc<Vdis>,
    /// The lease of the ledger, of which all is known that was said before it.
    leased_until: Duration,
    /// Whether a failure is to be told before this node asks to be up.
    waits: bool,
    /// Whose replicas are busy, and will know of a state when they are not: its number.
    behind: Vec<(Partition, u64)>,
}

pub(super) async fn follow(shared: Arc<Shared>) {
    let mut states = shared.ledger.states();
    let mut known = Known::default();
    let mut looks = interval(LEASE_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // What was said before it is in the state, then.
        let until = shared.ledger.leased_until();
        let state = Arc::clone(&states.borrow_and_update());
        if state.number() > known.state.number() {
            shared.links_follow(&state);
            shared.configure(&mut known, &state);
            // Who came in sync makes room for the next one.
            shared.may_teach_others.store(true, Ordering::Release);
        }
        // A step that began before may still be under way there.
        known.behind.retain(|(partition, number)| {
            !shared.door(*partition).knows(*number) && !shared.waits_in_vain(*partition)
        });
        let waits = shared.has_failure_to_tell(&known.state);
        if waits && !known.waits {
            tracing::warn!(
                "the cluster counts on this node no more: it is to hear of disks that failed before that changes"
            );
        }
        known.waits = waits;
        shared.ledger.wait_to_ask(waits);
        if known.behind.is_empty() {
            shared.ledger.applied(known.state.number());
        }
        if until > known.leased_until {
            known.leased_until = until;
            shared.leased(until);
        }
        tokio::select! {
            changed = states.changed() => if changed.is_err() {
                // Nobody follows the ledger any more: the process ends.
                return;
            },
            _ = looks.tick() => {}
            () = shared.configured.notified(), if !known.behind.is_empty() => {}
        }
    }
}

impl Shared {
    pub(super) fn links_follow(&self, state: &State) {
        if let Some(inbox) = self.inbox.get() {
            self.links.follow(state, inbox);
        }
    }

    /// Tells replicas what is new.
    fn configure(&self, known: &mut Known, state: &Arc<State>) {
        let before = std::mem::replace(&mut known.state, Arc::clone(state));
        let gateways = processes(state);
        let vdis_are_new = before.disks() != state.disks();
        let policy = state.recovery();
        if policy != before.recovery() {
            let move_after_us = u64::from(policy.move_after_seconds) * 1_000_000;
            lock(&self.recovery).may_take(policy.is_paused, policy.bytes_per_second, move_after_us);
        }
        if vdis_are_new {
            known.vdis = vdis(state.disks());
        }
        let (one, other) = (before.sets(), state.sets());
        let all_are_new = vdis_are_new
            || gateways != known.gateways
            || !one.nodes().eq(other.nodes())
            || (one.copies(), one.min_copies()) != (other.copies(), other.min_copies());
        known.gateways = gateways;
        let changed: Vec<Partition> = if all_are_new {
            other.sets().map(|(partition, _)| partition).collect()
        } else {
            other.changed_since(one).collect()
        };
        for partition in changed {
            if let Some(configuration) = configuration(state, partition, &known.gateways, &known.vdis) {
                self.configured(partition, configuration, known);
                known.behind.push((partition, state.number()));
            }
        }
        self.hold_again(state);
    }

    fn configured(&self, partition: Partition, configuration: Configuration, known: &Known) {
        let leads = configuration.primary() == Some(self.me);
        let is_kept = configuration.keepers.contains(&self.me.node);
        self.door(partition).leads.store(leads, Ordering::Release);
        let copied = self.try_at(partition, |place| place.replica.copied_bytes()).unwrap_or(0);
        let bytes = if leads && !configuration.candidates.is_empty() { self.bytes(partition) } else { 0 };
        {
            let mut recovery = lock(&self.recovery);
            if copied > 0 {
                recovery.copied(now(), partition, copied);
            }
            recovery.configured(now(), partition, self.me, &configuration, bytes);
        }
        self.comes(partition, Comes::Configured(Arc::new(configuration), known.state.number()), 0);
        if leads {
            self.step(partition, Input::LedgerLease { until: moment(known.leased_until) });
        }
        if !is_kept && self.has_objects(partition) {
            self.step(partition, Input::Forget);
        }
    }

    /// Whether the replica waits for room although the ledger has another one lead: then its node acts on what the ledger said all the
    /// same, and neither resets nor leases wait for that. Only who leads has requests begin. What this one may begin yet is of an
    /// older pepoch, and is done while its leases last, before the next primary opens, or reaches nobody; since it answered nobody
    /// while it waited, nobody can tell that from what was done before. It gets no lease before what the ledger said, and whatever comes
    /// to it from now on is taken in behind that (see [`Door::put`](super::door::Door::put)).
    fn waits_in_vain(&self, partition: Partition) -> bool {
        !self.door(partition).leads.load(Ordering::Acquire)
            && self.try_at(partition, |place| !place.is_through()) == Some(true)
    }

    /// Whether this node is down, and the ledger has not heard of all that failed here: it would count on that as soon as it is up.
    fn has_failure_to_tell(&self, state: &State) -> bool {
        let me = self.me.node;
        let is_down = state.sets().node(me).is_some_and(|known| !known.is_up);
        let has_failed =
            |at| self.disks.store(at).is_none() || self.try_at(at, |place| place.has_failed) != Some(false);
        is_down
            && state
                .sets()
                .sets()
                .any(|(at, set)| set.keepers().contains(&me) && !set.failed.contains(&me) && has_failed(at))
    }

    fn leased(&self, until: Duration) {
        for partition in Partition::all() {
            if self.door(partition).leads.load(Ordering::Acquire) {
                self.step(partition, Input::LedgerLease { until: moment(until) });
            }
        }
    }

    /// What the partition takes here at most.
    pub(super) fn bytes(&self, partition: Partition) -> u64 {
        let objects = self.disks.store(partition).map_or(0, |store| store.objects_of(partition));
        objects as u64 * u64::from(OBJECT_SIZE_BYTES)
    }

    pub(super) fn has_objects(&self, partition: Partition) -> bool {
        self.bytes(partition) > 0
    }

    /// A partition holds. When all do that this node leads, the ledger is told.
    pub(super) fn held(&self, partition: Partition, pepoch: Pepoch, hold: Hold) {
        let state = self.ledger.state();
        let mut holding = lock(&self.holding);
        holding.holds.entry(hold).or_default().insert(partition, pepoch);
        self.tell_held(&holding, &state);
    }

    /// What is held counts in the pepochs that there are by now.
    fn hold_again(&self, state: &State) {
        let mut holding = lock(&self.holding);
        holding.holds.retain(|hold, _| !state.disks().held(hold.0).is_empty());
        self.tell_held(&holding, state);
    }

    fn tell_held(&self, holding: &Holding, state: &State) {
        for (hold, told) in &holding.holds {
            let mut led = Partition::all().filter(|at| state.primary(*at) == Some(self.me.node));
            if led.all(|at| told.get(&at) == Some(&state.pepoch(at))) {
                self.ledger.holds(hold.0, state.leads(self.me.node));
            }
        }
    }
}

fn moment(at: Duration) -> Moment {
    Moment(at.as_micros().try_into().unwrap_or(u64::MAX))
}
