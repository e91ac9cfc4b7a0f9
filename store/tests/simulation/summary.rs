//! What is told of runs.

use std::fmt;

/// A promise that was not kept.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Which, and where.
    pub(crate) what: String,
    /// The steps that led to it, if they were asked for.
    pub(crate) trace: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)
    }
}

/// What happened in runs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) requests: u64,
    pub(crate) refused: u64,
    pub(crate) process_crashes: u64,
    pub(crate) power_losses: u64,
    pub(crate) deaths: u64,
    pub(crate) flips: u64,
    pub(crate) misdirections: u64,
    pub(crate) stale_images: u64,
    pub(crate) damaged_blocks: u64,
    pub(crate) refused_openings: u64,
    pub(crate) disk_operations: u64,
    pub(crate) fingerprint: u64,
}

impl Summary {
    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.process_crashes += other.process_crashes;
        self.power_losses += other.power_losses;
        self.deaths += other.deaths;
        self.flips += other.flips;
        self.misdirections += other.misdirections;
        self.stale_images += other.stale_images;
        self.damaged_blocks += other.damaged_blocks;
        self.refused_openings += other.refused_openings;
        self.disk_operations += other.disk_operations;
    }

    /// Whether each kind of thing that can happen did.
    pub(crate) fn is_varied(&self) -> bool {
        let crashes = [self.refused, self.process_crashes, self.power_losses, self.deaths];
        let damage = [self.flips, self.misdirections, self.stale_images, self.damaged_blocks];
        crashes.iter().chain(&damage).chain([&self.refused_openings]).all(|count| *count > 0)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests ({} refused), {} process crashes, {} power losses, {} of both in the middle of something, \
             {} bits flipped, {} writes misdirected, {} stale images put back: {} blocks and {} openings refused for \
             damage; {} disk operations",
            self.requests,
            self.refused,
            self.process_crashes,
            self.power_losses,
            self.deaths,
            self.flips,
            self.misdirections,
            self.stale_images,
            self.damaged_blocks,
            self.refused_openings,
            self.disk_operations
        )
    }
}
