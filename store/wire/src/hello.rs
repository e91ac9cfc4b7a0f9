//! What both sides of a connection say first: which cluster, which process, which versions; and that they have the cluster's key.
//! Pure: no socket, nothing drawn at random.
//!
//! ```text
//! who calls ── hello: who it is, whom it means, nonce ──────────────────► who is called
//! who calls ◄─ challenge: proof over the hello and this, who, nonce ────── who is called     (or a rejection)
//! who calls ── proof over the same, for its part ───────────────────────► who is called
//! who calls ◄─ welcome ─────────────────────────────────────────────────── who is called     (or a rejection)
//! ```
//!
//! A proof is for one part in one exchange of one pair of processes: it can be neither repeated nor sent back. What follows is
//! checked for damage, not signed: who can change packets on their way is not kept out by this, nor who reads along; TLS does that.
//!
//! A connection is from one process to one process. Who calls says whom it means, and a process takes only what is meant for
//! it: not for another node behind the same address, nor for another start of the same node.

#[cfg(test)]
mod tests;

use core::fmt;

use bytes::Bytes;
use subtle::ConstantTimeEq;

use crate::encoding::{Encoding, Malformed, Reader, Writer};
use crate::frame::{Frame, Kind, Outgoing, VERSION};
use crate::key::{ClusterKey, KEY_BYTES};
use crate::{NodeId, Process};

/// The oldest version of the wire that is spoken.
pub const OLDEST_VERSION: u8 = 1;

/// How the metadata of every hello begins.
const NAME: [u8; 8] = *b"HUNTAWAY";

/// What proofs are for.
const CALLS: &[u8] = b"huntaway: who calls";
const IS_CALLED: &[u8] = b"huntaway: who is called";

/// Drawn at random, for one connection.
pub type Nonce = [u8; KEY_BYTES];

/// A cluster's uuid, made once when the cluster is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        NodeId(self.0).fmt(f)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// Versions of the wire, from the oldest to the newest that a process speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub oldest: u8,
    /// The newest.
    pub newest: u8,
}

impl Versions {
    /// What this program speaks.
    pub const OURS: Self = Self { oldest: OLDEST_VERSION, newest: VERSION };

    /// The newest that both speak.
    fn common(self, other: Self) -> Option<u8> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { oldest, newest } = self;
        if oldest == newest { write!(f, "{newest}") } else { write!(f, "{oldest} to {newest}") }
    }
}

/// Who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// What is spoken.
    pub versions: Versions,
    /// The cluster.
    pub cluster: ClusterId,
    /// The process.
    pub process: Process,
    /// A bit for each thing that is not spoken by all of these versions: what both have is used. There is none yet.
    pub features: u64,
}

impl Identity {
    /// A process of this program.
    pub fn new(cluster: ClusterId, process: Process) -> Self {
        Self { versions: Versions::OURS, cluster, process, features: 0 }
    }

    /// As the frame that takes a connection.
    pub fn welcome(&self) -> Outgoing {
        Outgoing::hello(Kind::Welcome, self)
    }
}

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Who calls.
    pub from: Identity,
    /// Whom it means.
    pub to: Process,
    /// Of who calls.
    pub nonce: Nonce,
}

/// What both sides go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The version of the frames that follow.
    pub version: u8,
    /// What both have.
    pub features: u64,
    /// The other side.
    pub peer: Process,
}

impl Hello {
    /// As the first frame of a connection.
    pub fn frame(&self) -> Outgoing {
        Outgoing::hello(Kind::Hello, self)
    }

    /// What who called goes on with, when this is what it was told: the proof to be sent, and what holds if that is welcome.
    ///
    /// # Errors
    /// [`NotTaken`]: nothing is sent to whoever that is.
    pub fn challenged(&self, key: &ClusterKey, frame: &Frame) -> Result<(Outgoing, Agreed), NotTaken> {
        let challenge: Challenge = answer(frame, Kind::Challenge)?;
        let agreed = self.met(challenge.by)?;
        let (hello, rest) = (said(self), frame.metadata().get(KEY_BYTES..).unwrap_or_default());
        if !key.is_proof(&challenge.proof, IS_CALLED, [&hello, rest]) {
            return Err(Rejection { why: Why::Key, by: challenge.by }.into());
        }
        let proof = key.proof(CALLS, [&hello, rest]);
        Ok((Outgoing::hello(Kind::Proof, &Proof { proof }), agreed))
    }

