//! A tiny initiator in memory: it logs in to a [`Connection`], sends PDUs and takes answers apart.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use iscsi_target::framing::{Digests, Frame, FrameLimits, put_pdu, take_frame};
use iscsi_target::pdu::{
    BasicHeader, DataInPdu, DataOutPdu, LoginRequestPdu, LoginResponsePdu, NopOutPdu, Opcode, R2tPdu,
    RESERVED_TAG, ScsiCommandPdu, ScsiResponsePdu, TextRequestPdu,
};
use iscsi_target::{
    Admission, Authentication, Command, Connection, ConnectionConfig, ConnectionError, DigestPolicy,
    Directory, Event, Limits, Lun, OutputBuffer, RefusalReason, TargetListing, TaskAttribute, TaskTag,
};

pub(crate) const TARGET: &str = "iqn.2026-11.test:disk";
pub(crate) const TSIH: u16 = 77;

struct OneTarget;

impl Directory for OneTarget {
    fn targets(&self, _initiator: &str) -> Vec<TargetListing> {
        vec![TargetListing { name: TARGET.into(), addresses: vec![("10.0.0.1:3260".into(), 1)] }]
    }

    fn admit(&self, _initiator: &str, target: Option<&str>) -> Result<Admission, RefusalReason> {
        match target {
            None | Some(TARGET) => {
                Ok(Admission { authentication: Authentication::None, digests: DigestPolicy::Allowed })
            }
            Some(_) => Err(RefusalReason::NoSuchTarget),
        }
    }
}

fn no_entropy(bytes: &mut [u8]) {
    bytes.fill(7);
}

/// The initiator's end of one connection.
pub(crate) struct Initiator {
    pub(crate) target: Connection,
    pub(crate) now: Duration,
    pub(crate) digests: Digests,
    pub(crate) cmd_sn: u32,
    pub(crate) exp_stat_sn: u32,
    next_tag: u32,
    /// The largest MaxCmdSN that was shown.
    max_cmd_sn: Option<u32>,
    received: BytesMut,
}

impl Initiator {
    /// A connection without a session.
    pub(crate) fn connect(limits: Limits) -> Self {
        let now = Duration::from_secs(1000);
        let config = ConnectionConfig {
            portal_group_tag: 1,
            portal: "10.0.0.1:3260".into(),
            directory: Arc::new(OneTarget),
            entropy: no_entropy,
            limits,
        };
        Self {
            target: Connection::new(config, now),
            now,
            digests: Digests::default(),
            cmd_sn: 100,
            exp_stat_sn: 0,
            next_tag: 1,
            max_cmd_sn: None,
            received: BytesMut::new(),
        }
    }

    /// A normal session with these further keys (`"A=1 B=2"`).
    pub(crate) fn log_in(keys: &str) -> Self {
        Self::log_in_within(Limits::default(), keys)
    }

    pub(crate) fn log_in_within(limits: Limits, keys: &str) -> Self {
        let mut initiator = Self::connect(limits);
        initiator.negotiate(&format!("InitiatorName=iqn.2026-11.test:me TargetName={TARGET} {keys}"));
        initiator
    }

    /// A discovery session.
    pub(crate) fn discover() -> Self {
        let mut initiator = Self::connect(Limits::default());
        initiator.negotiate("InitiatorName=iqn.2026-11.test:me SessionType=Discovery");
        initiator
    }

    fn negotiate(&mut self, keys: &str) {
        self.send(&self.login_request().build(), &text(keys));
        let Event::Login(session) = self.event() else { panic!("no login event") };
        self.target.accept_session(self.now, TSIH);
        let frame = self.receive();
        let response = LoginResponsePdu::parse(&frame.header);
        assert_eq!((response.status, response.tsih, response.next_stage), (0, TSIH, 3));
        assert_eq!(response.sequence.exp_cmd_sn, self.cmd_sn);
        self.digests =
            Digests { header: session.parameters.header_digest, data: session.parameters.data_digest };
        assert!(self.target.is_full_feature());
    }

    /// A Login Request that wants to go from operational negotiation to full feature phase.
    pub(crate) fn login_request(&self) -> LoginRequestPdu {
        LoginRequestPdu {
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
            cmd_sn: self.cmd_sn,
            exp_stat_sn: 0,
        }
    }

