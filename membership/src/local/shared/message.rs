//! What a keeper and its followers say to each other, and how that becomes bytes.

use bytes::Bytes;
use huntaway_ledger::keeper::{Follower, HoldEnd, NotLeased, NotStarted, Proposal, ProposalAnswer, Start};
use huntaway_ledger::{MAX_HELD, MAX_STARTS, Memory, Record, RecordHash, StartId};
use huntaway_wire::encoding::{Encoding, Malformed, Reader, Writer};
use huntaway_wire::{Incarnation, KEY_BYTES, Process, Vid};

use super::rejection::Rejection;

/// The version of all this. Hellos never change but at their end.
pub(super) const VERSION: u8 = 1;

/// How every hello begins.
const NAME: [u8; 8] = *b"HTKEEPER";

/// The first message of a follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    /// The oldest and the newest version that it speaks.
    pub(super) versions: (u8, u8),
    /// The cluster that it means; zeroes: whichever its key is for.
    pub(super) cluster: [u8; 16],
    pub(super) follower: Follower,
    /// Drawn at random.
    pub(super) nonce: [u8; KEY_BYTES],
}

/// What a keeper says to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// It has the key, and wants to see that the follower has it.
    Prove { nonce: [u8; KEY_BYTES], proof: [u8; KEY_BYTES] },
    /// It goes no further.
    Rejected(Rejection),
}

/// The follower has the key, and knows all up to this record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) proof: [u8; KEY_BYTES],
    pub(super) last: u64,
    pub(super) hash: RecordHash,
}

/// What no follower calls an ask for a lease: who has none, and says that it is alive, is told what all know.
pub(super) const NO_ASK: u64 = 0;

/// What a follower says from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ToKeeper {
    Started(Start),
    AskedLease { process: Process, ask: u64, applied: u64 },
    Left { process: Process },
    Proposed { number: u64, unanswered_from: u64, proposal: Proposal },
    Holds { process: Process, hold: u64, leads: RecordHash },
    Alive,
}

/// What a keeper says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FromKeeper {
    /// What follows leads to this record.
    Connected {
        remembers: bool,
        last: u64,
    },
    Rejected(Rejection),
    Record(Bytes),
    /// A part of a snapshot, which stands for the records before it.
    Snapshot {
        is_last: bool,
        part: Bytes,
    },
    Leased {
        ask: u64,
        known_by_all: u64,
    },
    NotLeased {
        ask: u64,
        why: NotLeased,
    },
    Started {
        start: StartId,
    },
    NotStarted {
        start: StartId,
        why: NotStarted,
    },
    Answered {
        number: u64,
        answer: ProposalAnswer,
    },
    Alive,
}

/// Bytes of a snapshot that are sent together.
pub(super) const PART_BYTES: usize = 32 << 10;

fn put_bytes(to: &mut Writer, bytes: &Bytes) {
    // Whatever is longer is not taken.
    (bytes.len() as u32).encode(to);
    to.payload(bytes.clone());
}

fn bytes(from: &mut Reader<'_>) -> Result<Bytes, Malformed> {
    let length = u32::decode(from)? as usize;
    from.payload(length)
}

impl Encoding for Hello {
    fn encode(&self, to: &mut Writer) {
        to.raw(&NAME);
        to.raw(&[self.versions.0, self.versions.1]);
        to.raw(&self.cluster);
        self.follower.0.encode(to);
        to.raw(&self.nonce);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        if from.raw()? != NAME {
            return Err(Malformed::Unknown { what: "hello of a follower", code: 0 });
        }
        let [oldest, newest] = from.raw()?;
        Ok(Self {
            versions: (oldest, newest),
            cluster: from.raw()?,
            follower: Follower(u64::decode(from)?),
            nonce: from.raw()?,
        })
    }
}

impl Encoding for Challenge {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Prove { nonce, proof } => {
                to.code(1);
                to.raw(nonce);
                to.raw(proof);
            }
            Self::Rejected(rejection) => {
                to.code(2);
                rejection.encode(to);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.code()? {
            1 => Ok(Self::Prove { nonce: from.raw()?, proof: from.raw()? }),
            2 => Rejection::decode(from).map(Self::Rejected),
            code => Err(Malformed::Unknown { what: "answer to a hello", code }),
        }
    }
}

impl Encoding for Proof {
    fn encode(&self, to: &mut Writer) {
        to.raw(&self.proof);
        self.last.encode(to);
        to.raw(&self.hash.0);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { proof: from.raw()?, last: u64::decode(from)?, hash: RecordHash(from.raw()?) })
    }
}

