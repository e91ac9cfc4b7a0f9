//! What a run is inclined to: each seed draws what goes wrong often, seldom or never, and how clients go about. Faults that are
//! drawn with the same chance in every run get in each other's way; some of them alone show what all of them hide.

use huntaway_replica::RecoveryLimits;

use super::carried::CARRIED_PERCENT;
use super::recovering::draw_limits;
use super::{Bug, MS, SECOND, partition};
use crate::Random;
use crate::clock::Time;
use crate::room::Room;
use crate::storage::{ModelStorage, RealDisk, RealStorage, ReplicaStorage};

/// So many of a hundred runs have stores where the others have models of stores.
const REAL_STORES_PERCENT: u64 = 2;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Kill,
    LosePower,
    Restart,
    CrashSet,
    Overthrow,
    Pause,
    PauseWithGateway,
    PauseGateway,
    Split,
    Isolate,
    Block,
    Slow,
    KillGateway,
    Suspect,
    PauseAndDrop,
    Estrange,
    Shun,
    Stall,
    /// Several things at once: see [`super::plot`].
    Plot,
}

/// How often each happens in relation to the others.
const USUAL: [(Kind, u64); 19] = [
    (Kind::Kill, 10),
    (Kind::LosePower, 6),
    (Kind::Restart, 6),
    (Kind::CrashSet, 8),
    (Kind::Overthrow, 12),
    (Kind::Pause, 8),
    (Kind::PauseWithGateway, 5),
    (Kind::PauseGateway, 5),
    (Kind::Split, 10),
    (Kind::Isolate, 5),
    (Kind::Block, 7),
    (Kind::Slow, 5),
    (Kind::KillGateway, 5),
    (Kind::Suspect, 3),
    (Kind::PauseAndDrop, 5),
    (Kind::Estrange, 3),
    (Kind::Shun, 4),
    (Kind::Stall, 4),
    (Kind::Plot, 16),
];

/// The habits of one run.
#[derive(Debug)]
pub(crate) struct Habits {
    kinds: Vec<(Kind, u64)>,
    /// How often a process dies when it has just told the ledger that it is there.
    pub(crate) stutters_percent: u64,
    /// From one fault to the next there is at most one of these.
    pub(crate) longest_calms: [Time; 3],
    /// In so many of a hundred cases a client reads that would do something else.
    pub(crate) reads_instead_percent: u64,
    /// A power loss damages the log in so many of a hundred cases.
    pub(crate) damaged_logs_percent: u64,
    /// In so many of a hundred cases a partition that waits for replicas is opened by force.
    pub(crate) forced_percent: u64,
    /// After so many entries the log is told again what is known.
    pub(crate) checkpoint_every: u64,
    /// What models of stores have room for; `None` for everything.
    pub(crate) room: Option<Room>,
    /// Others fill disks.
    pub(crate) fills_disks: bool,
    /// From one time that logs are applied to the next there is at most so much.
    pub(crate) applied_every: Time,
    /// A primary asks for another pepoch after so many versions.
    pub(crate) renew_after: Option<u32>,
    /// What recovery may take.
    pub(crate) recovery: RecoveryLimits,
    /// In so many of a hundred cases clients seem to wait too long.
    pub(crate) slow_clients_percent: u64,
    /// Clients choose a path anew for each operation.
    pub(crate) roams: bool,
    /// Flushes ask nodes, not partitions.
    pub(crate) flushes_by_round: bool,
    /// In so many of a hundred cases a client flushes that would do something else.
    pub(crate) flushes_instead_percent: u64,
    /// In so many of a hundred cases a gateway hears of what is new, and of what follows, seconds later.
    pub(crate) deaf_gateways_percent: u64,
    /// What travels goes through the bytes that it is on a network.
    pub(crate) is_carried: bool,
    /// So many of a hundred replicas have a store, not a model of one; those of a node have one together.
    real_stores_percent: u64,
}

impl Habits {
    pub(crate) fn draw(reserves: bool, random: &mut Random) -> Self {
        let mut kinds = USUAL.to_vec();
        if random.percent(50) {
            kinds.iter_mut().for_each(|(_, weight)| *weight *= random.pick(&[0, 0, 1, 4]));
        }
        if random.percent(25) {
            kinds = vec![(Kind::Plot, 1)];
        }
        let is_calm = random.percent(30);
        let damaged_logs_percent = random.pick(&[0, 0, 40]);
        // A log that keeps what was applied is never empty.
        let has_limits = damaged_logs_percent == 0 && random.percent(if reserves { 70 } else { 40 });
        let has_real_stores = !has_limits && random.percent(REAL_STORES_PERCENT);
        let flushes_by_round = random.percent(40);
        let fills_real_disks = !has_limits && random.percent(if reserves { 70 } else { 40 });
        Self {
            kinds,
            longest_calms: if is_calm { [4 * SECOND; 3] } else { [200 * MS, SECOND, 4 * SECOND] },
            reads_instead_percent: random.pick(&[0, 0, 60]),
            damaged_logs_percent,
            forced_percent: random.pick(&[0, 0, 0, 10]),
            checkpoint_every: random.pick(&[4, 20, 100]),
            room: has_limits.then(|| Room::draw(reserves, random)),
            fills_disks: has_limits || fills_real_disks,
            applied_every: random.pick(&[200 * MS, SECOND, 6 * SECOND]),
            renew_after: random.pick(&[None, None, None, Some(30)]),
            recovery: draw_limits(random),
            slow_clients_percent: random.pick(&[0, 10, 60]),
            roams: random.percent(30),
            flushes_by_round,
            flushes_instead_percent: if flushes_by_round { random.pick(&[0, 10, 40]) } else { 0 },
            deaf_gateways_percent: if flushes_by_round { random.pick(&[0, 0, 30]) } else { 0 },
            is_carried: random.percent(CARRIED_PERCENT),
            stutters_percent: random.pick(&[0, 0, 0, 0, 0, 30]),
            real_stores_percent: if has_real_stores { random.pick(&[60, 100]) } else { 0 },
        }
    }

    /// How many entries are lost at most, of those on stable storage, when a log is damaged: most of a run's.
    pub(crate) fn log_keeps(&self) -> u64 {
        if self.damaged_logs_percent > 0 { 200 } else { 0 }
    }

    /// What replicas find on a new disk.
    pub(crate) fn new_disk(
        &self,
        partitions: u16,
        bug: Option<Bug>,
        random: &mut Random,
    ) -> Vec<ReplicaStorage> {
        // Only with bugs of stores, and without bugs, stores are real.
        let (percent, planted) = match bug {
            None => (self.real_stores_percent, None),
            Some(Bug::Store(planted)) => (100, Some(planted)),
            Some(_) => (0, None),
        };
        let (mut disk, rots) = (None, self.log_keeps() > 0);
        let storage = |number: u16| {
            if self.room.is_none() && random.percent(percent) {
                let disk = disk.get_or_insert_with(|| RealDisk::new(rots, planted, random));
                RealStorage::new(partition(number), disk).into()
            } else {
                ModelStorage::new(self.log_keeps(), self.room.clone(), bug).into()
            }
        };
        (0..partitions).map(storage).collect()
    }

    /// What goes wrong next.
    pub(crate) fn next(&self, random: &mut Random) -> Kind {
        let mut dice = random.below(self.kinds.iter().map(|(_, weight)| weight).sum());
        for (kind, weight) in &self.kinds {
            match dice.checked_sub(*weight) {
                Some(rest) => dice = rest,
                None => return *kind,
            }
        }
        Kind::Plot
    }
}
