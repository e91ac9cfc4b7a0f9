//! The requests of a gateway that are neither answered nor settled: when each may be sent, and when it has ended.
//!
//! Stores know a request by its number, under which it takes effect once however often it is sent. A send goes through
//! [`UnderWay::take_stamp`], then [`UnderWay::check_proof`]. A store's refusal settles only the send that it answers: an earlier
//! one may still be in a queue. So what was given up has ended when a store says that it is done, or when the newest stamp
//! that any of its sends took has run out.
//!
//! A request also carries the *fence* of its logical unit: the counter that a reset, a preemption or an unmapping raises. It is that
//! of the moment at which the gateway received the command, and goes up only by [`UnderWay::judge`], which lets what is
//! given up go no further. Once no store takes anything of a lower fence any more, what went out under one has ended.
//!
//! There are as many requests as live commands have parts, and those of dropped sessions for [`SETTLE_TIME`]. Stores know
//! numbers by partition, so those of each partition may be kept for themselves.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use huntaway_wire::{NodeId, Stamp};

use super::planted::{Planted, PlantedBug};
use super::{NewestStamp, Proven, SETTLE_TIME};

/// A request's number within one start of a gateway, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestNumber(pub u64);

/// Why a request is given up. It may take effect nevertheless until it has ended, and is never sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GivenUp {
    /// The gateway answers its command with an error.
    Failed,
    /// A task management request ends its command.
    Aborted,
    /// Its session has ended: nobody wants an answer, but whoever logs in next waits.
    Dropped,
}

/// What becomes of a request of a logical unit whose fence was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is of another unit.
    Unconcerned,
    /// Its command may be carried out nevertheless: from here on under the newer fence.
    Stands,
    /// Its command is not to be carried out, unless it was before.
    GivenUp(GivenUp),
}

/// A stamp was taken for a send. What follows: read the clock, then [`UnderWay::check_proof`].
#[derive(Debug)]
#[must_use]
pub struct Stamped {
    number: RequestNumber,
    store: NodeId,
    stamp: Stamp,
}

/// What goes to a store along with a request. No later than this is decided whether it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    /// The request.
    pub number: RequestNumber,
    /// Which send of it this is, counted from 1.
    pub send: u32,
    /// No request with a lower number is under way: stores may forget what became of those, and refuse what comes of them.
    pub lowest: RequestNumber,
    /// Where it goes.
    pub store: NodeId,
    /// The newest stamp of that store.
    pub stamp: Stamp,
    /// The fence of its logical unit when its command was received, or judged last. A store that knows of a newer one refuses it.
    pub fence: u64,
}

/// Whether a request is sent.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It is.
    Send(Sending),
    /// Not before [`UnderWay::proof_is_newer`] names it: the proof is too old.
    WaitForProof,
    /// It is not: it was given up, or has ended.
    Drop,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A store answered it.
    Done,
    /// It was given up and can take no effect any more. Whether it did is not known.
    Settled,
}

/// A request that has ended: what waited for it may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended<O> {
    /// The request.
    pub number: RequestNumber,
    /// Whose it was.
    pub owner: O,
    /// How it ended.
    pub end: End,
    /// Why it was given up, if it was.
    pub given_up: Option<GivenUp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is to be sent; its stamp may have been taken.
    Due,
    /// It waits for a newer proof.
    Unproven,
    /// This send is the last.
    Sent(u32),
    /// A store refused it for its fence: it waits to be judged.
    Fenced,
}

#[derive(Debug)]
struct Request<O> {
    owner: O,
    given_up: Option<GivenUp>,
    phase: Phase,
    sends: u32,
    fence: u64,
    /// The highest fence that a send went out under; 0 before the first one.
    sent_under: u64,
    /// When the newest stamp that it took has run out at its store; `None` if it took none.
    settles_at: Option<Duration>,
}

impl<O> Request<O> {
    fn is_settled(&self, now: Duration) -> bool {
        self.settles_at.is_none_or(|at| now >= at)
    }
}

/// The requests of one start of a gateway that have not ended. `O` says whose each is, such as connection and task.
#[derive(Debug)]
pub struct UnderWay<O> {
    requests: BTreeMap<RequestNumber, Request<O>>,
    last: RequestNumber,
    unproven: Vec<RequestNumber>,
    planted: Planted,
}

impl<O> Default for UnderWay<O> {
    fn default() -> Self {
        Self {
            requests: BTreeMap::new(),
            last: RequestNumber(0),
            unproven: Vec::new(),
            planted: Planted::default(),
        }
    }
}

