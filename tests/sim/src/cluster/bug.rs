//! The bugs that can be put in, by name.

use std::fmt;

use huntaway_replica::PlantedBug;

/// A bug of the replication core, or of the agreed state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// In a replica.
    Replica(PlantedBug),
    /// In the ledger's state: a process that starts goes on in the pepoch of the one before it.
    SamePepochAfterRestart,
}

use PlantedBug as P;

impl Bug {
    /// Those that the simulation finds within 5000 seeds.
    pub const ALL: [Self; 33] = [
        Self::Replica(P::AcknowledgedBeforeAll),
        Self::Replica(P::AcknowledgedFromMemory),
        Self::Replica(P::NoInSyncLease),
        Self::Replica(P::NoGraceWait),
        Self::Replica(P::RequestsForgotten),
        Self::Replica(P::RequestsTrimmedByTime),
        Self::Replica(P::RequestsKeptAtRollback),
        Self::Replica(P::RequestsNotRolledForward),
        Self::Replica(P::AnsweredCarriedOut),
        Self::Replica(P::DirtyRead),
        Self::Replica(P::RejoinByMaxVersion),
        Self::Replica(P::DoubtfulOpensAlone),
        Self::Replica(P::OnlyInDoubtCollected),
        Self::Replica(P::ForwardsOvertake),
        Self::Replica(P::LearnerAdmittedEarly),
        Self::Replica(P::LearnerAdmittedWithoutForwards),
        Self::Replica(P::UnsyncedPromotion),
        Self::Replica(P::DuplicateForwardLogged),
        Self::Replica(P::DuplicateLessonDone),
        Self::Replica(P::CrcNotVerified),
        Self::Replica(P::FlushOfThePrimaryAlone),
        Self::Replica(P::StableWithoutSync),
        Self::Replica(P::ComparedBeforeLock),
        Self::Replica(P::MergedBeforeLock),
        Self::Replica(P::ResultForgotten),
        Self::Replica(P::MergedOverDamaged),
        Self::Replica(P::DamagedReadAsZero),
        Self::Replica(P::DamageNotReadElsewhere),
        Self::Replica(P::DamageTaughtAsZero),
        Self::Replica(P::MendedWithoutLock),
        Self::Replica(P::ScrubOfThePrimaryAlone),
        Self::Replica(P::FailedDiskGoesOn),
        Self::SamePepochAfterRestart,
    ];

    /// Those that it is too weak for, so far. They can be looked for by name.
    pub const NOT_FOUND: [Self; 9] = [
        Self::Replica(P::NoRollForward),
        Self::Replica(P::RestartedTakesPartAtOnce),
        Self::Replica(P::LeaseFromReceipt),
        Self::Replica(P::LeaseCheckedBeforeRead),
        Self::Replica(P::RollForwardOverMajority),
        Self::Replica(P::ProposedLearnerWithoutLease),
        Self::Replica(P::StampCheckedOnArrival),
        Self::Replica(P::FailedLessonCountsAsDone),
        Self::Replica(P::ComparedBeforeForwards),
    ];

    /// The bug named `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Self::NOT_FOUND).find(|bug| bug.to_string() == name)
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(bug) => write!(f, "{bug:?}"),
            Self::SamePepochAfterRestart => write!(f, "SamePepochAfterRestart"),
        }
    }
}
