//! When every in-sync replica may have lost acknowledged writes: the primary takes the newest version of every block that any
//! of them has, and then asks the ledger to go on with what it has. The others learn from it, like any learner.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use huntaway_wire::{Oid, Version};

use crate::compared::differing;
use crate::configuration::SetChange;
use crate::event::{Outcome, Page, Verified};
use crate::message::{Attempt, Body, Lesson, Reply};
use crate::planted::PlantedBug;
use crate::process::Process;
use crate::record::{CopiedBlock, Entry, Stored};
use crate::requests::Requests;
use crate::resend::Resend;
use crate::site::{Pending, Site};
use crate::teaching::PAGE_OBJECTS;

/// The only attempt of a primary to collect: it goes on until it is done.
const ATTEMPT: Attempt = 1;

/// What it asks of its own store: one thing at a time.
const OWN_SIDE: Pending = Pending::OwnSide { attempt: ATTEMPT, count: 0 };

/// A primary that collects from one replica after the other. All of them have to answer, but for those
/// whose log is damaged: what that brings back may have been replaced long ago, or removed.
#[derive(Debug)]
pub(crate) struct Collecting {
    /// The replica at hand, and those after it.
    sources: VecDeque<Process>,
    step: u64,
    asked: Option<Lesson>,
    /// The own store could not tell just then. It answers at once, so it is asked again when time has gone by.
    own_failed: bool,
    resend: Resend,
    requests: Requests,
    phase: Phase,
    queue: VecDeque<Oid>,
    next_page: Option<Option<Oid>>,
}

#[derive(Debug)]
enum Phase {
    /// This replica gave its word to the last primary.
    Bound,
    Requests,
    Listing {
        own: Option<Page>,
        theirs: Option<Page>,
    },
    Comparing {
        oid: Oid,
        /// With whether it is missing here as a whole, and nothing is known of it.
        own: Option<(Versions, bool)>,
        /// With whether it is missing there: what is known of it is not all there was.
        theirs: Option<(Versions, bool)>,
    },
    /// Blocks that are newer there are on their way.
    Fetching {
        oid: Oid,
        blocks: BTreeMap<u32, Version>,
        is_whole: bool,
    },
    /// They go to the log.
    Logging {
        oid: Oid,
    },
    /// There was no room for them.
    Crowded,
    Syncing,
    Collected,
}

type Versions = Vec<(u32, Version)>;

impl Collecting {
    pub(crate) fn new(site: &Site) -> Self {
        let configuration = &site.configuration;
        let mut sources: VecDeque<Process> = if site.has(PlantedBug::DamagedCollected) {
            configuration.in_sync.iter().copied().collect()
        } else {
            configuration.sources().collect()
        };
        sources.retain(|process| *process != site.me);
        Self {
            sources,
            step: 0,
            asked: None,
            own_failed: false,
            resend: Resend::new(site.now),
            requests: site.requests.clone(),
            phase: Phase::Bound,
            queue: VecDeque::new(),
            next_page: Some(None),
        }
    }

    pub(crate) fn tick(&mut self, site: &mut Site) {
        match &self.phase {
            _ if !std::mem::take(&mut self.own_failed) => {}
            Phase::Listing { own: None, .. } => {
                site.digests(self.next_page.flatten(), PAGE_OBJECTS, OWN_SIDE);
            }
            Phase::Comparing { oid, own: None, .. } => site.versions(*oid, OWN_SIDE),
            _ => {}
        }
        match self.phase {
            Phase::Bound if !site.is_bound_against(site.me) => self.next_source(site),
            Phase::Collected => site.propose(SetChange::Collected),
            Phase::Crowded => self.next_object(site),
            _ if self.resend.is_due(site.now) => self.send_lesson(site),
            _ => {}
        }
    }

    fn next_source(&mut self, site: &mut Site) {
        (self.step, self.next_page) = (0, Some(None));
        if self.sources.is_empty() {
            self.phase = Phase::Syncing;
            let (requests, settled) = (self.requests.clone(), site.doubt.settled());
            site.requests = requests.clone();
            let known = Entry::Known { requests: Arc::new(requests), settled, in_doubt: Vec::new() };
            site.log(known, Pending::Nothing);
            site.sync(OWN_SIDE);
        } else {
            self.phase = Phase::Requests;
            self.ask(site, Lesson::Requests);
        }
    }

    fn ask(&mut self, site: &mut Site, lesson: Lesson) {
        self.step += 1;
        self.asked = Some(lesson);
        self.resend = Resend::new(site.now);
        self.send_lesson(site);
    }

    fn send_lesson(&mut self, site: &mut Site) {
        if let (Some(lesson), Some(source)) = (self.asked.clone(), self.sources.front()) {
            site.send(*source, Body::Ask { attempt: ATTEMPT, step: self.step, lesson });
        }
    }

