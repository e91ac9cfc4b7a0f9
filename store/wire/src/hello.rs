//! What both sides of a connection say first: which cluster, which process, which versions. Pure: no socket.
//!
//! A connection is from one process to one process. Who calls says whom it means, and a process takes only what is meant for
//! it: not for another node behind the same address, nor for another start of the same node.

use core::fmt;

use crate::encoding::{Encoding, Malformed, Reader, Writer};
use crate::frame::{Frame, Kind, Outgoing, VERSION};
use crate::{NodeId, Process};

/// The oldest version of the wire that is spoken.
pub const OLDEST_VERSION: u8 = 1;

/// How the metadata of every hello begins.
const NAME: [u8; 8] = *b"HUNTAWAY";

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

    /// What the first frame of a connection says.
    ///
    /// # Errors
    /// [`Malformed`]: it is no hello.
    pub fn of(frame: &Frame) -> Result<Self, Malformed> {
        frame.open_hello(Kind::Hello)
    }

    /// What is said in return, and what `ours` goes on with.
    ///
    /// # Errors
    /// [`Rejection`], to be said before the connection is closed.
    pub fn answer(&self, ours: Identity) -> Result<Agreed, Rejection> {
        let Self { from, to } = self;
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

    /// What who called goes on with, when this is what it was told.
    ///
    /// # Errors
    /// [`NotTaken`]: nothing is sent to whoever that is.
    pub fn answered(&self, frame: &Frame) -> Result<Agreed, NotTaken> {
        match frame.kind {
            Kind::Rejection => Err(frame.open_hello::<Rejection>(Kind::Rejection)?.into()),
            _ => Ok(self.welcomed(frame.open_hello(Kind::Welcome)?)?),
        }
    }

    fn welcomed(&self, by: Identity) -> Result<Agreed, Rejection> {
        let theirs = Self { from: by, to: self.from.process };
        // The same rules, seen from here: who was meant is who has to answer.
        let agreed = theirs.answer(self.from)?;
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
        let Self { from, to: meant } = self;
        from.encode(to);
        meant.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { from: Identity::decode(from)?, to: Process::decode(from)? })
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
            code => return Err(Malformed::Unknown { what: "reason for a rejection", code }),
        };
        Ok(Self { why, by: Identity::decode(from)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Incarnation;
    use crate::frame::Decoder;

    fn identity(node: u8, incarnation: u64) -> Identity {
        let process = Process { node: NodeId([node; 16]), incarnation: Incarnation(incarnation) };
        Identity::new(ClusterId([1; 16]), process)
    }

    fn received(sent: &Outgoing) -> Frame {
        let mut decoder = Decoder::default();
        decoder.feed(&sent.to_bytes());
        decoder.next_frame().unwrap().unwrap()
    }

    /// What both sides make of it.
    fn meet(hello: Hello, ours: Identity) -> (Result<Agreed, Rejection>, Result<Agreed, NotTaken>) {
        let answer = Hello::of(&received(&hello.frame())).unwrap().answer(ours);
        let reply = answer.as_ref().map_or_else(Rejection::frame, |_| ours.welcome());
        (answer, hello.answered(&received(&reply)))
    }

    #[test]
    fn both_sides_agree_on_what_both_have() {
        let caller =
            Identity { versions: Versions { oldest: 1, newest: 4 }, features: 0b110, ..identity(1, 5) };
        let called =
            Identity { versions: Versions { oldest: 2, newest: 3 }, features: 0b011, ..identity(2, 6) };
        let (there, here) = meet(Hello { from: caller, to: called.process }, called);
        assert_eq!(there, Ok(Agreed { version: 3, features: 0b010, peer: caller.process }));
        assert_eq!(here, Ok(Agreed { version: 3, features: 0b010, peer: called.process }));
    }

    #[test]
    fn whoever_is_not_meant_says_why_and_what_to_do() {
        let (caller, called) = (identity(1, 5), identity(2, 6));
        let hello = Hello { from: caller, to: called.process };
        let cases = [
            (Identity { cluster: ClusterId([9; 16]), ..called }, Why::Cluster, "of this cluster"),
            (identity(3, 6), Why::Node, "its own"),
            (identity(2, 7), Why::Incarnation, "by itself"),
            (identity(2, 5), Why::Incarnation, "by itself"),
            (
                Identity { versions: Versions { oldest: 2, newest: 2 }, ..called },
                Why::Versions,
                "update whichever of both is older",
            ),
        ];
        for (ours, why, cure) in cases {
            let (there, here) = meet(hello, ours);
            let rejection = Rejection { why, by: ours };
            assert_eq!((there, here), (Err(rejection), Err(NotTaken::Rejected(rejection))));
            assert!(rejection.to_string().contains(cure), "{rejection}");
            // Nor is it believed that it is the right one.
            assert!(hello.answered(&received(&ours.welcome())).is_err());
        }
    }

    #[test]
    fn later_versions_may_say_more() {
        let hello = Hello { from: identity(1, 5), to: identity(2, 6).process };
        let frame = received(&Outgoing::hello(Kind::Hello, &More(hello)));
        assert_eq!(Hello::of(&frame), Ok(hello));
    }

    struct More(Hello);

    impl Encoding for More {
        fn encode(&self, to: &mut Writer) {
            self.0.encode(to);
            to.raw(b"and more");
        }

        fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
            Hello::decode(from).map(Self)
        }
    }
}
