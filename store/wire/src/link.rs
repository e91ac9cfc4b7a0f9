//! Connections between processes, and nothing of what travels on them: that is for [`Inbox`] to take, and for cores to resend.
//!
//! Each process calls those it has something to send to ([`Link`]), and is called by those that send to it ([`Acceptor`]).
//! What answers a frame goes back on the same connection. A connection is from one process to one process, and ends with
//! either. Each side shows first that it has the cluster's key ([`crate::hello`]), and under TLS whose certificate it
//! has ([`crate::tls`]). Whatever is on its way when it ends is lost; so is what finds a full [`Outbox`]. Silence is told by the kernel: it
//! probes the other machine, not the other process, which may be paused. Whether that one is at work is for the cores to find out,
//! by leases, long before a connection is given up.

mod accept;
mod connection;
mod dial;
mod outbox;
mod socket;
mod threshold;

use core::time::Duration;
use std::io;
use std::sync::Arc;

use rustix::net::sockopt;
use tokio::net::TcpStream;

pub use accept::{Acceptor, MAX_CONNECTIONS};
pub use dial::{Link, Status};
pub use outbox::{MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES, Outbox};
pub use socket::{Ends, Reader, Writer, answer, call};
pub use threshold::{Guest, MAX_UNPROVED, Threshold};

use crate::Process;
use crate::encoding::Malformed;
use crate::frame::{Frame, Garbage};
use crate::hello::{Nonce, NotTaken, Rejection};
use crate::tls::Untrusted;

/// A connection and all that is said until it is welcome take no longer.
const HELLO_DEADLINE: Duration = Duration::from_secs(3);

/// What was begun goes on at least this often: a frame whose beginning came, and what is to be sent.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(10);

/// The kernel gives up a connection when nothing of the other machine came for so long although something was to come; or when
/// what is sent finds no room there for so long. That is why it is no shorter: a process that is paused makes no room either, and
/// its leases are over by then.
const SILENCE: Duration = PROGRESS_DEADLINE;

/// The kernel asks a machine of which it hears nothing whether it is there, this often.
const PROBES: Duration = Duration::from_secs(1);

/// Takes in what comes.
pub trait Inbox: Send + Sync + 'static {
    /// A frame came from the process. What there is to say in return goes to `back`, now or later.
    ///
    /// # Errors
    /// [`Malformed`]: the sender does not keep to the protocol, and the connection is to be cut.
    fn take(&self, from: Process, frame: Frame, back: &Outbox) -> Result<(), Malformed>;
}

/// Why there is no connection any more, or none yet.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The other side closed it.
    #[error("the other side closed the connection")]
    Closed,
    /// The network failed.
    #[error(transparent)]
    Io(io::Error),
    /// The other side does not speak as it should.
    #[error(transparent)]
    Garbage(#[from] Garbage),
    /// What a frame says cannot be read.
    #[error("a frame cannot be read: {0}")]
    Malformed(#[from] Malformed),
    /// This connection was not to be.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It is not known who that is.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// Others came before this one showed that it has the cluster's key.
    #[error("newer connections took its place before it showed that it has the cluster's key")]
    Displaced,
    /// The node connected anew.
    #[error("the other side connected anew")]
    Replaced,
    /// The other side took too long.
    #[error("{what} did not come within {} s", deadline.as_secs())]
    Late {
        /// What.
        what: &'static str,
        /// How long that was waited for.
        deadline: Duration,
    },
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        match Untrusted::of(&error) {
            Some(untrusted) => Self::Untrusted(untrusted),
            None => Self::Io(error),
        }
    }
}

impl From<NotTaken> for Cut {
    fn from(why: NotTaken) -> Self {
        match why {
            NotTaken::Rejected(rejection) => rejection.into(),
            NotTaken::Malformed(malformed) => malformed.into(),
        }
    }
}

impl Cut {
    const NO_HELLO: Self = Self::Late { what: "the other side's hello", deadline: HELLO_DEADLINE };
    const NO_PROGRESS: Self = Self::Late { what: "the rest of a frame", deadline: PROGRESS_DEADLINE };
    const NOT_READ: Self =
        Self::Late { what: "a sign that what is sent is read", deadline: PROGRESS_DEADLINE };
}

/// Small frames go out at once, and a machine that is gone is noticed after 10 s.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBES)?;
    sockopt::set_tcp_keepintvl(stream, PROBES)?;
    // With this, how many probes go without an answer does not matter.
    sockopt::set_tcp_user_timeout(stream, SILENCE.as_millis() as u32)?;
    Ok(())
}

fn nonce() -> io::Result<Nonce> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(nonce)
}

/// Where both ends of a connection put what they take in.
type SharedInbox = Arc<dyn Inbox>;
