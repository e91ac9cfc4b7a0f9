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
use iscsi_target::{Connection, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::Shared;
use crate::operation::Outcome;
use crate::session::Session;
use crate::sessions::{Call, Registration};
use crate::tasks::{TaskTag, Tasks};

/// Output that may wait for the initiator before its further commands are left unread.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// Room made in the input buffer for one read of the socket in full feature phase.
const READ_BYTES: usize = 256 << 10;

/// The same before login.
const LOGIN_READ_BYTES: usize = 8 << 10;

/// Something that was under way has ended.
pub(crate) enum Ended {
    /// A command's block operation.
    Operation(TaskTag, Outcome),
    /// Everything a task management request waited for.
    TaskManagement { initiator_task_tag: u32 },
    /// The sessions a login takes the place of are gone.
    Predecessor(Box<Registration>),
}

/// What the connection's task was woken by.
enum Wake {
    Received(std::io::Result<usize>),
    Sent(std::io::Result<usize>),
    Ended(Ended),
    Called(Option<Call>),
    Timeout,
}

/// A connection with all that belongs to it.
pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: Connection,
    pub(crate) session: Option<Session>,
    pub(crate) tasks: Tasks,
    /// What this connection waits for, other than its socket.
    pub(crate) running: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// A Logout to be answered once no task is left.
    pub(crate) logout: Option<iscsi_target::Logout>,
    /// Dropped when the connection has ended and none of its commands can take effect any more.
    pub(crate) end: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, connection: Connection) -> Self {
        Self {
            shared,
            connection,
            session: None,
            tasks: Tasks::default(),
            running: FuturesUnordered::new(),
            logout: None,
            end: None,
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
        let _ = tokio::time::timeout(LAST_WORDS, self.send_all(&mut stream)).await;
        drop(stream);
        self.settle().await;
    }

    /// All the waiting there is.
    async fn wait(&mut self, stream: &mut TcpStream) -> Wake {
        let deadline = self.connection.next_timeout().map(|at| self.shared.started + at);
        let room = if self.connection.is_full_feature() { READ_BYTES } else { LOGIN_READ_BYTES };
        let wants_input = self.connection.wants_input() && self.connection.output().len() < MAX_OUTPUT_BYTES;
        let (mut reader, mut writer) = stream.split();
        let (input, output) = self.connection.buffers();
        if wants_input {
            make_room(input, room);
        }
        tokio::select! {
            biased;
            sent = writer.write(output), if !output.is_empty() => Wake::Sent(sent),
            Some(ended) = self.running.next() => Wake::Ended(ended),
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
            Wake::Ended(ended) => self.on_ended(ended),
            Wake::Called(Some(call)) => self.on_call(call)?,
            Wake::Called(None) => return ControlFlow::Break(()),
            Wake::Timeout => {
                let now = self.shared.now();
                if let Err(error) = self.connection.handle_timeout(now) {
                    tracing::info!(%error, "connection dropped");
                    return ControlFlow::Break(());
                }
            }
        }
        self.handle_events()?;
        self.answer_logout();
        if self.connection.is_finished() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Handles what has been received, until there is no more or the output is full.
    fn handle_events(&mut self) -> ControlFlow<()> {
        let arrived = Instant::now();
        let now = arrived - self.shared.started;
        while self.connection.output().len() < MAX_OUTPUT_BYTES {
            match self.connection.next_event(now) {
                Ok(Some(event)) => self.on_event(event, arrived),
                Ok(None) => break,
                Err(error) => {
                    self.shared.metrics.protocol_errors.inc();
                    tracing::warn!(%error, "connection closed");
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn on_event(&mut self, event: Event, arrived: Instant) {
        match event {
            Event::Login(negotiated) => self.on_login(negotiated),
            Event::Command(command) => self.on_command(command, arrived),
            Event::DataOut { task, data } => self.on_data(task, data),
            Event::TaskManagement(request) => self.on_task_management(&request),
            Event::Logout(logout) => self.logout = Some(logout),
            Event::DataFailed { task, failure } => self.on_data_failed(task, failure),
        }
    }

    fn on_ended(&mut self, ended: Ended) {
        match ended {
            Ended::Operation(task, outcome) => self.conclude(task, outcome),
            Ended::TaskManagement { initiator_task_tag } => self.task_management_done(initiator_task_tag),
            Ended::Predecessor(registration) => self.start_session(*registration),
        }
    }

    /// Sends what is left, such as the reason for a refused login.
    async fn send_all(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all_buf(self.connection.output()).await?;
        stream.shutdown().await
    }

    /// Waits until no command of this connection can take effect any more, then gives up its place.
    async fn settle(mut self) {
        while self.running.next().await.is_some() {}
        if let Some(session) = self.session.take() {
            session.leave(&self.shared);
        }
        drop(self.end);
    }
}

/// Time to send what is left before a connection is closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The next call from another session; never, before there is a session.
async fn next_call(session: &mut Option<Session>) -> Option<Call> {
    match session {
        Some(session) => session.calls.recv().await,
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
