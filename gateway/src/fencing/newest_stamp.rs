//! The newest stamp that a gateway has of a store. Requests of all partitions take it from there.

use std::time::Duration;

use huntaway_wire::Stamp;

/// Of one store: its newest stamp, and when the reply with it was read. None before its first reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NewestStamp(Option<Noted>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Noted {
    stamp: Stamp,
    read_at: Duration,
}

impl NewestStamp {
    /// Takes note of the stamp of any reply. `read_at` is the time after the reply was read from its socket.
    pub fn note(&mut self, stamp: Stamp, read_at: Duration) {
        if self.0.is_none_or(|noted| stamp > noted.stamp) {
            self.0 = Some(Noted { stamp, read_at });
        }
    }

    /// What goes along with a request.
    pub fn stamp(&self) -> Stamp {
        self.0.map_or(Stamp::NONE, |noted| noted.stamp)
    }

    /// When the reply was read.
    pub(super) fn read_at(&self) -> Option<Duration> {
        self.0.map(|noted| noted.read_at)
    }
}

#[cfg(test)]
mod tests {
    use huntaway_wire::Incarnation;

    use super::*;

    #[test]
    fn of_two_replies_the_one_with_the_newer_stamp_counts_whichever_came_last() {
        let stamp = |clock| Stamp { incarnation: Incarnation(1), clock: Duration::from_millis(clock) };
        let mut newest = NewestStamp::default();
        assert_eq!((newest.stamp(), newest.read_at()), (Stamp::NONE, None));
        newest.note(stamp(50), Duration::from_secs(1));
        newest.note(stamp(40), Duration::from_secs(2));
        newest.note(stamp(50), Duration::from_secs(3));
        assert_eq!((newest.stamp(), newest.read_at()), (stamp(50), Some(Duration::from_secs(1))));
    }
}
