//! A follower's connection, made again and again: takes in records, and asks for what is wanted until there is an answer.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use bytes::BytesMut;
use huntaway_ledger::keeper::{Follower, HoldEnd, LEDGER_LEASE, MAX_UNANSWERED, Proposal, ProposalAnswer};
use huntaway_ledger::{DiskRecord, FollowError, Ledger, Over, Record, RecordHash, State};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use super::frame::{Cut, Messages, PATIENCE, framed, send};
use super::handshake::{self, Caller};
use super::message::{FromKeeper, ToKeeper};
use super::rejection::Rejection;
use super::remote::{Answer, KeeperStatus, NotDone, RemoteOptions, Shared};
use crate::ProposeError;
use huntaway_wire::clock;
use huntaway_wire::link::{self, Writer};
use huntaway_wire::tls::KEEPER;

/// A node asks for a lease this often: a few times within a lease.
const ASK: Duration = Duration::from_millis(150);

/// The first pause after a connection ended, or could not be made; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Asks whose answers may still come.
const MOST_ASKS: usize = 16;

/// A proposal is made anew so often.
const MOST_REFUSALS: u32 = 3;

/// Longest snapshot, in bytes.
const MAX_SNAPSHOT_BYTES: usize = 256 << 20;

/// What waits for an answer.
struct Waiting {
    proposal: Proposal,
    sender: SyncSender<Answer>,
    /// On this connection.
    is_sent: bool,
    /// On this one, or an earlier one: it may have been agreed on.
    was_sent: bool,
    /// It was sent, and this came since, on whichever connection: it, or what says the same.
    is_there: bool,
    /// How often the keeper refused it for reasons that were not found.
    refusals: u32,
}

impl Waiting {
    fn new(proposal: Proposal, sender: SyncSender<Answer>, refusals: u32) -> Self {
        Self { proposal, sender, is_sent: false, was_sent: false, is_there: false, refusals }
    }
}

/// Follows a ledger.
pub(super) struct Session {
    options: RemoteOptions,
    follower: Follower,
    shared: Arc<Shared>,
    ledger: Ledger,
    states: watch::Sender<Arc<State>>,
    status: watch::Sender<KeeperStatus>,
    waiting: BTreeMap<u64, Waiting>,
    last_number: u64,
    /// When it asked what.
    asks: VecDeque<(u64, Duration)>,
    last_ask: u64,
    /// What it told last of what it holds.
    told_holds: BTreeMap<u64, RecordHash>,
    /// What came of a snapshot.
    snapshot: BytesMut,
    /// Then all is known that there was when the connection was made, and whether the keeper knows what was proposed before.
    caught_up_at: Option<(u64, bool)>,
    is_caught_up: bool,
}

impl Session {
    pub(super) fn new(
        options: RemoteOptions,
        follower: Follower,
        shared: Arc<Shared>,
        states: watch::Sender<Arc<State>>,
        status: watch::Sender<KeeperStatus>,
    ) -> Self {
        Self {
            options,
            follower,
            shared,
            ledger: Ledger::default(),
            states,
            status,
            waiting: BTreeMap::new(),
            last_number: 0,
            asks: VecDeque::new(),
            last_ask: 0,
            told_holds: BTreeMap::new(),
            snapshot: BytesMut::new(),
            caught_up_at: None,
            is_caught_up: false,
        }
    }

