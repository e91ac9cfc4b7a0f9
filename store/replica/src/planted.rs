//! Bugs put in on purpose, to see that the simulator finds them. They are there only with the feature `planted-bugs`.

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "planted-bugs"),
    expect(unreachable_pub, reason = "only those who plant bugs name them")
)]
pub enum PlantedBug {
    /// A write is acknowledged while one in-sync replica does not have it.
    AcknowledgedBeforeAll,
    /// A replica acknowledges a write that is not in its log yet.
    AcknowledgedFromMemory,
    /// The primary serves without the grants of the other in-sync replicas.
    NoInSyncLease,
    /// A primary that rested takes its leases for renewed as soon as somebody asks for something.
    RestingServes,
    /// A lease counts from when the grant came, not from when it was asked for.
    LeaseFromReceipt,
    /// A primary that most of its replicas miss stays.
    PrimaryNotMissed,
    /// Who was paused blames others for not answering meanwhile.
    OwnPauseNotHeeded,
    /// A replica takes part in a new pepoch while the old primary counts on its grant.
    NoGraceWait,
    /// That the old primary is no member any more ends the wait for its leases.
    WaitEndsWithMembership,
    /// A process that has just started takes part at once, whatever its predecessor granted.
    RestartedTakesPartAtOnce,
    /// Requests that were carried out are carried out again.
    RequestsForgotten,
    /// Requests are forgotten when time has gone by, not when they are answered.
    RequestsTrimmedByTime,
    /// A learner keeps what it knew of requests although their data is replaced.
    RequestsKeptAtRollback,
    /// What is known of requests is not rolled forward with the data.
    RequestsNotRolledForward,
    /// A request whose gateway has its answer is carried out.
    AnsweredCarriedOut,
    /// A request of a gateway's process that has ended is carried out, though what it asked for before is forgotten.
    EndedGatewayServed,
    /// A read does not wait for writes that are under way.
    DirtyRead,
    /// The clock by which leases are checked is read now and then, not with each step.
    ClockReadOnTicks,
    /// A new primary opens with what it has itself.
    NoRollForward,
    /// A new primary asks only some of the in-sync replicas.
    RollForwardOverMajority,
    /// A learner keeps blocks with higher versions than the primary's.
    RejoinByMaxVersion,
    /// A replica that may have lost acknowledged writes opens the partition without the others.
    DoubtfulOpensAlone,
    /// When all replicas lost power, only what is in doubt is merged.
    OnlyInDoubtCollected,
    /// When all replicas lost power, what a damaged log brings back counts as well.
    DamagedCollected,
    /// When all replicas lost power, objects that the primary lacks count as never written.
    MissingIsNeverWritten,
    /// Writes to a block are sent to a learner although earlier ones are on their way.
    ForwardsOvertake,
    /// An object may be written to while it is compared and copied.
    CopiedWithoutLock,
    /// A learner is proposed before it was compared.
    LearnerAdmittedEarly,
    /// A learner is proposed while writes forwarded to it are not acknowledged.
    LearnerAdmittedWithoutForwards,
    /// The primary serves without the grant of a learner that it proposed.
    ProposedLearnerWithoutLease,
    /// A learner is proposed before what it was taught is on stable storage.
    UnsyncedPromotion,
    /// What a learner could not do counts as done.
    FailedLessonCountsAsDone,
    /// A write that is forwarded twice is logged twice.
    DuplicateForwardLogged,
    /// A lesson that comes twice is done twice.
    DuplicateLessonDone,
    /// Checksums of what others forward are not verified.
    CrcNotVerified,
    /// Checksums of what gateways send are not verified.
    GatewaysNotVerified,
    /// The checksum of what COMPARE AND WRITE expects is not verified.
    ExpectedNotVerified,
    /// A replica does not take a write that it had promised to take, for its disk is full by now.
    ForwardRefusedForSpace,
    /// The primary does not count what it sent of what replicas promised to take.
    CreditSpentTwice,
    /// What a replica promised to take in one pepoch is counted again in the next one.
    CreditOutlivesPepoch,
    /// Whether there is room for a write is looked at when others have it.
    RefusedAfterVersioning,
    /// A write goes on when a disk is full, whether it replaces what is there or not.
    AnyWriteReplaces,
    /// What a new object takes beside its blocks is not counted.
    NewObjectsNotCounted,
    /// When a disk is full, a write is told that what it takes the place of is damaged.
    DamageNotReplaced,
    /// A write is refused for space that was set aside for its object.
    SetAsideNotHeeded,
    /// Space is set aside that no replica promised.
    SetAsideNotCounted,
    /// A learner is not taught what space is set aside.
    SetAsideNotTaught,
    /// COMPARE AND WRITE compares before it has the blocks to itself.
    ComparedBeforeLock,
    /// What a request came to is not kept with it: when it comes again, it is told that it was done.
    ResultForgotten,
    /// A fragment is merged with zeroes where the block is damaged.
    MergedOverDamaged,
    /// A fragment is merged before it has the block to itself.
    MergedBeforeLock,
    /// The primary serves without the ledger's lease.
    NoLedgerLease,
    /// What a block inherits is not looked for: it reads as zeroes.
    InheritedReadAsZeroes,
    /// Of what a block inherits it is not told that it holds data.
    MappedWithoutAncestors,
    /// A fragment is merged with zeroes where the block inherits.
    MergedWithoutAncestors,
    /// Requests are taken whatever layout their gateway knows.
    LayoutNotChecked,
    /// Requests are taken although they were given up.
    FenceNotChecked,
    /// Blocks of a deleted VDI are freed although a VDI shows them.
    FreedWhatChildrenShow,
    /// What was made from a deleted VDI since the pepoch began is not looked at before its blocks are freed.
    FreedByOldTree,
    /// What hides a block may be under way when the block is freed.
    FreedWithoutLocks,
    /// Nothing is ever freed.
    NothingFreed,
    /// Reads of a disk that goes back to a snapshot are not held.
    ReadsNotHeld,
    /// Writes that a snapshot holds go on after a while.
    HoldEndedByTimeout,
    /// Who becomes primary during a snapshot does not hold writes.
    NewPrimaryDoesNotHold,
    /// The ledger is told of a hold while writes are under way.
    HeldWithWritesUnderWay,
    /// A flush is acknowledged when it is done here.
    FlushOfThePrimaryAlone,
    /// A block that is damaged, or whose object is missing, is read as if it had never been written.
    DamagedReadAsZero,
    /// The primary answers that a block is damaged although another replica has it.
    DamageNotReadElsewhere,
    /// A learner is given zeroes for blocks that are damaged at the primary.
    DamageTaughtAsZero,
    /// An object is mended while it is written to: what was read before a write is put in place after it.
    MendedWithoutLock,
    /// Objects are read again at the primary alone.
    ScrubOfThePrimaryAlone,
    /// A replica goes on when its disk failed.
    FailedDiskGoesOn,
    /// A replica whose disk failed asks to be left out, which may be refused, and counts as if it had everything until then.
    FailedAsksToBeDropped,
    /// A primary whose process ends says that it serves no more, and serves until the process is gone.
    ReleasedServes,
    /// A primary says that it serves no more when it asks for a learner to come in sync that is to be primary then.
    ReleasedBeforeTheRecord,
    /// A node removes its copy as soon as it is not in sync any more.
    OldCopyRemovedEarly,
    /// A write that is to be on stable storage is acknowledged when it is in the log.
    StableWithoutSync,
    /// The log is told again what is known of requests, but for all of it.
    RequestsNotInCheckpoint,
    /// The log is told again what is known, but for the writes that are in doubt.
    DoubtNotInCheckpoint,
    /// When the versions of a pepoch are used up, they are given again.
    VersionsGivenAgain,
}
