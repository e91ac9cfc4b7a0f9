//! The initiator's end of a session: sends what a step says, and remembers what it sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use iscsi_target::framing::{Digests, put_pdu};
use iscsi_target::pdu::{
    BasicHeader, DataOutPdu, LoginRequestPdu, LoginResponsePdu, LogoutReason, LogoutRequestPdu, NopOutPdu,
    Opcode, R2tPdu, RESERVED_TAG, ScsiCommandPdu, TaskManagementRequestPdu, TextRequestPdu,
};
use iscsi_target::{
    Admission, Authentication, Connection, ConnectionConfig, DigestPolicy, Directory, Event, Limits, Lun,
    OutputBuffer, Parameters, RefusalReason, TargetListing, TaskAttribute, TaskFunction,
};

use super::answers::Answers;
use super::transfers::{Burst, Transfers};
use super::{Command, DataOut, MAX_TRANSFER_BYTES, Rare, Slip, Step, Tag, pattern};

const TARGET: &str = "iqn.2026-11.test:disk";

/// What is negotiated.
const KEYS: [&str; 4] = [
    "InitialR2T=No\0FirstBurstLength=1024\0MaxBurstLength=2048\0MaxOutstandingR2T=3\0",
    "HeaderDigest=CRC32C\0DataDigest=CRC32C\0InitialR2T=No\0FirstBurstLength=2048\0",
    "ImmediateData=No\0MaxRecvDataSegmentLength=512\0MaxBurstLength=700\0",
    "DataDigest=CRC32C\0",
];

struct OneTarget;

impl Directory for OneTarget {
    fn targets(&self, _initiator: &str) -> Vec<TargetListing> {
        vec![TargetListing { name: TARGET.into(), addresses: vec![("192.0.2.1:3260".into(), 1); 40] }]
    }

    fn admit(&self, _initiator: &str, _target: Option<&str>) -> Result<Admission, RefusalReason> {
        Ok(Admission { authentication: Authentication::None, digests: DigestPolicy::Allowed })
    }
}

/// One end of the session, and the core that is the other.
pub(super) struct Initiator {
    pub(super) connection: Connection,
    pub(super) now: Duration,
    /// It takes what is sent.
    pub(super) reads: bool,
    /// It sent bytes that are no PDU: what the core makes of them, and of all that follows, nobody can tell.
    pub(super) is_lost: bool,
    pub(super) parameters: Parameters,
    cmd_sn: u32,
    next_tag: u32,
    /// Tags of the requests that wait for their answers, as often as they do.
    asked: BTreeMap<u32, u32>,
    transfers: Transfers,
    received: BytesMut,
    /// The longest data segment that it ever said it takes.
    max_segment: usize,
    answers: Answers,
}

impl Initiator {
    /// A session with the parameters of this number.
    pub(super) fn log_in(limits: Limits, parameters: u8, discovery: bool) -> Self {
        let now = Duration::from_secs(1000);
        let config = ConnectionConfig {
            portal_group_tag: 1,
            portal: "192.0.2.1:3260".into(),
            directory: Arc::new(OneTarget),
            entropy: |bytes| bytes.fill(7),
            limits,
        };
        let mut connection = Connection::new(config, now);
        let kind = if discovery { "SessionType=Discovery".into() } else { format!("TargetName={TARGET}") };
        let keys = KEYS[usize::from(parameters) % KEYS.len()];
        let text = format!("InitiatorName=iqn.2026-11.test:me\0{kind}\0{keys}");
        let cmd_sn = u32::MAX - 20;
        let login = LoginRequestPdu {
            transit: true,
            continues: false,
            current_stage: 1,
            next_stage: 3,
            version_max: 0,
            version_min: 0,
            isid: [0x80, 0, 0, 0, 0, 1],
            tsih: 0,
            initiator_task_tag: 1,
            connection_id: 0,
            cmd_sn,
            exp_stat_sn: 0,
        };
        let mut output = OutputBuffer::default();
        put_pdu(&mut output, Digests::default(), login.build(), &[text.as_bytes()]);
        connection.input().extend_from_slice(&output);
        let Ok(Some(Event::Login(session))) = connection.next_event(now) else {
            panic!("the login is sound")
        };
        connection.accept_session(now, 1);
        let taken = connection.output().len();
        let answer = BasicHeader::from_bytes(*connection.output().first_chunk().expect("an answer"));
        let exp_stat_sn = LoginResponsePdu::parse(&answer).sequence.stat_sn.wrapping_add(1);
        connection.output().advance(taken);
        Self {
            connection,
            now,
            reads: true,
            is_lost: false,
            parameters: session.parameters,
            cmd_sn,
            next_tag: 1,
            asked: BTreeMap::new(),
            transfers: Transfers::default(),
            received: BytesMut::new(),
            max_segment: 0,
            answers: Answers::new(exp_stat_sn, cmd_sn),
        }
    }

