//! One TCP connection of one session, without I/O.
//!
//! The caller reads into [`input`](Connection::input), takes events with
//! [`next_event`](Connection::next_event) until there is none, answers them, and writes what is in
//! [`output`](Connection::output). What the initiator sends is handled only when events are pulled, so a
//! caller that pulls nothing while much output waits bounds what a connection holds. What the connection
//! answers by itself waits likewise, once [`Limits::pending_output`] bytes are not taken.

mod commands;
mod data_in;
mod keep_alive;
mod login_phase;
mod requests;
mod responses;
mod write_budget;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

pub use data_in::DataIn;
use keep_alive::KeepAlive;
use login_phase::LoginPhase;

use crate::command_window::CommandWindow;
use crate::directory::Directory;
use crate::entropy::Entropy;
use crate::error::ConnectionError;
use crate::event::Event;
use crate::framing::{self, Digests, Frame, FrameLimits, put_pdu, take_frame};
use crate::limits::Limits;
use crate::output::OutputBuffer;
use crate::parameters::{DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH, Negotiated, SessionKind};
use crate::pdu::{BasicHeader, RESERVED_TAG, SequenceNumbers};
use crate::status_sequence::StatusSequence;
use crate::tasks::{TaskTable, TaskTag};
use crate::text_exchange::TextExchange;

/// StatSN of the first Login Response; any number would do.
const FIRST_STAT_SN: u32 = 1;

/// What a connection needs to know about its surroundings.
#[derive(Clone)]
pub struct ConnectionConfig {
    /// The portal group the connection came in by.
    pub portal_group_tag: u16,
    /// Address and port of the portal as advertised, such as `10.0.0.1:3260`.
    pub portal: String,
    /// Which targets exist, and who may log in to them.
    pub directory: Arc<dyn Directory>,
    /// Source of randomness.
    pub entropy: Entropy,
    /// What the peer may make the connection hold and do.
    pub limits: Limits,
}

/// How far the connection is.
enum Phase {
    /// No session yet.
    Login(Box<LoginPhase>),
    /// Full feature phase.
    FullFeature,
    /// A Logout event waits for its answer: what arrives is discarded, PDU by PDU.
    LoggingOut,
    /// Nothing more is read or answered; what is in the output buffer is still to be sent.
    Closed,
}

/// A command that arrived ahead of its CmdSN.
enum Held {
    Task(TaskTag),
    Request(Frame),
}

/// One connection. See the [module documentation](self).
pub struct Connection {
    portal: String,
    directory: Arc<dyn Directory>,
    limits: Limits,
    phase: Phase,
    input: BytesMut,
    output: OutputBuffer,
    digests: Digests,
    frame_limits: FrameLimits,
    session: Option<Negotiated>,
    connection_id: u16,
    window: CommandWindow<Held>,
    held_input: usize,
    status: StatusSequence,
    tasks: TaskTable,
    /// The initiator's tags of task management requests that wait for their answers.
    task_management: Vec<u32>,
    /// At most one for each live task, besides those of the PDU being handled.
    events: VecDeque<Event>,
    /// Tasks handed to the caller so far.
    deliveries: u64,
    /// Bytes of write data that live tasks hold, or will once it comes.
    held_data: u64,
    /// Tasks whose R2Ts wait for others to end, by the order of their delivery.
    waiting_for_budget: BTreeMap<u64, TaskTag>,
    last_transfer_tag: u32,
    refused_requests: u64,
    text: TextExchange,
    keep_alive: KeepAlive,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(config: ConnectionConfig, now: Duration) -> Self {
        let ConnectionConfig { portal_group_tag, portal, directory, entropy, limits } = config;
        let login = LoginPhase::new(portal_group_tag, Arc::clone(&directory), entropy, &limits, now);
        Self {
            portal,
            directory,
            phase: Phase::Login(Box::new(login)),
            input: BytesMut::new(),
            output: OutputBuffer::default(),
            digests: Digests::default(),
            frame_limits: FrameLimits {
                data: DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH,
                additional_header: limits.additional_header,
            },
            session: None,
            connection_id: 0,
            window: CommandWindow::new(0, limits.command_window),
            held_input: 0,
            status: StatusSequence::new(FIRST_STAT_SN),
            tasks: TaskTable::default(),
            task_management: Vec::new(),
            events: VecDeque::new(),
            deliveries: 0,
            held_data: 0,
            waiting_for_budget: BTreeMap::new(),
            last_transfer_tag: 0,
            refused_requests: 0,
            text: TextExchange::new(&limits),
            keep_alive: KeepAlive::new(now, limits.silence),
            limits,
        }
    }

