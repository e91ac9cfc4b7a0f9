//! A session in full feature phase, on its socket.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::input::Input;
use super::login::{Address, Negotiated, Offer, log_in};
use super::output::Output;
use super::tasks::{Outcome, Request, Tasks};
use crate::bench::error::{ProtocolError, SessionError};

/// Time for a TCP connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Time in which the target has to say something while a command is under way.
pub(super) const SILENCE_LIMIT_SECONDS: u64 = 60;
/// Time that a logout may take.
const LOGOUT_LIMIT: Duration = Duration::from_secs(2);

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
        let login = log_in(&stream, address, offer)?;
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