impl<O: Copy> UnderWay<O> {
    /// Does this wrong from now on.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: Option<PlantedBug>) {
        self.planted = Planted::new(bug);
    }

    /// A new request, to be sent. `fence` is that of its logical unit as the gateway knew it when it received the command and
    /// found that its nexus may send it: not as it is by now.
    pub fn enter(&mut self, owner: O, fence: u64) -> RequestNumber {
        self.last.0 += 1;
        let request = Request {
            owner,
            given_up: None,
            phase: Phase::Due,
            sends: 0,
            fence,
            sent_under: 0,
            settles_at: None,
        };
        self.requests.insert(self.last, request);
        self.last
    }

    /// Whose a request is that has not ended.
    pub fn owner(&self, number: RequestNumber) -> Option<O> {
        self.requests.get(&number).map(|request| request.owner)
    }

    /// The first half of a send: takes the `newest` stamp of `store`. From here on the request counts as under way there,
    /// whatever becomes of the send. `None` if it was given up or has ended.
    pub fn take_stamp(
        &mut self,
        number: RequestNumber,
        store: NodeId,
        newest: NewestStamp,
    ) -> Option<Stamped> {
        let request = self.requests.get_mut(&number)?;
        if request.given_up.is_some() && !self.planted.is(PlantedBug::GivenUpSentAgain) {
            return None;
        }
        let margin =
            if self.planted.is(PlantedBug::SettledWithoutMargin) { Stamp::MAX_AGE } else { SETTLE_TIME };
        request.settles_at = request.settles_at.max(newest.read_at().map(|read_at| read_at + margin));
        Some(Stamped { number, store, stamp: newest.stamp() })
    }

    /// The other half: `proven` is what the request's connection has proved, and `now` was read after [`UnderWay::take_stamp`]
    /// returned. Read before, a stall between the two would send under a young stamp what has an old proof.
    pub fn check_proof(&mut self, stamped: Stamped, proven: Proven, now: Duration) -> Decision {
        let Stamped { number, store, stamp } = stamped;
        let planted = self.planted;
        let lowest = self.requests.keys().next().copied().unwrap_or(number);
        let Some(request) = self.requests.get_mut(&number) else { return Decision::Drop };
        if request.given_up.is_some() && !planted.is(PlantedBug::GivenUpSentAgain) {
            return Decision::Drop;
        }
        let is_proven = proven.is_fresh(now)
            || planted.is(PlantedBug::NoPathProof)
            || (planted.is(PlantedBug::SentAgainWithoutProof) && request.sends > 0);
        if !is_proven {
            request.phase = Phase::Unproven;
            self.unproven.push(number);
            return Decision::WaitForProof;
        }
        request.sends += 1;
        request.phase = Phase::Sent(request.sends);
        let fence = request.fence;
        request.sent_under = request.sent_under.max(fence);
        Decision::Send(Sending { number, send: request.sends, lowest, store, stamp, fence })
    }

    /// There is a newer proof for the requests that are `owned`: those of them that waited for one are to be sent.
    pub fn proof_is_newer(&mut self, owned: impl Fn(&O) -> bool) -> Vec<RequestNumber> {
        if self.unproven.is_empty() {
            return Vec::new();
        }
        let mut due = Vec::new();
        for number in mem::take(&mut self.unproven) {
            match self.requests.get_mut(&number).filter(|request| request.given_up.is_none()) {
                Some(request) if owned(&request.owner) => {
                    request.phase = Phase::Due;
                    due.push(number);
                }
                Some(_) => self.unproven.push(number),
                None => {}
            }
        }
        due
    }

    /// A store refused this send: the request can take no effect by it. Returns whether it is to be sent again, with a
    /// stamp and a proof as the first time.
    #[must_use]
    pub fn refused(&mut self, number: RequestNumber, send: u32) -> bool {
        if let Some(request) = self.requests.get_mut(&number)
            && self.planted.is(PlantedBug::SettledByLastRefusal)
        {
            request.settles_at = None;
        }
        self.is_due_again(number, send)
    }

    /// A store refused this send, which was `under` that fence, since a newer one is known there. Returns whether it is to be sent
    /// again at once: it was judged meanwhile. Otherwise that is for [`UnderWay::judge`] to say, so have the newer fence
    /// looked up.
    #[must_use]
    pub fn fenced(&mut self, number: RequestNumber, send: u32, under: u64) -> bool {
        if let Some(request) = self.requests.get_mut(&number) {
            if self.planted.is(PlantedBug::SettledByFenceRefusal) {
                request.settles_at = None;
            }
            if request.fence == under {
                if request.phase == Phase::Sent(send) {
                    request.phase = Phase::Fenced;
                }
                return false;
            }
        }
        self.is_due_again(number, send)
    }

    /// The fence of a logical unit is this one by now. `verdict` says what becomes of a request with a lower one: whether its
    /// nexus is still there and may send it, and whether whatever raised the fence gave it up. Returns those that are to be
    /// sent again; the others go on as before, or end as what was given up.
    #[must_use]
    pub fn judge(&mut self, fence: u64, verdict: impl Fn(&O, u64) -> Verdict) -> Vec<RequestNumber> {
        let planted = self.planted;
        let mut due = Vec::new();
        for (number, request) in self.requests.iter_mut().filter(|(_, request)| request.fence < fence) {
            match verdict(&request.owner, request.fence) {
                Verdict::Unconcerned => continue,
                Verdict::GivenUp(why) if !planted.is(PlantedBug::NotJudgedAgain) => {
                    request.given_up = request.given_up.max(Some(why));
                    continue;
                }
                Verdict::GivenUp(_) | Verdict::Stands => request.fence = fence,
            }
            let may_go_on = request.given_up.is_none() || planted.is(PlantedBug::GivenUpJudgedToStand);
            if request.phase == Phase::Fenced && may_go_on {
                request.phase = Phase::Due;
                request.given_up = None;
                due.push(*number);
            }
        }
        due
    }

    /// No store takes anything of a lower fence than this one any more, of the logical unit whose requests are `owned`. Ends
    /// what was given up and went out under lower ones only.
    pub fn in_force(&mut self, fence: u64, owned: impl Fn(&O) -> bool) -> Vec<Ended<O>> {
        let is_over = |request: &Request<O>| request.sent_under < fence && owned(&request.owner);
        self.end_given_up(|request, _| is_over(request))
    }

    /// This send has brought no answer for too long. Returns whether the request is to be sent again.
    #[must_use]
    pub fn overdue(&mut self, number: RequestNumber, send: u32) -> bool {
        self.is_due_again(number, send)
    }

    fn is_due_again(&mut self, number: RequestNumber, send: u32) -> bool {
        let resent = self.planted.is(PlantedBug::GivenUpSentAgain);
        let Some(request) = self.requests.get_mut(&number) else { return false };
        let is_due = request.phase == Phase::Sent(send) && (request.given_up.is_none() || resent);
        if is_due {
            request.phase = Phase::Due;
        }
        is_due
    }

    /// A store answered the request, by whichever send. `None` if it has ended before.
    pub fn done(&mut self, number: RequestNumber) -> Option<Ended<O>> {
        let request = self.requests.remove(&number)?;
        Some(Ended { number, owner: request.owner, end: End::Done, given_up: request.given_up })
    }

    /// Gives up the requests that are `owned`, for `why` unless there is a stronger reason already ([`GivenUp`] is in that
    /// order). They are not sent any more, and end by [`UnderWay::done`] or [`UnderWay::settle`].
    pub fn give_up(&mut self, owned: impl Fn(&O) -> bool, why: GivenUp) {
        for request in self.requests.values_mut().filter(|request| owned(&request.owner)) {
            request.given_up = request.given_up.max(Some(why));
        }
        if why == GivenUp::Dropped && self.planted.is(PlantedBug::DroppedAndForgotten) {
            self.requests.retain(|_, request| !owned(&request.owner));
        }
    }

    /// Ends what was given up and can take no effect any more.
    pub fn settle(&mut self, now: Duration) -> Vec<Ended<O>> {
        let planted = self.planted;
        self.end_given_up(|request, why| {
            let is_early = match why {
                GivenUp::Failed => planted.is(PlantedBug::ErrorBeforeSettled),
                GivenUp::Aborted => planted.is(PlantedBug::AbortBeforeSettled),
                GivenUp::Dropped => false,
            };
            is_early || request.is_settled(now)
        })
    }

    /// Ends what was given up and `is_over`.
    fn end_given_up(&mut self, is_over: impl Fn(&Request<O>, GivenUp) -> bool) -> Vec<Ended<O>> {
        let planted = self.planted;
        let mut settled = Vec::new();
        self.requests.retain(|&number, request| {
            let Some(why) = request.given_up else { return true };
            if !is_over(request, why) {
                return true;
            }
            settled.push(Ended { number, owner: request.owner, end: End::Settled, given_up: Some(why) });
            let is_kept = planted.is(PlantedBug::GivenUpSentAgain)
                || planted.is(PlantedBug::GivenUpJudgedToStand) && request.sent_under > 0;
            if is_kept {
                request.given_up = None;
            }
            if planted.is(PlantedBug::GivenUpJudgedToStand) {
                request.phase = Phase::Fenced;
            }
            is_kept
        });
        settled
    }

    /// When [`UnderWay::settle`] next ends something, if nothing is answered or given up before.
    pub fn next_settlement(&self) -> Option<Duration> {
        let given_up = self.requests.values().filter(|request| request.given_up.is_some());
        given_up.map(|request| request.settles_at.unwrap_or_default()).min()
    }

    /// Whether no request that is `owned` is under way. What an initiator waits for is answered only then: a Logout
    /// when none of its connection is, a task management request when none of the tasks that it concerns is, a login when
    /// none of the session in whose place it comes is.
    pub fn is_clear(&self, owned: impl Fn(&O) -> bool) -> bool {
        !self.requests.values().any(|request| owned(&request.owner))
    }
}

#[cfg(test)]
mod tests;
