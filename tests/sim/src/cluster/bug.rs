//! The bugs that can be put in, by name.

use std::fmt;

use huntaway_replica::PlantedBug;
use huntaway_store::PlantedBug as StoreBug;

/// A bug of the replication core, or of the agreed state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// In a replica.
    Replica(PlantedBug),
    /// In a store.
    Store(StoreBug),
    /// In the ledger's state: a process that starts goes on in the pepoch of the one before it.
    SamePepochAfterRestart,
    /// In what drives a replica: the age of a stamp is looked at when the request arrives, not when it gets its version.
    StampCheckedOnArrival,
    /// In a gateway: what a reset gave up is sent again, as if it had been received after that.
    AbortedSentAgain,
    /// In who asks for a snapshot: it is committed although some partitions do not hold.
    CommittedBeforeAllHold,
    /// In the snapshot of the ledger's state: it does not say who may have lost something.
    DoubtNotInSnapshot,
    /// In the ledger's state: who is to keep a partition by a new epoch is in sync at once.
    PlacedAtOnce,
    /// In the ledger's state: a partition is opened although the logs of all members are damaged.
    DamagedOpens,
    /// In the ledger's state: a node that never ran comes with another disk than it had.
    FirstDiskIsAnother,
    /// In the ledger's state: a node is left out although it has an old copy of what nobody serves.
    OldCopyLeftOut,
    /// In the ledger's state: a node is left out although nobody else has what it has.
    RemovedTooEarly,
    /// In a store: a hole has the version of what it takes the place of.
    HoleWithoutVersion,
    /// In a store: what replicas log of a fragment is merged with what they have themselves.
    ReplicaResolves,
    /// In a store: a hole is kept as if nothing had ever been written.
    HoleNotKept,
    /// In the ledger's state: a node that comes back with a new or an old disk is in sync as before.
    AnyDiskWillDo,
    /// In who tells of health: a partition is called whole when nobody is left to be taught.
    HealthFromProgress,
    /// In the ledger's state: old copies are given up when a learner is.
    FailedRecoveryCountsAsDone,
    /// In a node: its disk remembers two starts, however many may be recorded.
    StartsForgotten,
    /// On the network: what a request came to does not travel with what it writes.
    ResultNotCarried,
    /// In who has a disk go back to a snapshot: that is recorded although some partitions do not hold.
    RolledBackBeforeAllHold,
    /// In a node: it asks to be up again although the ledger has not heard of all that failed while it was down.
    UpBeforeFailureIsTold,
    /// In a gateway: a flush counts as done where a node has not synced.
    SyncAllIgnoresUnansweredMembers,
}

use PlantedBug as P;

