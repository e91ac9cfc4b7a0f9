//! The bytes of ids, ranges and what else is in requests and records alike.

use core::time::Duration;

use super::{Encoding, Malformed, Reader, Writer};
use crate::{
    ByteRange, Durability, Incarnation, NodeId, Oid, Partition, Pepoch, Process, Stamp, Version, Vid,
};

macro_rules! counters {
    ($($counter:ident: $number:ty),*) => { $(
        /// The number.
        impl Encoding for $counter {
            fn encode(&self, to: &mut Writer) {
                self.0.encode(to);
            }

            fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                <$number>::decode(from).map(Self)
            }
        }
    )* };
}

counters!(Incarnation: u64, Pepoch: u32);

macro_rules! checked {
    ($($id:ident, $new:ident: $number:ty),*) => { $(
        /// The number.
        impl Encoding for $id {
            fn encode(&self, to: &mut Writer) {
                self.value().encode(to);
            }

            fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok(Self::$new(<$number>::decode(from)?)?)
            }
        }
    )* };
}

checked!(Oid, from_value: u64, Partition, new: u16, Vid, new: u32);

/// The bytes of the uuid.
impl Encoding for NodeId {
    fn encode(&self, to: &mut Writer) {
        to.raw(&self.0);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.raw().map(Self)
    }
}

/// The node, the incarnation.
impl Encoding for Process {
    fn encode(&self, to: &mut Writer) {
        let Self { node, incarnation } = self;
        node.encode(to);
        incarnation.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { node: NodeId::decode(from)?, incarnation: Incarnation::decode(from)? })
    }
}

/// The pepoch, the seq.
impl Encoding for Version {
    fn encode(&self, to: &mut Writer) {
        let Self { pepoch, seq } = self;
        pepoch.encode(to);
        seq.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { pepoch: u32::decode(from)?, seq: u32::decode(from)? })
    }
}

/// The incarnation, the clock in nanoseconds.
impl Encoding for Stamp {
    fn encode(&self, to: &mut Writer) {
        let Self { incarnation, clock } = self;
        incarnation.encode(to);
        // 64 bits are enough for 584 years of work.
        u64::try_from(clock.as_nanos()).unwrap_or(u64::MAX).encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let incarnation = Incarnation::decode(from)?;
        Ok(Self { incarnation, clock: Duration::from_nanos(u64::decode(from)?) })
    }
}

/// The first byte, the length.
impl Encoding for ByteRange {
    fn encode(&self, to: &mut Writer) {
        self.offset().encode(to);
        self.length().encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (offset, length) = <(u32, u32)>::decode(from)?;
        Self::new(offset, length).ok_or(Malformed::NoRange { offset, length })
    }
}

/// A byte: 0 logged, 1 stable.
impl Encoding for Durability {
    fn encode(&self, to: &mut Writer) {
        to.code(match self {
            Self::Logged => 0,
            Self::Stable => 1,
        });
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.code()? {
            0 => Ok(Self::Logged),
            1 => Ok(Self::Stable),
            code => Err(Malformed::Unknown { what: "durability", code }),
        }
    }
}
