//! What a running script asks of its test: one line of text over TCP, answered with `done` when it has been carried out.
//!
//! So a client's script and a change of the target alternate without either guessing how long the other takes. The script's
//! side is `tests/clients/jobs/ask`.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::script::Running;
use super::wait;

/// How long reading waits before it looks whether the script still runs.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where a script's requests arrive.
pub(crate) struct Requests {
    listener: TcpListener,
}

impl Requests {
    /// Listens on the loopback, at a port that the kernel chooses.
    ///
    /// # Panics
    /// If that cannot be done.
    pub(crate) fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback can be listened on");
        listener.set_nonblocking(true).expect("a socket can be made not to block");
        Self { listener }
    }

    /// `ASK` for a script on this machine.
    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().expect("a listener has an address").to_string()
    }

    /// `ASK` for a job in a QEMU guest with user networking.
    pub(crate) fn address_in_guest(&self) -> String {
        self.address().replace("127.0.0.1", "10.0.2.2")
    }

    /// Carries out what `script` asks for until it ends, and returns what it printed.
    ///
    /// # Panics
    /// If the script fails, or has not ended after `limit`; what it printed is shown.
    pub(crate) fn serve(
        &self,
        mut script: Running,
        limit: Duration,
        mut carry_out: impl FnMut(&str),
    ) -> String {
        let deadline = Instant::now() + limit;
        let connection = wait::try_until(limit, || match self.listener.accept() {
            Ok((stream, _)) => Some(Some(stream)),
            Err(_) if script.is_running() => None,
            Err(_) => Some(None),
        });
        if let Some(stream) = connection.flatten() {
            let mut lines = Lines::new(stream);
            while let Some(line) = lines.next(&mut script, deadline) {
                carry_out(&line);
                lines.say_done();
            }
        }
        let status = script.wait(deadline.saturating_duration_since(Instant::now()));
        let output = script.output();
        match status {
            Some(status) if status.success() => output,
            Some(status) => panic!("the script ended with {status}:\n{output}"),
            None => panic!("the script was not done after {limit:?}:\n{output}"),
        }
    }
}

/// The requests of one script.
struct Lines {
    reader: BufReader<TcpStream>,
    line: String,
}

impl Lines {
    fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(false).expect("a socket can be made to block");
        stream.set_read_timeout(Some(LOOK_EVERY)).expect("a socket takes a time limit");
        Self { reader: BufReader::new(stream), line: String::new() }
    }

    /// The next request; None when there will be none, or the deadline has passed.
    fn next(&mut self, script: &mut Running, deadline: Instant) -> Option<String> {
        while script.is_running() && Instant::now() < deadline {
            match self.reader.read_line(&mut self.line) {
                Ok(0) => return None,
                Ok(_) => return Some(std::mem::take(&mut self.line).trim().to_owned()),
                // what has come of a line is kept
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
        }
        None
    }

    fn say_done(&mut self) {
        // an error means that the script has ended, which is seen next
        let _ = self.reader.get_mut().write_all(b"done\n");
    }
}