    pub(crate) fn tag(&mut self) -> u32 {
        self.next_tag += 1;
        self.next_tag
    }

    /// Puts a PDU into the target's input.
    pub(crate) fn send(&mut self, header: &BasicHeader, data: &[u8]) {
        let framed = self.framed(header, data);
        self.target.input().extend_from_slice(&framed);
    }

    /// A PDU's bytes.
    pub(crate) fn framed(&self, header: &BasicHeader, data: &[u8]) -> Vec<u8> {
        let mut output = OutputBuffer::default();
        put_pdu(&mut output, self.digests, *header, &[data]);
        output.to_vec()
    }

    pub(crate) fn next_event(&mut self) -> Result<Option<Event>, ConnectionError> {
        self.target.next_event(self.now)
    }

    /// The next event, which must be there.
    pub(crate) fn event(&mut self) -> Event {
        self.next_event().expect("the connection lives").expect("an event")
    }

    /// The next event, which must be a command.
    pub(crate) fn command_event(&mut self) -> Command {
        match self.event() {
            Event::Command(command) => command,
            other => panic!("{other:?} instead of a command"),
        }
    }

    pub(crate) fn assert_no_event(&mut self) {
        let event = self.next_event().expect("the connection lives");
        assert!(event.is_none(), "{event:?}");
    }

    /// The next PDU from the target, which must be there.
    pub(crate) fn receive(&mut self) -> Frame {
        self.try_receive().expect("a PDU from the target")
    }

    pub(crate) fn try_receive(&mut self) -> Option<Frame> {
        let output = self.target.output();
        self.received.extend_from_slice(output);
        output.advance(output.len());
        let limits = FrameLimits { data: 1 << 24, additional_header: 0 };
        let frame = take_frame(&mut self.received, self.digests, limits).expect("a sound stream")?;
        assert!(frame.data_is_intact, "data digest");
        self.take_note_of(&frame.header);
        Some(frame)
    }

    pub(crate) fn receive_opcode(&mut self, opcode: Opcode) -> Frame {
        let frame = self.receive();
        assert_eq!(frame.header.opcode(), opcode);
        frame
    }

    pub(crate) fn assert_nothing_received(&mut self) {
        let frame = self.try_receive();
        assert!(frame.is_none(), "{frame:?}");
    }

    /// Statuses are numbered without gaps, and MaxCmdSN never goes back.
    fn take_note_of(&mut self, header: &BasicHeader) {
        let response = LoginResponsePdu::parse(header);
        let stat_sn = response.sequence.stat_sn;
        let carries_status = match header.opcode() {
            Opcode::ReadyToTransfer => false,
            Opcode::DataIn => DataInPdu::parse(header).status.is_some(),
            Opcode::NopIn => header.initiator_task_tag() != RESERVED_TAG,
            Opcode::LoginResponse => response.status == 0,
            _ => true,
        };
        if header.opcode() == Opcode::LoginResponse {
            self.exp_stat_sn = stat_sn;
        }
        if header.opcode() != Opcode::LoginResponse || response.status == 0 {
            let max_cmd_sn = response.sequence.max_cmd_sn;
            let before = self.max_cmd_sn.replace(max_cmd_sn);
            let distance = max_cmd_sn.wrapping_sub(before.unwrap_or(max_cmd_sn)) as i32;
            assert!(distance >= 0, "MaxCmdSN went back by {}", -distance);
        }
        if carries_status {
            assert_eq!(stat_sn, self.exp_stat_sn, "StatSN");
            self.exp_stat_sn = self.exp_stat_sn.wrapping_add(1);
        }
    }

