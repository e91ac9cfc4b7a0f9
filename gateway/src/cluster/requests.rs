//! The requests for one partition that have not ended: which of them are sent when, and what becomes of them. Nothing here waits,
//! and nothing is sent: whoever has the lock on this is told what to send when the lock is gone, for a store in this process may
//! answer at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use huntaway_wire::replicated::{self, Command, Refused, RequestId};
use huntaway_wire::{Answer, ByteRange, Error, Pepoch, Process, Refusal, Vid};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::asker::{Asker, Owner};
use super::command;
use super::proof::Proof;
use super::table::{Table, Target};
use super::way::Way;
use crate::fencing::{Decision, Ended, GivenUp, Proven, RequestNumber, UnderWay, Verdict};
use huntaway_wire::clock;

/// A command is tried so long. In the meantime a primary can be replaced; an initiator waits for longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// What was not answered is sent again after this.
pub(super) const RESEND: Duration = Duration::from_millis(500);

/// What a store has no use for now is sent again after this.
pub(super) const RETRY: Duration = Duration::from_millis(50);

/// A stamp that was too old is replaced at once so many times; after that, after [`RETRY`].
const QUICK_STAMPS: u32 = 2;

/// Of one partition.
#[derive(Default)]
pub(super) struct Requests {
    under_way: UnderWay<Owner>,
    outstanding: BTreeMap<RequestNumber, Outstanding>,
    /// The number of the table whose fences were looked at last.
    judged: u64,
    /// Changes that were answered.
    changes: u64,
    /// So many of them are on stable storage; `None` as long as it is not known what the process before this one left.
    flushed: Option<u64>,
}

/// What a request is to do, and for whom.
pub(super) struct Asked {
    pub(super) asker: Arc<Asker>,
    pub(super) command: Command,
    /// The bytes that are wanted of a read.
    pub(super) read: Option<ByteRange>,
    pub(super) reply: oneshot::Sender<Answer>,
}

struct Outstanding {
    asked: Asked,
    entered_at: Duration,
    /// The changes that were answered then, which it covers if it is a flush.
    covers: u64,
    last: Option<Sent>,
    /// When it is sent again although it waits for no answer.
    again_at: Option<Duration>,
    old_stamps: u32,
    /// Why it fails, if it does.
    failure: Option<Error>,
}

/// The last send of a request.
#[derive(Clone, Copy)]
struct Sent {
    send: u32,
    to: Process,
    pepoch: Pepoch,
    fence: u64,
    at: Duration,
}

/// What is to be done about a send, without a lock.
pub(super) enum Prepared {
    Send(Arc<Way>, replicated::Request),
    /// It is sent when there is a newer proof than this one.
    Wait(Arc<Proof>, Proven),
    Nothing,
}

/// An answer for whoever waits for it.
pub(super) struct Finished(oneshot::Sender<Answer>, Answer);

impl Finished {
    /// Whoever waited may be gone.
    pub(super) fn tell(self) {
        let Self(reply, answer) = self;
        let _ = reply.send(answer);
    }
}

/// What comes of something that happened.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) finished: SmallVec<[Finished; 1]>,
    /// To be sent now.
    pub(super) due: SmallVec<[RequestNumber; 1]>,
}