    /// Does not end by itself, but when the process leaves.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut told = String::new();
        loop {
            let cut = match self.connected().await {
                Ok(()) => return self.shared.told.notify_one(),
                Err(cut) => cut,
            };
            if self.is_caught_up {
                pause = FIRST_PAUSE;
            }
            if matches!(&cut, Cut::Rejected(_)) {
                pause = LONGEST_PAUSE;
            }
            let why = cut.to_string();
            if why != told {
                tracing::warn!(address = %self.options.address, why, "not connected to the keeper of the ledger");
                told = why;
            }
            self.status.send_replace(KeeperStatus::Cut(Arc::new(cut)));
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
            self.status.send_replace(KeeperStatus::Calling);
        }
    }

    async fn connected(&mut self) -> Result<(), Cut> {
        (self.is_caught_up, self.caught_up_at) = (false, None);
        (self.asks, self.snapshot) = (VecDeque::new(), BytesMut::new());
        self.told_holds.clear();
        let tls = self.options.tls.as_ref().map(|tls| (tls, KEEPER));
        let called = link::call(self.options.address, tls);
        let (reader, mut writer) = timeout(PATIENCE, called).await.map_err(|_| Cut::Silent)??;
        let mut messages = Messages::new(reader);
        let caller = Caller {
            key: self.options.key.clone(),
            cluster: self.options.cluster.unwrap_or_default(),
            follower: self.follower,
            last: self.ledger.state().number(),
            hash: self.ledger.hash(),
        };
        handshake::call(&mut messages, &mut writer, &caller).await?;
        let shared = self.shared.clone();
        let mut tick = ticks();
        loop {
            tokio::select! {
                message = messages.next() => self.hear(message?)?,
                () = shared.filled.notified() => {}
                _ = tick.tick() => self.ask(&mut writer).await?,
            }
            if self.say(&mut writer).await? {
                return Ok(());
            }
        }
    }

    /// Asks for a lease, if there is a process to have it.
    async fn ask(&mut self, writer: &mut Writer) -> Result<(), Cut> {
        let process = self.shared.wanted().process;
        let applied = self.shared.applied.load(Ordering::Acquire);
        // It is told before the record is applied that it is down: see `wait_to_ask`.
        let waits_to_ask = self.shared.waits_to_ask.load(Ordering::Acquire);
        let Some(process) = process.filter(|_| !waits_to_ask) else {
            return send(writer, &framed(&ToKeeper::Alive)).await;
        };
        self.last_ask += 1;
        let ask = self.last_ask;
        // Now and then it is told again.
        self.told_holds.clear();
        if self.asks.len() >= MOST_ASKS {
            self.asks.pop_front();
        }
        self.asks.push_back((ask, clock::now()));
        send(writer, &framed(&ToKeeper::AskedLease { process, ask, applied })).await
    }

    /// Sends what is wanted and was not sent on this connection. Returns whether the process has left.
    async fn say(&mut self, writer: &mut Writer) -> Result<bool, Cut> {
        let (proposals, start, process, holds, leaves) = {
            let mut wanted = self.shared.wanted();
            let disks = self.ledger.state().disks();
            wanted.holds.retain(|hold, _| !disks.held(*hold).is_empty());
            let (proposals, holds) = (std::mem::take(&mut wanted.proposals), wanted.holds.clone());
            (proposals, wanted.start.take(), wanted.process, holds, wanted.leaves)
        };
        for (proposal, sender) in proposals {
            self.last_number += 1;
            self.waiting.insert(self.last_number, Waiting::new(proposal, sender, 0));
        }
        if let Some(process) = process.filter(|_| leaves) {
            send(writer, &framed(&ToKeeper::Left { process })).await?;
        }
        if leaves {
            return Ok(true);
        }
        if let Some(start) = start {
            send(writer, &framed(&ToKeeper::Started(start))).await?;
        }
        if let Some(process) = process.filter(|_| holds != self.told_holds) {
            for (hold, leads) in holds.clone() {
                send(writer, &framed(&ToKeeper::Holds { process, hold, leads })).await?;
            }
            self.told_holds = holds;
        }
        if self.is_caught_up {
            self.propose(writer).await?;
        }
        Ok(false)
    }

    async fn propose(&mut self, writer: &mut Writer) -> Result<(), Cut> {
        let unanswered_from = self.waiting.keys().next().copied().unwrap_or(0);
        let mut together = Vec::new();
        // The keeper remembers all answers from the first on that is awaited, and no more than so many.
        let is_remembered = |number: u64| number < unanswered_from + MAX_UNANSWERED as u64;
        let first = self.waiting.iter_mut().take_while(|(number, _)| is_remembered(**number));
        for (number, waiting) in first.filter(|(_, waiting)| !waiting.is_sent) {
            (waiting.is_sent, waiting.was_sent) = (true, true);
            let proposal = waiting.proposal.clone();
            let proposed = ToKeeper::Proposed { number: *number, unanswered_from, proposal };
            together.extend_from_slice(&framed(&proposed));
        }
        if together.is_empty() { Ok(()) } else { send(writer, &together).await }
    }

    fn hear(&mut self, message: FromKeeper) -> Result<(), Cut> {
        match message {
            FromKeeper::Connected { remembers, last } => {
                self.caught_up_at = Some((last, remembers));
                self.catch_up();
            }
            FromKeeper::Rejected(rejection) => return Err(rejection.into()),
            FromKeeper::Record(record) => {
                let own = self.ledger.state().number();
                let (record, _) = self.ledger.read(&record).map_err(|_| Rejection::OldCopy { last: own })?;
                self.see(&record);
                self.states.send_replace(self.ledger.state().clone());
                self.catch_up();
            }
            FromKeeper::Snapshot { is_last, part } => {
                if self.snapshot.len() + part.len() > MAX_SNAPSHOT_BYTES {
                    return Err(Cut::Length { length: self.snapshot.len() + part.len() });
                }
                self.snapshot.extend_from_slice(&part);
                if is_last {
                    self.replace()?;
                }
            }
            FromKeeper::Leased { ask, known_by_all } => {
                if let Some((_, sent)) = self.asks.iter().find(|(number, _)| *number == ask) {
                    let until = (*sent + LEDGER_LEASE).as_micros() as u64;
                    self.shared.leased_until_us.fetch_max(until, Ordering::AcqRel);
                }
                self.shared.known_by_all.fetch_max(known_by_all, Ordering::AcqRel);
                self.shared.wanted().not_leased = None;
            }
            FromKeeper::NotLeased { why, .. } => self.shared.wanted().not_leased = Some(why),
            FromKeeper::Started { .. } | FromKeeper::Alive => {}
            FromKeeper::NotStarted { start, why } => self.shared.wanted().not_started = Some((start, why)),
            FromKeeper::Answered { number, answer } => self.answered(number, answer),
        }
        Ok(())
    }

    /// Notes what came of what was sent, in case the keeper does not know any more that it was proposed.
    fn see(&mut self, record: &Record) {
        for waiting in self.waiting.values_mut().filter(|waiting| waiting.was_sent) {
            if let Proposal::Record(proposed) = &waiting.proposal {
                waiting.is_there |= record.carries_out(proposed);
            }
        }
    }

    /// A snapshot stands for all records before it.
    fn replace(&mut self) -> Result<(), Cut> {
        let bytes = std::mem::take(&mut self.snapshot);
        let ledger = Ledger::of_snapshot(&bytes).map_err(|error| {
            Cut::Io(std::io::Error::other(format!("what the keeper sends is no ledger: {error}")))
        })?;
        let (own, new) = (self.ledger.state().number(), ledger.state().number());
        if new < own {
            return Err(Rejection::OldCopy { last: new }.into());
        }
        self.ledger = ledger;
        self.states.send_replace(self.ledger.state().clone());
        if let Some((_, false)) = self.caught_up_at {
            // Whether it was among the records is not to be known.
            self.settle(|waiting| waiting.was_sent.then_some(Err(NotDone::Unknown.into())));
        }
        self.catch_up();
        Ok(())
    }

    /// When all is known, what was proposed on earlier connections is proposed again, unless it is there already.
    fn catch_up(&mut self) {
        let number = self.ledger.state().number();
        let Some((_, remembers)) =
            self.caught_up_at.filter(|(last, _)| !self.is_caught_up && number >= *last)
        else {
            return;
        };
        self.is_caught_up = true;
        // From here on, no other cluster will do.
        let cluster = self.ledger.state().cluster().map(|cluster| cluster.uuid);
        self.options.cluster = self.options.cluster.or(cluster);
        self.status.send_replace(KeeperStatus::Connected);
        if !remembers {
            let state = self.ledger.state().clone();
            self.settle(|waiting| match &waiting.proposal {
                _ if !waiting.was_sent => None,
                Proposal::Record(_) => waiting.is_there.then(|| Ok(state.clone())),
                Proposal::Hold { .. } => Some(Err(NotDone::Unknown.into())),
            });
        }
        for waiting in self.waiting.values_mut() {
            waiting.is_sent = false;
        }
    }

    /// Those with an answer have it.
    fn settle(&mut self, answer: impl Fn(&Waiting) -> Option<Answer>) {
        let answers = self.waiting.iter().filter_map(|(number, waiting)| Some((*number, answer(waiting)?)));
        for (number, answer) in answers.collect::<Vec<_>>() {
            self.end(number, answer);
        }
    }

    fn end(&mut self, number: u64, answer: Answer) {
        if let Some(waiting) = self.waiting.remove(&number) {
            // Whoever waited may have given up.
            let _ = waiting.sender.try_send(answer);
            self.shared.has_ended(&waiting.proposal);
        }
    }

    fn answered(&mut self, number: u64, answer: ProposalAnswer) {
        let Some(waiting) = self.waiting.get_mut(&number) else { return };
        let state = self.ledger.state().clone();
        let answer = match answer {
            ProposalAnswer::Agreed { .. } => Ok(state),
            ProposalAnswer::Refused { .. } => match refusal(&self.ledger, &waiting.proposal) {
                Some(why) => Err(why),
                None if waiting.refusals >= MOST_REFUSALS => Err(NotDone::TooMany.into()),
                // What was in the way is gone meanwhile.
                None => return self.propose_anew(number),
            },
            ProposalAnswer::NotHeld { .. } => Err(NotDone::NotHeld.into()),
            ProposalAnswer::NotProposable => Err(NotDone::NotProposable.into()),
            ProposalAnswer::TooMany | ProposalAnswer::Forgotten => Err(NotDone::TooMany.into()),
            ProposalAnswer::Full => Err(NotDone::Full.into()),
        };
        self.end(number, answer);
    }

    fn propose_anew(&mut self, number: u64) {
        let Some(waiting) = self.waiting.remove(&number) else { return };
        self.last_number += 1;
        let again = Waiting::new(waiting.proposal, waiting.sender, waiting.refusals + 1);
        self.waiting.insert(self.last_number, again);
    }
}