    /// A command PDU with the next CmdSN, not sent.
    pub(crate) fn command(&mut self, read: bool, write: bool, length: u32) -> ScsiCommandPdu {
        let pdu = ScsiCommandPdu {
            immediate: false,
            is_final: true,
            read,
            write,
            attribute: TaskAttribute::Simple,
            lun: Lun::ZERO,
            initiator_task_tag: self.tag(),
            expected_data_transfer_length: length,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            cdb: [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        };
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        pdu
    }

    /// Sends a READ and gives the target's event.
    pub(crate) fn read(&mut self, length: u32) -> Command {
        let pdu = self.command(true, false, length);
        self.send(&pdu.build(), &[]);
        self.command_event()
    }

    /// Sends a WRITE without data and gives the target's event.
    pub(crate) fn write(&mut self, length: u32) -> Command {
        let pdu = self.command(false, true, length);
        self.send(&pdu.build(), &[]);
        self.command_event()
    }

    /// A Data-Out of a task: tag of the transfer, DataSN, offset, bytes, F.
    pub(crate) fn data_out(
        &mut self,
        task: u32,
        transfer: u32,
        place: (u32, u32),
        data: &[u8],
        is_final: bool,
    ) {
        let (data_sn, buffer_offset) = place;
        let pdu = DataOutPdu {
            is_final,
            lun: Lun::ZERO,
            initiator_task_tag: task,
            target_transfer_tag: transfer,
            exp_stat_sn: self.exp_stat_sn,
            data_sn,
            buffer_offset,
        };
        self.send(&pdu.build(), data);
    }

    /// Receives an R2T and answers it by one Data-Out of these bytes (all data of the task).
    pub(crate) fn answer_r2t(&mut self, all: &[u8]) -> R2tPdu {
        let r2t = R2tPdu::parse(&self.receive_opcode(Opcode::ReadyToTransfer).header);
        let from = r2t.buffer_offset as usize;
        let to = from + r2t.desired_data_transfer_length as usize;
        let place = (0, r2t.buffer_offset);
        self.data_out(r2t.initiator_task_tag, r2t.target_transfer_tag, place, &all[from..to], true);
        r2t
    }

    pub(crate) fn receive_response(&mut self) -> (ScsiResponsePdu, Vec<u8>) {
        let frame = self.receive_opcode(Opcode::ScsiResponse);
        (ScsiResponsePdu::parse(&frame.header), frame.data.to_vec())
    }

    /// Sends a NOP-Out that wants an answer.
    pub(crate) fn ping(&mut self, data: &[u8]) -> NopOutPdu {
        let pdu = NopOutPdu {
            immediate: true,
            lun: Lun::ZERO,
            initiator_task_tag: self.tag(),
            target_transfer_tag: RESERVED_TAG,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        };
        self.send(&pdu.build(), data);
        pdu
    }

    /// Proves that the connection lives and has nothing else to say.
    pub(crate) fn assert_alive(&mut self) {
        let ping = self.ping(b"alive?");
        self.assert_no_event();
        let frame = self.receive_opcode(Opcode::NopIn);
        assert_eq!(frame.header.initiator_task_tag(), ping.initiator_task_tag);
        assert_eq!(frame.data[..], b"alive?"[..]);
    }

    /// Sends a Text Request of its own.
    pub(crate) fn text_request(&mut self, pairs: &str) -> TextRequestPdu {
        let pdu = TextRequestPdu {
            immediate: false,
            is_final: true,
            continues: false,
            lun: Lun::ZERO,
            initiator_task_tag: self.tag(),
            target_transfer_tag: RESERVED_TAG,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        };
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.send(&pdu.build(), &text(pairs));
        pdu
    }

    /// Lays out input data of a task and fills it with [`pattern`].
    pub(crate) fn give_data(&mut self, task: TaskTag, length: u64) {
        let mut data_in = self.target.data_in(task, length);
        let mut offset = 0;
        while let Some(segment) = data_in.next_segment() {
            segment.copy_from_slice(&pattern(offset, segment.len()));
            offset += segment.len();
        }
        assert_eq!(offset, data_in.len());
        data_in.finish(iscsi_target::ScsiResponse::good());
    }
}

/// `"a=1 b=2"` as text of a PDU.
pub(crate) fn text(pairs: &str) -> Vec<u8> {
    let pairs = pairs.split(' ').filter(|pair| !pair.is_empty());
    pairs.flat_map(|pair| [pair.as_bytes(), &[0]].concat()).collect()
}

/// Bytes by which a wrong place is seen.
pub(crate) fn pattern(offset: usize, length: usize) -> Vec<u8> {
    (offset..offset + length).map(|at| (at % 251) as u8).collect()
}
