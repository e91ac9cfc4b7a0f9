//! One connection: moves bytes between its socket and the protocol core, and carries out what the core reports.
//!
//! One task per connection. All waiting is in [`Driver::wait`], all change in [`Driver::apply`] and what it calls.
//! Whatever one read of the socket brought is handled before anything is sent, and the replies leave together.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use huntaway_scsi::Sense;
use huntaway_scsi::limits::MAXIMUM_TRANSFER_BYTES;
use huntaway_wire::BLOCK_SIZE_BYTES;
use iscsi_target::{Connection, ConnectionError, Event, TaskManagementResponse, TaskTag};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Sleep;
use tracing::{Instrument, Span};

use crate::cluster::{Path, Proof};
use crate::fencing::GivenUp;
use crate::gateway::Shared;
use crate::nexus::{Call, Origin};
use crate::operation::Outcome;
use crate::places::Place;
use crate::session::Session;
use crate::sessions::Registration;
use crate::tasks::Tasks;

/// Output that may wait for the initiator before its further commands are left unread.
pub(crate) const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// Most bytes that stores read for one connection, or have read and it has not taken yet, when they are not at hand: as much
/// as one command asks for at most. Further READs wait for their turn.
pub(crate) const MAX_READING_BYTES: u64 = MAXIMUM_TRANSFER_BYTES;

/// The input buffer in full feature phase, unless a large PDU needs more: one read of the socket at most.
const READ_BYTES: usize = 256 << 10;

/// A PDU of at least so many bytes gets a buffer in which it is whole.
const LARGE_PDU_BYTES: usize = 32 << 10;

/// How long a connection that has always something to do keeps its thread from others.
const TURN: Duration = Duration::from_millis(1);

/// Room made for one read before login.
const LOGIN_READ_BYTES: usize = 8 << 10;

/// Something this connection waited for, and that has no effect if the connection ends before.
pub(crate) enum Waited {
    /// Everything a task management request waited for; whether the session ends with it (TARGET COLD RESET).
    TaskManagement { initiator_task_tag: u32, response: TaskManagementResponse, closes: bool },
    /// What a SANITIZE wanted to know: it has begun, or ended.
    Sanitize { task: TaskTag, result: Result<(), Sense> },
    /// The session that a login takes the place of is gone.
    Predecessor(Box<Registration>),
    /// What is to prove who an initiator is has waited for its turn.
    Turn,
    /// A command waits until the initiator has proved that it still holds its session.
    ProofWanted(Arc<Proof>),
    /// Another session, or the gateway, asks something; where further calls come.
    Call(Call, mpsc::Receiver<Call>),
    /// Nobody can ask anything any more.
    Forgotten,
}

/// What the connection's task was woken by.
enum Wake {
    Received(std::io::Result<usize>),
    Sent(std::io::Result<usize>),
    Ended(TaskTag, Outcome),
    Waited(Waited),
    Dismissed,
    Timeout,
}

