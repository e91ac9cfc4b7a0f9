//! Whatever a peer sends, in whatever order: a connection neither panics nor holds more than its limits,
//! and a sound session still works. One seed is one run.

mod initiator;

use std::time::Duration;

use initiator::{Initiator, pattern};
use iscsi_target::pdu::{
    BASIC_HEADER_BYTES, BasicHeader, LogoutReason, LogoutRequestPdu, Opcode, R2tPdu, RESERVED_TAG,
    TaskManagementRequestPdu,
};
use iscsi_target::{
    Event, Limits, LogoutResponse, Lun, ScsiResponse, TaskFunction, TaskManagementResponse, TaskTag,
};

const SEEDS: u64 = 400;
const STEPS: u64 = 120;
const KEYS: [&str; 4] = [
    "InitialR2T=No FirstBurstLength=1024 MaxBurstLength=2048 MaxOutstandingR2T=3",
    "HeaderDigest=CRC32C DataDigest=CRC32C InitialR2T=No FirstBurstLength=2048",
    "ImmediateData=No MaxRecvDataSegmentLength=512 MaxBurstLength=700",
    "DataDigest=CRC32C",
];

/// A splitmix64 sequence.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

fn small_limits() -> Limits {
    Limits { command_window: 8, immediate_commands: 3, solicited_data: 8192, ..Limits::default() }
}

/// One run: plausible PDUs, now and then damaged, and answers in any order.
struct Run {
    random: Random,
    initiator: Initiator,
    live: Vec<TaskTag>,
    is_over: bool,
    seen: Seen,
}

/// What happened, to know that the runs are worth something.
#[derive(Default)]
struct Seen {
    steps: u64,
    received: u64,
    complete: u64,
    failed: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let keys = KEYS[(seed % KEYS.len() as u64) as usize];
        let initiator = Initiator::log_in_within(small_limits(), keys);
        Self { random: Random(seed), initiator, live: Vec::new(), is_over: false, seen: Seen::default() }
    }

    fn step(&mut self) {
        self.seen.steps += 1;
        let (header, data) = self.plausible_pdu();
        let mut bytes = self.initiator.framed(&header, &data);
        if self.random.one_in(50) {
            let at = self.random.below(bytes.len().min(BASIC_HEADER_BYTES + 8) as u64) as usize;
            bytes[at] ^= 1 << self.random.below(8);
        }
        if self.random.one_in(200) {
            bytes.truncate(self.random.below(bytes.len() as u64) as usize);
        }
        self.initiator.target.input().extend_from_slice(&bytes);
        self.initiator.now += Duration::from_millis(self.random.below(300));
        self.take_events();
        self.answer_something();
        let now = self.initiator.now;
        if self.initiator.target.next_timeout().is_some_and(|due| due <= now) {
            self.is_over |= self.initiator.target.handle_timeout(now).is_err();
        }
        self.drain_output();
    }

    fn plausible_pdu(&mut self) -> (BasicHeader, Vec<u8>) {
        let task = 1 + self.random.below(40) as u32;
        let length = self.random.below(3000) as u32;
        let data = pattern(0, self.random.below(1200) as usize);
        match self.random.below(10) {
            0..=2 => {
                let mut pdu = self.initiator.command(false, true, length);
                pdu.is_final = self.random.one_in(2);
                pdu.immediate = self.random.one_in(6);
                (pdu.build(), data)
            }
            3 => (self.initiator.command(true, self.random.one_in(9), length).build(), Vec::new()),
            4..=6 => {
                let transfer =
                    if self.random.one_in(2) { RESERVED_TAG } else { self.random.below(60) as u32 };
                let place = (self.random.below(3) as u32, self.random.below(3) as u32 * 512);
                self.initiator.data_out(task, transfer, place, &[], self.random.one_in(2));
                (BasicHeader::from_bytes([0; BASIC_HEADER_BYTES]), data)
            }
            7 => (self.task_management(task).build(), Vec::new()),
            8 => {
                self.initiator.text_request("SendTargets=All");
                self.initiator.ping(&data);
                (self.any_pdu(), data)
            }
            _ if self.random.one_in(20) => (self.logout(task).build(), Vec::new()),
            _ => (self.initiator.command(false, false, length).build(), data),
        }
    }

    /// Any bits, but for the lengths and the acknowledgement, which would mostly end the run at once.
    fn any_pdu(&mut self) -> BasicHeader {
        let mut bytes: [u8; BASIC_HEADER_BYTES] = std::array::from_fn(|_| self.random.next() as u8);
        if bytes[0] & 0x3f == 0x03 {
            bytes[0] ^= 1;
        }
        bytes[4] = 0;
        bytes[28..32].copy_from_slice(&self.initiator.exp_stat_sn.to_be_bytes());
        BasicHeader::from_bytes(bytes)
    }

    fn task_management(&mut self, task: u32) -> TaskManagementRequestPdu {
        TaskManagementRequestPdu {
            immediate: self.random.one_in(2),
            function: TaskFunction::AbortTask,
            lun: Lun::ZERO,
            initiator_task_tag: self.initiator.tag(),
            referenced_task_tag: task,
            cmd_sn: self.initiator.cmd_sn,
            exp_stat_sn: self.initiator.exp_stat_sn,
            ref_cmd_sn: self.initiator.cmd_sn.wrapping_sub(self.random.below(4) as u32),
            exp_data_sn: 0,
        }
    }

    fn logout(&mut self, task: u32) -> LogoutRequestPdu {
        LogoutRequestPdu {
            immediate: true,
            reason: if self.random.one_in(2) {
                LogoutReason::CloseSession
            } else {
                LogoutReason::RemoveForRecovery
            },
            initiator_task_tag: task,
            connection_id: 0,
            cmd_sn: self.initiator.cmd_sn,
            exp_stat_sn: self.initiator.exp_stat_sn,
        }
    }

    fn take_events(&mut self) {
        loop {
            match self.initiator.next_event() {
                Ok(Some(event)) => self.answer(event),
                Ok(None) => return,
                Err(_) => {
                    self.is_over = true;
                    return;
                }
            }
        }
    }

    fn answer(&mut self, event: Event) {
        let target = &mut self.initiator.target;
        match event {
            Event::Command(command) => {
                self.live.push(command.task);
                if command.write && self.random.one_in(2) {
                    target.request_data(command.task, self.random.below(4000) as u32);
                }
            }
            Event::DataOut { task, data } => {
                assert!(self.live.contains(&task), "data of a task that is no more");
                assert_eq!(data.to_vec(), pattern(0, data.len()), "every byte in its place");
                self.seen.complete += u64::from(!data.is_empty());
            }
            Event::DataFailed { task, .. } => {
                assert!(self.live.contains(&task), "a failure of a task that is no more");
                self.seen.failed += 1;
            }
            Event::TaskManagement(request) => {
                if let Some(task) = request.referenced {
                    target.abort(task);
                    self.live.retain(|live| *live != task);
                }
                let answer = TaskManagementResponse::FunctionComplete;
                target.respond_task_management(request.initiator_task_tag, answer);
            }
            Event::Logout(logout) => {
                let answer = if self.random.one_in(2) {
                    LogoutResponse::Closed
                } else {
                    LogoutResponse::CleanupFailed
                };
                target.respond_logout(logout.initiator_task_tag, answer);
            }
            Event::Login(_) | Event::Proof => panic!("a second login"),
        }
    }

    fn answer_something(&mut self) {
        if self.live.is_empty() || self.random.one_in(3) {
            return;
        }
        let at = self.random.below(self.live.len() as u64) as usize;
        let task = self.live[at];
        match self.random.below(4) {
            0 => self.initiator.target.respond(task, ScsiResponse::check_condition(&[0x70; 18])),
            1 => self.initiator.target.respond(task, ScsiResponse::good()),
            2 => self.initiator.give_data(task, self.random.below(5000)),
            _ => {
                drop(self.initiator.target.data_in(task, 600));
                return;
            }
        }
        self.live.swap_remove(at);
    }

    /// Everything we send is well-formed and numbered without gaps: `try_receive` checks that. R2Ts are
    /// mostly answered.
    fn drain_output(&mut self) {
        while let Some(frame) = self.initiator.try_receive() {
            self.seen.received += 1;
            if frame.header.opcode() == Opcode::ReadyToTransfer && !self.random.one_in(8) {
                let r2t = R2tPdu::parse(&frame.header);
                let (offset, length) = (r2t.buffer_offset, r2t.desired_data_transfer_length);
                let data = pattern(offset as usize, length as usize);
                let (task, transfer) = (r2t.initiator_task_tag, r2t.target_transfer_tag);
                let cut = self.random.below(u64::from(length) + 1) as usize;
                self.initiator.data_out(task, transfer, (0, offset), &data[..cut], false);
                self.initiator.data_out(task, transfer, (1, offset + cut as u32), &data[cut..], true);
            }
        }
    }
}