const MEMORIES: [Memory; 3] = [Memory::Kept, Memory::Stable, Memory::Damaged];

fn put_start(to: &mut Writer, start: &Start) {
    let Start { process, memory, start, after } = start;
    process.encode(to);
    let place = MEMORIES.iter().zip(0..).find(|(known, _)| *known == memory);
    to.code(place.map_or(u8::MAX, |(_, place)| place));
    start.0.encode(to);
    let after: Vec<u64> = after.iter().map(|start| start.0).collect();
    to.list(after.iter());
}

fn start(from: &mut Reader<'_>) -> Result<Start, Malformed> {
    let process = Process::decode(from)?;
    let code = from.code()?;
    let memory = MEMORIES.get(usize::from(code)).ok_or(Malformed::Unknown { what: "memory", code })?;
    let start = StartId(u64::decode(from)?);
    let after: Vec<u64> = from.list("starts", MAX_STARTS as u32)?;
    Ok(Start { process, memory: *memory, start, after: after.into_iter().map(StartId).collect() })
}

fn put_proposal(to: &mut Writer, proposal: &Proposal) {
    match proposal {
        Proposal::Record(record) => {
            to.code(1);
            // One that no ledger could have is sent as nothing, which is not taken.
            put_bytes(to, &record.to_bytes().unwrap_or_default().into());
        }
        Proposal::Hold { disks, then } => {
            to.code(2);
            to.list(disks.iter());
            let to_version = match then {
                HoldEnd::Freeze => None,
                HoldEnd::RollBack { to } => Some(*to),
            };
            to_version.encode(to);
        }
    }
}

fn proposal(from: &mut Reader<'_>) -> Result<Proposal, Malformed> {
    match from.code()? {
        1 => {
            let record = bytes(from)?;
            let record = Record::of_bytes(&record).map_err(|_| Malformed::Unsound { what: "a record" })?;
            Ok(Proposal::Record(record))
        }
        2 => {
            let disks = from.list("disks", MAX_HELD as u32)?;
            let then = Option::<Vid>::decode(from)?.map_or(HoldEnd::Freeze, |to| HoldEnd::RollBack { to });
            Ok(Proposal::Hold { disks, then })
        }
        code => Err(Malformed::Unknown { what: "proposal", code }),
    }
}

/// Whether a keeper can read it.
pub(super) fn check(proposal: &Proposal) -> Result<(), Malformed> {
    let mut writer = Writer::new();
    put_proposal(&mut writer, proposal);
    let (metadata, payload) = writer.into_bytes();
    self::proposal(&mut Reader::new(&metadata, payload)).map(drop)
}

impl Encoding for ToKeeper {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Started(start) => {
                to.code(1);
                put_start(to, start);
            }
            Self::AskedLease { process, ask, applied } => {
                to.code(2);
                process.encode(to);
                (*ask, *applied).encode(to);
            }
            Self::Left { process } => {
                to.code(3);
                process.encode(to);
            }
            Self::Proposed { number, unanswered_from, proposal } => {
                to.code(4);
                (*number, *unanswered_from).encode(to);
                put_proposal(to, proposal);
            }
            Self::Holds { process, hold, leads } => {
                to.code(5);
                process.encode(to);
                hold.encode(to);
                to.raw(&leads.0);
            }
            Self::Alive => to.code(6),
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.code()? {
            1 => Self::Started(start(from)?),
            2 => {
                let process = Process::decode(from)?;
                let (ask, applied) = <(u64, u64)>::decode(from)?;
                Self::AskedLease { process, ask, applied }
            }
            3 => Self::Left { process: Process::decode(from)? },
            4 => {
                let (number, unanswered_from) = <(u64, u64)>::decode(from)?;
                Self::Proposed { number, unanswered_from, proposal: proposal(from)? }
            }
            5 => Self::Holds {
                process: Process::decode(from)?,
                hold: u64::decode(from)?,
                leads: RecordHash(from.raw()?),
            },
            6 => Self::Alive,
            code => return Err(Malformed::Unknown { what: "message of a follower", code }),
        })
    }
}

fn put_not_leased(to: &mut Writer, why: NotLeased) {
    let (code, number) = match why {
        NotLeased::Stranger => (1, 0),
        NotLeased::OtherProcess => (2, 0),
        NotLeased::GoingDown => (3, 0),
        NotLeased::Behind { needed } => (4, needed),
        NotLeased::Ahead { last } => (5, last),
    };
    to.code(code);
    number.encode(to);
}

