//! Rules that tests have broken on purpose, to see whether they would notice.

/// A rule of a keeper that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperBug {
    /// A node is down as soon as it is silent, whatever it may count on.
    DownWithLease,
    /// Leases are waited for as if all clocks went alike.
    NotOutlasted,
    /// A new keeper does not wait for what the one before it may have given.
    NoWaitAfterRestart,
    /// A process takes the place of one that has a lease.
    StartedBesideAnother,
    /// A node has a lease before it knows that it is there.
    LeasedWhileBehind,
    /// Who is about to be down has leases.
    LeasedWhileGoingDown,
    /// What is sent again is agreed on again.
    AgreedAgain,
    /// A hold is committed when the first node holds.
    CommittedBeforeAllHold,
    /// What nodes hold counts in whichever pepoch.
    HeldInAnotherPepoch,
    /// Who is to know what since a keeper started counts as knowing it.
    KnownAfterRestart,
    /// While the keeper is held up, nodes count as silent.
    HeldUpHearsNobody,
    /// A new keeper wants to hear of nodes as soon as any other.
    FoundAtOnce,
    /// A node is up again before it knows that it was down.
    UpUnawares,
}

impl KeeperBug {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::DownWithLease,
        Self::NotOutlasted,
        Self::NoWaitAfterRestart,
        Self::StartedBesideAnother,
        Self::LeasedWhileBehind,
        Self::LeasedWhileGoingDown,
        Self::AgreedAgain,
        Self::CommittedBeforeAllHold,
        Self::HeldInAnotherPepoch,
        Self::KnownAfterRestart,
        Self::HeldUpHearsNobody,
        Self::FoundAtOnce,
        Self::UpUnawares,
    ];
}
