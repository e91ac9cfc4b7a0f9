//! The bytes of requests to primaries and of their answers.

use super::{Answer, Answered, Block, Command, Refused, Relay, Relayed, Request, RequestId, SyncAll, Synced};
use crate::encoding::{Encoding, Malformed, Reader, Writer};
use crate::frame::{Framed, Kind};
use crate::{
    BLOCK_SIZE_BYTES, BLOCKS_PER_OBJECT, ByteRange, Durability, MappedRun, Oid, Pepoch, Process,
    Provisioning, Stamp,
};

const PIECE: u8 = 0;
const WHOLE: u8 = 1;

/// The pieces of a command are blocks, or parts of some at both ends.
const MOST_PIECES: u32 = BLOCKS_PER_OBJECT;

impl Framed for Request {
    const KIND: Kind = Kind::Request;
}

impl Framed for Answered {
    const KIND: Kind = Kind::Answer;
}

impl Framed for Relay {
    const KIND: Kind = Kind::Relay;
}

impl Framed for Relayed {
    const KIND: Kind = Kind::Relayed;
}

impl Framed for SyncAll {
    const KIND: Kind = Kind::SyncAll;
}

impl Framed for Synced {
    const KIND: Kind = Kind::Synced;
}

impl Encoding for SyncAll {
    fn encode(&self, to: &mut Writer) {
        let Self { gateway, round } = self;
        gateway.encode(to);
        round.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { gateway: Process::decode(from)?, round: u64::decode(from)? })
    }
}

impl Encoding for Synced {
    fn encode(&self, to: &mut Writer) {
        let Self { asked, known } = self;
        asked.encode(to);
        known.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { asked: SyncAll::decode(from)?, known: Option::decode(from)? })
    }
}

impl Encoding for Relay {
    fn encode(&self, to: &mut Writer) {
        let Self { to: primary, request } = self;
        primary.encode(to);
        request.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { to: Process::decode(from)?, request: Request::decode(from)? })
    }
}

impl Encoding for Relayed {
    fn encode(&self, to: &mut Writer) {
        let Self { from, answered } = self;
        from.encode(to);
        answered.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { from: Process::decode(from)?, answered: Answered::decode(from)? })
    }
}

impl Encoding for RequestId {
    fn encode(&self, to: &mut Writer) {
        let Self { gateway, number } = self;
        gateway.encode(to);
        number.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { gateway: Process::decode(from)?, number: u64::decode(from)? })
    }
}

/// The checksum, the length unless it is a whole block's; the bytes are payload.
impl Encoding for Block {
    fn encode(&self, to: &mut Writer) {
        let Self { crc, bytes } = self;
        let is_whole = bytes.len() == BLOCK_SIZE_BYTES as usize;
        to.code(if is_whole { WHOLE } else { PIECE });
        crc.encode(to);
        if !is_whole {
            (bytes.len() as u32).encode(to);
        }
        to.payload(bytes.clone());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let is_whole = match from.code()? {
            WHOLE => true,
            PIECE => false,
            code => return Err(Malformed::Unknown { what: "block", code }),
        };
        let crc = u32::decode(from)?;
        let length = if is_whole { BLOCK_SIZE_BYTES } else { u32::decode(from)? };
        Ok(Self { crc, bytes: from.payload(length as usize)? })
    }
}

impl Encoding for Request {
    fn encode(&self, to: &mut Writer) {
        let Self { id, resend, unanswered_from, pepoch, stamp, layout, fence, command } = self;
        id.encode(to);
        resend.encode(to);
        unanswered_from.encode(to);
        pepoch.encode(to);
        stamp.encode(to);
        layout.encode(to);
        fence.encode(to);
        command.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            id: RequestId::decode(from)?,
            resend: u32::decode(from)?,
            unanswered_from: u64::decode(from)?,
            pepoch: Pepoch::decode(from)?,
            stamp: Stamp::decode(from)?,
            layout: u64::decode(from)?,
            fence: u64::decode(from)?,
            command: Command::decode(from)?,
        })
    }
}

