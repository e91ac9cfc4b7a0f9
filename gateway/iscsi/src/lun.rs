//! Logical unit numbers as SAM writes them: eight bytes, of which we address one level.

use std::fmt;

/// The largest number of the flat and peripheral addressing methods together (14 bits).
pub const MAX_LUN: u16 = 0x3fff;

/// A logical unit number in the eight-byte form of SAM-5 §4.7.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Lun([u8; 8]);

impl Lun {
    /// LUN 0.
    pub const ZERO: Self = Self([0; 8]);

    /// The LUN in these bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The bytes on the wire.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// The usual form of a small number: peripheral addressing below 256, flat addressing up to
    /// [`MAX_LUN`]; `None` above.
    pub fn from_number(number: u16) -> Option<Self> {
        let [high, low] = number.to_be_bytes();
        match number {
            0..=0xff => Some(Self([0, low, 0, 0, 0, 0, 0, 0])),
            0x100..=MAX_LUN => Some(Self([0x40 | high, low, 0, 0, 0, 0, 0, 0])),
            _ => None,
        }
    }

    /// The number of a single-level LUN in peripheral (bus 0) or flat addressing; `None` for every
    /// other form, which names no logical unit of ours.
    pub fn flat(self) -> Option<u16> {
        let [first, second, rest @ ..] = self.0;
        if rest != [0; 6] {
            return None;
        }
        match first >> 6 {
            0 if first == 0 => Some(u16::from(second)),
            1 => Some(u16::from_be_bytes([first & 0x3f, second])),
            _ => None,
        }
    }
}

impl fmt::Debug for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flat() {
            Some(number) => write!(f, "Lun({number})"),
            None => write!(f, "Lun({:02x?})", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_both_addressing_methods() {
        for number in [0, 1, 255, 256, 1000, MAX_LUN] {
            assert_eq!(Lun::from_number(number).unwrap().flat(), Some(number));
        }
        assert_eq!(Lun::from_number(MAX_LUN + 1), None);
        assert_eq!(Lun::from_bytes([0x40, 7, 0, 0, 0, 0, 0, 0]).flat(), Some(7));
    }

    #[test]
    fn other_forms_name_nothing() {
        for bytes in [[1, 0, 0, 0, 0, 0, 0, 0], [0x80, 0, 0, 0, 0, 0, 0, 0], [0xc1, 1, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Lun::from_bytes(bytes).flat(), None);
        }
        assert_eq!(Lun::from_bytes([0, 1, 0, 2, 0, 0, 0, 0]).flat(), None);
    }
}