    pub(super) fn is_asked(&self, tag: u32) -> bool {
        self.is_lost || self.asked.contains_key(&tag)
    }

    /// A task ended without an answer: what was sent for it counts no more.
    pub(super) fn forget(&mut self, tag: u32) {
        self.transfers.end(tag, false);
    }

    /// The first `length` bytes of a task's data were handed on: they were sent, and as the rules say.
    pub(super) fn check_complete(&self, tag: u32, length: u32) {
        if !self.is_lost {
            self.transfers.check_complete(tag, length);
        }
    }

    /// A task's data was refused: for a reason.
    pub(super) fn check_failed(&self, tag: u32) {
        if !self.is_lost {
            self.transfers.check_failed(tag);
        }
    }

    /// Takes all answers that are there, if it reads.
    pub(super) fn read_answers(&mut self) {
        if !self.reads {
            return;
        }
        let digests = self.digests();
        let session = self.connection.session().expect("there is one");
        let declared = session.parameters.initiator_max_recv_data_segment_length;
        self.max_segment = self.max_segment.max(declared as usize);
        let output = self.connection.output();
        self.received.extend_from_slice(output);
        output.advance(output.len());
        while let Some(frame) = self.answers.next(&mut self.received, digests) {
            assert!(frame.data.len() <= self.max_segment);
            if let Some(tag) = self.answers.concerns(&frame) {
                assert!(self.is_asked(tag), "{:?} for {tag}, which nobody asked for", frame.header.opcode());
            }
            if let Some(tag) = self.answers.check(&frame, &self.parameters) {
                if let Some(waiting) = self.asked.get_mut(&tag) {
                    *waiting -= 1;
                }
                self.asked.retain(|_, waiting| *waiting > 0);
                self.transfers.end(tag, !self.asked.contains_key(&tag));
            }
            if frame.header.opcode() == Opcode::ReadyToTransfer {
                let pdu = R2tPdu::parse(&frame.header);
                self.transfers.ask(&pdu, &self.parameters, self.is_lost);
            }
        }
    }

    fn digests(&self) -> Digests {
        Digests { header: self.parameters.header_digest, data: self.parameters.data_digest }
    }

    /// Does the initiator's part of a step.
    pub(super) fn send_step(&mut self, step: &Step<'_>) {
        match step {
            Step::Command(command) => self.send_command(command),
            Step::Crowd { count, immediate } => {
                for _ in 0..count % 12 {
                    let flags = if *immediate { 7 } else { 0 };
                    let command = Command { flags, length: 0, data: None, tag: Tag::Next, cmd_sn: None };
                    self.send_command(&command);
                }
            }
            Step::SendAsked { which, pieces, slip } => self.send_asked(*which, *pieces, *slip),
            Step::DataOut(data) => self.send_data_out(data),
            Step::Ping { immediate, answer, data } => self.ping(*immediate, *answer, *data),
            Step::Text { flags, text } => self.send_text(*flags, text.0),
            Step::SendTargets => self.send_text(1, b"SendTargets=All\0"),
            Step::TaskManagement { immediate, function, referenced, ref_cmd_sn, tag } => {
                let pdu = TaskManagementRequestPdu {
                    immediate: *immediate,
                    function: function_of(*function),
                    lun: Lun::ZERO,
                    initiator_task_tag: self.tag(*tag),
                    referenced_task_tag: self.tag(Tag::Recent(*referenced)),
                    cmd_sn: self.cmd_sn,
                    exp_stat_sn: self.answers.exp_stat_sn,
                    ref_cmd_sn: self.cmd_sn.wrapping_sub((*ref_cmd_sn).into()),
                    exp_data_sn: 0,
                };
                self.send_ordered(pdu.build(), &[]);
            }
            Step::Rare(rare) => self.send_rare(rare),
            Step::Read(reads) => self.reads = *reads,
            _ => {}
        }
    }