/// A connection with all that belongs to it.
pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: Connection,
    pub(crate) origin: Origin,
    pub(crate) place: Place,
    pub(crate) tasks: Tasks,
    /// Block operations that stores have, and whose answers have no data. They go on whether the initiator takes its
    /// answers or not, and are waited for, also when the connection has ended.
    pub(crate) running: FuturesUnordered<BoxFuture<'static, (TaskTag, Outcome)>>,
    /// Those whose answers have data: they go on only while there is room for it.
    pub(crate) reading: FuturesUnordered<BoxFuture<'static, (TaskTag, Outcome)>>,
    /// Room for what stores read meanwhile, in blocks of the store.
    pub(crate) reading_room: Arc<Semaphore>,
    /// Other sessions' calls and answers.
    pub(crate) waits: FuturesUnordered<BoxFuture<'static, Waited>>,
    /// The initiator's tag of a Logout to be answered once no task is left.
    pub(crate) logout: Option<u32>,
    pub(crate) session: Option<Session>,
    /// A proof of who the initiator is has its turn, and what comes of it is not known yet.
    pub(crate) awaits_verdict: bool,
    /// When the proof that is not judged yet came.
    pub(crate) proof_since: Option<Duration>,
    /// Requests that the core did not let act, as far as they are in the metrics.
    pub(crate) counted_refusals: u64,
    /// When it began to handle what it was last woken for.
    woken: Instant,
    /// What its initiator proves to the stores of a cluster.
    pub(crate) path: Option<Path>,
    /// Time to send what is left when the connection is over.
    pub(crate) last_words: Duration,
    /// What this connection logs belongs to. Entered for what is rare only: it costs as much as a small command.
    pub(crate) span: Span,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, connection: Connection, origin: Origin, place: Place) -> Self {
        let span = tracing::info_span!("connection", peer = %origin.peer);
        let path = shared.cluster.as_ref().map(|cluster| Path::new(Arc::clone(cluster), &connection));
        let waits = FuturesUnordered::new();
        if let Some(path) = &path {
            waits.push(next_wish(path.proof()).boxed());
        }
        Self {
            shared,
            connection,
            origin,
            place,
            tasks: Tasks::new(),
            running: FuturesUnordered::new(),
            reading: FuturesUnordered::new(),
            reading_room: Arc::new(Semaphore::new(
                (MAX_READING_BYTES / u64::from(BLOCK_SIZE_BYTES)) as usize,
            )),
            waits,
            logout: None,
            session: None,
            awaits_verdict: false,
            proof_since: None,
            counted_refusals: 0,
            woken: Instant::now(),
            path,
            last_words: LAST_WORDS,
            span,
        }
    }

    /// Drives the connection to its end.
    pub(crate) async fn run(mut self, mut stream: TcpStream) {
        let mut alarm = Box::pin(tokio::time::sleep(Duration::ZERO));
        let mut turn_began = Instant::now();
        loop {
            let wake = self.wait(&mut stream, alarm.as_mut()).await;
            if self.apply(wake).is_break() || self.send_now(&stream).is_break() {
                break;
            }
            // It may have waited meanwhile: then it gives way more often than it must, at most once in a turn.
            if self.woken.saturating_duration_since(turn_began) >= TURN {
                tokio::task::yield_now().await;
                turn_began = Instant::now();
            }
        }
        let span = self.span.clone();
        self.end(stream).instrument(span).await;
    }

    async fn end(mut self, mut stream: TcpStream) {
        // A proof that was not judged any more gives its turn up.
        self.note_verdict(false);
        self.give_up_running(GivenUp::Dropped);
        let _ = tokio::time::timeout(self.last_words, self.send_all(&mut stream)).await;
        drop(stream);
        self.settle().await;
    }

    /// All the waiting there is.
    async fn wait(&mut self, stream: &mut TcpStream, alarm: Pin<&mut Sleep>) -> Wake {
        let deadline = self.connection.next_timeout().map(|at| self.shared.started + at);
        let has_room = self.has_room();
        let wants_input = has_room && self.connection.wants_input();
        let held = self.connection.input().len();
        let (least, room) = match self.connection.missing_input(LARGE_PDU_BYTES) {
            _ if !self.connection.is_full_feature() => (LOGIN_READ_BYTES / 4, LOGIN_READ_BYTES),
            Some(missing) => (missing, missing),
            None => (READ_BYTES / 4, READ_BYTES.saturating_sub(held)),
        };
        if let Some(path) = &mut self.path
            && !self.connection.output().is_empty()
        {
            // What is written when the socket takes it was there before.
            path.about_to_write(&self.connection);
        }
        let (mut reader, mut writer) = stream.split();
        let (input, output) = self.connection.buffers();
        if wants_input && input.capacity() - input.len() < least {
            make_room(input, room);
        }
        let mut input = input.limit(room);
        tokio::select! {
            biased;
            () = self.place.dismissed(), if self.session.is_none() => Wake::Dismissed,
            sent = writer.write(output), if !output.is_empty() => Wake::Sent(sent),
            Some((task, outcome)) = self.running.next(), if !self.running.is_empty() => Wake::Ended(task, outcome),
            Some((task, outcome)) = self.reading.next(), if has_room && !self.reading.is_empty() => {
                Wake::Ended(task, outcome)
            }
            Some(waited) = self.waits.next(), if !self.waits.is_empty() => Wake::Waited(waited),
            received = reader.read_buf(&mut input), if wants_input => Wake::Received(received),
            () = ring_no_later(alarm, deadline) => Wake::Timeout,
        }
    }

    /// All the change there is; `Break` ends the connection.
    fn apply(&mut self, wake: Wake) -> ControlFlow<()> {
        let is_rare = matches!(wake, Wake::Waited(_) | Wake::Dismissed);
        let _entered = is_rare.then(|| self.span.clone().entered());
        match wake {
            Wake::Received(Ok(0)) => return ControlFlow::Break(()),
            Wake::Received(Ok(_)) => {}
            Wake::Sent(Ok(count)) => self.connection.output().advance(count),
            Wake::Received(Err(error)) | Wake::Sent(Err(error)) => return self.lost(&error),
            Wake::Ended(task, outcome) => {
                self.conclude(task, outcome);
                self.conclude_others();
            }
            Wake::Waited(waited) => self.on_waited(waited)?,
            Wake::Dismissed => return self.leave(),
            Wake::Timeout => {}
        }
        self.go_on()
    }

    /// Answers of a store come many at a time, if it is another node's: what has ended leaves together.
    fn conclude_others(&mut self) {
        while let Some(Some((task, outcome))) = self.running.next().now_or_never() {
            self.conclude(task, outcome);
        }
        while self.has_room()
            && let Some(Some((task, outcome))) = self.reading.next().now_or_never()
        {
            self.conclude(task, outcome);
        }
    }

    fn lost(&self, error: &std::io::Error) -> ControlFlow<()> {
        self.span.in_scope(|| tracing::debug!(%error, "connection lost"));
        ControlFlow::Break(())
    }

    /// Handles what there is to handle.
    fn go_on(&mut self) -> ControlFlow<()> {
        self.woken = Instant::now();
        self.handle_timeout(self.woken - self.shared.started)?;
        self.handle_events()?;
        self.resume_waiting();
        self.answer_logout()?;
        if self.connection.is_finished() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Sends what the socket takes at once, and goes on with what waited for room.
    fn send_now(&mut self, stream: &TcpStream) -> ControlFlow<()> {
        while !self.connection.output().is_empty() {
            if let Some(path) = &mut self.path {
                path.about_to_write(&self.connection);
            }
            let had_room = self.has_room();
            match stream.try_write(self.connection.output()) {
                Ok(count) => self.connection.output().advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return ControlFlow::Continue(()),
                Err(error) => return self.lost(&error),
            }
            let is_full = !self.connection.output().is_empty();
            if (!had_room && self.has_room()) || self.connection.is_finished() {
                self.go_on()?;
            }
            if is_full {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    /// Looked at after every wake-up, so that a busy connection is pinged as well.
    fn handle_timeout(&mut self, now: Duration) -> ControlFlow<()> {
        if self.connection.next_timeout().is_some_and(|at| at <= now)
            && let Err(error) = self.connection.handle_timeout(now)
        {
            self.span.in_scope(|| tracing::info!(%error, "connection dropped"));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Handles what has been received, until there is no more or the output is full.
    fn handle_events(&mut self) -> ControlFlow<()> {
        let now = self.woken - self.shared.started;
        let mut end = ControlFlow::Continue(());
        while self.has_room() && end.is_continue() {
            let next = self.connection.next_event(now);
            self.note_verdict(next.is_ok());
            if let Some(path) = &mut self.path
                && let Err(error) = path.heard(&self.connection)
            {
                self.span.in_scope(|| self.report(&error.into()));
                end = ControlFlow::Break(());
                break;
            }
            match next {
                Ok(Some(event)) => self.on_event(event),
                Ok(None) => break,
                Err(error) => {
                    self.span.in_scope(|| self.report(&error));
                    end = ControlFlow::Break(());
                }
            }
        }
        let refusals = self.connection.refused_requests();
        self.shared.metrics.refused_requests.inc_by(refusals - self.counted_refusals);
        self.counted_refusals = refusals;
        end
    }

    fn report(&self, error: &ConnectionError) {
        match error {
            ConnectionError::LoginRefused(refusal) => self.report_refusal(refusal),
            error => {
                self.shared.metrics.protocol_errors.inc();
                match self.session {
                    Some(_) => tracing::warn!(%error, "session closed"),
                    // Anyone can connect and send anything.
                    None => tracing::debug!(%error, "connection closed before login"),
                }
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let is_rare = !matches!(event, Event::Command(_) | Event::DataOut { .. });
        let _entered = is_rare.then(|| self.span.clone().entered());
        match event {
            Event::Command(command) => self.on_command(command, self.woken),
            Event::DataOut { task, data } => self.on_data(task, data),
            Event::Login(negotiated) => self.on_login(negotiated),
            Event::Proof => self.on_proof(),
            Event::TaskManagement(request) => self.on_task_management(&request),
            Event::Logout(logout) => self.on_logout(logout),
            Event::DataFailed { task, failure } => self.on_data_failed(task, failure),
        }
    }

    fn on_waited(&mut self, waited: Waited) -> ControlFlow<()> {
        match waited {
            Waited::TaskManagement { initiator_task_tag, response, closes } => {
                self.connection.respond_task_management(initiator_task_tag, response);
                if closes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            Waited::Sanitize { task, result } => {
                self.conclude_watching(task, result);
                ControlFlow::Continue(())
            }
            Waited::Predecessor(registration) => {
                self.start_session(*registration);
                ControlFlow::Continue(())
            }
            Waited::Turn => {
                self.on_proof();
                ControlFlow::Continue(())
            }
            Waited::ProofWanted(proof) => {
                self.waits.push(next_wish(proof).boxed());
                if self.path.as_ref().is_some_and(Path::wants_ping) {
                    self.connection.ping_now();
                }
                ControlFlow::Continue(())
            }
            Waited::Call(call, calls) => {
                self.waits.push(next_call(calls).boxed());
                self.on_call(call)
            }
            Waited::Forgotten => ControlFlow::Break(()),
        }
    }

    /// Whether there is room for more output. Only answers of `running` go out without it: they are small, and no more of
    /// them come than there are live commands.
    pub(crate) fn has_room(&mut self) -> bool {
        self.connection.output().len() < MAX_OUTPUT_BYTES
    }

    /// Sends what is left, such as the reason for a refused login.
    async fn send_all(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all_buf(self.connection.output()).await?;
        stream.shutdown().await
    }

    /// No store of a cluster is asked for anything that this connection waits for any more.
    pub(crate) fn give_up_running(&self, why: GivenUp) {
        if let Some(path) = &self.path {
            self.tasks.running().for_each(|live| path.give_up(live, why));
        }
    }

    /// Waits until no command of this connection can take effect any more. Whoever waits for that learns it from what is
    /// dropped then: each task, and the session's place among the others.
    async fn settle(mut self) {
        while self.running.next().await.is_some() {}
        while self.reading.next().await.is_some() {}
    }
}

/// Whether a proof is wanted, again and again.
async fn next_wish(proof: Arc<Proof>) -> Waited {
    proof.wanted().await;
    Waited::ProofWanted(proof)
}

/// Makes room for so many bytes behind what is there. `reserve` may double a buffer that is a little too small for that, and
/// one large piece would pin all of it.
fn make_room(input: &mut BytesMut, room: usize) {
    if !input.try_reclaim(room) {
        let mut next = BytesMut::with_capacity(input.len() + room);
        next.extend_from_slice(input);
        *input = next;
    }
}

/// Time to send what is left before a connection is closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The next call from another session. Among what is waited for and not polled unless it is woken, since it is rare.
pub(crate) async fn next_call(mut calls: mpsc::Receiver<Call>) -> Waited {
    match calls.recv().await {
        Some(call) => Waited::Call(call, calls),
        None => Waited::Forgotten,
    }
}

/// Returns at the deadline or earlier: moving an alarm to a later time each time one is set costs more than a false one now
/// and then.
async fn ring_no_later(mut alarm: Pin<&mut Sleep>, deadline: Option<Instant>) {
    let Some(deadline) = deadline.map(Into::into) else { return std::future::pending().await };
    if alarm.is_elapsed() || alarm.deadline() > deadline {
        alarm.as_mut().reset(deadline);
    }
    alarm.await;
}