impl Encoding for Command {
    fn encode(&self, to: &mut Writer) {
        to.code(code_of(self));
        match self {
            Self::Read { oid, blocks } | Self::Map { oid, blocks } => {
                oid.encode(to);
                blocks.encode(to);
            }
            Self::Write { oid, range, pieces, durability } | Self::Or { oid, range, pieces, durability } => {
                oid.encode(to);
                range.encode(to);
                durability.encode(to);
                to.list(pieces.iter());
            }
            Self::CompareAndWrite { oid, range, expected, pieces, durability } => {
                oid.encode(to);
                range.encode(to);
                durability.encode(to);
                (expected.bytes.len() as u32).encode(to);
                expected.crc.encode(to);
                to.payload(expected.bytes.clone());
                to.list(pieces.iter());
            }
            Self::Discard { oid, range, durability } => {
                oid.encode(to);
                range.encode(to);
                durability.encode(to);
            }
            Self::Remove { oid, durability } | Self::Reserve { oid, durability } => {
                oid.encode(to);
                durability.encode(to);
            }
            Self::Flush => {}
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let code = from.code()?;
        if code == code_of(&Self::Flush) {
            return Ok(Self::Flush);
        }
        let oid = Oid::decode(from)?;
        Ok(match code {
            1 => Self::Read { oid, blocks: Encoding::decode(from)? },
            2 => Self::Map { oid, blocks: Encoding::decode(from)? },
            3 => {
                let (range, durability, pieces) = written(from)?;
                Self::Write { oid, range, pieces, durability }
            }
            4 => {
                let (range, durability) = <(ByteRange, Durability)>::decode(from)?;
                let expected = expected(from)?;
                let pieces = from.list("pieces", MOST_PIECES)?;
                Self::CompareAndWrite { oid, range, expected, pieces, durability }
            }
            5 => {
                let (range, durability, pieces) = written(from)?;
                Self::Or { oid, range, pieces, durability }
            }
            6 => {
                let (range, durability) = Encoding::decode(from)?;
                Self::Discard { oid, range, durability }
            }
            7 => Self::Remove { oid, durability: Durability::decode(from)? },
            9 => Self::Reserve { oid, durability: Durability::decode(from)? },
            code => return Err(Malformed::Unknown { what: "command", code }),
        })
    }
}

fn code_of(command: &Command) -> u8 {
    match command {
        Command::Read { .. } => 1,
        Command::Map { .. } => 2,
        Command::Write { .. } => 3,
        Command::CompareAndWrite { .. } => 4,
        Command::Or { .. } => 5,
        Command::Discard { .. } => 6,
        Command::Remove { .. } => 7,
        Command::Flush => 8,
        Command::Reserve { .. } => 9,
    }
}

fn written(from: &mut Reader<'_>) -> Result<(ByteRange, Durability, Vec<Block>), Malformed> {
    let (range, durability) = Encoding::decode(from)?;
    Ok((range, durability, from.list("pieces", MOST_PIECES)?))
}

fn expected(from: &mut Reader<'_>) -> Result<Block, Malformed> {
    let (length, crc) = <(u32, u32)>::decode(from)?;
    Ok(Block { crc, bytes: from.payload(length as usize)? })
}

impl Encoding for Answered {
    fn encode(&self, to: &mut Writer) {
        let Self { id, resend, answer, stamp } = self;
        id.encode(to);
        resend.encode(to);
        stamp.encode(to);
        answer.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (id, resend) = Encoding::decode(from)?;
        let (stamp, answer) = Encoding::decode(from)?;
        Ok(Self { id, resend, answer, stamp })
    }
}

impl Encoding for Answer {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Done => to.code(1),
            Self::Data(blocks) => {
                to.code(2);
                to.list(blocks.iter());
            }
            Self::Map(runs) => {
                to.code(3);
                to.list(runs.iter());
            }
            Self::Miscompare { offset } => {
                to.code(4);
                offset.encode(to);
            }
            Self::Damaged => to.code(5),
            Self::Refused(refused) => {
                to.code(6);
                refused.encode(to);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.code()? {
            1 => Self::Done,
            2 => Self::Data(from.list("blocks", BLOCKS_PER_OBJECT)?),
            3 => Self::Map(from.list("runs", BLOCKS_PER_OBJECT)?),
            4 => Self::Miscompare { offset: u32::decode(from)? },
            5 => Self::Damaged,
            6 => Self::Refused(Refused::decode(from)?),
            code => return Err(Malformed::Unknown { what: "answer", code }),
        })
    }
}

impl Encoding for MappedRun {
    fn encode(&self, to: &mut Writer) {
        let Self { first_block, blocks, provisioning } = self;
        first_block.encode(to);
        blocks.encode(to);
        match provisioning {
            Provisioning::Deallocated => to.code(0),
            Provisioning::Mapped => to.code(1),
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (first_block, blocks) = Encoding::decode(from)?;
        let provisioning = match from.code()? {
            0 => Provisioning::Deallocated,
            1 => Provisioning::Mapped,
            code => return Err(Malformed::Unknown { what: "state of provisioning", code }),
        };
        Ok(Self { first_block, blocks, provisioning })
    }
}

impl Encoding for Refused {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::NotServing => to.code(1),
            Self::OtherPepoch { newest } => {
                to.code(2);
                newest.encode(to);
            }
            Self::OldStamp => to.code(3),
            Self::Late => to.code(4),
            Self::OldLayout => to.code(5),
            Self::Fenced => to.code(6),
            Self::NoSpace => to.code(7),
            Self::Unsound => to.code(8),
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.code()? {
            1 => Self::NotServing,
            2 => Self::OtherPepoch { newest: Pepoch::decode(from)? },
            3 => Self::OldStamp,
            4 => Self::Late,
            5 => Self::OldLayout,
            6 => Self::Fenced,
            7 => Self::NoSpace,
            8 => Self::Unsound,
            code => return Err(Malformed::Unknown { what: "refusal", code }),
        })
    }
}
