//! The thread that keeps the ledger: takes what connections bring, puts records on stable storage, and then tells of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use huntaway_ledger::keeper::{Follower, Input, Keeper, Output, Proposal, ProposalAnswer};
use huntaway_ledger::{EpochRecord, MAX_RECORD_BYTES, Member, Name, Record, State};
use huntaway_wire::NodeId;
use huntaway_wire::tls::{Certificate, Untrusted};
use tokio::sync::mpsc;

use super::frame::framed;
use super::handshake::Called;
use super::history::{CatchUp, History};
use super::message::{FromKeeper, NO_ASK, ToKeeper};
use super::rejection::Rejection;
use crate::local::error::LogError;
use crate::local::log::Log;
use crate::local::log_file::{self, MAX_LOG_BYTES, MAX_OPERATIONS_BYTES, NotCut};
use huntaway_wire::clock;

/// What is taken in before records are put on stable storage together.
const MOST_TOGETHER: usize = 64;

/// A file that cannot be cut is looked at again when it is so much longer.
const RETRY_BYTES: u64 = 1 << 20;

/// What happens on connections, each of which has a number.
#[derive(Debug)]
pub(super) enum Event {
    Connected { connection: u64, called: Called, shown: Shown, outbox: mpsc::Sender<Sent> },
    Came { connection: u64, message: ToKeeper },
    Gone { connection: u64 },
    Tick,
}

/// What is sent on one.
#[derive(Debug)]
pub(super) enum Sent {
    Framed(Bytes),
    /// In parts.
    Snapshot(Bytes),
}

#[derive(Debug)]
struct Connection {
    follower: Follower,
    shown: Shown,
    outbox: mpsc::Sender<Sent>,
}

/// What a caller shows of who it is.
#[derive(Debug)]
pub(super) struct Shown {
    /// Where it calls from.
    pub(super) address: Option<SocketAddr>,
    /// With TLS it speaks for nobody else.
    pub(super) certificate: Option<Certificate>,
}

/// What is not for a follower to say.
#[derive(Debug, thiserror::Error)]
enum Foreign {
    #[error("it speaks for {name}: {why}")]
    Speaks { name: Name, why: Untrusted },
    #[error("it gives a node the name of another, or another name than it had")]
    Names,
}

/// Which file is cut, whose it is, and from which length on.
#[derive(Debug)]
pub(super) struct Cutting {
    pub(super) dir: PathBuf,
    pub(super) node: NodeId,
    pub(super) cut_bytes: u64,
}

/// The ledger, and those that follow it.
#[derive(Debug)]
pub(super) struct Core {
    keeper: Keeper,
    log: Log<File>,
    history: History,
    cutting: Cutting,
    connections: BTreeMap<u64, Connection>,
    /// What is to be done, each with the connection that asked for it.
    outputs: Vec<(u64, Output)>,
    /// The ledger as it is on stable storage.
    durable: huntaway_ledger::Ledger,
}

impl Core {
    pub(super) fn new(keeper: Keeper, log: Log<File>, history: History, cutting: Cutting) -> Self {
        let (connections, outputs, durable) = (BTreeMap::new(), Vec::new(), keeper.ledger().clone());
        Self { keeper, log, history, cutting, connections, outputs, durable }
    }

