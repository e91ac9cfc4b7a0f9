//! How busy clients are. Mostly each goes its own way; at decisive moments all of them hurry to one place, or only look.

use super::event::Event;
use super::operation::{At, What};
use super::{Cluster, MS};
use crate::clock::Time;

/// What clients want for a while.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Mood {
    /// Each what it likes.
    #[default]
    Usual,
    /// All want one block. They write it by way of gateways that know what is going on, and read it also through one that
    /// does not.
    Rush { until: Time, at: At, stale_gateway: usize },
    /// They only read.
    Lull { until: Time },
    /// They do nothing.
    Still { until: Time },
}

impl Cluster {
    fn mood(&self) -> Mood {
        match self.mood {
            Mood::Rush { until, .. } | Mood::Lull { until } | Mood::Still { until } if until < self.time => {
                Mood::Usual
            }
            mood => mood,
        }
    }

    /// What the client wants next, and by which path.
    pub(crate) fn wish(&mut self, client: usize) -> What {
        let (mood, gateways) = (self.mood(), self.shape.gateways);
        let snapshots = self.histories.snapshots.len();
        let random = &mut self.random;
        let what = match mood {
            Mood::Usual | Mood::Still { .. } => {
                if self.habits.roams {
                    self.clients[client].gateway = random.index(gateways);
                }
                let reads = random.percent(self.habits.reads_instead_percent);
                let what = What::draw(&self.shape, snapshots, random);
                if random.percent(self.habits.flushes_instead_percent) {
                    What::Flush { partition: what.partition() }
                } else if reads {
                    what.into_read()
                } else {
                    what
                }
            }
            Mood::Rush { at, stale_gateway, .. } => {
                let is_stale = random.percent(50);
                let other = (stale_gateway + 1 + random.index(gateways - 1)) % gateways;
                self.clients[client].gateway = if is_stale { stale_gateway } else { other };
                What::of_block(at, is_stale || random.percent(30))
            }
            Mood::Lull { .. } => {
                self.clients[client].gateway = random.index(gateways);
                What::draw(&self.shape, snapshots, random).into_read()
            }
        };
        self.perhaps_of_clone(what)
    }

    /// How long the client does nothing, in microseconds.
    pub(crate) fn pause_between(&mut self, client: usize) -> Time {
        let longest = match self.mood() {
            Mood::Usual | Mood::Still { .. } => self.clients[client].longest_pause,
            Mood::Rush { .. } => 25 * MS,
            Mood::Lull { .. } => 150 * MS,
        };
        1 + self.random.below(longest)
    }

    /// How long clients do nothing from now on.
    pub(crate) fn stillness(&self) -> Option<Time> {
        if let Mood::Still { until } = self.mood() { Some(until - self.time) } else { None }
    }

    /// All clients hurry for a while, from now on.
    pub(crate) fn rush(&mut self, partition: u16, stale_gateway: usize, longest: Time) {
        let object = self.random.below(self.shape.objects.into()) as u32;
        let block = self.random.below(self.shape.blocks.into()) as u32;
        let until = self.time + longest;
        let at = self.shape.at(partition, object, block);
        self.mood = Mood::Rush { until, at, stale_gateway };
        self.wake_clients();
    }

    /// All clients only read for a while, from now on.
    pub(crate) fn lull(&mut self, longest: Time) {
        self.mood = Mood::Lull { until: self.time + longest };
        self.wake_clients();
    }

    fn wake_clients(&mut self) {
        for client in 0..self.clients.len() {
            if self.clients[client].is_idle() {
                self.client_goes_on_in(client, MS);
            }
        }
    }

    /// The client's next turn is after so long, and not when it was to be before.
    pub(crate) fn client_goes_on_in(&mut self, client: usize, after: Time) {
        let state = &mut self.clients[client];
        state.turn += 1;
        let turn = state.turn;
        self.at(after, Event::ClientNext { client, turn });
    }
}
