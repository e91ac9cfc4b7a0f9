//! The table of keys (RFC 7143 §12, §13): one row per key that we know, and for each how an offer is answered.

use crate::limits::Limits;
use crate::negotiation::REJECT;
use crate::parameters::{Parameters, TaskReporting};

use Relevance::{Always, Normal, UnsolicitedData};
use Rule::{Alias, Constant, Digest, Ignored, Leading, Misplaced, Security, SegmentLength};

/// The keys in which an initiator says what the session is about.
pub(crate) const INITIATOR_NAME: &str = "InitiatorName";
/// See [`INITIATOR_NAME`].
pub(crate) const TARGET_NAME: &str = "TargetName";
/// See [`INITIATOR_NAME`].
pub(crate) const SESSION_TYPE: &str = "SessionType";
/// Asks for a list of targets (appendix C).
pub(crate) const SEND_TARGETS: &str = "SendTargets";

/// The key by which each side declares the largest data segment it takes (§13.12).
pub(crate) const MAX_RECV_DATA_SEGMENT_LENGTH: &str = "MaxRecvDataSegmentLength";

/// The values MaxRecvDataSegmentLength and the burst lengths may have (§13.12-§13.14).
pub(super) const LENGTHS: (u32, u32) = (512, (1 << 24) - 1);

/// One key.
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: &'static str,
    pub(super) relevance: Relevance,
    /// How an offer is answered.
    pub(crate) rule: Rule,
}

/// When a key means something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Relevance {
    Always,
    /// Not in discovery sessions.
    Normal,
    /// Not in discovery sessions, nor where the agreed InitialR2T and ImmediateData forbid all unsolicited data.
    UnsolicitedData,
}

/// How an offer of a key is answered.
pub(crate) enum Rule {
    /// Declares what the session is about; only in the first request, and never answered.
    Leading,
    /// Belongs to the security stage, where its own exchange answers it.
    Security,
    /// InitiatorAlias: declared at any time, never answered.
    Alias,
    /// MaxRecvDataSegmentLength: declared by each side for itself.
    SegmentLength,
    /// Declared, and of no use to us.
    Ignored,
    /// Yes or No; `ours` is what we would choose.
    Boolean { combine: fn(bool, bool) -> bool, ours: bool, set: fn(&mut Parameters, bool) },
    /// A number within inclusive bounds; `ours` may depend on what was agreed so far.
    Number {
        bounds: (u32, u32),
        combine: fn(u32, u32) -> u32,
        ours: fn(&Limits, &Parameters) -> u32,
        set: fn(&mut Parameters, u32),
    },
    /// CRC32C or none, as the target's policy and the initiator's preference have it.
    Digest(fn(&mut Parameters, bool)),
    /// The first value offered that we know.
    List { known: &'static [&'static str], set: fn(&mut Parameters, &str) },
    /// Always the same answer.
    Constant(&'static str),
    /// Not for an initiator to say during login.
    Misplaced,
}

