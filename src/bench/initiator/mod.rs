//! An initiator for putting load on a target: one session of one connection, driven by blocking calls of one thread. What is
//! queued leaves in one call to the system, what has come is taken in one, and no command allocates memory.
//!
//! It recovers nothing: an error ends the session. That a logical unit has news (a unit attention) is for the caller to see.

mod chap;
mod input;
mod login;
mod output;
mod tasks;
mod unit;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use input::Input;
use iscsi_target::Lun;
use output::Output;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tasks::Tasks;

use super::error::{ProtocolError, SessionError};
pub(crate) use chap::Account;
pub(crate) use login::Negotiated;
pub(crate) use tasks::{Direction, Outcome, Request};
pub(crate) use unit::{LogicalUnit, flush};

/// Time for a TCP connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Time in which the target has to say something while a command is under way.
const SILENCE_LIMIT_SECONDS: u64 = 60;
/// Time that a logout may take.
const LOGOUT_LIMIT: Duration = Duration::from_secs(2);

/// Where a LUN is, and who we are to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Address {
    /// `HOST:PORT`.
    pub(crate) portal: String,
    /// The target's name.
    pub(crate) target: String,
    /// The LUN's number.
    pub(crate) lun: Lun,
    /// CHAP, if the target asks for it.
    pub(crate) account: Option<Account>,
}

/// What we offer in the login.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    /// Write data only when asked for: InitialR2T=Yes, ImmediateData=No.
    pub(crate) solicited: bool,
}

/// A session in full feature phase.
pub(crate) struct Session {
    stream: TcpStream,
    input: Input,
    output: Output,
    tasks: Tasks,
    negotiated: Negotiated,
}

impl Session {
    /// Connects and logs in. So many commands may be under way; data that is sent without a buffer of its own is taken from
    /// `pattern`.
    ///
    /// # Errors
    /// The portal cannot be reached, or the target does not let us in.
    pub(crate) fn open(
        address: &Address,
        offer: Offer,
        depth: u32,
        pattern: Arc<[u8]>,
    ) -> Result<Self, SessionError> {
        let stream = connect(&address.portal)?;
        let login = login::log_in(&stream, address, offer)?;
        let silence = Duration::from_secs(SILENCE_LIMIT_SECONDS);
        stream.set_read_timeout(Some(silence)).map_err(SessionError::Lost)?;
        let output = Output::new(login.negotiated.digests(), pattern);
        let input = Input::new(login.negotiated.digests());
        let tasks = Tasks::new(address.lun, depth, &login);
        Ok(Self { stream, input, output, tasks, negotiated: login.negotiated })
    }

    /// What the login settled.
    pub(crate) fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// The target wants us to log out.
    pub(crate) fn is_asked_to_leave(&self) -> bool {
        self.tasks.is_asked_to_leave()
    }

    /// Commands that are under way.
    pub(crate) fn under_way(&self) -> u32 {
        self.tasks.under_way()
    }

    /// Whether the target's command window has room for one more command.
    pub(crate) fn has_room(&self) -> bool {
        self.tasks.has_room()
    }

    /// The buffer of a tag, which a request may name as its data. As large as it was made by the caller.
    pub(crate) fn buffer_mut(&mut self, tag: u32) -> &mut Vec<u8> {
        self.tasks.buffer_mut(tag)
    }

    /// Queues a command on a tag that is free.
    pub(crate) fn submit(&mut self, tag: u32, request: &Request) {
        self.tasks.submit(tag, request, &mut self.output);
    }

    /// Sends what is queued, waits for the target, and takes what has come: [`Self::next_done`] tells of it. True if that was
    /// anything more than a part of a PDU.
    ///
    /// # Errors
    /// The connection is over.
    pub(crate) fn pump(&mut self) -> Result<bool, SessionError> {
        if !self.output.flush(&self.stream, &self.tasks)? && !self.await_input()? {
            return Ok(false);
        }
        self.input.receive(&self.stream)?;
        let mut any = false;
        while let Some(pdu) = self.input.next_pdu()? {
            self.tasks.take(&pdu, &mut self.output)?;
            any = true;
        }
        self.input.compact();
        Ok(any)
    }

    /// A command that has ended since, and how. Its buffer has what was read.
    pub(crate) fn next_done(&mut self) -> Option<(u32, Outcome)> {
        self.tasks.next_done()
    }

    /// Waits until the socket takes more output, or has input: that is true.
    fn await_input(&self) -> Result<bool, SessionError> {
        let mut sockets = [PollFd::new(&self.stream, PollFlags::IN | PollFlags::OUT)];
        let limit = Timespec { tv_sec: SILENCE_LIMIT_SECONDS as i64, tv_nsec: 0 };
        match poll(&mut sockets, Some(&limit)) {
            Ok(0) => Err(SessionError::Silent(SILENCE_LIMIT_SECONDS)),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(SessionError::Lost(error.into())),
            Ok(_) => Ok(sockets[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)),
        }
    }

    /// Runs one command by itself, on tag 0, and takes unit attentions for what they are: told once.
    ///
    /// # Errors
    /// The connection is over, or the command failed.
    pub(crate) fn run_alone(
        &mut self,
        command: &'static str,
        request: &Request,
    ) -> Result<&[u8], SessionError> {
        const TRIES: u32 = 10;
        let mut tries = 0;
        loop {
            tries += 1;
            self.submit(0, request);
            let outcome = self.await_done()?;
            if outcome.is_good() {
                let length = outcome.received_bytes as usize;
                return Ok(&self.tasks.buffer(0)[..length]);
            }
            if !outcome.is_unit_attention() || tries == TRIES {
                return Err(SessionError::Command { command, outcome: outcome.to_string() });
            }
        }
    }

    fn await_done(&mut self) -> Result<Outcome, SessionError> {
        loop {
            if let Some((_, outcome)) = self.next_done() {
                return Ok(outcome);
            }
            if !self.has_room() && self.under_way() == 0 {
                return Err(ProtocolError::ClosedWindow.into());
            }
            self.pump()?;
        }
    }

    /// Logs out, if the target answers in time, and closes the connection.
    pub(crate) fn close(mut self) {
        let deadline = Instant::now() + LOGOUT_LIMIT;
        if self.stream.set_read_timeout(Some(LOGOUT_LIMIT)).is_err() {
            return;
        }
        self.tasks.log_out(&mut self.output);
        // the answer ends the session, and so does any error
        while Instant::now() < deadline && !self.tasks.is_logged_out() && self.pump().is_ok() {}
    }
}

fn connect(portal: &str) -> Result<TcpStream, SessionError> {
    let unresolved = |source| SessionError::Unresolved { portal: portal.to_owned(), source };
    let unreachable = |source| SessionError::Unreachable { portal: portal.to_owned(), source };
    let addresses: Vec<SocketAddr> = portal.to_socket_addrs().map_err(unresolved)?.collect();
    let mut failure = ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(unreachable)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(unreachable(failure))
}
