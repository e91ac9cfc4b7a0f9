//! Object ids: which piece of which VDI, as one 64-bit number.

use std::fmt;

use crate::{InvalidId, Vid};

/// What an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A 4 MiB piece of the disk.
    Data = 0,
    /// The VDI's metadata record (a copy of what the ledger says).
    Vdi = 1,
    /// Labels and user metadata.
    Attribute = 2,
    /// A memory image kept with a snapshot.
    VmState = 3,
}

/// Names one object: `kind << 56 | vid << 32 | index`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(u64);

impl Oid {
    /// The object of `kind` with `index` in the VDI `vid`.
    pub fn new(kind: ObjectKind, vid: Vid, index: u32) -> Self {
        Self((kind as u64) << 56 | u64::from(vid.value()) << 32 | u64::from(index))
    }

    /// Reads an id from its number.
    ///
    /// # Errors
    /// [`InvalidId`] when the kind is unknown or the vid is out of range.
    pub fn from_value(value: u64) -> Result<Self, InvalidId> {
        let valid = value >> 56 <= 3 && Vid::new((value >> 32) as u32 & Vid::MAX.value()).is_ok();
        if valid { Ok(Self(value)) } else { Err(InvalidId { kind: "oid", value }) }
    }

    /// The number.
    pub fn value(self) -> u64 {
        self.0
    }

    /// What the object holds.
    pub fn kind(self) -> ObjectKind {
        match self.0 >> 56 {
            0 => ObjectKind::Data,
            1 => ObjectKind::Vdi,
            2 => ObjectKind::Attribute,
            _ => ObjectKind::VmState,
        }
    }

    /// The VDI the object belongs to.
    pub fn vid(self) -> Vid {
        Vid::new((self.0 >> 32) as u32 & Vid::MAX.value()).expect("constructors admit valid vids only")
    }

    /// The object's place in its VDI, in objects.
    pub fn index(self) -> u32 {
        self.0 as u32
    }
}

/// Sixteen hexadecimal digits: also the object's file name.
impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oid_takes_apart_as_it_was_put_together() {
        let oid = Oid::new(ObjectKind::Vdi, Vid::new(0xabcdef).unwrap(), 0x0123_4567);
        assert_eq!(oid.to_string(), "01abcdef01234567");
        assert_eq!((oid.kind(), oid.vid().value(), oid.index()), (ObjectKind::Vdi, 0xabcdef, 0x0123_4567));
        assert_eq!(Oid::from_value(oid.value()), Ok(oid));
    }

    #[test]
    fn unknown_kinds_and_the_zero_vid_are_refused() {
        assert!(Oid::from_value(0).is_err());
        assert!(Oid::from_value(0x04ab_cdef_0000_0000).is_err());
    }
}
