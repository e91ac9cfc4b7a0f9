//! Page 83h: device identification (SPC-4). What names the logical unit is the same through every target
//! port, so that multipath software recognises it; what names the port is not.

use crate::command::inquiry::VENDOR;
use crate::logical_unit::LogicalUnit;
use crate::mode::ModeState;

/// CODE SET.
const BINARY: u8 = 1;
const ASCII: u8 = 2;
const UTF8: u8 = 3;

/// ASSOCIATION, in its place.
const LOGICAL_UNIT: u8 = 0x00;
const TARGET_PORT: u8 = 0x10;
const TARGET_DEVICE: u8 = 0x20;

/// DESIGNATOR TYPE.
const T10_VENDOR_ID: u8 = 1;
const NAA: u8 = 3;
const RELATIVE_TARGET_PORT: u8 = 4;
const TARGET_PORT_GROUP: u8 = 5;
const SCSI_NAME: u8 = 8;

/// PROTOCOL IDENTIFIER iSCSI in its place, and the bit that says it is there.
const ISCSI: u8 = 0x50;
const PIV: u8 = 0x80;

pub(super) fn body(unit: &LogicalUnit, _: &ModeState) -> Vec<u8> {
    let config = unit.config();
    let naa = locally_assigned_naa(&config.identifier);
    let mut designators = Designators(Vec::new());

    designators.push(ASCII, LOGICAL_UNIT | T10_VENDOR_ID, &vendor_designator(&config.identifier));
    designators.push(BINARY, LOGICAL_UNIT | NAA, &naa.to_be_bytes());
    designators.push(UTF8, LOGICAL_UNIT | SCSI_NAME, &scsi_name(&format!("naa.{naa:016X}")));

    let port = config.relative_target_port.to_be_bytes();
    designators.push_port(BINARY, TARGET_PORT | RELATIVE_TARGET_PORT, &[0, 0, port[0], port[1]]);
    let group = config.target_port_group.to_be_bytes();
    designators.push_port(BINARY, TARGET_PORT | TARGET_PORT_GROUP, &[0, 0, group[0], group[1]]);
    // The name of an iSCSI target port (RFC 7143 §4.4.2).
    let port_name = format!("{},t,0x{:04x}", config.target_name, config.target_port_group);
    designators.push_port(UTF8, TARGET_PORT | SCSI_NAME, &scsi_name(&port_name));
    designators.push_port(UTF8, TARGET_DEVICE | SCSI_NAME, &scsi_name(&config.target_name));
    designators.0
}

struct Designators(Vec<u8>);

impl Designators {
    fn push(&mut self, code_set: u8, association_and_type: u8, designator: &[u8]) {
        self.push_with_flags(code_set, association_and_type, designator);
    }

    /// As `push`, with the protocol that the port or device speaks.
    fn push_port(&mut self, code_set: u8, association_and_type: u8, designator: &[u8]) {
        self.push_with_flags(ISCSI | code_set, PIV | association_and_type, designator);
    }

    fn push_with_flags(&mut self, first: u8, second: u8, designator: &[u8]) {
        self.0.extend_from_slice(&[first, second, 0, designator.len() as u8]);
        self.0.extend_from_slice(designator);
    }
}

/// The vendor's name and what the vendor sees to being unique: the identifier in hexadecimal.
fn vendor_designator(identifier: &[u8; 16]) -> Vec<u8> {
    let mut designator = VENDOR.to_vec();
    for byte in identifier {
        designator.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    designator
}

/// A null-terminated string, null-padded to a multiple of four (SPC-4).
fn scsi_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize((name.len() + 1).next_multiple_of(4), 0);
    bytes
}

/// An NAA 3h designator (locally assigned, SPC-4): 60 bits mixed from all of the identifier, since
/// identifiers may differ in few of theirs. The formats with more bits belong to holders of an IEEE company id.
fn locally_assigned_naa(identifier: &[u8; 16]) -> u64 {
    const LOCALLY_ASSIGNED: u64 = 0x3 << 60;
    let value = u128::from_be_bytes(*identifier);
    let mixed = mix((value >> 64) as u64).wrapping_add(value as u64);
    LOCALLY_ASSIGNED | mix(mixed) >> 4
}

/// A fixed permutation of 64 bits in which every input bit changes half of the output bits (the finisher of
/// MurmurHash3). It can never be changed: initiators know disks by its results.
fn mix(mut value: u64) -> u64 {
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^= value >> 33;
    value = value.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ value >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use std::collections::HashSet;

    #[test]
    fn neighbouring_identifiers_have_different_designators() {
        let mut seen = HashSet::new();
        for high in 0..100u128 {
            for low in 0..100u128 {
                assert!(seen.insert(locally_assigned_naa(&(high << 64 | low).to_be_bytes())));
            }
        }
        assert!(seen.iter().all(|naa| naa >> 60 == 3));
    }

    #[test]
    fn designators_fill_the_page_exactly() {
        let unit = example::thin_unit();
        let body = body(&unit, &unit.default_modes());
        let mut types = Vec::new();
        let mut rest = body.as_slice();
        while let [_, second, 0, length, ..] = rest {
            types.push(second & 0x3f);
            rest = &rest[4 + usize::from(*length)..];
        }
        assert!(rest.is_empty());
        assert_eq!(types, [0x01, 0x03, 0x08, 0x14, 0x15, 0x18, 0x28]);
    }

    #[test]
    fn logical_unit_designators_do_not_depend_on_the_port() {
        let mut other = example::config();
        other.relative_target_port = 9;
        other.target_port_group = 9;
        let unit = example::thin_unit();
        let other = LogicalUnit::new(other).unwrap();
        let modes = unit.default_modes();
        let logical_unit_part = 4 + 40 + 4 + 8 + 4 + 24;
        assert_eq!(body(&unit, &modes)[..logical_unit_part], body(&other, &modes)[..logical_unit_part]);
        assert_ne!(body(&unit, &modes), body(&other, &modes));
    }

    #[test]
    fn golden_designators_stay_for_ever() {
        let unit = example::thin_unit();
        let body = body(&unit, &unit.default_modes());
        assert_eq!(&body[..44], b"\x02\x01\x00\x28HUNTAWAY000102030405060708090a0b0c0d0e0f");
        let naa = 0x3bc550de70afcbab_u64;
        assert_eq!(body[44..56], [&[1, 3, 0, 8][..], &naa.to_be_bytes()].concat());
        assert_eq!(body[56..84], *b"\x03\x08\x00\x18naa.3BC550DE70AFCBAB\0\0\0\0");
        assert_eq!(body[84..92], [0x51, 0x94, 0, 4, 0, 0, 0, 1]);
        assert_eq!(body[92..100], [0x51, 0x95, 0, 4, 0, 0, 0, 1]);
        assert_eq!(body[100..144], *b"\x53\x98\x00\x28iqn.2026-11.dev.huntaway:demo,t,0x0001\0\0");
        assert_eq!(body[144..], *b"\x53\xa8\x00\x20iqn.2026-11.dev.huntaway:demo\0\0\0");
    }
}