    /// Where the caller appends what it read from the socket. Call
    /// [`next_event`](Self::next_event) until it gives `None` before reading more: less than one PDU is then
    /// left, or the connection does not [want input](Self::wants_input).
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Bytes that the first PDU of the input lacks, and a header more, if it is one of at least `pdu_bytes` bytes. Reading no
    /// more than this leaves the next PDU to begin in a buffer of its own, to which its data then need not be moved.
    pub fn missing_input(&self, pdu_bytes: usize) -> Option<usize> {
        let length = framing::pdu_bytes(&self.input, self.digests)?;
        let missing = length.checked_sub(self.input.len()).filter(|missing| *missing > 0)?;
        (length >= pdu_bytes).then_some(missing + self.digests.header_bytes())
    }

    /// Whether input is to be read now: not while a login waits for the caller's answer, nor while
    /// [`Limits::pending_output`] bytes wait to be sent, nor after the end.
    /// While a logout waits for its answer input is read only to be discarded, so that the caller sees the
    /// end of the stream; a Data-Out is discarded too.
    pub fn wants_input(&self) -> bool {
        self.reads_input()
    }

    /// The bytes to send; take them with [`bytes::Buf::advance`].
    pub fn output(&mut self) -> &mut OutputBuffer {
        &mut self.output
    }

    /// [`input`](Self::input) and [`output`](Self::output) at once, to wait for both directions of a socket.
    pub fn buffers(&mut self) -> (&mut BytesMut, &mut OutputBuffer) {
        (&mut self.input, &mut self.output)
    }

    /// Handles buffered PDUs until one concerns the caller, or none can be handled now (`None`): more bytes
    /// are needed, or [`Limits::pending_output`] bytes wait to be sent. Call it again after each read and
    /// after each write.
    ///
    /// # Errors
    /// The connection must be closed once the output is sent; no further event comes.
    pub fn next_event(&mut self, now: Duration) -> Result<Option<Event>, ConnectionError> {
        let next = self.advance(now);
        if next.is_err() {
            self.phase = Phase::Closed;
        }
        self.keep_alive.input_is_left(self.input.len());
        next
    }