fn not_leased(from: &mut Reader<'_>) -> Result<NotLeased, Malformed> {
    let (code, number) = (from.code()?, u64::decode(from)?);
    Ok(match code {
        1 => NotLeased::Stranger,
        2 => NotLeased::OtherProcess,
        3 => NotLeased::GoingDown,
        4 => NotLeased::Behind { needed: number },
        5 => NotLeased::Ahead { last: number },
        code => return Err(Malformed::Unknown { what: "reason for no lease", code }),
    })
}

fn put_not_started(to: &mut Writer, why: NotStarted) {
    let (code, number) = match why {
        NotStarted::StillRuns => (1, 0),
        NotStarted::Past { last } => (2, last.0),
        NotStarted::Stranger => (3, 0),
        NotStarted::Refused => (4, 0),
    };
    to.code(code);
    number.encode(to);
}

fn not_started(from: &mut Reader<'_>) -> Result<NotStarted, Malformed> {
    let (code, number) = (from.code()?, u64::decode(from)?);
    Ok(match code {
        1 => NotStarted::StillRuns,
        2 => NotStarted::Past { last: Incarnation(number) },
        3 => NotStarted::Stranger,
        4 => NotStarted::Refused,
        code => return Err(Malformed::Unknown { what: "reason for no start", code }),
    })
}

fn put_answer(to: &mut Writer, answer: ProposalAnswer) {
    let (code, number) = match answer {
        ProposalAnswer::Agreed { record } => (1, record),
        ProposalAnswer::Refused { at } => (2, at),
        ProposalAnswer::NotHeld { record } => (3, record),
        ProposalAnswer::NotProposable => (4, 0),
        ProposalAnswer::TooMany => (5, 0),
        ProposalAnswer::Forgotten => (6, 0),
        ProposalAnswer::Full => (7, 0),
    };
    to.code(code);
    number.encode(to);
}

fn answer(from: &mut Reader<'_>) -> Result<ProposalAnswer, Malformed> {
    let (code, number) = (from.code()?, u64::decode(from)?);
    Ok(match code {
        1 => ProposalAnswer::Agreed { record: number },
        2 => ProposalAnswer::Refused { at: number },
        3 => ProposalAnswer::NotHeld { record: number },
        4 => ProposalAnswer::NotProposable,
        5 => ProposalAnswer::TooMany,
        6 => ProposalAnswer::Forgotten,
        7 => ProposalAnswer::Full,
        code => return Err(Malformed::Unknown { what: "answer to a proposal", code }),
    })
}

impl Encoding for FromKeeper {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Connected { remembers, last } => {
                to.code(1);
                (*remembers, *last).encode(to);
            }
            Self::Rejected(rejection) => {
                to.code(2);
                rejection.encode(to);
            }
            Self::Record(record) => {
                to.code(3);
                put_bytes(to, record);
            }
            Self::Snapshot { is_last, part } => {
                to.code(4);
                is_last.encode(to);
                put_bytes(to, part);
            }
            Self::Leased { ask, known_by_all } => {
                to.code(5);
                (*ask, *known_by_all).encode(to);
            }
            Self::NotLeased { ask, why } => {
                to.code(6);
                ask.encode(to);
                put_not_leased(to, *why);
            }
            Self::Started { start } => {
                to.code(7);
                start.0.encode(to);
            }
            Self::NotStarted { start, why } => {
                to.code(8);
                start.0.encode(to);
                put_not_started(to, *why);
            }
            Self::Answered { number, answer } => {
                to.code(9);
                number.encode(to);
                put_answer(to, *answer);
            }
            Self::Alive => to.code(10),
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.code()? {
            1 => Self::Connected { remembers: bool::decode(from)?, last: u64::decode(from)? },
            2 => Self::Rejected(Rejection::decode(from)?),
            3 => Self::Record(bytes(from)?),
            4 => Self::Snapshot { is_last: bool::decode(from)?, part: bytes(from)? },
            5 => Self::Leased { ask: u64::decode(from)?, known_by_all: u64::decode(from)? },
            6 => Self::NotLeased { ask: u64::decode(from)?, why: not_leased(from)? },
            7 => Self::Started { start: StartId(u64::decode(from)?) },
            8 => Self::NotStarted { start: StartId(u64::decode(from)?), why: not_started(from)? },
            9 => Self::Answered { number: u64::decode(from)?, answer: answer(from)? },
            10 => Self::Alive,
            code => return Err(Malformed::Unknown { what: "message of a keeper", code }),
        })
    }
}