#[test]
fn no_sequence_of_pdus_breaks_a_connection() {
    let mut all = Seen::default();
    for seed in 0..SEEDS {
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step();
            assert!(run.live.len() <= 8 + 3, "seed {seed}: more tasks than the window allows");
            assert!(run.initiator.target.input().len() < 512 * 1024, "seed {seed}");
            if run.is_over {
                break;
            }
        }
        all.steps += run.seen.steps;
        all.received += run.seen.received;
        all.complete += run.seen.complete;
        all.failed += run.seen.failed;
    }
    assert!(all.steps > SEEDS * 20, "runs end too soon: {} steps", all.steps);
    assert!(all.received > SEEDS * 20 && all.complete > SEEDS / 4 && all.failed > SEEDS / 4);
}

#[test]
fn no_bytes_before_login_break_a_connection() {
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let mut initiator = Initiator::connect(Limits::default());
        for _ in 0..30 {
            let keys = pattern(seed as usize, random.below(300) as usize);
            let mut bytes = initiator.framed(&initiator.login_request().build(), &keys);
            for _ in 0..random.below(3) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.next() as u8;
            }
            initiator.target.input().extend_from_slice(&bytes);
            match initiator.next_event() {
                Ok(None) => {}
                Ok(Some(_)) => initiator.target.accept_session(initiator.now, 1),
                Err(_) => break,
            }
        }
    }
}

#[test]
fn a_write_survives_any_cut_of_its_stream() {
    for chunk in [1, 7, 47, 48, 49, 333, 4096] {
        let mut initiator = Initiator::log_in("HeaderDigest=CRC32C DataDigest=CRC32C ImmediateData=Yes");
        let all = pattern(3, 5001);
        let header = initiator.command(false, true, 5001).build();
        let bytes = initiator.framed(&header, &all);
        let mut command = None;
        for piece in bytes.chunks(chunk) {
            assert!(command.is_none());
            initiator.target.input().extend_from_slice(piece);
            if let Some(Event::Command(found)) = initiator.next_event().expect("sound") {
                command = Some(found);
            }
        }
        let data = command.and_then(|command| command.data).expect("all data");
        assert_eq!(data.to_vec(), all);
    }
}