/// Why the ledger does not have it.
fn refusal(ledger: &Ledger, proposal: &Proposal) -> Option<ProposeError> {
    let (record, ends) = match proposal {
        Proposal::Record(record) => match ledger.state().disks().next() {
            Some(vid) => (record.clone().with_vid(vid), None),
            None => (record.clone(), None),
        },
        Proposal::Hold { disks, then } => {
            let (disks, reads) = (disks.clone(), matches!(then, HoldEnd::RollBack { .. }));
            // If it could be begun, what was to end it was not to be had.
            (Record::Disks(DiskRecord::Hold { disks, reads }), Some(FollowError::Refused(Over::Past.into())))
        }
    };
    ledger.follow(&record).err().or(ends).map(ProposeError::Refused)
}

fn ticks() -> Interval {
    let mut ticks = interval(ASK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use huntaway_ledger::{Cluster, EpochRecord, Incarnation, Member, MemberState, Name, Vdi, VdiOptions};
    use huntaway_wire::{Epoch, NodeId, Vid};

    use super::*;
    use crate::local::shared::ClusterKey;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// A ledger of one node.
    fn ledger() -> Ledger {
        let node = NodeId([1; 16]);
        let member = Member {
            node,
            name: name("node"),
            incarnation: Incarnation(0),
            addresses: Vec::new(),
            zone: name("zone"),
            weight: 1,
            state: MemberState::Up,
        };
        let cluster = Cluster { uuid: [1; 16], name: name("cluster") };
        let first = EpochRecord { number: Epoch(1), cluster, members: vec![member], voters: vec![node] };
        Ledger::default().follow(&Record::Epoch(first)).unwrap().ledger
    }

    fn create(disk: u32) -> Record {
        let options =
            VdiOptions { size_bytes: 1 << 20, block_size: 512, physical_block_size: 512, thin: true };
        let (vid, name) = (Vid::new(disk).unwrap(), name(&format!("disk-{disk}")));
        Record::CreateVdi { vid, name, uuid: [0; 16], options }
    }

    fn session(ledger: Ledger) -> Session {
        let options = RemoteOptions {
            address: "127.0.0.1:1".parse().unwrap(),
            key: ClusterKey::new([7; 32]),
            tls: None,
            cluster: None,
            node: NodeId([1; 16]),
            patience: Duration::ZERO,
        };
        let (states, _) = watch::channel(ledger.state().clone());
        let (status, _) = watch::channel(KeeperStatus::default());
        let session = Session::new(options, Follower(1), Arc::new(Shared::new()), states, status);
        Session { ledger, ..session }
    }

    impl Session {
        /// It is connected anew, and knows all.
        fn enters(&mut self, remembers: bool, records: &[Vec<u8>]) {
            (self.is_caught_up, self.caught_up_at) = (false, None);
            let last = self.ledger.state().number() + records.len() as u64;
            self.hear(FromKeeper::Connected { remembers, last }).unwrap();
            for record in records {
                self.hear(FromKeeper::Record(record.clone().into())).unwrap();
            }
            assert!(self.is_caught_up);
        }

        /// Something is wanted, and sent.
        fn sends(&mut self, record: &Record) -> Receiver<Answer> {
            let (sender, answer) = sync_channel(1);
            self.last_number += 1;
            self.waiting.insert(self.last_number, Waiting::new(Proposal::Record(record.clone()), sender, 0));
            self.is_sent_again();
            answer
        }

        fn is_sent_again(&mut self) {
            let waiting = self.waiting.values_mut();
            waiting.for_each(|waiting| (waiting.is_sent, waiting.was_sent) = (true, true));
        }
    }

    #[test]
    fn what_came_on_an_earlier_connection_is_there_for_any_later_keeper() {
        let ledger = ledger();
        for is_sent_again in [false, true] {
            let mut session = session(ledger.clone());
            session.enters(true, &[]);
            let answer = session.sends(&create(1));
            let agreed = ledger.follow(&create(1)).unwrap();
            // The answer does not come, twice; and what keeps the ledger from then on remembers nothing.
            session.enters(true, &[agreed.bytes]);
            assert!(answer.try_recv().is_err());
            if is_sent_again {
                session.is_sent_again();
            }
            session.enters(false, &[]);
            let state = answer.try_recv().unwrap().unwrap();
            assert_eq!(state.vdis().map(Vdi::clone).count(), 1);
            assert!(session.waiting.is_empty());
        }
    }
}