#[cfg(test)]
mod tests {
    use huntaway_ledger::DiskRecord;
    use huntaway_wire::NodeId;

    use super::*;

    fn read<T: Encoding>(metadata: &[u8], payload: Bytes) -> Result<T, Malformed> {
        Reader::new(metadata, payload).whole()
    }

    fn comes_back<T: Encoding + PartialEq + std::fmt::Debug>(message: &T) {
        let mut writer = Writer::new();
        message.encode(&mut writer);
        let (metadata, payload) = writer.into_bytes();
        assert_eq!(read::<T>(&metadata, payload.clone()).as_ref(), Ok(message));
        for end in 0..metadata.len() {
            assert!(read::<T>(&metadata[..end], payload.clone()).is_err(), "{message:?} to {end}");
        }
        for place in 0..metadata.len() {
            let mut damaged = metadata.to_vec();
            damaged[place] ^= 0xff;
            // Whatever it says, it is read or refused.
            let _ = read::<T>(&damaged, payload.clone());
        }
    }

    fn process() -> Process {
        Process { node: NodeId([3; 16]), incarnation: Incarnation(5) }
    }

    #[test]
    fn what_followers_say_comes_back() {
        let (number, unanswered_from) = (7, 6);
        let vid = Vid::new(9).unwrap();
        comes_back(&Hello { versions: (1, 2), cluster: [1; 16], follower: Follower(8), nonce: [2; 32] });
        comes_back(&Proof { proof: [1; 32], last: 2, hash: RecordHash([3; 32]) });
        let after = vec![StartId(1), StartId(2)];
        comes_back(&ToKeeper::Started(Start {
            process: process(),
            memory: Memory::Stable,
            start: StartId(3),
            after,
        }));
        comes_back(&ToKeeper::AskedLease { process: process(), ask: 1, applied: 2 });
        comes_back(&ToKeeper::Left { process: process() });
        comes_back(&ToKeeper::Holds { process: process(), hold: 1, leads: RecordHash([1; 32]) });
        comes_back(&ToKeeper::Alive);
        for proposal in [
            Proposal::Record(Record::Disks(DiskRecord::Fence { disk: vid })),
            Proposal::Hold { disks: vec![vid, vid], then: HoldEnd::Freeze },
            Proposal::Hold { disks: vec![vid], then: HoldEnd::RollBack { to: vid } },
        ] {
            comes_back(&ToKeeper::Proposed { number, unanswered_from, proposal });
        }
    }

    #[test]
    fn what_keepers_say_comes_back() {
        comes_back(&Challenge::Prove { nonce: [1; 32], proof: [2; 32] });
        let rejections = [
            Rejection::Versions { oldest: 1, newest: 2 },
            Rejection::Cluster,
            Rejection::Key,
            Rejection::Full,
            Rejection::Certificate,
            Rejection::OldCopy { last: 7 },
        ];
        for rejection in rejections {
            comes_back(&Challenge::Rejected(rejection));
            comes_back(&FromKeeper::Rejected(rejection));
        }
        let part = Bytes::from_static(b"some bytes");
        for message in [
            FromKeeper::Connected { remembers: true, last: 4 },
            FromKeeper::Record(part.clone()),
            FromKeeper::Snapshot { is_last: true, part },
            FromKeeper::Leased { ask: 1, known_by_all: 2 },
            FromKeeper::Started { start: StartId(4) },
            FromKeeper::Alive,
        ] {
            comes_back(&message);
        }
        for why in [
            NotLeased::Stranger,
            NotLeased::OtherProcess,
            NotLeased::GoingDown,
            NotLeased::Behind { needed: 3 },
            NotLeased::Ahead { last: 3 },
        ] {
            comes_back(&FromKeeper::NotLeased { ask: 1, why });
        }
        for why in [
            NotStarted::StillRuns,
            NotStarted::Past { last: Incarnation(2) },
            NotStarted::Stranger,
            NotStarted::Refused,
        ] {
            comes_back(&FromKeeper::NotStarted { start: StartId(1), why });
        }
        for answer in [
            ProposalAnswer::Agreed { record: 1 },
            ProposalAnswer::Refused { at: 2 },
            ProposalAnswer::NotHeld { record: 3 },
            ProposalAnswer::NotProposable,
            ProposalAnswer::TooMany,
            ProposalAnswer::Forgotten,
            ProposalAnswer::Full,
        ] {
            comes_back(&FromKeeper::Answered { number: 5, answer });
        }
    }
}
