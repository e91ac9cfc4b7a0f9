//! One replica of one partition: takes in what happened, and says what to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use huntaway_wire::{NodeId, Oid, Partition, Pepoch, Version};

use crate::collecting::Collecting;
use crate::configuration::{Configuration, SetChange};
use crate::event::{Answer, Command, Input, Outcome, Output, Refused, Request, Ticket};
use crate::member::Member;
use crate::mending::{Found, Mended};
use crate::message::{Body, Message};
use crate::opening::Opening;
use crate::planted::PlantedBug;
use crate::primary::{Primary, cost};
use crate::process::{GRANT_US, Grant, Moment, Process};
use crate::record::Entry;
use crate::resend::Resend;
use crate::room::{Room, WHOLE_OBJECT_BYTES};
use crate::sensible::is_command;
use crate::site::{Pending, Recovered, Site};

/// A replica of a partition. It does no I/O and reads no clock: it is told the time with each step.
#[derive(Debug)]
pub struct Replica {
    partition: Partition,
    site: Site,
    role: Role,
}

/// So many versions are left when a primary asks for another pepoch: enough for what is written until there is one.
const SPARE_VERSIONS: u32 = 1 << 24;

/// What a replica is in its pepoch.
#[derive(Debug)]
enum Role {
    /// It does what a primary says, or nothing.
    Member(Member),
    /// It is to be primary, and rolls forward what is in doubt.
    Opening(Opening),
    /// It is to be primary, and nobody is known to have everything.
    Collecting(Box<Collecting>),
    /// It serves, while it has its leases.
    Primary(Box<Primary>),
    /// Its disk failed: this process does nothing any more but to say so, ever less often.
    Failed(Resend),
    /// The process ends.
    Left,
}

impl Replica {
    /// The replica of a process that starts now, with what its log says. Until it is configured, it does nothing.
    pub fn new(partition: Partition, me: Process, now: Moment, recovered: Recovered) -> Self {
        let configuration = Configuration {
            pepoch: Pepoch(0),
            in_sync: Vec::new(),
            doubtful: Vec::new(),
            damaged: Vec::new(),
            failed: Vec::new(),
            is_lost: false,
            primary: NodeId([0; 16]),
            candidates: Vec::new(),
            keepers: Vec::new(),
            copies: 1,
            min_copies: 1,
            gateways: Vec::new(),
            vdis: Arc::default(),
        };
        let site = Site {
            me,
            now,
            awake_since: Moment::default(),
            configuration: Arc::new(configuration),
            // What the process before this one granted is still counted on.
            grant: Grant { to: None, pepoch: Pepoch(0), until: now.after(GRANT_US) },
            ledger_lease_until: Moment::default(),
            scrub_bytes_per_second: 0,
            renews_after: Version::MAX_SEQ - SPARE_VERSIONS,
            copied_bytes: 0,
            requests: recovered.requests,
            doubt: recovered.doubt,
            room: Room::endless(),
            pending: BTreeMap::new(),
            storing: BTreeMap::new(),
            last_ticket: 0,
            outputs: Vec::new(),
            #[cfg(feature = "planted-bugs")]
            planted: None,
        };
        Self { partition, site, role: Role::Member(Member::new(now)) }
    }

