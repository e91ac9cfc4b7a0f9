//! The bytes of messages between replicas (`store/wire/PROTOCOL.md`). Lists are bounded here, what they hold in `sensible.rs`.
//!
//! All fields are named where they are written: one that is added to a message and forgotten here does not compile.

mod message;
#[cfg(test)]
mod tests;

use huntaway_wire::encoding::{Encoding, Malformed, Reader, Writer};
use huntaway_wire::{BLOCKS_PER_OBJECT, Durability, Oid, Process, Version};

use crate::event::{Page, Verified};
use crate::process::Moment;
use crate::record::{Block, Change, Completion, CopiedBlock, Record, RequestId, SET_ASIDE_BLOCK, Stored};
use crate::requests::Requests;
use crate::room::Credit;
use crate::teaching::PAGE_OBJECTS;

/// Most gateways whose requests are remembered.
const MOST_GATEWAYS: u32 = 1 << 16;

/// Most requests of one gateway that are remembered.
const MOST_REQUESTS: u32 = 1 << 20;

/// The number of microseconds.
impl Encoding for Moment {
    fn encode(&self, to: &mut Writer) {
        self.0.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        u64::decode(from).map(Self)
    }
}

impl Encoding for Credit {
    fn encode(&self, to: &mut Writer) {
        let Self { limit_bytes, space_limit_bytes, is_full } = self;
        limit_bytes.encode(to);
        space_limit_bytes.encode(to);
        is_full.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (limit_bytes, space_limit_bytes) = Encoding::decode(from)?;
        Ok(Self { limit_bytes, space_limit_bytes, is_full: bool::decode(from)? })
    }
}

impl Encoding for Record {
    fn encode(&self, to: &mut Writer) {
        let Self { version, oid, change, completion, request, unanswered_from, durability } = self;
        version.encode(to);
        oid.encode(to);
        completion.encode(to);
        request.encode(to);
        unanswered_from.encode(to);
        durability.encode(to);
        change.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            version: Version::decode(from)?,
            oid: Oid::decode(from)?,
            completion: Completion::decode(from)?,
            request: Option::<RequestId>::decode(from)?,
            unanswered_from: u64::decode(from)?,
            durability: Durability::decode(from)?,
            change: Change::decode(from)?,
        })
    }
}

impl Encoding for Change {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Write { first_block, blocks } => {
                to.code(1);
                first_block.encode(to);
                to.list(blocks.iter());
            }
            Self::Remove => to.code(2),
            Self::Free { runs } => {
                to.code(3);
                to.list(runs.iter());
            }
            Self::Nothing => to.code(4),
            Self::Reserve => to.code(5),
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.code()? {
            1 => Self::Write {
                first_block: u32::decode(from)?,
                blocks: from.list("blocks", BLOCKS_PER_OBJECT)?,
            },
            2 => Self::Remove,
            3 => Self::Free { runs: from.list("runs", SET_ASIDE_BLOCK + 1)? },
            4 => Self::Nothing,
            5 => Self::Reserve,
            code => return Err(Malformed::Unknown { what: "change", code }),
        })
    }
}

impl Encoding for Completion {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Done => to.code(1),
            Self::Miscompare { offset } => {
                to.code(2);
                offset.encode(to);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.code()? {
            1 => Self::Done,
            2 => Self::Miscompare { offset: u32::decode(from)? },
            code => return Err(Malformed::Unknown { what: "completion", code }),
        })
    }
}

impl Encoding for Stored {
    fn encode(&self, to: &mut Writer) {
        let Self { version, content } = self;
        version.encode(to);
        content.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { version: Version::decode(from)?, content: Option::<Block>::decode(from)? })
    }
}

impl Encoding for CopiedBlock {
    fn encode(&self, to: &mut Writer) {
        let Self { block, stored, is_lost } = self;
        block.encode(to);
        stored.encode(to);
        is_lost.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (block, stored) = Encoding::decode(from)?;
        Ok(Self { block, stored, is_lost: bool::decode(from)? })
    }
}

impl Encoding for Verified {
    fn encode(&self, to: &mut Writer) {
        let Self { block, version, crc } = self;
        block.encode(to);
        version.encode(to);
        crc.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (block, version) = Encoding::decode(from)?;
        Ok(Self { block, version, crc: Encoding::decode(from)? })
    }
}

impl Encoding for Page {
    fn encode(&self, to: &mut Writer) {
        let Self { objects, is_last } = self;
        to.list(objects.iter());
        is_last.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { objects: from.list("objects", PAGE_OBJECTS as u32)?, is_last: bool::decode(from)? })
    }
}

/// Each gateway with its mark, and its requests that are remembered with what they came to.
impl Encoding for Requests {
    fn encode(&self, to: &mut Writer) {
        (self.gateways().count() as u32).encode(to);
        for (gateway, unanswered_from, remembered) in self.gateways() {
            gateway.encode(to);
            unanswered_from.encode(to);
            (remembered as u32).encode(to);
            self.of(gateway).for_each(|request| request.encode(to));
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut requests = Self::default();
        let gateways = u32::decode(from)?;
        if gateways > MOST_GATEWAYS {
            return Err(Malformed::Long { what: "gateways", entries: gateways, most: MOST_GATEWAYS });
        }
        for _ in 0..gateways {
            let (gateway, unanswered_from) = <(Process, u64)>::decode(from)?;
            requests.trim(gateway, unanswered_from);
            for (number, completion) in from.list("requests", MOST_REQUESTS)? {
                requests.put(RequestId { gateway, number }, completion);
            }
        }
        Ok(requests)
    }
}
