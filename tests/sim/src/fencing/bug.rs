//! The bugs that can be planted, each of which the checker must find.

use std::fmt;

use huntaway_gateway::fencing::PlantedBug;
use huntaway_replica::PlantedBug as Store;

/// Begins the names of the bugs of clusters.
const CLUSTER: &str = "Cluster:";

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Within the gateway's fencing.
    Gateway(PlantedBug),
    /// Within the stores, if they are a cluster.
    Cluster(crate::Bug),
    /// The clock is read before the stamp is taken, not after.
    ProofBeforeStamp,
    /// The time of statuses is taken after they were written to the socket.
    StatusTimeAfterWrite,
    /// The number that an R2T shows is taken for that of any other status.
    ShownNumberProves,
    /// A reply's clock is read before its socket.
    ClockBeforeSocket,
    /// A login is answered before the commands of the session in whose place it comes are settled.
    LoginBeforeSettled,
    /// A Logout is answered before its connection's commands are settled.
    LogoutBeforeSettled,
    /// A restarted gateway listens at once.
    RestartListensAtOnce,
    /// A command that is refused loses its turn among those that overlap it.
    RefusedLosesTurn,
    /// A stamp's age is looked at when the request arrives, not when it gets its version.
    AgeAtArrival,
    /// What was done under a request's number is not known to the next primary.
    NoDedupeAtHandover,
    /// Requests below the trim mark are executed.
    TrimmedExecuted,
    /// A reset or preemption is answered before stores know of it.
    AnsweredBeforeStoresKnow,
    /// What a record gave up counts as ended when the gateway knows of the record, which stores may not.
    SettledByTheRecord,
    /// A request carries the fence of the moment at which it is sent, not that under which its command was received.
    FenceAtSending,
    /// A store takes requests that were given up.
    FenceNotChecked,
    /// A store looks at a request's fence when it arrives, not when it gets its version.
    FenceAtArrival,
    /// A command that is refused for its fence loses its turn among those that overlap it.
    FencedLosesTurn,
    /// A command that is refused since a snapshot was taken loses its turn among those that overlap it.
    OldLayoutLosesTurn,
    /// A store takes requests for what a snapshot froze.
    LayoutNotChecked,
}

/// Bugs of clusters that are found below gateways.
const OF_CLUSTERS: [crate::Bug; 11] = [
    crate::Bug::StampCheckedOnArrival,
    crate::Bug::Replica(Store::RequestsForgotten),
    crate::Bug::Replica(Store::RequestsTrimmedByTime),
    crate::Bug::Replica(Store::AnsweredCarriedOut),
    crate::Bug::Replica(Store::EndedGatewayServed),
    crate::Bug::Replica(Store::FenceNotChecked),
    crate::Bug::Replica(Store::LayoutNotChecked),
    crate::Bug::Replica(Store::NoLedgerLease),
    crate::Bug::Replica(Store::NoInSyncLease),
    crate::Bug::Replica(Store::NoGraceWait),
    crate::Bug::Replica(Store::NoRollForward),
];

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 30] = [
        Self::Gateway(PlantedBug::NoPathProof),
        Self::Gateway(PlantedBug::SentAgainWithoutProof),
        Self::Gateway(PlantedBug::ErrorBeforeSettled),
        Self::Gateway(PlantedBug::AbortBeforeSettled),
        Self::Gateway(PlantedBug::DroppedAndForgotten),
        Self::Gateway(PlantedBug::SettledWithoutMargin),
        Self::Gateway(PlantedBug::SettledByLastRefusal),
        Self::Gateway(PlantedBug::GivenUpSentAgain),
        Self::Gateway(PlantedBug::NotJudgedAgain),
        Self::Gateway(PlantedBug::GivenUpJudgedToStand),
        Self::Gateway(PlantedBug::SettledByFenceRefusal),
        Self::ProofBeforeStamp,
        Self::StatusTimeAfterWrite,
        Self::ShownNumberProves,
        Self::ClockBeforeSocket,
        Self::LoginBeforeSettled,
        Self::LogoutBeforeSettled,
        Self::RestartListensAtOnce,
        Self::RefusedLosesTurn,
        Self::AgeAtArrival,
        Self::NoDedupeAtHandover,
        Self::TrimmedExecuted,
        Self::AnsweredBeforeStoresKnow,
        Self::SettledByTheRecord,
        Self::FenceAtSending,
        Self::FenceNotChecked,
        Self::FenceAtArrival,
        Self::FencedLosesTurn,
        Self::OldLayoutLosesTurn,
        Self::LayoutNotChecked,
    ];

    /// Those that are found when the stores are a cluster.
    pub fn with_cluster() -> Vec<Self> {
        let listed = Self::ALL.into_iter().filter(|bug| bug.is_found_with_cluster());
        listed.chain(OF_CLUSTERS.into_iter().map(Self::Cluster)).collect()
    }

    /// Whether it is not one of the model of stores, nor one that needs what happens too seldom above a cluster.
    fn is_found_with_cluster(self) -> bool {
        !matches!(
            self,
            Self::AgeAtArrival
                | Self::NoDedupeAtHandover
                | Self::TrimmedExecuted
                | Self::FenceNotChecked
                | Self::FenceAtArrival
                | Self::LayoutNotChecked
                | Self::Gateway(PlantedBug::SettledByFenceRefusal)
                | Self::ProofBeforeStamp
                | Self::ShownNumberProves
                | Self::FenceAtSending
        )
    }

    /// The bug that is called so.
    pub fn named(name: &str) -> Option<Self> {
        let mut listed = Self::ALL.into_iter().chain(Self::with_cluster());
        let of_cluster = || crate::Bug::named(name.strip_prefix(CLUSTER)?).map(Self::Cluster);
        listed.find(|bug| bug.to_string().eq_ignore_ascii_case(name)).or_else(of_cluster)
    }

    /// What is planted within the cluster.
    pub(super) fn in_cluster(self) -> Option<crate::Bug> {
        match self {
            Self::Cluster(bug) => Some(bug),
            _ => None,
        }
    }

    /// What is planted within the gateway's fencing.
    pub(super) fn in_gateway(self) -> Option<PlantedBug> {
        match self {
            Self::Gateway(bug) => Some(bug),
            _ => None,
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(bug) => write!(f, "{bug:?}"),
            Self::Cluster(bug) => write!(f, "{CLUSTER}{bug}"),
            bug => write!(f, "{bug:?}"),
        }
    }
}
