//! The bytes of what messages say: bodies, lessons and replies.

use std::sync::Arc;

use huntaway_wire::encoding::{Encoding, Malformed, Reader, Writer};
use huntaway_wire::frame::{Framed, Kind};
use huntaway_wire::{Oid, Pepoch};

use crate::message::{Body, Lesson, Message, Reply};
use crate::record::{CopiedBlock, SET_ASIDE_BLOCK};

/// Most writes that are in doubt at a time.
const MOST_RECORDS: u32 = 1 << 18;

impl Framed for Message {
    const KIND: Kind = Kind::Message;
}

impl Encoding for Message {
    fn encode(&self, to: &mut Writer) {
        let Self { pepoch, body } = self;
        pepoch.encode(to);
        body.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { pepoch: Pepoch::decode(from)?, body: Body::decode(from)? })
    }
}

impl Encoding for Body {
    fn encode(&self, to: &mut Writer) {
        to.code(code_of_body(self));
        match self {
            Self::Beacon { sent, settled, attempt, is_missed, wants_room } => {
                sent.encode(to);
                settled.encode(to);
                attempt.encode(to);
                is_missed.encode(to);
                wants_room.encode(to);
            }
            Self::Granted { sent, credit, attempt } => {
                sent.encode(to);
                credit.encode(to);
                attempt.encode(to);
            }
            Self::Forward { record, settled, attempt } => {
                settled.encode(to);
                attempt.encode(to);
                record.encode(to);
            }
            Self::Forwarded { version, attempt, credit } => {
                version.encode(to);
                attempt.encode(to);
                credit.encode(to);
            }
            Self::Flush { number } | Self::Flushed { number } | Self::Mended { number } => number.encode(to),
            Self::Gather | Self::RolledForward | Self::Misses | Self::Released => {}
            Self::Suspect { oid } => oid.encode(to),
            Self::Gathered { records } | Self::RollForward { records } => to.list(records.iter()),
            Self::Inspect { number, lesson } | Self::Mend { number, lesson } => {
                number.encode(to);
                lesson.encode(to);
            }
            Self::Inspected { number, reply } => {
                number.encode(to);
                reply.encode(to);
            }
            Self::Ask { attempt, step, lesson } => {
                attempt.encode(to);
                step.encode(to);
                lesson.encode(to);
            }
            Self::Reply { attempt, step, reply } => {
                attempt.encode(to);
                step.encode(to);
                reply.encode(to);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.code()? {
            1 => Self::Beacon {
                sent: Encoding::decode(from)?,
                settled: Encoding::decode(from)?,
                attempt: Encoding::decode(from)?,
                is_missed: Encoding::decode(from)?,
                wants_room: Encoding::decode(from)?,
            },
            2 => Self::Granted {
                sent: Encoding::decode(from)?,
                credit: Encoding::decode(from)?,
                attempt: Encoding::decode(from)?,
            },
            3 => Self::Forward {
                settled: Encoding::decode(from)?,
                attempt: Encoding::decode(from)?,
                record: Encoding::decode(from)?,
            },
            4 => Self::Forwarded {
                version: Encoding::decode(from)?,
                attempt: Encoding::decode(from)?,
                credit: Encoding::decode(from)?,
            },
            5 => Self::Flush { number: u64::decode(from)? },
            6 => Self::Flushed { number: u64::decode(from)? },
            7 => Self::Gather,
            8 => Self::Gathered { records: from.list("writes", MOST_RECORDS)? },
            9 => Self::RollForward { records: from.list("writes", MOST_RECORDS)? },
            10 => Self::RolledForward,
            11 => Self::Inspect { number: u64::decode(from)?, lesson: Lesson::decode(from)? },
            12 => Self::Inspected { number: u64::decode(from)?, reply: Reply::decode(from)? },
            13 => Self::Mend { number: u64::decode(from)?, lesson: Lesson::decode(from)? },
            14 => Self::Mended { number: u64::decode(from)? },
            15 => Self::Ask {
                attempt: Encoding::decode(from)?,
                step: u64::decode(from)?,
                lesson: Lesson::decode(from)?,
            },
            16 => Self::Reply {
                attempt: Encoding::decode(from)?,
                step: u64::decode(from)?,
                reply: Reply::decode(from)?,
            },
            17 => Self::Misses,
            18 => Self::Suspect { oid: Encoding::decode(from)? },
            19 => Self::Released,
            code => return Err(Malformed::Unknown { what: "message", code }),
        })
    }
}

fn code_of_body(body: &Body) -> u8 {
    match body {
        Body::Beacon { .. } => 1,
        Body::Granted { .. } => 2,
        Body::Forward { .. } => 3,
        Body::Forwarded { .. } => 4,
        Body::Flush { .. } => 5,
        Body::Flushed { .. } => 6,
        Body::Gather => 7,
        Body::Gathered { .. } => 8,
        Body::RollForward { .. } => 9,
        Body::RolledForward => 10,
        Body::Inspect { .. } => 11,
        Body::Inspected { .. } => 12,
        Body::Mend { .. } => 13,
        Body::Mended { .. } => 14,
        Body::Ask { .. } => 15,
        Body::Reply { .. } => 16,
        Body::Misses => 17,
        Body::Suspect { .. } => 18,
        Body::Released => 19,
    }
}

impl Encoding for Lesson {
    fn encode(&self, to: &mut Writer) {
        to.code(code_of_lesson(self));
        match self {
            Self::Begin { requests, settled } => {
                settled.encode(to);
                requests.encode(to);
            }
            Self::Requests | Self::Sync => {}
            Self::Digests { after, most } => {
                after.encode(to);
                // What is more than anybody may ask for stays so.
                u32::try_from(*most).unwrap_or(u32::MAX).encode(to);
            }
            Self::Versions { oid } | Self::Verify { oid } | Self::Remove { oid } => oid.encode(to),
            Self::Read { oid, blocks } => {
                oid.encode(to);
                blocks.encode(to);
            }
            Self::Copy { oid, blocks } | Self::Replace { oid, blocks } => {
                oid.encode(to);
                to.list(blocks.iter());
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.code()? {
            1 => Self::Begin { settled: Encoding::decode(from)?, requests: Encoding::decode(from)? },
            2 => Self::Requests,
            3 => Self::Digests { after: Encoding::decode(from)?, most: u32::decode(from)? as usize },
            4 => Self::Versions { oid: Encoding::decode(from)? },
            5 => Self::Read { oid: Encoding::decode(from)?, blocks: Encoding::decode(from)? },
            6 => {
                let (oid, blocks) = copied(from)?;
                Self::Copy { oid, blocks }
            }
            7 => Self::Verify { oid: Encoding::decode(from)? },
            8 => {
                let (oid, blocks) = copied(from)?;
                Self::Replace { oid, blocks }
            }
            9 => Self::Remove { oid: Encoding::decode(from)? },
            10 => Self::Sync,
            code => return Err(Malformed::Unknown { what: "lesson", code }),
        })
    }
}

fn copied(from: &mut Reader<'_>) -> Result<(Oid, Arc<Vec<CopiedBlock>>), Malformed> {
    Ok((Oid::decode(from)?, Arc::new(from.list("blocks", SET_ASIDE_BLOCK + 1)?)))
}

fn code_of_lesson(lesson: &Lesson) -> u8 {
    match lesson {
        Lesson::Begin { .. } => 1,
        Lesson::Requests => 2,
        Lesson::Digests { .. } => 3,
        Lesson::Versions { .. } => 4,
        Lesson::Read { .. } => 5,
        Lesson::Copy { .. } => 6,
        Lesson::Verify { .. } => 7,
        Lesson::Replace { .. } => 8,
        Lesson::Remove { .. } => 9,
        Lesson::Sync => 10,
    }
}

impl Encoding for Reply {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Done => to.code(1),
            Self::Failed => to.code(2),
            Self::Missing(blocks) => {
                to.code(3);
                to.list(blocks.iter());
            }
            Self::Damaged(blocks) => {
                to.code(4);
                to.list(blocks.iter());
            }
            Self::Verified(blocks) => {
                to.code(5);
                to.list(blocks.iter());
            }
            Self::Digests(page) => {
                to.code(6);
                page.encode(to);
            }
            Self::Versions(versions) => {
                to.code(7);
                to.list(versions.iter());
            }
            Self::Blocks(blocks) => {
                to.code(8);
                to.list(blocks.iter());
            }
            Self::Requests(requests) => {
                to.code(9);
                requests.encode(to);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.code()? {
            1 => Self::Done,
            2 => Self::Failed,
            3 => Self::Missing(from.list("blocks", SET_ASIDE_BLOCK + 1)?),
            4 => Self::Damaged(from.list("blocks", SET_ASIDE_BLOCK + 1)?),
            5 => Self::Verified(from.list("blocks", SET_ASIDE_BLOCK + 1)?),
            6 => Self::Digests(Encoding::decode(from)?),
            7 => Self::Versions(from.list("versions", SET_ASIDE_BLOCK + 1)?),
            8 => Self::Blocks(from.list("blocks", SET_ASIDE_BLOCK + 1)?),
            9 => Self::Requests(Encoding::decode(from)?),
            code => return Err(Malformed::Unknown { what: "reply", code }),
        })
    }
}
