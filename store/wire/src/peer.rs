//! Where gateway and store meet: something that answers requests, in this process or elsewhere.

use tokio::sync::oneshot;

use crate::{Error, Read, Refusal, Reply, Request};

/// The outcome of one request.
pub type Answer = Result<Reply, Error>;

/// What became of a request that was handed over.
#[derive(Debug)]
pub enum Submission {
    /// It is done (or refused) already.
    Done(Answer),
    /// It is under way; the answer will arrive here.
    Waiting(oneshot::Receiver<Answer>),
}

impl Submission {
    /// Waits for the answer. A peer that goes away without answering counts as [`Refusal::NotServing`].
    pub async fn answer(self) -> Answer {
        match self {
            Self::Done(answer) => answer,
            Self::Waiting(receiver) => receiver.await.unwrap_or(Err(Refusal::NotServing.into())),
        }
    }
}

/// A store that can be asked: the one in this process, or one behind a connection.
pub trait Peer: Send + Sync {
    /// Hands over a request. Never blocks for the network or for stable storage: what takes long comes back as
    /// [`Submission::Waiting`]. Requests submitted by one caller for the same block take effect in the order of submission;
    /// but a read that waits finds what was written before it, and perhaps what is written until it is answered.
    fn submit(&self, request: Request) -> Submission;

    /// Reads straight into `into` (exactly `read.range.length()` bytes) when that can be done at once, else
    /// returns `None` and the caller submits the read: then, and on an error, the content of `into` is unspecified.
    ///
    /// If the caller wants `crcs`, it has an entry for each block that the range touches, and gets in it the CRC32C that the
    /// whole block is kept with. So what `into` holds of whole blocks need not be summed again, and what damages it after it
    /// was verified is found by whoever sums it later.
    fn read_now(&self, read: &Read, into: &mut [u8], crcs: Option<&mut [u32]>) -> Option<Result<(), Error>> {
        let _ = (read, into, crcs);
        None
    }
}