    /// The same rules as for who is called, seen from here: who was meant is who has to answer.
    fn met(&self, by: Identity) -> Result<Agreed, Rejection> {
        let agreed = meet(by, self.from.process, self.from)?;
        let why = if by.process.node != self.to.node {
            Why::Node
        } else if by.process != self.to {
            Why::Incarnation
        } else {
            return Ok(agreed);
        };
        Err(Rejection { why, by })
    }
}

/// Whether who called is taken, when this is what it was told at last.
///
/// # Errors
/// [`NotTaken`].
pub fn welcomed(frame: &Frame) -> Result<(), NotTaken> {
    answer::<Identity>(frame, Kind::Welcome).map(drop)
}

/// What `from` and `ours` go on with, if `to` is who `ours` is.
fn meet(from: Identity, to: Process, ours: Identity) -> Result<Agreed, Rejection> {
    let why = if from.cluster != ours.cluster {
        Why::Cluster
    } else if to.node != ours.process.node {
        Why::Node
    } else if to.incarnation != ours.process.incarnation {
        Why::Incarnation
    } else if let Some(version) = ours.versions.common(from.versions) {
        let features = ours.features & from.features;
        return Ok(Agreed { version, features, peer: from.process });
    } else {
        Why::Versions
    };
    Err(Rejection { why, by: ours })
}

fn answer<T: Encoding>(frame: &Frame, kind: Kind) -> Result<T, NotTaken> {
    match frame.kind {
        Kind::Rejection => Err(frame.open_hello::<Rejection>(Kind::Rejection)?.into()),
        _ => Ok(frame.open_hello(kind)?),
    }
}

/// The metadata of what is said.
fn said<T: Encoding>(of: &T) -> Bytes {
    let mut writer = Writer::new();
    of.encode(&mut writer);
    writer.into_bytes().0
}

/// Whoever calls, as the called process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What it says.
    pub hello: Hello,
    /// As it was sent.
    said: Bytes,
}

/// A caller that is meant here, and has not shown yet that it has the key.
#[derive(Debug, Clone)]
pub struct Challenged {
    /// What it is told.
    pub challenge: Outgoing,
    agreed: Agreed,
    proof: [u8; KEY_BYTES],
}

impl Caller {
    /// What the first frame of a connection says.
    ///
    /// # Errors
    /// [`Malformed`]: it is no hello.
    pub fn of(frame: &Frame) -> Result<Self, Malformed> {
        let hello = frame.open_hello(Kind::Hello)?;
        Ok(Self { hello, said: Bytes::copy_from_slice(frame.metadata()) })
    }

    /// What it is told.
    ///
    /// # Errors
    /// [`Rejection`], to be said before the connection is closed.
    pub fn challenge(&self, ours: Identity, key: &ClusterKey, nonce: Nonce) -> Result<Challenged, Rejection> {
        let agreed = meet(self.hello.from, self.hello.to, ours)?;
        let challenge = Challenge { proof: [0; KEY_BYTES], by: ours, nonce };
        let rest = said(&challenge).slice(KEY_BYTES..);
        let proof = key.proof(IS_CALLED, [&self.said, &rest]);
        let challenge = Outgoing::hello(Kind::Challenge, &Challenge { proof, ..challenge });
        Ok(Challenged { challenge, agreed, proof: key.proof(CALLS, [&self.said, &rest]) })
    }
}

impl Challenged {
    /// What the called process goes on with, if this shows that who calls has the key.
    ///
    /// # Errors
    /// [`NotTaken`]: nothing of it counts.
    pub fn proved(&self, ours: Identity, frame: &Frame) -> Result<Agreed, NotTaken> {
        let Proof { proof } = frame.open_hello(Kind::Proof)?;
        if !bool::from(proof.ct_eq(&self.proof)) {
            return Err(Rejection { why: Why::Key, by: ours }.into());
        }
        Ok(self.agreed)
    }
}

/// The proof covers the rest, and whatever later versions add to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Challenge {
    proof: [u8; KEY_BYTES],
    by: Identity,
    nonce: Nonce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Proof {
    proof: [u8; KEY_BYTES],
}

/// Who called goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The other side does not take the connection, or is not who was meant.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// What it says cannot be read.
    #[error("its hello cannot be read: {0}")]
    Malformed(#[from] Malformed),
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No version is spoken by both.
    Versions,
    /// It is another cluster's.
    Cluster,
    /// It is another node.
    Node,
    /// It is another start of the node.
    Incarnation,
    /// A later start of who calls has called already.
    Superseded,
    /// There are as many connections as there may be.
    Full,
    /// It has another key, or none.
    Key,
    /// The certificate that it showed is for another name.
    Certificate,
}

