//! Write data as the initiator sends it: whether it keeps the rules, and what therefore may become of it.
//!
//! A second opinion on Data-Outs (RFC 7143 §4.2.5.2, §11.7, §11.8), by what is on the wire alone. Where a tag is used for
//! several tasks it has none: which of them a PDU belongs to depends on how far the core is.

use std::collections::{BTreeMap, BTreeSet};

use iscsi_target::Parameters;
use iscsi_target::pdu::{DataOutPdu, R2tPdu, RESERVED_TAG, ScsiCommandPdu};

/// Data that the initiator is to send, and how far it is with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Burst {
    pub(super) initiator_task_tag: u32,
    /// That of the R2T, or the reserved one for unsolicited data.
    pub(super) target_transfer_tag: u32,
    pub(super) next_offset: u32,
    pub(super) end: u32,
    pub(super) next_data_sn: u32,
}

/// The write data of one task.
#[derive(Debug)]
struct Transfer {
    expected: u32,
    /// Where the next R2T begins.
    due: u32,
    is_broken: bool,
    is_unclear: bool,
}

/// The write data of all tasks.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    tasks: BTreeMap<u32, Transfer>,
    /// Oldest first.
    pub(super) bursts: Vec<Burst>,
    /// Tags under which there was more than one task, or may be an R2T on its way for one that was aborted.
    spoilt: BTreeSet<u32>,
}

impl Transfers {
    /// A command leaves with this much immediate data.
    pub(super) fn begin(&mut self, pdu: &ScsiCommandPdu, immediate: u32, parameters: &Parameters) {
        let tag = pdu.initiator_task_tag;
        if let Some(transfer) = self.tasks.get_mut(&tag) {
            transfer.is_unclear = true;
            return;
        }
        let expected = if pdu.write { pdu.expected_data_transfer_length } else { 0 };
        let unsolicited_end = expected.min(parameters.first_burst_length);
        let more_follows = pdu.write && !pdu.is_final && immediate < unsolicited_end;
        let is_forbidden = (immediate > 0 && !parameters.immediate_data)
            || immediate > unsolicited_end
            || (more_follows && parameters.initial_r2t);
        self.tasks.insert(
            tag,
            Transfer {
                expected,
                due: if more_follows { unsolicited_end } else { immediate },
                is_broken: pdu.write && is_forbidden,
                is_unclear: self.spoilt.contains(&tag),
            },
        );
        if more_follows {
            self.bursts.push(Burst {
                initiator_task_tag: tag,
                target_transfer_tag: RESERVED_TAG,
                next_offset: immediate,
                end: unsolicited_end,
                next_data_sn: 0,
            });
        }
    }

    /// What was sent for a task was damaged on the way.
    pub(super) fn damage(&mut self, tag: u32) {
        if let Some(transfer) = self.tasks.get_mut(&tag) {
            transfer.is_broken = true;
        }
    }

    /// A Data-Out leaves.
    pub(super) fn send(&mut self, pdu: &DataOutPdu, length: u32) {
        let tag = pdu.initiator_task_tag;
        let Some(transfer) = self.tasks.get_mut(&tag) else { return };
        let Some(first) = self.bursts.iter().position(|burst| burst.initiator_task_tag == tag) else {
            // All that was asked for is there: what the core makes of more depends on whether it looked already.
            transfer.is_unclear = true;
            return;
        };
        let named = self.bursts.iter().position(|burst| {
            burst.initiator_task_tag == tag && burst.target_transfer_tag == pdu.target_transfer_tag
        });
        let Some(at) = named else {
            transfer.is_broken = true;
            return;
        };
        let burst = &mut self.bursts[at];
        let fits = at == first
            && pdu.data_sn == burst.next_data_sn
            && pdu.buffer_offset == burst.next_offset
            && length <= burst.end - burst.next_offset;
        if fits {
            burst.next_data_sn += 1;
            burst.next_offset += length;
        }
        if pdu.is_final {
            transfer.is_broken |= burst.next_offset != burst.end;
            self.bursts.remove(at);
        }
        transfer.is_broken |= !fits;
    }

    /// The core asks for data: each byte once, in order, and not more at a time than was agreed.
    pub(super) fn ask(&mut self, pdu: &R2tPdu, parameters: &Parameters, is_lost: bool) {
        let tag = pdu.initiator_task_tag;
        let end = pdu.buffer_offset.saturating_add(pdu.desired_data_transfer_length);
        self.bursts.push(Burst {
            initiator_task_tag: tag,
            target_transfer_tag: pdu.target_transfer_tag,
            next_offset: pdu.buffer_offset,
            end,
            next_data_sn: 0,
        });
        let bursts = || self.bursts.iter().filter(|burst| burst.initiator_task_tag == tag);
        let Some(transfer) = self.tasks.get_mut(&tag) else { return };
        if !is_lost && !transfer.is_unclear && !transfer.is_broken {
            assert_eq!(pdu.buffer_offset, transfer.due, "an R2T goes on where what came before it ends");
            assert!(end <= transfer.expected, "an R2T for more than there is");
            assert!(
                bursts().count() <= usize::from(parameters.max_outstanding_r2t),
                "{pdu:?} is one too many"
            );
            assert!(
                bursts().all(|burst| burst.target_transfer_tag != RESERVED_TAG),
                "{pdu:?} came too early"
            );
        }
        transfer.due = end;
    }

    /// `length` bytes of a task's data were handed on.
    pub(super) fn check_complete(&self, tag: u32, length: u32) {
        let Some(transfer) = self.tasks.get(&tag).filter(|transfer| !transfer.is_unclear) else { return };
        assert!(!transfer.is_broken, "data of task {tag} was used, although its sender broke a rule");
        assert!(transfer.due >= length && self.has_sent_all(tag), "data of task {tag} that was never sent");
    }

    /// A task's data was refused.
    pub(super) fn check_failed(&self, tag: u32) {
        let Some(transfer) = self.tasks.get(&tag).filter(|transfer| !transfer.is_unclear) else { return };
        assert!(transfer.is_broken, "data of task {tag} was refused, although its sender kept the rules");
        assert!(self.has_sent_all(tag), "task {tag} failed before its data had ended");
    }

    /// A task ended. Unless `is_alone`, there is more to come under its tag.
    pub(super) fn end(&mut self, tag: u32, is_alone: bool) {
        self.tasks.remove(&tag);
        self.bursts.retain(|burst| burst.initiator_task_tag != tag);
        if !is_alone {
            self.spoilt.insert(tag);
        }
    }

    fn has_sent_all(&self, tag: u32) -> bool {
        self.bursts.iter().all(|burst| burst.initiator_task_tag != tag)
    }
}