    fn send_rare(&mut self, rare: &Rare<'_>) {
        match rare {
            Rare::Logout { reason, connection_id } => {
                let reasons = [
                    LogoutReason::CloseSession,
                    LogoutReason::CloseConnection,
                    LogoutReason::RemoveForRecovery,
                ];
                let pdu = LogoutRequestPdu {
                    immediate: true,
                    reason: reasons[usize::from(*reason) % 3],
                    initiator_task_tag: self.tag(Tag::Next),
                    connection_id: (*connection_id).into(),
                    cmd_sn: self.cmd_sn,
                    exp_stat_sn: self.answers.exp_stat_sn,
                };
                self.send(pdu.build(), &[]);
            }
            Rare::Any { header, acknowledges, data } => self.send_any(*header, *acknowledges, data.0),
            Rare::Damaged { at, bits, data } => self.send_damaged(*at, *bits, *data),
            Rare::Garbage(bytes) => {
                self.is_lost = true;
                self.connection.input().extend_from_slice(bytes.0);
            }
        }
    }

    fn tag(&mut self, tag: Tag) -> u32 {
        match tag {
            Tag::Next => {
                self.next_tag = self.next_tag.wrapping_add(1);
                self.next_tag
            }
            Tag::Recent(distance) => self.next_tag.wrapping_sub((distance % 16).into()),
            Tag::Any(tag) => tag,
        }
    }

