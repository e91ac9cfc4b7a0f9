//! Bugs put in on purpose, to see that the simulation finds them. Without the feature `planted-bugs` there are none.

/// What is done wrong.
#[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "only the feature exports it"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlantedBug {
    /// Commands are sent without a path proof.
    NoPathProof,
    /// A command that is sent again takes a new stamp, but needs no new proof.
    SentAgainWithoutProof,
    /// A failed command is answered before it is settled.
    ErrorBeforeSettled,
    /// An abort is answered before the command is settled.
    AbortBeforeSettled,
    /// The commands of a session that ends are forgotten at once.
    DroppedAndForgotten,
    /// A stamp is taken to have run out after its time by the gateway's clock, which may be the faster one.
    SettledWithoutMargin,
    /// When the last send is refused the command counts as settled, though an earlier one may be under way.
    SettledByLastRefusal,
    /// What was given up is sent again when it is refused or overdue.
    GivenUpSentAgain,
    /// What a store refused for its fence is sent again under the newer one, whoever may not send it any more.
    NotJudgedAgain,
    /// What was given up before is sent again when a store refused it for its fence, and nothing else speaks against it.
    GivenUpJudgedToStand,
    /// What a store refused for its fence counts as settled, though another store may not know of the newer one.
    SettledByFenceRefusal,
}

/// The bug of an [`UnderWay`](super::UnderWay), if there is one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<PlantedBug>,
}

impl Planted {
    #[cfg(feature = "planted-bugs")]
    pub(super) fn new(bug: Option<PlantedBug>) -> Self {
        Self { bug }
    }

    #[cfg(feature = "planted-bugs")]
    pub(super) fn is(self, bug: PlantedBug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(feature = "planted-bugs"))]
    pub(super) fn is(self, _: PlantedBug) -> bool {
        false
    }
}
