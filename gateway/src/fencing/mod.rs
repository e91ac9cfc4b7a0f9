//! Fencing: why a command that its initiator has given up never takes effect later, though every gateway serves every LUN.
//!
//! An initiator whose path fails sends its WRITE again through another gateway, and then newer ones. The first gateway may
//! be paused, slow or cut off with the old WRITE in its buffers. Three bounds keep that from ever landing, without an
//! agreement for each command:
//!
//! 1. **Path proof** ([`PathProof`]). A command is sent to a store only while the initiator is known to have held its
//!    session less than [`PROOF_AGE`] ago.
//! 2. **Stamps** ([`Stamp`](huntaway_wire::Stamp)). Before it looks at the clock and the proof, the gateway takes the newest
//!    stamp that it has of the store. The store lets nothing take effect under a stamp of
//!    [`Stamp::MAX_AGE`](huntaway_wire::Stamp::MAX_AGE) or more. So between proof and effect there is no more time than that,
//!    whatever stalls on the way.
//! 3. **Settle before answering** ([`UnderWay`]). Whatever lets the initiator send a command again waits until that command
//!    can take no effect any more: a status, the answer to a task management request, a Logout response, and the next login
//!    of the session. So does a restarted gateway, which does not know what it had sent: it listens only after
//!    [`SETTLE_TIME`].
//!
//! ```text
//!            ┌───────────── refused, or overdue ──────────────┐
//!            ▼                                                │
//!  enter ─► take_stamp ─► (clock) ─► check_proof ─► Send ─► store ─► done: Ended
//!            ▲                             │
//!            └──── proof_is_newer ◄── WaitForProof
//!
//!  give_up: never sent again ─► done, or settle after SETTLE_TIME: Ended
//! ```
//!
//! A reset, a preemption or an unmapping gives up commands of all gateways at once. It is a record of the ledger that raises the
//! *fence* of the logical unit, and is answered when every store knows of that, or is down. A command keeps the fence under
//! which it was received; what a store refuses for that is judged again, and sent again under the newer fence only if its
//! nexus is still there and may send it ([`UnderWay::judge`]).
//!
//! Overlapping writes of a session keep their order also when they are sent again, since a request keeps its turn in
//! [`Order`](crate::order::Order) until it has ended.
//!
//! Pure: no clock, socket or thread. The time handed in is that of one clock, which never goes back and counts while the
//! machine is suspended. Its rate differs from that of a store's or an initiator's clock by a tenth at most.

mod newest_stamp;
mod path_proof;
mod planted;
mod under_way;

use std::time::Duration;

use huntaway_wire::{Stamp, outlasting};
pub use newest_stamp::NewestStamp;
pub use path_proof::{PathProof, Proven};
#[cfg(feature = "planted-bugs")]
pub use planted::PlantedBug;
pub use under_way::{Decision, End, Ended, GivenUp, RequestNumber, Sending, Stamped, UnderWay, Verdict};

/// A command is sent to a store only with a proof younger than this. Twice the interval of pings, so that an idle session
/// has a proof also if an answer takes its time; and short enough for an initiator to fail over soon.
pub const PROOF_AGE: Duration = Duration::from_secs(2);

/// Time between pings of a session, idle or busy; one that is wanted sooner does not follow another within it.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);

/// After this much time since the reply with a stamp was read, no store lets anything take effect under that stamp.
pub const SETTLE_TIME: Duration = outlasting(Stamp::MAX_AGE);

/// A session is dropped after so long without a byte from the initiator or a byte taken by it. Dropping one sooner would
/// protect nobody, for its commands are not sent without a proof; it would only fail what may still succeed.
pub const SILENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use iscsi_target::Limits;

    use super::*;

    #[test]
    fn sessions_are_pinged_and_dropped_as_the_proofs_need_it() {
        let limits = Limits::default();
        assert_eq!((limits.ping_interval, limits.silence), (PING_INTERVAL, SILENCE));
        assert!(PROOF_AGE >= 2 * PING_INTERVAL);
    }
}
