//! One connection: moves bytes between its socket and the protocol core, and carries out what the core reports.
//!
//! One task per connection. All waiting is in [`Driver::wait`], all change in [`Driver::apply`] and what it calls.
//! Whatever one read of the socket brought is handled before anything is sent, and the replies leave together.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use huntaway_scsi::Sense;
use iscsi_target::{Connection, ConnectionError, Event, TaskManagementResponse, TaskTag};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::Shared;
use crate::nexus::{Call, Origin};
use crate::operation::Outcome;
use crate::places::Place;
use crate::session::Session;
use crate::sessions::Registration;
use crate::tasks::Tasks;

/// Output that may wait for the initiator before its further commands are left unread.
pub(crate) const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// Room made in the input buffer for one read of the socket in full feature phase.
const READ_BYTES: usize = 256 << 10;

/// The same before login.
const LOGIN_READ_BYTES: usize = 8 << 10;

/// Something this connection waited for, and that has no effect if the connection ends before.
pub(crate) enum Waited {
    /// Everything a task management request waited for; whether the session ends with it (TARGET COLD RESET).
    TaskManagement { initiator_task_tag: u32, closes: bool },
    /// What a SANITIZE wanted to know: it has begun, or ended.
    Sanitize { task: TaskTag, result: Result<(), Sense> },
    /// The session that a login takes the place of is gone.
    Predecessor(Box<Registration>),
    /// What is to prove who an initiator is has waited for its turn.
    Turn,
}

/// What the connection's task was woken by.
enum Wake {
    Received(std::io::Result<usize>),
    Sent(std::io::Result<usize>),
    Ended(TaskTag, Outcome),
    Waited(Waited),
    Called(Option<Call>),
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
    /// Other sessions' answers.
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
    /// Time to send what is left when the connection is over.
    pub(crate) last_words: Duration,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, connection: Connection, origin: Origin, place: Place) -> Self {
        Self {
            shared,
            connection,
            origin,
            place,
            tasks: Tasks::new(),
            running: FuturesUnordered::new(),
            reading: FuturesUnordered::new(),
            waits: FuturesUnordered::new(),
            logout: None,
            session: None,
            awaits_verdict: false,
            proof_since: None,
            counted_refusals: 0,
            last_words: LAST_WORDS,
        }
    }

    /// Drives the connection to its end.
    pub(crate) async fn run(mut self, mut stream: TcpStream) {
        loop {
            let wake = self.wait(&mut stream).await;
            if self.apply(wake).is_break() {
                break;
            }
        }
        // A proof that was not judged any more gives its turn up.
        self.note_verdict(false);
        let _ = tokio::time::timeout(self.last_words, self.send_all(&mut stream)).await;
        drop(stream);
        self.settle().await;
    }

    /// All the waiting there is.
    async fn wait(&mut self, stream: &mut TcpStream) -> Wake {
        let deadline = self.connection.next_timeout().map(|at| self.shared.started + at);
        let room = if self.connection.is_full_feature() { READ_BYTES } else { LOGIN_READ_BYTES };
        let has_room = self.has_room();
        let wants_input = has_room && self.connection.wants_input();
        let (mut reader, mut writer) = stream.split();
        let (input, output) = self.connection.buffers();
        if wants_input {
            make_room(input, room);
        }
        tokio::select! {
            biased;
            () = self.place.dismissed() => Wake::Dismissed,
            sent = writer.write(output), if !output.is_empty() => Wake::Sent(sent),
            Some((task, outcome)) = self.running.next() => Wake::Ended(task, outcome),
            Some((task, outcome)) = self.reading.next(), if has_room => Wake::Ended(task, outcome),
            Some(waited) = self.waits.next() => Wake::Waited(waited),
            call = next_call(&mut self.session) => Wake::Called(call),
            received = reader.read_buf(input), if wants_input => Wake::Received(received),
            () = sleep_until(deadline) => Wake::Timeout,
        }
    }

    /// All the change there is; `Break` ends the connection.
    fn apply(&mut self, wake: Wake) -> ControlFlow<()> {
        match wake {
            Wake::Received(Ok(0)) => return ControlFlow::Break(()),
            Wake::Received(Ok(_)) => {}
            Wake::Sent(Ok(count)) => self.connection.output().advance(count),
            Wake::Received(Err(error)) | Wake::Sent(Err(error)) => {
                tracing::debug!(%error, "connection lost");
                return ControlFlow::Break(());
            }
            Wake::Ended(task, outcome) => self.conclude(task, outcome),
            Wake::Waited(waited) => self.on_waited(waited)?,
            Wake::Called(Some(call)) => self.on_call(call)?,
            Wake::Called(None) => return ControlFlow::Break(()),
            Wake::Dismissed => return self.leave(),
            Wake::Timeout => {}
        }
        let now = Instant::now();
        self.handle_timeout(now - self.shared.started)?;
        self.handle_events(now)?;
        self.resume_waiting();
        self.answer_logout()?;
        if self.connection.is_finished() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Looked at after every wake-up, so that a busy connection is pinged as well.
    fn handle_timeout(&mut self, now: Duration) -> ControlFlow<()> {
        if self.connection.next_timeout().is_some_and(|at| at <= now)
            && let Err(error) = self.connection.handle_timeout(now)
        {
            tracing::info!(%error, "connection dropped");
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Handles what has been received, until there is no more or the output is full.
    fn handle_events(&mut self, arrived: Instant) -> ControlFlow<()> {
        let now = arrived - self.shared.started;
        let mut end = ControlFlow::Continue(());
        while self.has_room() && end.is_continue() {
            let next = self.connection.next_event(now);
            self.note_verdict(next.is_ok());
            match next {
                Ok(Some(event)) => self.on_event(event, arrived),
                Ok(None) => break,
                Err(error) => {
                    self.report(&error);
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

    fn on_event(&mut self, event: Event, arrived: Instant) {
        match event {
            Event::Login(negotiated) => self.on_login(negotiated),
            Event::Proof => self.on_proof(),
            Event::Command(command) => self.on_command(command, arrived),
            Event::DataOut { task, data } => self.on_data(task, data),
            Event::TaskManagement(request) => self.on_task_management(&request),
            Event::Logout(logout) => self.on_logout(logout),
            Event::DataFailed { task, failure } => self.on_data_failed(task, failure),
        }
    }

    fn on_waited(&mut self, waited: Waited) -> ControlFlow<()> {
        match waited {
            Waited::TaskManagement { initiator_task_tag, closes } => {
                let response = TaskManagementResponse::FunctionComplete;
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

    /// Waits until no command of this connection can take effect any more. Whoever waits for that learns it from what is
    /// dropped then: each task, and the session's place among the others.
    async fn settle(mut self) {
        while self.running.next().await.is_some() {}
        while self.reading.next().await.is_some() {}
    }
}

/// Time to send what is left before a connection is closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The next call from another session; never, before there is a session.
async fn next_call(session: &mut Option<Session>) -> Option<Call> {
    match session {
        Some(session) => session.registration.calls.recv().await,
        None => std::future::pending().await,
    }
}

/// Makes sure a read has room for `bytes`, without growing a buffer that still has at least a quarter of it.
fn make_room(buffer: &mut BytesMut, bytes: usize) {
    if buffer.capacity() - buffer.len() < bytes / 4 {
        buffer.reserve(bytes);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