impl Bug {
    /// All of them: the simulation finds each within 5000 seeds.
    pub const ALL: &[Self] = &[
        Self::Replica(P::AcknowledgedBeforeAll),
        Self::Replica(P::AcknowledgedFromMemory),
        Self::Replica(P::NoInSyncLease),
        Self::Replica(P::RestingServes),
        Self::Replica(P::LeaseFromReceipt),
        Self::Replica(P::NoGraceWait),
        Self::Replica(P::WaitEndsWithMembership),
        Self::Replica(P::PrimaryNotMissed),
        Self::Replica(P::RestartedTakesPartAtOnce),
        Self::Replica(P::RequestsForgotten),
        Self::Replica(P::RequestsTrimmedByTime),
        Self::Replica(P::RequestsKeptAtRollback),
        Self::Replica(P::RequestsNotRolledForward),
        Self::Replica(P::AnsweredCarriedOut),
        Self::Replica(P::DirtyRead),
        Self::Replica(P::ClockReadOnTicks),
        Self::Replica(P::NoRollForward),
        Self::Replica(P::RollForwardOverMajority),
        Self::Replica(P::RejoinByMaxVersion),
        Self::Replica(P::DoubtfulOpensAlone),
        Self::Replica(P::OnlyInDoubtCollected),
        Self::Replica(P::DamagedCollected),
        Self::Replica(P::MissingIsNeverWritten),
        Self::Replica(P::ForwardsOvertake),
        Self::Replica(P::CopiedWithoutLock),
        Self::Replica(P::LearnerAdmittedEarly),
        Self::Replica(P::LearnerAdmittedWithoutForwards),
        Self::Replica(P::ProposedLearnerWithoutLease),
        Self::Replica(P::UnsyncedPromotion),
        Self::Replica(P::OwnPauseNotHeeded),
        Self::Replica(P::FailedLessonCountsAsDone),
        Self::Replica(P::DuplicateForwardLogged),
        Self::Replica(P::DuplicateLessonDone),
        Self::Replica(P::CrcNotVerified),
        Self::Replica(P::GatewaysNotVerified),
        Self::Replica(P::ExpectedNotVerified),
        Self::Replica(P::VersionsGivenAgain),
        Self::Replica(P::ForwardRefusedForSpace),
        Self::Replica(P::CreditSpentTwice),
        Self::Replica(P::CreditOutlivesPepoch),
        Self::Replica(P::RefusedAfterVersioning),
        Self::Replica(P::AnyWriteReplaces),
        Self::Replica(P::NewObjectsNotCounted),
        Self::Replica(P::SetAsideNotHeeded),
        Self::Replica(P::SetAsideNotCounted),
        Self::Replica(P::SetAsideNotTaught),
        Self::Replica(P::DamageNotReplaced),
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
        Self::Replica(P::FailedAsksToBeDropped),
        Self::Replica(P::ReleasedServes),
        Self::Replica(P::ReleasedBeforeTheRecord),
        Self::Replica(P::NoLedgerLease),
        Self::Replica(P::InheritedReadAsZeroes),
        Self::Replica(P::MappedWithoutAncestors),
        Self::Replica(P::MergedWithoutAncestors),
        Self::Replica(P::LayoutNotChecked),
        Self::Replica(P::FenceNotChecked),
        Self::Replica(P::HoldEndedByTimeout),
        Self::Replica(P::NewPrimaryDoesNotHold),
        Self::Replica(P::HeldWithWritesUnderWay),
        Self::Replica(P::RequestsNotInCheckpoint),
        Self::Replica(P::DoubtNotInCheckpoint),
        Self::Replica(P::OldCopyRemovedEarly),
        Self::Store(StoreBug::CopiedWithoutVersion),
        Self::Store(StoreBug::KnownNotReplayed),
        Self::Store(StoreBug::ReleasedBeforeKnown),
        Self::Store(StoreBug::LostReadAsZeroes),
        Self::Store(StoreBug::IndexNotLowered),
        Self::Store(StoreBug::SetAsideForgotten),
        Self::Store(StoreBug::LogDamageNotTold),
        Self::Store(StoreBug::TornTailAfterKill),
        Self::Store(StoreBug::GrantsCountedTwice),
        Self::Store(StoreBug::DamagedIndexStays),
        Self::Store(StoreBug::DamagedIndexNotTold),
        Self::SamePepochAfterRestart,
        Self::StampCheckedOnArrival,
        Self::AbortedSentAgain,
        Self::CommittedBeforeAllHold,
        Self::HoleWithoutVersion,
        Self::HoleNotKept,
        Self::ReplicaResolves,
        Self::AnyDiskWillDo,
        Self::DoubtNotInSnapshot,
        Self::PlacedAtOnce,
        Self::RemovedTooEarly,
        Self::DamagedOpens,
        Self::FirstDiskIsAnother,
        Self::OldCopyLeftOut,
        Self::StartsForgotten,
        Self::RolledBackBeforeAllHold,
        Self::Replica(P::ReadsNotHeld),
        Self::Replica(P::FreedWhatChildrenShow),
        Self::Replica(P::FreedByOldTree),
        Self::Replica(P::NothingFreed),
        Self::HealthFromProgress,
        Self::FailedRecoveryCountsAsDone,
        Self::ResultNotCarried,
        Self::SyncAllIgnoresUnansweredMembers,
        Self::UpBeforeFailureIsTold,
        Self::Replica(P::FreedWithoutLocks),
    ];

    /// The bug named `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.to_string() == name)
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(bug) => write!(f, "{bug:?}"),
            Self::Store(bug) => write!(f, "{bug:?}"),
            bug => write!(f, "{bug:?}"),
        }
    }
}