/// Every key we know. At most 64: the negotiation keeps a bit for each.
pub(super) const KEYS: &[Key] = &[
    key(INITIATOR_NAME, Always, Leading),
    key(TARGET_NAME, Always, Leading),
    key(SESSION_TYPE, Always, Leading),
    key("InitiatorAlias", Always, Alias),
    key("AuthMethod", Always, Security),
    key("CHAP_A", Always, Security),
    key("CHAP_C", Always, Security),
    key("CHAP_I", Always, Security),
    key("CHAP_N", Always, Security),
    key("CHAP_R", Always, Security),
    key("HeaderDigest", Always, Digest(|p, yes| p.header_digest = yes)),
    key("DataDigest", Always, Digest(|p, yes| p.data_digest = yes)),
    key(MAX_RECV_DATA_SEGMENT_LENGTH, Always, SegmentLength),
    key(
        "MaxConnections",
        Normal,
        number((1, 65_535), u32::min, |_, _| 1, |p, n| p.max_connections = short(n)),
    ),
    key("InitialR2T", Normal, boolean(or, false, |p, yes| p.initial_r2t = yes)),
    key("ImmediateData", Normal, boolean(and, true, |p, yes| p.immediate_data = yes)),
    key(
        "MaxBurstLength",
        Normal,
        number(LENGTHS, u32::min, |l, _| l.max_burst_length, |p, n| p.max_burst_length = n),
    ),
    key(
        "FirstBurstLength",
        UnsolicitedData,
        number(LENGTHS, u32::min, first_burst, |p, n| p.first_burst_length = n),
    ),
    key(
        "DefaultTime2Wait",
        Always,
        number((0, 3600), u32::max, |_, _| 2, |p, n| p.default_time2wait = short(n)),
    ),
    key(
        "DefaultTime2Retain",
        Always,
        number((0, 3600), u32::min, |_, _| 0, |p, n| p.default_time2retain = short(n)),
    ),
    key(
        "MaxOutstandingR2T",
        Normal,
        number((1, 65_535), u32::min, outstanding, |p, n| p.max_outstanding_r2t = short(n)),
    ),
    key("DataPDUInOrder", Normal, boolean(or, true, |p, yes| p.data_pdu_in_order = yes)),
    key("DataSequenceInOrder", Normal, boolean(or, true, |p, yes| p.data_sequence_in_order = yes)),
    key(
        "ErrorRecoveryLevel",
        Always,
        number((0, 2), u32::min, |_, _| 0, |p, n| p.error_recovery_level = byte(n)),
    ),
    key(
        "TaskReporting",
        Normal,
        list(&["RFC3720", "ResponseFence"], |p, value| p.task_reporting = reporting(value)),
    ),
    key("iSCSIProtocolLevel", Normal, number((0, 31), u32::min, |_, _| 1, |p, n| p.protocol_level = byte(n))),
    // §13.25: markers are gone, but must not be answered with NotUnderstood.
    key("IFMarker", Always, Constant("No")),
    key("OFMarker", Always, Constant("No")),
    key("IFMarkInt", Always, Constant(REJECT)),
    key("OFMarkInt", Always, Constant(REJECT)),
    key("X#NodeArchitecture", Always, Ignored),
    key(SEND_TARGETS, Always, Misplaced),
    key("TargetAlias", Always, Misplaced),
    key("TargetAddress", Always, Misplaced),
    key("TargetPortalGroupTag", Always, Misplaced),
];

const fn key(name: &'static str, relevance: Relevance, rule: Rule) -> Key {
    Key { name, relevance, rule }
}

const fn boolean(combine: fn(bool, bool) -> bool, ours: bool, set: fn(&mut Parameters, bool)) -> Rule {
    Rule::Boolean { combine, ours, set }
}

const fn number(
    bounds: (u32, u32),
    combine: fn(u32, u32) -> u32,
    ours: fn(&Limits, &Parameters) -> u32,
    set: fn(&mut Parameters, u32),
) -> Rule {
    Rule::Number { bounds, combine, ours, set }
}

const fn list(known: &'static [&'static str], set: fn(&mut Parameters, &str)) -> Rule {
    Rule::List { known, set }
}

const fn and(offered: bool, ours: bool) -> bool {
    offered && ours
}

const fn or(offered: bool, ours: bool) -> bool {
    offered || ours
}

/// FirstBurstLength must not exceed MaxBurstLength (§13.14).
fn first_burst(limits: &Limits, agreed: &Parameters) -> u32 {
    limits.first_burst_length.min(agreed.max_burst_length)
}

fn outstanding(limits: &Limits, _: &Parameters) -> u32 {
    limits.max_outstanding_r2t.into()
}

fn reporting(value: &str) -> TaskReporting {
    if value == "ResponseFence" { TaskReporting::ResponseFence } else { TaskReporting::Rfc3720 }
}

/// The table's bounds keep numbers of 16-bit parameters within 16 bits.
fn short(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// The table's bounds keep numbers of 8-bit parameters within 8 bits.
fn byte(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// The row of a key, if we know it.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::KEYS;
    use crate::text::MAX_KEY_BYTES;

    #[test]
    fn every_key_has_one_row() {
        let names: HashSet<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEYS.len());
        assert!(KEYS.iter().all(|key| key.name.len() <= MAX_KEY_BYTES));
    }
}
