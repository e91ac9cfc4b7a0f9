//! What the session core sends: sound PDUs, numbered without gaps, each an answer to something that was asked.

use std::collections::BTreeMap;

use bytes::BytesMut;
use iscsi_target::Parameters;
use iscsi_target::framing::{Digests, Frame, FrameLimits, take_frame};
use iscsi_target::pdu::{
    DataInPdu, LoginResponsePdu, Opcode, R2tPdu, RESERVED_TAG, SequenceNumbers, TextResponsePdu,
};

use super::{limits, pattern};

/// How far the answers have come.
pub(super) struct Answers {
    pub(super) exp_stat_sn: u32,
    /// Tags of a text negotiation that goes on.
    pub(super) text_tags: (u32, u32),
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    /// Where the next Data-In of a task begins, and its DataSN, which its R2Ts share.
    data_in: BTreeMap<u32, u32>,
    data_sn: BTreeMap<u32, u32>,
}

impl Answers {
    /// The login was answered.
    pub(super) fn new(exp_stat_sn: u32, cmd_sn: u32) -> Self {
        Self {
            exp_stat_sn,
            text_tags: (RESERVED_TAG, RESERVED_TAG),
            exp_cmd_sn: cmd_sn,
            max_cmd_sn: cmd_sn.wrapping_sub(1),
            data_in: BTreeMap::new(),
            data_sn: BTreeMap::new(),
        }
    }

    /// The next PDU.
    pub(super) fn next(&mut self, received: &mut BytesMut, digests: Digests) -> Option<Frame> {
        let limits = FrameLimits { data: 1 << 20, additional_header: 0 };
        let frame = take_frame(received, digests, limits).expect("a sound stream")?;
        assert!(frame.data_is_intact, "data digest");
        Some(frame)
    }

    /// The tag of the request that a PDU has to do with, if it has to do with one.
    pub(super) fn concerns(&self, frame: &Frame) -> Option<u32> {
        let tag = frame.header.initiator_task_tag();
        match frame.header.opcode() {
            Opcode::AsyncMessage | Opcode::Reject => None,
            Opcode::NopIn => (tag != RESERVED_TAG).then_some(tag),
            _ => Some(tag),
        }
    }

    /// Holds one PDU against what it must be; returns the tag of the request that it answers.
    pub(super) fn check(&mut self, frame: &Frame, parameters: &Parameters) -> Option<u32> {
        let header = &frame.header;
        let tag = header.initiator_task_tag();
        let opcode = header.opcode();
        let sequence = LoginResponsePdu::parse(header).sequence;
        self.check_window(&sequence);
        let (carries_status, answers) = match opcode {
            Opcode::ReadyToTransfer => {
                self.check_r2t(&R2tPdu::parse(header), parameters);
                (false, false)
            }
            Opcode::DataIn => {
                let pdu = DataInPdu::parse(header);
                self.check_data_in(&pdu, &frame.data);
                (pdu.status.is_some(), pdu.status.is_some())
            }
            Opcode::NopIn => (tag != RESERVED_TAG, tag != RESERVED_TAG),
            Opcode::TextResponse => {
                self.text_tags = (tag, TextResponsePdu::parse(header).target_transfer_tag);
                (true, true)
            }
            Opcode::ScsiResponse | Opcode::TaskManagementResponse | Opcode::LogoutResponse => (true, true),
            Opcode::AsyncMessage => (true, false),
            Opcode::Reject => {
                assert_eq!(frame.data.len(), 48, "the header that is rejected");
                (true, false)
            }
            other => panic!("a target sends no {other:?}"),
        };
        if carries_status {
            assert_eq!(sequence.stat_sn, self.exp_stat_sn, "StatSN of {opcode:?}");
            self.exp_stat_sn = self.exp_stat_sn.wrapping_add(1);
        }
        if answers {
            self.data_in.remove(&tag);
            self.data_sn.remove(&tag);
        }
        answers.then_some(tag)
    }

    /// The window never shrinks, and is never wider than the limit.
    fn check_window(&mut self, sequence: &SequenceNumbers) {
        let SequenceNumbers { exp_cmd_sn, max_cmd_sn, .. } = *sequence;
        assert!(exp_cmd_sn.wrapping_sub(self.exp_cmd_sn) as i32 >= 0, "ExpCmdSN went back");
        assert!(max_cmd_sn.wrapping_sub(self.max_cmd_sn) as i32 >= 0, "MaxCmdSN went back");
        let room = max_cmd_sn.wrapping_sub(exp_cmd_sn).wrapping_add(1);
        assert!(room <= u32::from(limits().command_window), "a window of {room}");
        (self.exp_cmd_sn, self.max_cmd_sn) = (exp_cmd_sn, max_cmd_sn);
    }

    fn check_r2t(&mut self, pdu: &R2tPdu, parameters: &Parameters) {
        let next = self.data_sn.entry(pdu.initiator_task_tag).or_default();
        // The first of a task whose tag had another that was aborted.
        let begins = pdu.r2t_sn == 0;
        assert!(begins || pdu.r2t_sn == *next, "R2TSN {} instead of {next}", pdu.r2t_sn);
        *next = pdu.r2t_sn + 1;
        assert!((1..=parameters.max_burst_length).contains(&pdu.desired_data_transfer_length));
        assert_ne!(pdu.target_transfer_tag, RESERVED_TAG);
    }

    fn check_data_in(&mut self, pdu: &DataInPdu, data: &[u8]) {
        let next = self.data_sn.entry(pdu.initiator_task_tag).or_default();
        assert_eq!(pdu.data_sn, *next, "DataSN");
        *next += 1;
        let offset = self.data_in.entry(pdu.initiator_task_tag).or_default();
        assert_eq!(pdu.buffer_offset, *offset, "Data-In without a gap");
        *offset += data.len() as u32;
        assert_eq!(data, pattern(pdu.buffer_offset as usize, data.len()), "every byte in its place");
    }
}
