//! Scrubbing: the primary has one object after the other read again on all in-sync replicas, a few at a time, at a given pace.
//! What differs or is damaged is mended; see [`crate::mending`].

use std::collections::{BTreeMap, BTreeSet};

use huntaway_wire::{BLOCK_SIZE_BYTES, Oid};

use crate::event::Page;
use crate::message::Lesson;
use crate::pace::Pace;
use crate::process::Process;
use crate::resend::Resend;
use crate::site::Site;

/// Objects that are listed at a time.
const OBJECTS_AT_A_TIME: usize = 4;

/// Where a primary is on its way through the objects of its partition.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    /// The last object that was read; `None` at the beginning.
    after: Option<Oid>,
    listing: Option<Listing>,
    /// The last objects of this pass are being read.
    is_ending: bool,
    /// How often it went through all objects since the pepoch began.
    pub(crate) passes: u64,
    pace: Pace,
    /// What was read when the pace was reckoned.
    blocks: u64,
}

/// Which objects come next, on each replica.
#[derive(Debug)]
struct Listing {
    number: u64,
    pages: BTreeMap<Process, Page>,
    asked: BTreeSet<Process>,
    resend: Resend,
}

impl Scrub {
    /// The next object is the first one again; what is under way counts for nothing.
    pub(crate) fn begin_anew(&mut self) {
        (self.after, self.listing, self.is_ending) = (None, None, false);
    }

    /// Whether no objects are listed or read, and no pass ends.
    pub(crate) fn is_between_objects(&self) -> bool {
        self.listing.is_none() && !self.is_ending
    }

    /// Whether more may be read by now, after `blocks` were read in all.
    fn may_read(&mut self, site: &Site, blocks: u64) -> bool {
        let spent_bytes = (blocks - self.blocks) * u64::from(BLOCK_SIZE_BYTES);
        self.blocks = blocks;
        self.pace.is_open(site.now, site.scrub_bytes_per_second, spent_bytes)
    }

    /// When nothing is left to mend: has the next objects listed, if it is time. Returns who is to be asked what, as `number`.
    pub(crate) fn next(
        &mut self,
        site: &Site,
        blocks: u64,
        number: impl FnOnce() -> u64,
    ) -> Option<(u64, Vec<Process>, Lesson)> {
        let may_read = self.may_read(site, blocks);
        if let Some(listing) = &mut self.listing {
            let is_late = listing.resend.is_due(site.now);
            // The own store was asked and answers.
            let again = listing.asked.iter().filter(|process| **process != site.me).copied().collect();
            return is_late.then_some((listing.number, again, self.lesson()));
        }
        if std::mem::take(&mut self.is_ending) {
            self.passes += 1;
        }
        if !may_read || site.scrub_bytes_per_second == 0 {
            return None;
        }
        let all = site.configuration.in_sync.clone();
        let (number, asked, resend) = (number(), all.iter().copied().collect(), Resend::new(site.now));
        self.listing = Some(Listing { number, pages: BTreeMap::new(), asked, resend });
        Some((number, all, self.lesson()))
    }

    fn lesson(&self) -> Lesson {
        Lesson::Digests { after: self.after, most: OBJECTS_AT_A_TIME }
    }

    /// A replica could not tell: all of them are asked anew.
    pub(crate) fn failed(&mut self, number: u64) {
        self.listing.take_if(|listing| listing.number == number);
    }

    /// Takes in what a replica has; returns the objects to read, once all have told.
    pub(crate) fn listed(&mut self, from: Process, number: u64, page: Page) -> Vec<Oid> {
        let Some(listing) = self.listing.as_mut().filter(|listing| listing.number == number) else {
            return Vec::new();
        };
        if listing.asked.remove(&from) {
            listing.pages.insert(from, page);
        }
        if !listing.asked.is_empty() {
            return Vec::new();
        }
        let Some(Listing { pages, .. }) = self.listing.take() else { return Vec::new() };
        let end = |page: &Page| if page.is_last { None } else { page.objects.last().map(|(oid, _)| *oid) };
        // A page says nothing of what comes after its last object.
        let covered = pages.values().filter_map(end).min();
        let all: BTreeSet<Oid> = pages.values().flat_map(|page| &page.objects).map(|(oid, _)| *oid).collect();
        (self.after, self.is_ending) = (covered, covered.is_none());
        all.into_iter().filter(|oid| covered.is_none_or(|covered| *oid <= covered)).collect()
    }
}