    /// Does `bug` from now on.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: PlantedBug) {
        self.site.planted = Some(bug);
    }

    /// Has objects read again at this pace from now on, while this is the primary; 0: not at all, as at the beginning. It is
    /// counted in bytes of one replica.
    pub fn scrub_at(&mut self, bytes_per_second: u64) {
        self.site.scrub_bytes_per_second = bytes_per_second;
    }

    /// Has the primary go through all objects from the first one on; see [`Self::found`]. Returns whether it is the primary.
    pub fn scrub_anew(&mut self) -> bool {
        let Role::Primary(primary) = &mut self.role else { return false };
        primary.mending.begin_anew();
        true
    }

    /// What was found since [`Self::scrub_anew`] in this pepoch, as long as this is the primary.
    pub fn found(&self) -> Option<&Found> {
        let Role::Primary(primary) = &self.role else { return None };
        Some(primary.mending.found())
    }

    /// Has it ask for another pepoch after so many versions, as long as this is the primary. Without that, it does when few are left.
    pub fn renew_after(&mut self, versions: u32) {
        self.site.renews_after = versions;
    }

    /// What was read again and mended in this pepoch; `None` if this is not the primary.
    pub fn mended(&self) -> Option<Mended> {
        let Role::Primary(primary) = &self.role else { return None };
        Some(primary.mending.counts())
    }

    /// Writes of the primary that this replica did not take in this pepoch although it is in sync, for they were beyond what it
    /// had promised: none, unless there is a mistake.
    pub fn beyond_credit(&self) -> u64 {
        if let Role::Member(member) = &self.role { member.beyond_credit() } else { 0 }
    }

    /// Whether to tell it what its store has room for ([`Input::Room`]) before `input`, which may wait for that otherwise. A node has
    /// thousands of replicas, and what is promised to one is for no other: those that nobody writes to are promised nothing.
    pub fn wants_room_for(&self, input: &Input) -> bool {
        let room = &self.site.room;
        let wants = match input {
            Input::Requested(request) => is_change(&request.command),
            Input::Received { message, .. } => {
                matches!(message.body, Body::Beacon { wants_room: true, .. })
            }
            Input::Tick => self.wants_room(),
            _ => false,
        };
        // What was promised some takes it little by little, and nobody has to wait for more.
        let takes = room.is_promised_some()
            && match input {
                Input::Stored { .. } => !room.is_full(),
                Input::Tick => true,
                _ => false,
            };
        wants && (room.has_less_than(WHOLE_OBJECT_BYTES) || room.is_full())
            || takes && (room.has_less_than(WHOLE_OBJECT_BYTES / 2) || room.is_full())
    }

    /// What taking in `input` adds to the log, as far as that is known before, if it may just as well be dropped when there is no room:
    /// a message that its sender repeats, or a request that is to change something here, which may be refused
    /// ([`Refused::NotServing`]). To be seen to before it is taken in: what has begun cannot be put off.
    pub fn may_be_put_off(&self, input: &Input) -> Option<u64> {
        match input {
            Input::Requested(request) if self.is_open() && request.pepoch == self.site.pepoch() => {
                cost(&request.command).map(|cost| cost.bytes)
            }
            Input::Received { message, .. } if message.pepoch == self.site.pepoch() => {
                message.body.logged_bytes()
            }
            _ => None,
        }
    }

    fn wants_room(&self) -> bool {
        matches!(&self.role, Role::Primary(primary) if primary.wants_room())
    }

    /// Whether this is the primary and all in-sync replicas have all writes that were given a version.
    pub fn is_settled(&self) -> bool {
        let site = &self.site;
        matches!(&self.role, Role::Primary(primary) if primary.settled(site) == primary.last_version(site))
    }

    /// Bytes that it copied to learners since the process started.
    pub fn copied_bytes(&self) -> u64 {
        self.site.copied_bytes
    }

    /// The partition.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The newest agreed state that it was given.
    pub fn configuration(&self) -> &Configuration {
        &self.site.configuration
    }

    /// The data of writes in doubt that a [`Self::checkpoint`] would add to the log once more. There is less of it when the primary has
    /// told what is settled, a beacon later.
    pub fn in_doubt_bytes(&self) -> u64 {
        self.site.doubt.records().map(|record| record.size_bytes()).sum()
    }

    /// What the log has to keep of requests and of writes in doubt. To be logged after whatever earlier steps had logged, and before
    /// the next step: once it is on stable storage, the log before it is needed for the blocks alone.
    pub fn checkpoint(&self) -> Entry {
        let site = &self.site;
        let mut requests = Arc::new(site.requests.clone());
        let mut in_doubt: Vec<_> = site.doubt.records().cloned().collect();
        if site.has(PlantedBug::RequestsNotInCheckpoint) {
            requests = Arc::default();
        }
        if site.has(PlantedBug::DoubtNotInCheckpoint) {
            in_doubt.clear();
        }
        Entry::Known { requests, settled: site.doubt.settled(), in_doubt }
    }

    /// Whether what it has stays: it is in sync, or learns, or its copy may be the last one, as the ledger has it; or nothing
    /// is known yet.
    pub fn is_kept(&self) -> bool {
        let (site, Role::Member(member)) = (&self.site, &self.role) else { return true };
        let (configuration, me) = (&site.configuration, site.me);
        if site.has(PlantedBug::OldCopyRemovedEarly) && !member.is_learning() && !configuration.has(me) {
            return false;
        }
        configuration.pepoch == Pepoch(0) || configuration.keepers.contains(&me.node)
    }

    /// Whether it is a primary that takes requests. While nobody asks it for anything it may have no leases.
    pub fn is_open(&self) -> bool {
        matches!(&self.role, Role::Primary(_))
    }

    /// Whether it would serve a request at once.
    pub fn is_serving(&self) -> bool {
        matches!(&self.role, Role::Primary(primary) if primary.has_leases(&self.site))
    }

    /// Whether there is nothing to do but to see that it is `now`: [`Input::Tick`] would say nothing. Most replicas of a node are like
    /// that at any time, and it has thousands.
    pub fn rests(&mut self, now: Moment) -> bool {
        self.site.reads_clock(now);
        let rests = match &self.role {
            Role::Member(member) => member.rests(&self.site),
            Role::Primary(primary) => primary.rests(&self.site),
            Role::Left => true,
            Role::Opening(_) | Role::Collecting(_) | Role::Failed(_) => false,
        };
        rests && !self.wants_room_for(&Input::Tick)
    }

    /// Takes in what happened at `now`, and says what to do, in order. What cannot be (messages of other pepochs, tickets that
    /// nobody waits for) is ignored.
    #[must_use = "whatever came of it is to be done"]
    pub fn step(&mut self, now: Moment, input: Input) -> Vec<Output> {
        if !self.site.has(PlantedBug::ClockReadOnTicks) || matches!(input, Input::Tick) {
            self.site.reads_clock(now);
        }
        match input {
            Input::Configured(configuration) => self.configure(configuration),
            Input::LedgerLease { until } => {
                self.site.ledger_lease_until = self.site.ledger_lease_until.max(until);
                if let Role::Primary(primary) = &mut self.role {
                    primary.answer_whole(&mut self.site);
                    primary.wake_up(&mut self.site);
                }
            }
            Input::Tick => self.tick(),
            Input::Received { from, message } => self.receive(from, message),
            Input::Requested(request) => self.request(request),
            Input::Teach { learner, bytes_per_second } => {
                if let Role::Primary(primary) = &mut self.role {
                    primary.teach_at(&mut self.site, learner, bytes_per_second);
                }
            }
            Input::Forget => self.forget(),
            Input::Room(promised) => self.site.room.promise(promised),
            Input::Suspect { oid } => self.suspect(oid),
            Input::Leave => self.leave_for_good(),
            Input::DiskFailed => self.disk_failed(),
            Input::Stored { ticket, outcome } => self.stored(ticket, outcome),
        }
        if let Role::Primary(primary) = &mut self.role {
            primary.go_on(&mut self.site);
        }
        std::mem::take(&mut self.site.outputs)
    }

    fn configure(&mut self, configuration: Arc<Configuration>) {
        let known = self.site.pepoch();
        if configuration.pepoch < known {
            return;
        }
        if matches!(self.role, Role::Failed(_) | Role::Left) {
            self.site.configuration = configuration;
            return self.tell_failed(self.site.pepoch() > known);
        }
        self.site.requests.end(&configuration.gateways);
        let before = std::mem::replace(&mut self.site.configuration, configuration);
        if self.site.pepoch() == known {
            if let Role::Primary(primary) = &mut self.role {
                primary.candidates_changed(&mut self.site);
                primary.vdis_changed(&mut self.site);
            }
            return;
        }
        if let Role::Primary(primary) = &mut self.role {
            primary.resign(&mut self.site);
        }
        self.site.pending.clear();
        self.site.begin_credit();
        self.role = self.role_of_configuration();
        if before.primary() == Some(self.site.me) && self.site.configuration.primary() != Some(self.site.me) {
            self.site.release(&before);
        }
        self.tick();
    }

    fn role_of_configuration(&self) -> Role {
        let site = &self.site;
        if site.configuration.primary() != Some(site.me) || site.configuration.is_lost {
            return Role::Member(Member::new(site.now));
        }
        let collects = site.configuration.is_all_doubtful()
            && !site.has(PlantedBug::DoubtfulOpensAlone)
            && !site.has(PlantedBug::OnlyInDoubtCollected);
        if collects {
            Role::Collecting(Box::new(Collecting::new(site)))
        } else {
            Role::Opening(Opening::new(site))
        }
    }

    fn tick(&mut self) {
        match &mut self.role {
            Role::Member(member) => member.tick(&mut self.site),
            Role::Failed(_) => self.tell_failed(false),
            Role::Left => {}
            Role::Opening(opening) => opening.tick(&mut self.site),
            Role::Collecting(collecting) => collecting.tick(&mut self.site),
            Role::Primary(primary) => primary.tick(&mut self.site),
        }
        self.open_if_whole();
    }

    fn open_if_whole(&mut self) {
        if let Role::Opening(opening) = &self.role
            && opening.is_whole()
        {
            self.role = Role::Primary(Box::new(Primary::new(&mut self.site, self.partition)));
            self.tick();
        }
    }

    fn receive(&mut self, from: Process, message: Message) {
        if message.body == Body::Released {
            return self.released(from, message.pepoch);
        }
        // A sender that is ahead says it again; by then this replica may have heard of its pepoch, too.
        if message.pepoch != self.site.pepoch() || !message.is_sensible() {
            return;
        }
        let site = &mut self.site;
        match &mut self.role {
            Role::Member(member) => member.receive(site, from, message.body),
            Role::Opening(opening) => opening.receive(site, from, message.body),
            Role::Collecting(collecting) => {
                if let Body::Reply { attempt, step, reply } = message.body {
                    collecting.reply(site, from, attempt, step, reply);
                }
            }
            Role::Primary(primary) => primary.receive(site, from, message.body),
            Role::Failed(_) | Role::Left => {}
        }
        self.open_if_whole();
    }

    fn request(&mut self, request: Request) {
        let newest = self.site.pepoch();
        if !is_command(&request.command) {
            return self.site.answer(&request, Answer::Refused(Refused::Unsound));
        }
        let refused = match &mut self.role {
            Role::Primary(primary) if request.pepoch == newest => {
                return primary.request(&mut self.site, request);
            }
            _ if request.pepoch < newest => Refused::OtherPepoch { newest },
            _ => Refused::NotServing,
        };
        self.site.answer(&request, Answer::Refused(refused));
    }

    /// Has the primary mend an object.
    fn suspect(&mut self, oid: Oid) {
        match (&mut self.role, self.site.configuration.primary()) {
            (Role::Primary(primary), _) => primary.mending.suspect(oid),
            (Role::Member(_), Some(primary)) if self.site.configuration.has(self.site.me) => {
                self.site.send(primary, Body::Suspect { oid });
            }
            _ => {}
        }
    }

    /// What the disk was given may be lost, so nothing that was said of it holds. Whoever starts next is doubtful.
    fn disk_failed(&mut self) {
        if self.site.has(PlantedBug::FailedDiskGoesOn) {
            return;
        }
        if let Role::Primary(primary) = &mut self.role {
            primary.resign(&mut self.site);
        }
        self.site.pending.clear();
        self.site.storing.clear();
        if self.site.configuration.primary() == Some(self.site.me) {
            self.site.release(&Arc::clone(&self.site.configuration));
        }
        self.role = Role::Failed(Resend::new(self.site.now));
        self.tell_failed(true);
    }

    /// Nothing is done any more, and nobody is told anything but that.
    fn leave_for_good(&mut self) {
        let leads = self.site.configuration.primary() == Some(self.site.me);
        if !self.site.has(PlantedBug::ReleasedServes) {
            if let Role::Primary(primary) = &mut self.role {
                primary.resign(&mut self.site);
            }
            self.site.pending.clear();
            self.site.storing.clear();
            self.role = Role::Left;
        }
        if leads {
            self.site.release(&Arc::clone(&self.site.configuration));
        }
    }

    /// What was granted to that process up to `pepoch` binds nobody any more.
    fn released(&mut self, from: Process, pepoch: Pepoch) {
        let site = &mut self.site;
        if site.grant.to != Some(from) || site.grant.pepoch > pepoch {
            return;
        }
        site.grant.until = site.now;
        match &mut self.role {
            Role::Opening(_) => self.tick(),
            Role::Member(member) => member.released(site),
            _ => {}
        }
    }

    /// Tells the ledger, so that nobody counts on it, and the others need not wait until its silence is noticed.
    fn tell_failed(&mut self, is_new: bool) {
        let (me, now) = (self.site.me, self.site.now);
        let Role::Failed(resend) = &mut self.role else { return };
        let Configuration { keepers, failed, .. } = &*self.site.configuration;
        let counts = keepers.contains(&me.node) && !failed.contains(&me.node);
        if counts && (is_new || resend.is_due(now)) {
            let is_asked = self.site.has(PlantedBug::FailedAsksToBeDropped);
            self.site.propose(if is_asked { SetChange::Drop(me) } else { SetChange::Failed(me) });
        }
    }

    /// Removes what it has, unless it is kept. While the node is no keeper nobody teaches it, and it becomes one in a newer pepoch.
    fn forget(&mut self) {
        if self.is_kept() {
            return;
        }
        let nothing = Recovered::default();
        (self.site.requests, self.site.doubt) = (nothing.requests, nothing.doubt);
        self.site.log(Entry::Forget, Pending::Nothing);
    }

    fn stored(&mut self, ticket: Ticket, outcome: Outcome) {
        if let Some(may_lack_room) = self.site.storing.remove(&ticket) {
            match outcome {
                Outcome::Done => self.site.doubt.stored(ticket),
                Outcome::NoRoom if may_lack_room => {}
                // It is as good as lost, whether the store says that its disk failed or not.
                _ => return self.disk_failed(),
            }
        }
        let Some(pending) = self.site.pending.remove(&ticket) else { return };
        let site = &mut self.site;
        match (&mut self.role, pending) {
            (Role::Member(member), pending) => member.stored(site, pending, outcome),
            (Role::Opening(opening), Pending::RollForward) => opening.rolled_forward(site.me),
            (Role::Collecting(collecting), Pending::OwnSide { .. }) => collecting.own_side(site, outcome),
            (Role::Primary(primary), pending) => primary.stored(site, pending, outcome),
            (Role::Opening(_) | Role::Collecting(_) | Role::Failed(_) | Role::Left, _) => {}
        }
        self.open_if_whole();
    }
}

/// A request that changes something: it is carried out once, however often it comes.
pub(crate) fn is_change(command: &Command) -> bool {
    !matches!(command, Command::Read { .. } | Command::Map { .. } | Command::Flush)
}