    /// Works until nobody can bring anything any more.
    ///
    /// # Errors
    /// [`LogError`]: the ledger cannot be written, and nobody was told of what is not written.
    pub(super) fn run(mut self, mut events: mpsc::Receiver<Event>) -> Result<(), LogError> {
        while let Some(event) = events.blocking_recv() {
            self.take(event)?;
            for _ in 1..MOST_TOGETHER {
                let Ok(event) = events.try_recv() else { break };
                self.take(event)?;
            }
            self.publish()?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), LogError> {
        match event {
            Event::Connected { connection, called, shown, outbox } => {
                self.publish()?;
                self.enter(connection, called, shown, outbox);
            }
            Event::Came { connection, message } => {
                if let Some(from) = self.connections.get(&connection) {
                    match self.check_its_own(&from.shown, &message) {
                        Ok(()) => self.came(connection, from.follower, message),
                        Err(why) => {
                            let address = from.shown.address;
                            tracing::warn!(?address, %why, "a follower of the ledger is cut off");
                            self.reject(connection);
                        }
                    }
                }
            }
            Event::Gone { connection } => self.leave(connection),
            Event::Tick => self.step(0, Input::Tick),
        }
        Ok(())
    }

    fn step(&mut self, connection: u64, input: Input) {
        let outputs = self.keeper.step(clock::now(), input);
        self.outputs.extend(outputs.into_iter().map(|output| (connection, output)));
    }

    /// The connection takes the place of an earlier one of the follower's.
    fn enter(&mut self, connection: u64, called: Called, shown: Shown, outbox: mpsc::Sender<Sent>) {
        let Called { follower: by, last, hash } = called;
        let catch_up = self.history.catch_up(last, hash);
        let own = self.durable.state().number();
        let entered = Connection { follower: by, shown, outbox };
        if let CatchUp::OldCopy = catch_up {
            let rejected = FromKeeper::Rejected(Rejection::OldCopy { last: own });
            let _ = entered.outbox.try_send(Sent::Framed(framed(&rejected)));
            return;
        }
        let earlier = self.connections.iter().filter(|(_, earlier)| earlier.follower == by);
        let earlier: Vec<u64> = earlier.map(|(number, _)| *number).collect();
        self.connections.insert(connection, entered);
        let outputs = self.keeper.step(clock::now(), Input::Connected { by });
        let remembers =
            outputs.iter().any(|output| matches!(output, Output::Connected { remembers: true, .. }));
        // It was also time for something else: that is written and told like any record.
        let others = outputs.into_iter().filter(|output| !matches!(output, Output::Connected { .. }));
        self.outputs.extend(others.map(|output| (connection, output)));
        earlier.into_iter().for_each(|earlier| self.leave(earlier));
        self.send(connection, framed(&FromKeeper::Connected { remembers, last: own }));
        match catch_up {
            CatchUp::Records(records) => {
                for record in records {
                    self.send(connection, framed(&FromKeeper::Record(record)));
                }
            }
            CatchUp::Snapshot => match self.durable.snapshot() {
                Ok(snapshot) => self.put(connection, Sent::Snapshot(snapshot.into())),
                Err(error) => {
                    tracing::warn!(%error, "a follower gets no snapshot of the ledger");
                    self.leave(connection);
                }
            },
            CatchUp::OldCopy => {}
        }
    }

    fn leave(&mut self, connection: u64) {
        if let Some(Connection { follower: by, .. }) = self.connections.remove(&connection) {
            self.step(connection, Input::Disconnected { by });
        }
    }

    /// Whether it speaks for the node or gateway that its certificate is for, and gives nobody the name of another. Other proposals are
    /// anybody's.
    fn check_its_own(&self, shown: &Shown, message: &ToKeeper) -> Result<(), Foreign> {
        let Some(certificate) = &shown.certificate else { return Ok(()) };
        let is_for = |name: &Name| {
            let refused = |why| Foreign::Speaks { name: name.clone(), why };
            certificate.is_for(name.as_str()).map_err(refused)
        };
        let state = self.keeper.ledger().state();
        let process = match message {
            ToKeeper::Started(start) => start.process,
            ToKeeper::AskedLease { process, .. }
            | ToKeeper::Left { process }
            | ToKeeper::Holds { process, .. } => *process,
            ToKeeper::Proposed {
                proposal: Proposal::Record(Record::GatewayStarted { name, .. }), ..
            } => {
                return is_for(name);
            }
            ToKeeper::Proposed { proposal: Proposal::Record(Record::Epoch(epoch)), .. } => {
                return if keeps_names(state, epoch) { Ok(()) } else { Err(Foreign::Names) };
            }
            ToKeeper::Proposed { .. } | ToKeeper::Alive => return Ok(()),
        };
        state.name_of(process.node).map_or(Ok(()), is_for)
    }

    fn reject(&mut self, connection: u64) {
        self.send(connection, framed(&FromKeeper::Rejected(Rejection::Certificate)));
        self.leave(connection);
    }

    fn came(&mut self, connection: u64, by: Follower, message: ToKeeper) {
        let input = match message {
            ToKeeper::Started(start) => Input::Started(start),
            ToKeeper::AskedLease { process, ask, applied } => Input::AskedLease { process, ask, applied },
            ToKeeper::Left { process } => Input::Left { process },
            ToKeeper::Proposed { number, .. } if !self.has_room() && !self.keeper.knows(by, number) => {
                let answer = ProposalAnswer::Full;
                return self.outputs.push((connection, Output::Answered { by, number, answer }));
            }
            ToKeeper::Proposed { number, unanswered_from, proposal } => {
                Input::Proposed { by, number, unanswered_from, proposal }
            }
            ToKeeper::Holds { process, hold, leads } => Input::Holds { process, hold, leads },
            ToKeeper::Alive => Input::AskedKnown,
        };
        self.step(connection, input);
    }

    /// Whether there is room for whatever may come before that is looked at again.
    fn has_room(&self) -> bool {
        let most = (2 * MOST_TOGETHER * MAX_RECORD_BYTES) as u64;
        self.log.end_bytes() + most < MAX_OPERATIONS_BYTES
    }

    /// Puts the records on stable storage, and then says all that is to be said.
    fn publish(&mut self) -> Result<(), LogError> {
        let outputs = std::mem::take(&mut self.outputs);
        let mut bytes = Vec::new();
        for (_, output) in &outputs {
            if let Output::Record(record) = output {
                bytes.extend(record);
            }
        }
        if !bytes.is_empty() {
            self.log.append(&bytes, self.keeper.ledger(), MAX_LOG_BYTES)?;
        }
        for (connection, output) in outputs {
            self.tell(connection, output)?;
        }
        if self.log.is_long(self.cutting.cut_bytes) { self.cut() } else { Ok(()) }
    }

    /// Puts a snapshot in the place of the records. If that cannot be written, the old file is gone on with.
    fn cut(&mut self) -> Result<(), LogError> {
        let Cutting { dir, node, cut_bytes } = &mut self.cutting;
        match log_file::cut(dir, *node, &self.durable, self.history.hashes()) {
            Ok(Some((file, end_bytes))) => self.log.replace(file, end_bytes),
            Ok(None) => *cut_bytes = self.log.end_bytes() + RETRY_BYTES,
            Err(NotCut::Still(why)) => {
                tracing::warn!(why, "the ledger's file cannot be cut, and is gone on with as it is");
                *cut_bytes = self.log.end_bytes() + RETRY_BYTES;
            }
            Err(NotCut::Unknown(source)) => return Err(self.log.lost(source)),
        }
        Ok(())
    }

    fn tell(&mut self, connection: u64, output: Output) -> Result<(), LogError> {
        let message = match output {
            Output::Record(record) => return self.tell_all(record.into()),
            Output::Answered { by, number, answer } => {
                // It has no other connection.
                let of = self.connections.iter().find(|(_, connection)| connection.follower == by);
                if let Some(of) = of.map(|(of, _)| *of) {
                    self.send(of, framed(&FromKeeper::Answered { number, answer }));
                }
                return Ok(());
            }
            Output::Leased { ask, known_by_all, .. } => FromKeeper::Leased { ask, known_by_all },
            Output::Known { known_by_all } => FromKeeper::Leased { ask: NO_ASK, known_by_all },
            Output::NotLeased { ask, why, .. } => FromKeeper::NotLeased { ask, why },
            Output::Started { start, .. } => FromKeeper::Started { start },
            Output::NotStarted { start, why, .. } => FromKeeper::NotStarted { start, why },
            Output::Connected { .. } => return Ok(()),
        };
        self.send(connection, framed(&message));
        Ok(())
    }

    /// Goes no further than a record that cannot be read: whoever gets the next one could not follow.
    fn tell_all(&mut self, record: Bytes) -> Result<(), LogError> {
        self.durable.read(&record).map_err(|source| self.log.unreadable(source))?;
        self.history.add(&self.durable, record.clone());
        let framed = framed(&FromKeeper::Record(record));
        let connections: Vec<u64> = self.connections.keys().copied().collect();
        connections.into_iter().for_each(|connection| self.send(connection, framed.clone()));
        Ok(())
    }

    fn send(&mut self, connection: u64, framed: Bytes) {
        self.put(connection, Sent::Framed(framed));
    }

    /// Whoever does not read what it is sent is cut off, and gets it all when it connects anew.
    fn put(&mut self, connection: u64, sent: Sent) {
        if let Some(to) = self.connections.get(&connection)
            && to.outbox.try_send(sent).is_err()
        {
            tracing::warn!(follower = to.follower.0, "a follower of the ledger is too slow, or gone");
            self.leave(connection);
        }
    }
}

/// Whether members keep the names that certificates are for, and new ones have others, which differ in more than case.
fn keeps_names(state: &State, epoch: &EpochRecord) -> bool {
    let is_kept = |member: &Member| match state.member(member.node) {
        Some(known) => known.name == member.name,
        None => {
            let members = state.members().iter().map(|member| &member.name);
            let mut taken = members.chain(state.gateways().map(|(name, _)| name)).map(Name::as_str);
            !taken.any(|name| name.eq_ignore_ascii_case(member.name.as_str()))
        }
    };
    epoch.members.iter().all(is_kept)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use huntaway_ledger::Ledger;

    use super::*;
    use crate::local::directory;
    use crate::local::shared::SILENCE;

    const FOLLOWER: Follower = Follower(5);

    fn copies(copies: usize) -> Record {
        Record::Copies { copies, min_copies: 1 }
    }

    /// One that keeps one record, and somebody who follows.
    fn core(dir: &Path) -> (Core, mpsc::Receiver<Sent>) {
        let node = NodeId([1; 16]);
        directory::make(dir).unwrap();
        log_file::create(dir, node, &Ledger::default().follow(&copies(1)).unwrap()).unwrap();
        let found = log_file::load(dir, |_| ()).unwrap();
        let log = log_file::open_for_append(dir, &found).unwrap();
        let (called, mut history) =
            (Called { follower: FOLLOWER, last: 1, hash: found.ledger.hash() }, History::new(1 << 20));
        history.cut(&found.ledger, vec![found.ledger.hash()]);
        let cutting = Cutting { dir: dir.into(), node, cut_bytes: u64::MAX };
        let mut core = Core::new(Keeper::new(clock::now(), found.ledger, SILENCE), log, history, cutting);
        let (outbox, mut sent) = mpsc::channel(16);
        let shown = Shown { address: None, certificate: None };
        core.take(Event::Connected { connection: 1, called, shown, outbox }).unwrap();
        assert!(sent.try_recv().is_ok());
        (core, sent)
    }

    fn propose(core: &mut Core, number: u64) -> Result<(), LogError> {
        let proposal = Proposal::Record(copies(2 + number as usize));
        let message = ToKeeper::Proposed { number, unanswered_from: 1, proposal };
        core.take(Event::Came { connection: 1, message })?;
        core.publish()
    }

    fn last(sent: &mut mpsc::Receiver<Sent>) -> Bytes {
        let all = std::iter::from_fn(|| sent.try_recv().ok());
        match all.last() {
            Some(Sent::Framed(framed)) => framed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_agreed_on_has_its_answer_also_when_the_file_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let (mut core, mut sent) = core(dir.path());
        propose(&mut core, 1).unwrap();
        let agreed =
            framed(&FromKeeper::Answered { number: 1, answer: ProposalAnswer::Agreed { record: 2 } });
        assert_eq!(last(&mut sent), agreed);
        let file = File::create(dir.path().join("full")).unwrap();
        core.log.replace(file, MAX_OPERATIONS_BYTES);
        propose(&mut core, 1).unwrap();
        assert_eq!(last(&mut sent), agreed);
        propose(&mut core, 2).unwrap();
        let full = framed(&FromKeeper::Answered { number: 2, answer: ProposalAnswer::Full });
        assert_eq!(last(&mut sent), full);
    }

    #[test]
    fn nothing_is_told_after_a_record_that_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let (mut core, mut sent) = core(dir.path());
        core.durable = Ledger::default();
        assert!(matches!(propose(&mut core, 1), Err(LogError::Unreadable { .. })));
        assert!(sent.try_recv().is_err());
    }
}
