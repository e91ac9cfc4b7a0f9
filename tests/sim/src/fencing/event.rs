//! What can happen, and the queue of what will.

use std::time::Duration;

use huntaway_gateway::fencing::{RequestNumber, Sending, Stamped};
use huntaway_wire::Stamp;

use super::ledger::{Record, Waiter};

/// What an initiator sends.
#[derive(Debug, Clone)]
pub(super) enum ToGateway {
    Login,
    /// A WRITE, with its data or before the R2T for that.
    Write {
        attempt: usize,
        solicited: bool,
    },
    DataOut {
        attempt: usize,
    },
    Abort {
        attempt: usize,
    },
    NopOut {
        target_transfer_tag: u32,
    },
    Logout,
    /// A LOGICAL UNIT RESET.
    Reset,
    /// A PERSISTENT RESERVE OUT that takes the registration of another initiator, with AND ABORT or without.
    Preempt {
        of: usize,
        aborts: bool,
    },
    /// A PERSISTENT RESERVE OUT that registers.
    Register,
    Fin,
}

/// What a command comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    /// It was given up, and can take no effect any more: it may be sent again.
    Failed,
    /// It never went to a store, for its initiator may not use the disk.
    Refused,
}

/// What a gateway sends.
#[derive(Debug, Clone)]
pub(super) enum ToInitiator {
    LoginResponse,
    ReadyToTransfer { attempt: usize },
    Status { attempt: usize, status: Status },
    Aborted { attempt: usize },
    NopIn { target_transfer_tag: u32 },
    LogoutResponse,
    ResetDone,
    Preempted,
    Registered,
    Fin,
}

impl ToInitiator {
    /// Whether it consumes a StatSN.
    pub(super) fn is_status(&self) -> bool {
        !matches!(self, Self::ReadyToTransfer { .. } | Self::NopIn { .. } | Self::Fin)
    }
}

/// A response with its StatSN, or the next one if it consumes none.
pub(super) type Numbered = (u32, ToInitiator);

/// Whose a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) initiator: usize,
    pub(super) connection: usize,
    pub(super) attempt: usize,
}

/// A request on its way to a store.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) gateway: usize,
    pub(super) incarnation: u64,
    pub(super) owner: Owner,
    pub(super) sending: Sending,
    pub(super) layout: u64,
}

/// What was found out about a request when it arrived, which is too early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Early {
    pub(super) is_fresh: bool,
    pub(super) is_fenced: bool,
}

/// What a store says to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    /// What a read found.
    Found(u64),
    Stale,
    NotPrimary,
    Fenced,
    OldLayout,
}

/// A step of a thread of a gateway's process.
#[derive(Debug)]
pub(super) enum Work {
    /// Reads one PDU from a connection.
    Read(usize),
    /// Takes a request's stamp; the clock only if that was read too early.
    TakeStamp(RequestNumber, Owner, Option<Duration>),
    CheckProof(Stamped, Owner),
    Send(Request),
    Overdue(RequestNumber, u32),
    /// A command has taken too long: it is failed.
    OutOfPatience(usize, usize),
    Settle,
    /// The process is killed, and started again.
    Die,
    /// Numbers the responses of a connection.
    Number(usize),
    Write(usize, Vec<Numbered>),
    Written(usize, Vec<Numbered>),
    Ping(usize),
    Reply(Request, Answer, Stamp),
    /// Hears of the ledger's first so many records.
    Learn(usize),
    /// Hears that the last of so many records is in force, for which somebody may wait.
    InForce(usize, Option<Waiter>),
}

/// Something that happens.
#[derive(Debug)]
pub(super) enum Event {
    /// A PDU with its ExpStatSN reaches a gateway's socket.
    ToGateway(usize, u32, ToGateway),
    ToInitiator(usize, Numbered),
    /// Lost with the process, that is with this incarnation; and it waits while that is paused.
    Gateway {
        gateway: usize,
        incarnation: u64,
        work: Work,
    },
    /// A gateway's process listens, if it is the one of this incarnation.
    Listen(usize, u64),
    /// A request reaches its store.
    Arrive(Request),
    /// It has its turn there.
    Execute(Request, Early),
    NewPrimary(usize),
    /// A record reaches the ledger.
    Record(Record, Option<Waiter>),
    /// A store hears of the first so many records.
    StoreLearns {
        store: usize,
        records: usize,
    },
    /// Whether all stores know of so many records.
    Await {
        records: usize,
        waiter: Option<Waiter>,
    },
    NextOperation {
        initiator: usize,
        slot: usize,
    },
    Tick(usize),
    /// A path has been down for the replacement timeout, unless it went down once more since.
    ReplacementTimeout {
        initiator: usize,
        gateway: usize,
        downs: u32,
    },
    /// A path is tried again, unless it failed once more since.
    Reconnect {
        initiator: usize,
        gateway: usize,
        failures: u32,
    },
    /// An initiator gives up a connection, unless it did before.
    Reset {
        initiator: usize,
        gateway: usize,
        failures: u32,
    },
    Fault,
}