    /// Sends a request; it takes the next CmdSN unless it is immediate.
    fn send_ordered(&mut self, header: BasicHeader, data: &[u8]) {
        self.send(header, data);
        if !header.is_immediate() {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
    }

    /// Puts a PDU into the core's input, and remembers what it asks for and brings.
    fn send(&mut self, header: BasicHeader, data: &[u8]) {
        let framed = self.note(header, data);
        self.connection.input().extend_from_slice(&framed);
    }

    /// A PDU as it leaves, remembered as sent.
    fn note(&mut self, header: BasicHeader, data: &[u8]) -> Vec<u8> {
        let tag = header.initiator_task_tag();
        match header.opcode() {
            Opcode::DataOut => self.transfers.send(&DataOutPdu::parse(&header), data.len() as u32),
            Opcode::ScsiCommand => {
                let pdu = ScsiCommandPdu::parse(&header);
                self.transfers.begin(&pdu, data.len() as u32, &self.parameters);
                *self.asked.entry(tag).or_default() += 1;
            }
            Opcode::NopOut | Opcode::TaskManagementRequest | Opcode::TextRequest | Opcode::LogoutRequest => {
                *self.asked.entry(tag).or_default() += 1;
            }
            _ => {}
        }
        self.framed(header, data)
    }

    fn framed(&self, header: BasicHeader, data: &[u8]) -> Vec<u8> {
        let mut output = OutputBuffer::default();
        put_pdu(&mut output, self.digests(), header, &[data]);
        output.to_vec()
    }

    fn send_command(&mut self, command: &Command) {
        let Command { flags, length, data, tag, cmd_sn } = command;
        let length = length % MAX_TRANSFER_BYTES;
        let longest = if flags & 128 == 0 { length } else { 4096 };
        let pdu = ScsiCommandPdu {
            immediate: flags & 7 == 7,
            is_final: flags & 8 == 0,
            read: flags & 16 != 0,
            write: flags & 96 != 0,
            attribute: TaskAttribute::Simple,
            lun: Lun::ZERO,
            initiator_task_tag: self.tag(*tag),
            expected_data_transfer_length: length.into(),
            cmd_sn: self.cmd_sn.wrapping_add(cmd_sn.map_or(0, i32::from) as u32),
            exp_stat_sn: self.answers.exp_stat_sn,
            cdb: [0x2a; 16],
        };
        let data = pattern(0, data.map_or(0, |data| usize::from((data % 4097).min(longest))));
        if cmd_sn.is_none_or(|distance| distance == 0) {
            self.send_ordered(pdu.build(), &data);
        } else {
            self.send(pdu.build(), &data);
        }
    }

    fn send_asked(&mut self, which: u8, pieces: u8, slip: Option<(u8, Slip)>) {
        let bursts = &self.transfers.bursts;
        let at = if which < 192 { 0 } else { usize::from(which) % bursts.len().max(1) };
        let Some(burst) = bursts.get(at).copied() else { return };
        let all = pattern(burst.next_offset as usize, (burst.end - burst.next_offset) as usize);
        let length = all.len().div_ceil(usize::from(pieces % 4) + 1).clamp(1, 4096);
        let count = all.len().div_ceil(length).max(1);
        for number in 0..count {
            let data = &all[number * length..all.len().min((number + 1) * length)];
            let pdu = DataOutPdu {
                is_final: number + 1 == count,
                data_sn: burst.next_data_sn + number as u32,
                buffer_offset: burst.next_offset + (number * length) as u32,
                ..self.data_out(&burst)
            };
            match slip.filter(|(piece, _)| usize::from(*piece) % count == number) {
                Some((_, slip)) => self.send_wrongly(pdu, data, slip),
                None => self.send(pdu.build(), data),
            }
        }
    }

    /// The next Data-Out of a burst, but for its length.
    fn data_out(&self, burst: &Burst) -> DataOutPdu {
        DataOutPdu {
            is_final: true,
            lun: Lun::ZERO,
            initiator_task_tag: burst.initiator_task_tag,
            target_transfer_tag: burst.target_transfer_tag,
            exp_stat_sn: self.answers.exp_stat_sn,
            data_sn: burst.next_data_sn,
            buffer_offset: burst.next_offset,
        }
    }

    /// Sends a Data-Out of a burst with a slip; its bytes are those of the place that it claims.
    fn send_wrongly(&mut self, mut pdu: DataOutPdu, data: &[u8], slip: Slip) {
        let mut length = data.len();
        match slip {
            Slip::Offset(by) => pdu.buffer_offset = pdu.buffer_offset.saturating_add_signed(by.into()),
            Slip::DataSn(by) => pdu.data_sn = pdu.data_sn.wrapping_add_signed(by.into()),
            Slip::TransferTag(by) => {
                pdu.target_transfer_tag = pdu.target_transfer_tag.wrapping_add_signed(by.into());
            }
            Slip::Length(by) => length = length.saturating_add_signed(by.into()).min(4096),
            Slip::Repeated => self.send(DataOutPdu { is_final: false, ..pdu }.build(), data),
            Slip::Unfinished => pdu.is_final = false,
            Slip::Damaged => {}
        }
        let data = pattern(pdu.buffer_offset as usize, length);
        let mut framed = self.note(pdu.build(), &data);
        if matches!(slip, Slip::Damaged) && self.parameters.data_digest && length > 0 {
            self.transfers.damage(pdu.initiator_task_tag);
            let last = framed.len() - 1;
            framed[last] ^= 1;
        }
        self.connection.input().extend_from_slice(&framed);
    }

    fn send_data_out(&mut self, data: &DataOut) {
        let DataOut { tag, burst, data_sn, offset, length, is_final } = data;
        let bursts = &self.transfers.bursts;
        let burst = burst.and_then(|number| bursts.get(usize::from(number) % bursts.len().max(1)).copied());
        let burst = burst.unwrap_or_else(|| Burst {
            initiator_task_tag: self.tag(*tag),
            target_transfer_tag: RESERVED_TAG,
            next_offset: 0,
            end: 512,
            next_data_sn: 0,
        });
        let buffer_offset = offset.map_or(burst.next_offset, u32::from);
        let length = length.map_or((burst.end - burst.next_offset) as usize, usize::from) % 4097;
        let data_sn = data_sn.map_or(burst.next_data_sn, u32::from);
        let pdu = DataOutPdu { is_final: *is_final, data_sn, buffer_offset, ..self.data_out(&burst) };
        self.send(pdu.build(), &pattern(buffer_offset as usize, length));
    }

    fn ping(&mut self, immediate: bool, answer: bool, data: u8) {
        let pdu = NopOutPdu {
            immediate,
            lun: Lun::ZERO,
            initiator_task_tag: if answer { self.tag(Tag::Next) } else { RESERVED_TAG },
            target_transfer_tag: RESERVED_TAG,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.answers.exp_stat_sn,
        };
        let data = vec![data; 8 * usize::from(data)];
        if answer { self.send_ordered(pdu.build(), &data) } else { self.send(pdu.build(), &data) }
    }

    fn send_text(&mut self, flags: u8, text: &[u8]) {
        let begins = flags & 4 == 0;
        let pdu = TextRequestPdu {
            immediate: flags & 8 != 0,
            is_final: flags & 1 != 0,
            continues: flags & 2 != 0,
            lun: Lun::ZERO,
            initiator_task_tag: if begins { self.tag(Tag::Next) } else { self.answers.text_tags.0 },
            target_transfer_tag: if begins { RESERVED_TAG } else { self.answers.text_tags.1 },
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.answers.exp_stat_sn,
        };
        self.send_ordered(pdu.build(), &text[..text.len().min(2048)]);
    }

    fn send_any(&mut self, mut header: [u8; 48], acknowledges: bool, data: &[u8]) {
        header[4] = 0;
        if acknowledges {
            header[28..32].copy_from_slice(&self.answers.exp_stat_sn.to_be_bytes());
        }
        let header = BasicHeader::from_bytes(header);
        let length = data.len().min(2048);
        match header.opcode() {
            Opcode::DataOut => {
                let offset = DataOutPdu::parse(&header).buffer_offset % (1 << 20);
                let pdu = DataOutPdu { buffer_offset: offset, ..DataOutPdu::parse(&header) };
                self.send(pdu.build(), &pattern(offset as usize, length));
            }
            Opcode::ScsiCommand => self.send(header, &pattern(0, length)),
            _ => self.send(header, &data[..length]),
        }
    }

    /// A write whose bytes were changed on the way, where a digest tells.
    fn send_damaged(&mut self, at: u16, bits: u8, data: u8) {
        if !self.parameters.data_digest || bits == 0 {
            return;
        }
        let data = vec![data; 1 + usize::from(data)];
        let pdu = ScsiCommandPdu {
            immediate: false,
            is_final: true,
            read: false,
            write: true,
            attribute: TaskAttribute::Simple,
            lun: Lun::ZERO,
            initiator_task_tag: self.tag(Tag::Next),
            expected_data_transfer_length: data.len() as u32,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.answers.exp_stat_sn,
            cdb: [0x2a; 16],
        };
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        let mut framed = self.note(pdu.build(), &data);
        self.transfers.damage(pdu.initiator_task_tag);
        let header = 48 + if self.parameters.header_digest { 4 } else { 0 };
        let at = header + usize::from(at) % (framed.len() - header);
        framed[at] ^= bits;
        self.connection.input().extend_from_slice(&framed);
    }
}

fn function_of(number: u8) -> TaskFunction {
    match number % 8 {
        0..=3 => TaskFunction::AbortTask,
        4 => TaskFunction::LogicalUnitReset,
        5 => TaskFunction::AbortTaskSet,
        6 => TaskFunction::TaskReassign,
        _ => TaskFunction::TargetWarmReset,
    }
}