/// A connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub why: Why,
    /// Who says so.
    pub by: Identity,
}

impl std::error::Error for Rejection {}

impl Rejection {
    /// As the last frame before the connection is closed.
    pub fn frame(&self) -> Outgoing {
        Outgoing::hello(Kind::Rejection, self)
    }
}

/// Says what to do about it.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, by } = self;
        let Identity { versions, cluster, process: Process { node, incarnation }, .. } = by;
        match why {
            Why::Versions => {
                write!(
                    f,
                    "node {node} speaks version {versions} of the wire, this program {}: ",
                    Versions::OURS
                )?;
                f.write_str("update whichever of both is older")
            }
            Why::Cluster => {
                write!(f, "it is node {node} of cluster {cluster}, which is another one: ")?;
                f.write_str("see that the address is that of a node of this cluster")
            }
            Why::Node => {
                write!(f, "it is node {node}, another one than was called: ")?;
                f.write_str(
                    "see that each node's address is its own, and that no two nodes have the same uuid",
                )
            }
            Why::Incarnation => {
                write!(f, "it is start {} of node {node}, another one than was called: ", incarnation.0)?;
                f.write_str("this goes by itself as soon as both know of the newest start")
            }
            Why::Superseded => {
                f.write_str("a later start of this node has called already: ")?;
                f.write_str("see that the node does not run twice")
            }
            Why::Full => {
                write!(f, "node {node} has as many connections as it may have: it is tried again")
            }
            Why::Key => {
                write!(f, "node {node} has another cluster key than the other side: ")?;
                f.write_str("see that all nodes are given the same one")
            }
            Why::Certificate => {
                write!(
                    f,
                    "node {node} was shown a certificate for another name than the ledger has for this process: "
                )?;
                f.write_str("see that this node has the certificate that was made for it")
            }
        }
    }
}

impl Encoding for Versions {
    fn encode(&self, to: &mut Writer) {
        let Self { oldest, newest } = self;
        to.code(*oldest);
        to.code(*newest);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { oldest: from.code()?, newest: from.code()? })
    }
}

impl Encoding for Identity {
    fn encode(&self, to: &mut Writer) {
        let Self { versions, cluster, process, features } = self;
        to.raw(&NAME);
        versions.encode(to);
        to.raw(&cluster.0);
        process.encode(to);
        features.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        if from.raw()? != NAME {
            return Err(Malformed::Unknown { what: "hello of Huntaway's", code: 0 });
        }
        Ok(Self {
            versions: Versions::decode(from)?,
            cluster: ClusterId(from.raw()?),
            process: Process::decode(from)?,
            features: u64::decode(from)?,
        })
    }
}

impl Encoding for Hello {
    fn encode(&self, to: &mut Writer) {
        let Self { from, to: meant, nonce } = self;
        from.encode(to);
        meant.encode(to);
        to.raw(nonce);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { from: Identity::decode(from)?, to: Process::decode(from)?, nonce: from.raw()? })
    }
}

impl Encoding for Challenge {
    fn encode(&self, to: &mut Writer) {
        let Self { proof, by, nonce } = self;
        to.raw(proof);
        by.encode(to);
        to.raw(nonce);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { proof: from.raw()?, by: Identity::decode(from)?, nonce: from.raw()? })
    }
}

impl Encoding for Proof {
    fn encode(&self, to: &mut Writer) {
        to.raw(&self.proof);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { proof: from.raw()? })
    }
}

impl Encoding for Rejection {
    fn encode(&self, to: &mut Writer) {
        let Self { why, by } = self;
        to.code(match why {
            Why::Versions => 1,
            Why::Cluster => 2,
            Why::Node => 3,
            Why::Incarnation => 4,
            Why::Superseded => 5,
            Why::Full => 6,
            Why::Key => 7,
            Why::Certificate => 8,
        });
        by.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let why = match from.code()? {
            1 => Why::Versions,
            2 => Why::Cluster,
            3 => Why::Node,
            4 => Why::Incarnation,
            5 => Why::Superseded,
            6 => Why::Full,
            7 => Why::Key,
            8 => Why::Certificate,
            code => return Err(Malformed::Unknown { what: "reason for a rejection", code }),
        };
        Ok(Self { why, by: Identity::decode(from)? })
    }
}