    /// Whether the connection is over and all output is sent: close it.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Closed) && self.output.is_empty()
    }

    /// Whether the login is complete and the end has not begun.
    pub fn is_full_feature(&self) -> bool {
        matches!(self.phase, Phase::FullFeature)
    }

    /// The session, from the moment it was accepted.
    pub fn session(&self) -> Option<&Negotiated> {
        self.session.as_ref()
    }

    /// The portal the connection came in by, as advertised.
    pub fn portal(&self) -> &str {
        &self.portal
    }

    /// The initiator has every status with a number below this one.
    pub fn acknowledged_stat_sn(&self) -> u32 {
        self.status.acknowledged()
    }

    /// The number that the next status will have.
    pub fn next_stat_sn(&self) -> u32 {
        self.status.peek()
    }

    /// Whether an R2T has shown the number that the next status will have: an initiator may take it for that of a status it has
    /// (libiscsi does).
    pub fn next_stat_sn_was_shown(&self) -> bool {
        self.status.next_was_shown()
    }

    /// The Target Transfer Tag of the last ping that was added to the output.
    pub fn last_ping(&self) -> Option<u32> {
        self.keep_alive.last_ping()
    }

    /// The Target Transfer Tag of the last NOP-Out that answered a ping: the initiator held the session when that ping was sent.
    pub fn answered_ping(&self) -> Option<u32> {
        self.keep_alive.answered_ping()
    }

    /// PDUs that did not act: rejected, ignored since their CmdSN is not one of the window, or data of no task. Each is
    /// either a fault of the initiator's or, for data, what it had sent before it knew that its task is no more.
    pub fn refused_requests(&self) -> u64 {
        self.refused_requests
    }

    fn advance(&mut self, now: Duration) -> Result<Option<Event>, ConnectionError> {
        self.keep_alive.input_is_there(self.input.len(), now);
        self.keep_alive.output_was_taken(self.output.taken_total(), now);
        loop {
            if let Some(event) = self.next_queued_event() {
                return Ok(Some(event));
            }
            if !self.reads_input() {
                return Ok(None);
            }
            if let Some(proof) = self.take_proof_to_judge() {
                self.step_login(&proof)?;
                continue;
            }
            if self.is_full_feature() && self.release_held() {
                continue;
            }
            self.check_login_input()?;
            let Some(frame) = take_frame(&mut self.input, self.digests, self.frame_limits)? else {
                return Ok(None);
            };
            match self.phase {
                Phase::Login(_) => self.handle_during_login(frame)?,
                Phase::FullFeature => self.handle(frame)?,
                Phase::LoggingOut | Phase::Closed => {}
            }
        }
    }

    /// The next event whose task, if it has one, still lives.
    fn next_queued_event(&mut self) -> Option<Event> {
        while let Some(event) = self.events.pop_front() {
            let task = match &event {
                Event::Command(command) => Some(command.task),
                Event::DataOut { task, .. } | Event::DataFailed { task, .. } => Some(*task),
                Event::Login(_) | Event::Proof | Event::TaskManagement(_) | Event::Logout(_) => None,
            };
            if task.is_none_or(|task| self.tasks.task(task).is_some()) {
                return Some(event);
            }
        }
        None
    }

    fn reads_input(&self) -> bool {
        match &self.phase {
            Phase::Login(login) => !login.awaits_decision(),
            Phase::FullFeature => self.output.len() < self.limits.pending_output,
            Phase::LoggingOut => true,
            Phase::Closed => false,
        }
    }

    fn check_login_input(&self) -> Result<(), ConnectionError> {
        let (held, limit) = (self.input.len(), self.limits.login_input);
        match self.phase {
            Phase::Login(_) if held > limit => Err(ConnectionError::LoginInputTooLong { held, limit }),
            _ => Ok(()),
        }
    }

    fn is_discovery(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.kind == SessionKind::Discovery)
    }

    /// Numbers for a PDU that consumes a StatSN.
    fn status_numbers(&mut self) -> SequenceNumbers {
        let stat_sn = self.status.take();
        SequenceNumbers { stat_sn, ..self.unconsumed_numbers() }
    }

    /// Numbers for a PDU that shows the next StatSN without consuming it.
    fn unconsumed_numbers(&self) -> SequenceNumbers {
        SequenceNumbers {
            stat_sn: self.status.peek(),
            exp_cmd_sn: self.window.exp_cmd_sn(),
            max_cmd_sn: self.window.max_cmd_sn(),
        }
    }

    /// Adds a PDU to the output; none may follow the end of the connection.
    fn send(&mut self, header: BasicHeader, data: &[&[u8]]) {
        if !matches!(self.phase, Phase::Closed) {
            put_pdu(&mut self.output, self.digests, header, data);
        }
    }

    /// A target transfer tag that no recent transfer or ping had.
    fn next_transfer_tag(&mut self) -> u32 {
        self.last_transfer_tag = match self.last_transfer_tag.wrapping_add(1) {
            RESERVED_TAG => 0,
            tag => tag,
        };
        self.last_transfer_tag
    }
}
