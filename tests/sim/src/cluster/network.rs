//! The network: late, lossy, and cut now and then, also in one direction only.

use std::sync::Arc;

use huntaway_replica::{Body, Change, Lesson, Message, Record, Reply};

use super::Endpoint;
use super::block::flip;
use crate::Random;
use crate::clock::Time;

/// Who reaches whom, and how fast.
pub(crate) struct Network {
    /// Endpoints of different sides do not reach each other.
    side: Vec<bool>,
    /// The first does not reach the second.
    blocked: Vec<(Endpoint, Endpoint)>,
    /// What messages from an endpoint take more, in microseconds.
    pub(crate) slow: Vec<Time>,
    /// What messages from the first to the second take more, in microseconds.
    slow_links: Vec<(Endpoint, Endpoint, Time)>,
    /// Until then an endpoint does not hear what the ledger has to say.
    pub(crate) late_news: Vec<Time>,
    lost_percent: u64,
    late_percent: u64,
    repeated_percent: u64,
    /// In ten thousand.
    damaged: u64,
    /// How often it has changed.
    pub(crate) changes: u64,
}

/// What becomes of a message: when its copies arrive, and whether they are as they were sent.
pub(crate) struct Passage {
    pub(crate) after: Vec<Time>,
    pub(crate) is_damaged: bool,
}

impl Network {
    pub(crate) fn new(endpoints: usize, random: &mut Random) -> Self {
        Self {
            side: vec![false; endpoints],
            blocked: Vec::new(),
            slow: vec![0; endpoints],
            slow_links: Vec::new(),
            late_news: vec![0; endpoints],
            lost_percent: [0, 1, 10][random.below(3) as usize],
            late_percent: [0, 2, 10][random.below(3) as usize],
            repeated_percent: [0, 2, 20][random.below(3) as usize],
            damaged: random.pick(&[0, 0, 100, 500]),
            changes: 0,
        }
    }

    pub(crate) fn reaches(&self, from: Endpoint, to: Endpoint) -> bool {
        self.side[from] == self.side[to] && !self.blocked.contains(&(from, to))
    }

    pub(crate) fn pass(&self, from: Endpoint, to: Endpoint, random: &mut Random) -> Passage {
        let copies = 1 + u64::from(random.percent(self.repeated_percent));
        let copies = if self.reaches(from, to) && !random.percent(self.lost_percent) { copies } else { 0 };
        let is_link = |link: &&(Endpoint, Endpoint, Time)| (link.0, link.1) == (from, to);
        let slow = self.slow[from] + self.slow_links.iter().find(is_link).map_or(0, |link| link.2);
        let mut delay = || {
            let late = if random.percent(self.late_percent) { random.below(400_000) } else { 0 };
            100 + random.below(400) + late + slow
        };
        let after = (0..copies).map(|_| delay()).collect();
        Passage { after, is_damaged: random.below(10_000) < self.damaged }
    }

    pub(crate) fn split(&mut self, side: Vec<bool>) {
        self.side = side;
        self.changes += 1;
    }

    pub(crate) fn block(&mut self, from: Endpoint, to: Endpoint) {
        self.blocked.push((from, to));
        self.changes += 1;
    }

    pub(crate) fn slow_link(&mut self, from: Endpoint, to: Endpoint, by: Time) {
        self.slow_links.push((from, to, by));
        self.changes += 1;
    }

    pub(crate) fn reconnect(&mut self) {
        self.side.fill(false);
        self.blocked.clear();
        self.changes += 1;
    }

    /// What an endpoint sends is fast again.
    pub(crate) fn quicken(&mut self, from: Endpoint) {
        self.slow[from] = 0;
        self.slow_links.retain(|link| link.0 != from);
    }

    /// From here on the network does what it should.
    pub(crate) fn mend(&mut self) {
        self.reconnect();
        self.slow.fill(0);
        self.slow_links.clear();
        self.late_news.fill(0);
        (self.lost_percent, self.late_percent, self.repeated_percent, self.damaged) = (0, 0, 0, 0);
    }
}

/// The message as it arrives when a bit of its data flips on the way.
pub(super) fn damaged(message: &Message) -> Message {
    let mut message = message.clone();
    match &mut message.body {
        Body::Forward { record, .. } => flip_written(record),
        Body::Gathered { records } | Body::RollForward { records } => {
            records.iter_mut().for_each(flip_written);
        }
        Body::Ask { lesson: Lesson::Copy { blocks, .. }, .. } => {
            flip(Arc::make_mut(blocks).iter_mut().find_map(|copied| copied.stored.content.as_mut()));
        }
        Body::Reply { reply: Reply::Blocks(blocks), .. } => {
            flip(blocks.iter_mut().find_map(|stored| stored.content.as_mut()));
        }
        _ => {}
    }
    message
}

fn flip_written(record: &mut Arc<Record>) {
    if let Change::Write { blocks, .. } = &mut Arc::make_mut(record).change {
        flip(blocks.iter_mut().flatten().next());
    }
}