    pub(crate) fn reply(
        &mut self,
        site: &mut Site,
        from: Process,
        attempt: Attempt,
        step: u64,
        reply: Reply,
    ) {
        let is_expected = self.sources.front() == Some(&from) && (attempt, step) == (ATTEMPT, self.step);
        // What was damaged on the way is asked for again.
        let is_sound = match &reply {
            Reply::Blocks(stored) => stored.iter().all(Stored::is_sound),
            Reply::Damaged(stored) => stored.iter().flatten().all(Stored::is_sound),
            _ => true,
        };
        if !is_expected || !is_sound {
            return;
        }
        let Some(asked) = self.asked.take() else { return };
        match (&mut self.phase, reply) {
            // It is asked again in a moment.
            (_, Reply::Failed) => {
                (self.step, self.asked, self.resend) = (self.step + 1, Some(asked), Resend::new(site.now));
            }
            (Phase::Fetching { .. }, Reply::Damaged(stored)) => self.fetched(site, stored),
            (Phase::Requests, Reply::Requests(requests)) => {
                self.requests.merge(&requests);
                self.list(site);
            }
            (Phase::Listing { theirs, .. }, Reply::Digests(page)) => {
                *theirs = Some(page);
                self.compare_pages(site);
            }
            (Phase::Comparing { theirs, .. }, Reply::Versions(versions)) => {
                *theirs = Some((versions, false));
                self.compare_object(site);
            }
            // What was flushed is on stable storage of each of them, so another one has the rest, or it is lost.
            (Phase::Comparing { theirs, .. }, Reply::Missing(known)) => {
                *theirs = Some((versions(&known), true));
                self.compare_object(site);
            }
            (Phase::Fetching { .. }, Reply::Blocks(stored)) => {
                self.fetched(site, stored.into_iter().map(Some).collect());
            }
            // That is no answer to what was asked.
            _ => self.asked = Some(asked),
        }
    }

    /// Takes what is newer there into the own log.
    fn fetched(&mut self, site: &mut Site, stored: Vec<Option<Stored>>) {
        let Phase::Fetching { oid, blocks, is_whole } = &self.phase else { return };
        let (oid, blocks) = (*oid, Arc::new(fetched(blocks, &stored)));
        let entry = if *is_whole { Entry::Replace { oid, blocks } } else { Entry::Copy { oid, blocks } };
        self.phase = Phase::Logging { oid };
        site.log(entry, OWN_SIDE);
    }

    pub(crate) fn own_side(&mut self, site: &mut Site, outcome: Outcome) {
        match (&mut self.phase, outcome) {
            (Phase::Listing { own, .. }, Outcome::Digests(page)) => {
                *own = Some(page);
                self.compare_pages(site);
            }
            (Phase::Comparing { own, .. }, Outcome::Versions(versions)) => {
                *own = Some((versions, false));
                self.compare_object(site);
            }
            (Phase::Comparing { own, .. }, Outcome::Missing(known)) => {
                // If nothing of it is known here, and it is not missing there as well, what the other one has is all there is.
                *own = Some((versions(&known), known.is_empty()));
                self.compare_object(site);
            }
            (Phase::Listing { .. } | Phase::Comparing { .. }, _) => self.own_failed = true,
            (Phase::Logging { oid }, Outcome::NoRoom) => {
                self.queue.push_front(*oid);
                self.phase = Phase::Crowded;
            }
            (Phase::Logging { .. }, _) => self.next_object(site),
            (Phase::Syncing, _) => {
                self.phase = Phase::Collected;
                site.propose(SetChange::Collected);
            }
            _ => {}
        }
    }

    fn list(&mut self, site: &mut Site) {
        let Some(after) = self.next_page else {
            self.sources.pop_front();
            return self.next_source(site);
        };
        self.phase = Phase::Listing { own: None, theirs: None };
        site.digests(after, PAGE_OBJECTS, OWN_SIDE);
        self.ask(site, Lesson::Digests { after, most: PAGE_OBJECTS });
    }

    fn compare_pages(&mut self, site: &mut Site) {
        let Phase::Listing { own: Some(own), theirs: Some(theirs) } = &self.phase else { return };
        let (mut queue, next) = differing(own, theirs);
        if site.has(PlantedBug::MissingIsNeverWritten) {
            queue.retain(|oid| own.objects.iter().any(|(own, _)| own == oid));
        }
        self.queue = queue;
        self.next_page = next.map(Some);
        self.next_object(site);
    }

    fn next_object(&mut self, site: &mut Site) {
        let Some(oid) = self.queue.pop_front() else { return self.list(site) };
        self.phase = Phase::Comparing { oid, own: None, theirs: None };
        site.versions(oid, OWN_SIDE);
        self.ask(site, Lesson::Versions { oid });
    }

    fn compare_object(&mut self, site: &mut Site) {
        let Phase::Comparing { oid, own: Some((own, is_unknown)), theirs: Some((theirs, is_missing)) } =
            &self.phase
        else {
            return;
        };
        let (oid, is_whole) = (*oid, *is_unknown && !*is_missing);
        let own: BTreeMap<_, _> = own.iter().copied().collect();
        let is_newer = |(block, version): &&(u32, Version)| own.get(block) < Some(version);
        let blocks: BTreeMap<u32, Version> = theirs.iter().filter(is_newer).copied().collect();
        let (Some(first), Some(last)) = (blocks.keys().next().copied(), blocks.keys().last().copied()) else {
            return self.next_object(site);
        };
        self.phase = Phase::Fetching { oid, blocks, is_whole };
        self.ask(site, Lesson::Read { oid, blocks: first..last + 1 });
    }
}

fn versions(blocks: &[Verified]) -> Versions {
    let written = blocks.iter().filter(|block| block.version != Version::NEVER);
    written.map(|block| (block.block, block.version)).collect()
}

/// Those of the blocks read, from the first one on, that are newer. Of what is damaged there, it is known that it was written.
fn fetched(blocks: &BTreeMap<u32, Version>, stored: &[Option<Stored>]) -> Vec<CopiedBlock> {
    let first = blocks.keys().next().copied().unwrap_or(0);
    let copied = |(block, version): (&u32, &Version)| {
        let stored = stored.get((block - first) as usize).and_then(Option::as_ref);
        stored.map_or(CopiedBlock::lost(*block, *version), |stored| CopiedBlock::new(*block, stored.clone()))
    };
    blocks.iter().map(copied).collect()
}