impl Requests {
    pub(super) fn is_empty(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// The changes of this gateway so far, unless all of them were flushed, as far as it knows.
    pub(super) fn unflushed(&self) -> Option<u64> {
        (self.flushed != Some(self.changes)).then_some(self.changes)
    }

    /// So many changes were flushed, as [`Requests::unflushed`] counted them before.
    pub(super) fn is_flushed(&mut self, changes: u64) {
        self.flushed = self.flushed.max(Some(changes));
    }

    /// A new request, to be sent. `fence` is that under which its command was received.
    pub(super) fn enter(&mut self, asked: Asked, fence: u64) -> RequestNumber {
        let number = self.under_way.enter(asked.asker.owner(), fence);
        let entered_at = clock::now();
        let covers = self.changes;
        let outstanding = Outstanding {
            asked,
            entered_at,
            covers,
            last: None,
            again_at: None,
            old_stamps: 0,
            failure: None,
        };
        self.outstanding.insert(number, outstanding);
        number
    }

    /// Decides about a send: first the store's newest stamp, then the clock, then the proof.
    pub(super) fn prepare(
        &mut self,
        number: RequestNumber,
        gateway: Process,
        to: Option<(&Arc<Way>, Pepoch)>,
        table: &Table,
    ) -> Prepared {
        let Some(request) = self.outstanding.get_mut(&number) else { return Prepared::Nothing };
        let target = table.target(request.asked.asker.disk());
        let (Some((way, pepoch)), Some(Target { vid, layout, .. })) = (to, target) else {
            request.again_at = Some(clock::now() + RETRY);
            return Prepared::Nothing;
        };
        request.again_at = None;
        let Some(stamped) = self.under_way.take_stamp(number, way.process.node, way.newest()) else {
            return Prepared::Nothing;
        };
        let now = clock::now();
        let proven = request.asked.asker.proven(now);
        match self.under_way.check_proof(stamped, proven, now) {
            Decision::Send(sending) => {
                let fence = sending.fence;
                request.last = Some(Sent { send: sending.send, to: way.process, pepoch, fence, at: now });
                let sent = replicated::Request {
                    id: RequestId { gateway, number: sending.number.0 },
                    resend: sending.send,
                    unanswered_from: sending.lowest.0,
                    pepoch,
                    stamp: sending.stamp,
                    layout,
                    fence,
                    command: command::to_version(&request.asked.command, vid),
                };
                Prepared::Send(Arc::clone(way), sent)
            }
            Decision::WaitForProof => match request.asked.asker.proof() {
                Some(proof) => Prepared::Wait(Arc::clone(proof), proven),
                None => Prepared::Nothing,
            },
            Decision::Drop => Prepared::Nothing,
        }
    }

    /// The initiator of a connection proved something newer: what waited for that.
    pub(super) fn proof_is_newer(&mut self, connection: u64) -> Vec<RequestNumber> {
        self.under_way.proof_is_newer(|owner| owner.connection == Some(connection))
    }

    /// A store answered a send.
    pub(super) fn answered(
        &mut self,
        number: RequestNumber,
        send: u32,
        answer: replicated::Answer,
        table: &Table,
    ) -> Effects {
        let Some(request) = self.outstanding.get_mut(&number) else { return Effects::default() };
        let Asked { command, read, .. } = &request.asked;
        match answer {
            replicated::Answer::Refused(refused) => self.refused(number, send, refused, table),
            replicated::Answer::Damaged if command::is_read(command) => {
                let damaged = command::damaged(command);
                self.done(number, Err(damaged))
            }
            // An earlier send may be on its way, so there is no answer before none of them can have an effect.
            replicated::Answer::Damaged => {
                let damaged = command::damaged(command);
                self.fail(number, damaged)
            }
            answer => match command::reply(answer, command, *read) {
                Some(reply) => self.done(number, Ok(reply)),
                None => {
                    if self.under_way.refused(number, send) {
                        request.again_at = Some(clock::now() + RETRY);
                    }
                    Effects::default()
                }
            },
        }
    }

    fn done(&mut self, number: RequestNumber, answer: Answer) -> Effects {
        let mut effects = Effects::default();
        if self.under_way.done(number).is_some()
            && let Some(request) = self.outstanding.remove(&number)
        {
            if request.asked.command == Command::Flush && answer.is_ok() {
                self.flushed = self.flushed.max(Some(request.covers));
            } else if !command::is_read(&request.asked.command) {
                self.changes += 1;
            }
            effects.finished.push(Finished(request.asked.reply, answer));
        }
        effects
    }

    fn refused(&mut self, number: RequestNumber, send: u32, refused: Refused, table: &Table) -> Effects {
        let Some(request) = self.outstanding.get_mut(&number) else { return Effects::default() };
        let mut effects = Effects::default();
        let now = clock::now();
        match refused {
            Refused::NoSpace => return self.fail(number, Refusal::NoSpace { needed_bytes: 0 }.into()),
            Refused::Fenced => {
                let Some(last) = request.last.filter(|last| last.send == send) else { return effects };
                if self.under_way.fenced(number, send, last.fence) {
                    effects.due.push(number);
                } else {
                    self.judge(table, &mut effects);
                }
            }
            Refused::OldStamp => {
                if self.under_way.refused(number, send) {
                    request.old_stamps += 1;
                    if request.old_stamps <= QUICK_STAMPS {
                        effects.due.push(number);
                    } else {
                        request.again_at = Some(now + RETRY);
                    }
                }
            }
            Refused::NotServing
            | Refused::OtherPepoch { .. }
            | Refused::Late
            | Refused::OldLayout
            | Refused::Unsound => {
                if self.under_way.refused(number, send) {
                    request.again_at = Some(now + RETRY);
                }
            }
        }
        effects
    }

    /// The command of this request fails, when it can take no effect any more.
    fn fail(&mut self, number: RequestNumber, error: Error) -> Effects {
        let mut effects = Effects::default();
        if let Some(request) = self.outstanding.get_mut(&number) {
            request.failure.get_or_insert(error);
            let owner = request.asked.asker.owner();
            self.give_up(owner, GivenUp::Failed, &mut effects);
        }
        effects
    }

    /// Gives up the requests of a command.
    pub(super) fn give_up(&mut self, owner: Owner, why: GivenUp, effects: &mut Effects) {
        self.under_way.give_up(|other| *other == owner, why);
        self.settle(clock::now(), effects);
    }

    /// Ends what was given up and can take no effect any more.
    fn settle(&mut self, now: Duration, effects: &mut Effects) {
        for Ended { number, .. } in self.under_way.settle(now) {
            if let Some(Outstanding { asked, failure, .. }) = self.outstanding.remove(&number) {
                let failure = failure.unwrap_or(Refusal::NotServing.into());
                effects.finished.push(Finished(asked.reply, Err(failure)));
            }
        }
    }

    /// What initiators asked for under an older fence than the ledger's is given up: what came before it, and what after it, nobody
    /// can tell. What the gateway itself wants goes on, unless it is of a disk that is deleted: nobody takes that any more.
    fn judge(&mut self, table: &Table, effects: &mut Effects) {
        let mut fences: SmallVec<[(Vid, u64); 2]> = SmallVec::new();
        let mut gone: SmallVec<[Owner; 2]> = SmallVec::new();
        for request in self.outstanding.values_mut() {
            let asker = &request.asked.asker;
            let Some(Target { fence, .. }) = table.target(asker.disk()) else {
                // One that was never sent may be of a disk that this table does not know yet.
                if request.last.is_some() {
                    gone.push(asker.owner());
                    request.failure.get_or_insert(Refusal::NotServing.into());
                }
                continue;
            };
            if fences.iter().all(|(disk, _)| *disk != asker.disk()) {
                fences.push((asker.disk(), fence));
            }
            if asker.proof().is_some() && asker.fence() < fence {
                request.failure.get_or_insert(Refusal::GivenUp.into());
            }
        }
        for (disk, fence) in fences {
            let verdict = |owner: &Owner, _| match owner {
                owner if owner.disk != disk => Verdict::Unconcerned,
                Owner { connection: None, .. } => Verdict::Stands,
                _ => Verdict::GivenUp(GivenUp::Failed),
            };
            effects.due.extend(self.under_way.judge(fence, verdict));
        }
        if !gone.is_empty() {
            self.under_way.give_up(|owner| gone.contains(owner), GivenUp::Failed);
        }
        self.settle(clock::now(), effects);
    }

    /// Looks what is due. `to` is where the partition's requests go by now; when the cluster `is_lost`, all of them fail.
    pub(super) fn tick(&mut self, to: Option<(&Arc<Way>, Pepoch)>, table: &Table, is_lost: bool) -> Effects {
        let mut effects = Effects::default();
        if self.judged != table.number() {
            self.judged = table.number();
            self.judge(table, &mut effects);
        }
        let now = clock::now();
        let mut late: SmallVec<[Owner; 2]> = SmallVec::new();
        for (number, request) in &mut self.outstanding {
            if is_lost || now >= request.entered_at + PATIENCE {
                request.failure.get_or_insert(Refusal::Unavailable.into());
                late.push(request.asked.asker.owner());
            } else if let Some(at) = request.again_at {
                if at <= now {
                    effects.due.push(*number);
                }
            } else if let Some(last) = request.last {
                let has_moved =
                    to.is_some_and(|(way, pepoch)| (way.process, pepoch) != (last.to, last.pepoch));
                if (has_moved || now >= last.at + RESEND) && self.under_way.overdue(*number, last.send) {
                    effects.due.push(*number);
                }
            }
        }
        for owner in late {
            self.under_way.give_up(|other| *other == owner, GivenUp::Failed);
        }
        self.settle(now, &mut effects);
        effects
    }

    /// All requests are that much older.
    #[cfg(test)]
    pub(super) fn grow_old(&mut self, by: Duration) {
        self.outstanding
            .values_mut()
            .for_each(|request| request.entered_at = request.entered_at.saturating_sub(by));
    }
}
