//! A gateway over a store in memory whose answers can be held back, and an initiator that sends what it is told.

#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

pub mod agreed;
mod login;
mod pdu;
mod ping;
mod serving;

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bytes::Bytes;
use huntaway_wire::{
    Answer, BLOCK_SIZE_BYTES, ByteRange, Durability, Error, MappedRun, OBJECT_SIZE_BYTES, ObjectRequest, Oid,
    Operation, Peer, Provisioning, Read as ReadRequest, Refusal, Reply, Request, Segments, Space, Submission,
    piece_crcs,
};
pub use login::{Account, Untrusted, discover, try_login, try_login_while};
pub use pdu::Pdu;
pub use serving::{Records, SOFT_THRESHOLD_BYTES, TestGateway, anyone, initiator, served, target};
use tokio::sync::oneshot;

pub const TARGET: &str = "iqn.2026-11.test.huntaway:disk";
pub const OTHER_TARGET: &str = "iqn.2026-11.test.huntaway:other";

/// The operation codes of commands with write data.
const HAS_DATA_OUT: [u8; 16] =
    [0x0a, 0x15, 0x2a, 0x2e, 0x41, 0x42, 0x48, 0x55, 0x89, 0x8a, 0x8b, 0x8e, 0x93, 0x9c, 0xaa, 0xae];

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of each of [`Initiator::read_much`].
pub const MUCH_BYTES: u32 = 8 << 20;

/// How long a test waits to see that something does not come.
pub const SILENCE: Duration = Duration::from_millis(150);

/// A read's answer, and where it goes.
type HeldRead = (oneshot::Sender<Answer>, Answer);

/// What is done at a write, of which the first byte is given.
type AtWrite = Box<dyn FnMut(u8) + Send>;

/// A store that keeps objects in memory. While it is held, writes take effect but their answers wait.
#[derive(Default)]
pub struct MemoryPeer {
    objects: Mutex<HashMap<Oid, Vec<u8>>>,
    held: Mutex<Option<Vec<oneshot::Sender<Answer>>>>,
    held_reads: Mutex<Option<Vec<HeldRead>>>,
    log: Mutex<Vec<u8>>,
    reads: AtomicUsize,
    stable: AtomicUsize,
    space: Mutex<Option<Space>>,
    /// Whether reads are carried out in place.
    pub reads_at_once: AtomicBool,
    /// A byte of each object that is damaged on its way to whoever reads it in place.
    pub damaged_byte: Mutex<Option<u32>>,
    /// Bytes that writes may not reach; the writes are refused for want of space.
    full_from: Mutex<Option<u32>>,
    at_write: Mutex<Option<AtWrite>>,
    /// The pieces of writes that are kept: those of so many bytes.
    kept: Mutex<(Option<usize>, Vec<Bytes>)>,
    writers: Mutex<HashSet<ThreadId>>,
}

impl MemoryPeer {
    pub fn hold(&self) {
        *self.held.lock().unwrap() = Some(Vec::new());
    }

    pub fn release(&self) {
        for sender in self.held.lock().unwrap().take().unwrap_or_default() {
            let _ = sender.send(Ok(Reply::Done));
        }
    }

    /// Answers the oldest that is held back, and goes on holding.
    pub fn release_one(&self) {
        if let Some(held) = &mut *self.held.lock().unwrap() {
            let _ = held.remove(0).send(Ok(Reply::Done));
        }
    }

    /// Writes whose answers are held back.
    pub fn waiting(&self) -> usize {
        self.held.lock().unwrap().as_ref().map_or(0, Vec::len)
    }

    /// From now on the answers to reads wait.
    pub fn hold_reads(&self) {
        *self.held_reads.lock().unwrap() = Some(Vec::new());
    }

    /// Answers the reads that are held back, the last one first.
    pub fn release_reads(&self) {
        for (sender, answer) in self.held_reads.lock().unwrap().take().unwrap_or_default().into_iter().rev() {
            let _ = sender.send(answer);
        }
    }

    /// Reads whose answers are held back.
    pub fn waiting_reads(&self) -> usize {
        self.held_reads.lock().unwrap().as_ref().map_or(0, Vec::len)
    }

    /// Reads carried out so far.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// What it says it has.
    pub fn set_space(&self, available_bytes: u64, total_bytes: u64) {
        *self.space.lock().unwrap() = Some(Space { available_bytes, total_bytes });
    }

    /// From here on in each object there is no space.
    pub fn set_full_from(&self, offset: Option<u32>) {
        *self.full_from.lock().unwrap() = offset;
    }

    /// Writes so far that had to be on stable storage.
    pub fn stable_writes(&self) -> usize {
        self.stable.load(Ordering::Relaxed)
    }

    /// First byte of every write, in the order of their submission.
    pub fn writes(&self) -> Vec<u8> {
        self.log.lock().unwrap().clone()
    }

    /// From now on this is done at each write, by the thread that serves it.
    pub fn at_write(&self, work: impl FnMut(u8) + Send + 'static) {
        *self.at_write.lock().unwrap() = Some(Box::new(work));
    }

    /// From now on the pieces of writes that have so many bytes are kept as they came.
    pub fn keep_pieces_of(&self, bytes: usize) {
        self.kept.lock().unwrap().0 = Some(bytes);
    }

    /// What was kept; nothing more is.
    pub fn take_pieces(&self) -> Vec<Bytes> {
        std::mem::take(&mut *self.kept.lock().unwrap()).1
    }

    /// How many threads have served writes.
    pub fn writing_threads(&self) -> usize {
        self.writers.lock().unwrap().len()
    }

    fn done(&self) -> Submission {
        match &mut *self.held.lock().unwrap() {
            None => Submission::Done(Ok(Reply::Done)),
            Some(held) => {
                let (sender, receiver) = oneshot::channel();
                held.push(sender);
                Submission::Waiting(receiver)
            }
        }
    }
}

/// Blocks that are not zero count as mapped.
fn map(object: &[u8], range: ByteRange) -> Vec<MappedRun> {
    let blocks = object[range.offset() as usize..range.end() as usize].chunks(4096);
    let run = |(block, first_block): (&[u8], u32)| {
        let is_mapped = block.iter().any(|byte| *byte != 0);
        let provisioning = if is_mapped { Provisioning::Mapped } else { Provisioning::Deallocated };
        MappedRun { first_block, blocks: 1, provisioning }
    };
    blocks.zip(range.offset() / 4096..).map(run).collect()
}

impl Peer for MemoryPeer {
    fn submit(&self, request: Request) -> Submission {
        let ObjectRequest { oid, operation, .. } = match request {
            Request::Object(request) => request,
            Request::Flush => return self.done(),
            Request::Space { .. } => {
                let plenty = Space { available_bytes: 1 << 50, total_bytes: 1 << 50 };
                return Submission::Done(Ok(Reply::Space(self.space.lock().unwrap().unwrap_or(plenty))));
            }
        };
        let mut objects = self.objects.lock().unwrap();
        let object = objects.entry(oid).or_insert_with(|| vec![0; OBJECT_SIZE_BYTES as usize]);
        match operation {
            Operation::Read { range } => {
                self.reads.fetch_add(1, Ordering::Relaxed);
                let data = Bytes::copy_from_slice(&object[range.offset() as usize..range.end() as usize]);
                let answer = Ok(Reply::Data(Segments::from_iter([data])));
                match &mut *self.held_reads.lock().unwrap() {
                    None => Submission::Done(answer),
                    Some(held) => {
                        let (sender, receiver) = oneshot::channel();
                        held.push((sender, answer));
                        Submission::Waiting(receiver)
                    }
                }
            }
            Operation::Discard { range, .. } => {
                object[range.offset() as usize..range.end() as usize].fill(0);
                self.done()
            }
            Operation::Write { range, .. }
                if self.full_from.lock().unwrap().is_some_and(|full_from| range.end() > full_from) =>
            {
                Submission::Done(Err(Refusal::NoSpace { needed_bytes: 1 }.into()))
            }
            Operation::Write { range, data, crcs, durability } => {
                assert_eq!(crcs, piece_crcs(range, &data), "the CRCs of {range:?}");
                if let (Some(bytes), kept) = &mut *self.kept.lock().unwrap() {
                    kept.extend(data.iter().filter(|piece| piece.len() == *bytes).cloned());
                }
                let data = data.concat();
                self.stable.fetch_add(usize::from(durability == Durability::Stable), Ordering::Relaxed);
                self.log.lock().unwrap().push(data[0]);
                self.writers.lock().unwrap().insert(thread::current().id());
                if let Some(work) = &mut *self.at_write.lock().unwrap() {
                    work(data[0]);
                }
                object[range.offset() as usize..range.end() as usize].copy_from_slice(&data);
                self.done()
            }
            Operation::CompareAndWrite { range, expected, data, .. } => {
                let object = &mut object[range.offset() as usize..range.end() as usize];
                match object.iter().zip(expected.concat()).position(|(found, expected)| *found != expected) {
                    Some(place) => Submission::Done(Ok(Reply::Miscompare { offset: place as u32 })),
                    None => {
                        object.copy_from_slice(&data.concat());
                        self.done()
                    }
                }
            }
            Operation::Or { range, data, .. } => {
                let object = &mut object[range.offset() as usize..range.end() as usize];
                object.iter_mut().zip(data.concat()).for_each(|(byte, bits)| *byte |= bits);
                self.done()
            }
            Operation::Map { range } => Submission::Done(Ok(Reply::Map(map(object, range)))),
            other => panic!("not needed by these tests: {other:?}"),
        }
    }

    fn read_now(
        &self,
        read: &ReadRequest,
        into: &mut [u8],
        crcs: Option<&mut [u32]>,
    ) -> Option<Result<(), Error>> {
        if !self.reads_at_once.load(Ordering::Relaxed) {
            return None;
        }
        let mut objects = self.objects.lock().unwrap();
        let object = objects.entry(read.oid).or_insert_with(|| vec![0; OBJECT_SIZE_BYTES as usize]);
        let range = read.range.offset() as usize..read.range.end() as usize;
        into.copy_from_slice(&object[range.clone()]);
        let blocks = object.chunks(BLOCK_SIZE_BYTES as usize).skip(read.range.blocks().start as usize);
        for (crc, block) in crcs.into_iter().flatten().zip(blocks) {
            *crc = crc32c::crc32c(block);
        }
        let damaged = self.damaged_byte.lock().unwrap().map(|at| at as usize);
        if let Some(at) = damaged.filter(|at| range.contains(at)) {
            into[at - range.start] ^= 0x40;
        }
        Some(Ok(()))
    }
}

pub const SCSI_RESPONSE: u8 = 0x21;
pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
pub const LOGIN_RESPONSE: u8 = 0x23;
pub const DATA_IN: u8 = 0x25;
pub const LOGOUT_RESPONSE: u8 = 0x26;
pub const R2T: u8 = 0x31;
pub const REJECT: u8 = 0x3f;
pub const ASYNC_MESSAGE: u8 = 0x32;
const NOP_IN: u8 = 0x20;

pub const ABORT_TASK: u8 = 1;
pub const LOGICAL_UNIT_RESET: u8 = 5;
pub const TARGET_WARM_RESET: u8 = 6;
pub const TARGET_COLD_RESET: u8 = 7;

/// One connection of an initiator that keeps no state but its sequence numbers.
pub struct Initiator {
    stream: TcpStream,
    /// That of the next command.
    pub cmd_sn: u32,
    exp_stat_sn: u32,
    /// Both sides send data digests and check the other's, as they agreed at login.
    pub data_digest: bool,
}

impl Initiator {
    /// Connects and sends a login request that goes straight to full feature phase; the response is not awaited.
    pub fn start_login(portal: SocketAddr, name: &str) -> Self {
        Self::start_login_to(portal, name, 0)
    }

    /// The same, asking for the session with this TSIH (0: a new one) to go on.
    pub fn start_login_to(portal: SocketAddr, name: &str, tsih: u16) -> Self {
        Self::start_login_at(portal, name, TARGET, tsih)
    }

    fn start_login_at(portal: SocketAddr, name: &str, target: &str, tsih: u16) -> Self {
        let stream = TcpStream::connect(portal).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut initiator = Self { stream, cmd_sn: 1, exp_stat_sn: 0, data_digest: false };
        let text = format!(
            "InitiatorName={name}\0SessionType=Normal\0TargetName={target}\0InitialR2T=Yes\0ImmediateData=Yes\0\
             MaxRecvDataSegmentLength=262144\0"
        );
        let mut header = [0; 48];
        header[0] = 0x43;
        header[1] = 0x80 | 1 << 2 | 3;
        header[8] = 0x80;
        header[14..16].copy_from_slice(&tsih.to_be_bytes());
        initiator.send(header, text.as_bytes());
        initiator
    }

    /// Logs in.
    pub fn login(portal: SocketAddr, name: &str) -> Self {
        let mut initiator = Self::start_login(portal, name);
        initiator.finish_login();
        initiator
    }

    /// Logs in to another target.
    pub fn login_at(portal: SocketAddr, name: &str, target: &str) -> Self {
        let mut initiator = Self::start_login_at(portal, name, target, 0);
        initiator.finish_login();
        initiator
    }

    /// Takes the answer to the login, and the unit attention of the first command.
    pub fn finish_login(&mut self) {
        let response = self.receive();
        assert_eq!((response.opcode(), response.header[36]), (LOGIN_RESPONSE, 0), "{response:?}");
        self.command(0xffff, 0, &[0; 6], 0, None);
        let (key, code, _) = self.expect(SCSI_RESPONSE).sense();
        assert_eq!((key, code), (6, 0x29), "power on, or another's reset just now");
    }

    /// Sends a command; `data` is its immediate data, of `length` bytes in all.
    pub fn command(&mut self, tag: u32, lun: u8, cdb: &[u8], length: u32, data: Option<&[u8]>) {
        let bytes = self.command_bytes(tag, lun, cdb, length, data);
        self.send_bytes(&bytes);
    }

    /// The bytes of such a command, to be sent as the next one.
    pub fn command_bytes(
        &mut self,
        tag: u32,
        lun: u8,
        cdb: &[u8],
        length: u32,
        data: Option<&[u8]>,
    ) -> Vec<u8> {
        let mut header = [0; 48];
        let writes = length > 0 && HAS_DATA_OUT.contains(&cdb[0]);
        header[0] = 0x01;
        header[1] = 0x80 | if writes { 0x20 } else { 0x40 };
        header[9] = lun;
        header[16..20].copy_from_slice(&tag.to_be_bytes());
        header[20..24].copy_from_slice(&length.to_be_bytes());
        header[32..32 + cdb.len()].copy_from_slice(cdb);
        let bytes = self.bytes(header, data.unwrap_or_default());
        self.cmd_sn += 1;
        bytes
    }

    /// Whether a TEST UNIT READY ends well, or else the sense.
    pub fn test_unit(&mut self, tag: u32, lun: u8) -> Result<(), (u8, u8, u8)> {
        self.command(tag, lun, &[0; 6], 0, None);
        let response = self.expect(SCSI_RESPONSE);
        if response.header[3] == 0 { Ok(()) } else { Err(response.sense()) }
    }

    /// The LUNs that REPORT LUNS names.
    pub fn luns(&mut self, tag: u32) -> Vec<u8> {
        self.command(tag, 0, &[0xa0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], 65536, None);
        self.expect(DATA_IN).data[8..].chunks(8).map(|lun| lun[1]).collect()
    }

    /// The last block that READ CAPACITY(10) names.
    pub fn last_block(&mut self, tag: u32, lun: u8) -> u32 {
        self.command(tag, lun, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8, None);
        u32::from_be_bytes(self.expect(DATA_IN).data[..4].try_into().unwrap())
    }

    /// Sends four READ(10)s of 8 MiB each, far more than is on its way while nobody takes it, and takes nothing yet.
    /// With FUA each waits for a flush, as an operation that stores have; without, it is answered in the call that finds it.
    pub fn read_much(&mut self, tag: u32, lun: u8, fua: bool) {
        // A fixed size, which does not grow with what comes.
        socket2::SockRef::from(&self.stream).set_recv_buffer_size(64 << 10).unwrap();
        let cdb = [0x28, u8::from(fua) << 3, 0, 0, 0, 0, 0, 0x40, 0, 0];
        (tag..tag + 4).for_each(|tag| self.command(tag, lun, &cdb, MUCH_BYTES, None));
    }

    /// Takes what comes, but no more than 640 KiB a second, until the connection ends or the sender of `stop` is dropped.
    pub fn take_slowly(&mut self, stop: &Receiver<()>) {
        while !matches!(self.stream.read(&mut [0; 32 << 10]), Ok(0) | Err(_))
            && stop.recv_timeout(Duration::from_millis(50)) == Err(RecvTimeoutError::Timeout)
        {}
    }

    /// Sends a WRITE(10) of one block of `value` to LUN 0, with or without its data.
    pub fn write(&mut self, tag: u32, lba: u8, value: u8, immediate: bool) {
        self.write_unit(tag, 0, lba, value, immediate);
    }

    /// The same to another LUN.
    pub fn write_unit(&mut self, tag: u32, lun: u8, lba: u8, value: u8, immediate: bool) {
        let block = [value; 512];
        let cdb = [0x2a, 0, 0, 0, 0, lba, 0, 0, 1, 0];
        self.command(tag, lun, &cdb, 512, immediate.then_some(&block));
    }

    /// Sends the data that an R2T asks for out of all of a command's, cut at `cuts` if they are within.
    pub fn data_outs(&mut self, r2t: &Pdu, all: &[u8], cuts: &[usize]) {
        let field = |at| u32::from_be_bytes(r2t.header[at..at + 4].try_into().unwrap()) as usize;
        let (from, to) = (field(40), field(40) + field(44));
        let mut cuts: Vec<usize> = cuts.iter().copied().filter(|cut| (from + 1..to).contains(cut)).collect();
        cuts.extend([from, to]);
        cuts.sort_unstable();
        cuts.dedup();
        for (data_sn, ends) in cuts.windows(2).enumerate() {
            let mut header = [0; 48];
            header[0] = 0x05;
            header[1] = if ends[1] == to { 0x80 } else { 0 };
            header[16..24].copy_from_slice(&r2t.header[16..24]);
            header[36..40].copy_from_slice(&(data_sn as u32).to_be_bytes());
            header[40..44].copy_from_slice(&(ends[0] as u32).to_be_bytes());
            self.send(header, &all[ends[0]..ends[1]]);
        }
    }

    /// Sends the data that an R2T asks for, one value over and over.
    pub fn data_out(&mut self, r2t: &Pdu, value: u8) {
        let mut header = [0; 48];
        header[0] = 0x05;
        header[1] = 0x80;
        header[16..24].copy_from_slice(&r2t.header[16..24]);
        let length = u32::from_be_bytes(r2t.header[44..48].try_into().unwrap());
        self.send(header, &vec![value; length as usize]);
    }

    /// Sends an immediate task management request for LUN 0.
    pub fn manage(&mut self, tag: u32, function: u8, referenced: u32) {
        self.manage_unit(tag, function, referenced, 0);
    }

    /// The same for another LUN.
    pub fn manage_unit(&mut self, tag: u32, function: u8, referenced: u32, lun: u8) {
        let mut header = [0; 48];
        header[9] = lun;
        header[0] = 0x42;
        header[1] = 0x80 | function;
        header[16..20].copy_from_slice(&tag.to_be_bytes());
        header[20..24].copy_from_slice(&referenced.to_be_bytes());
        self.send(header, &[]);
    }

    pub fn logout(&mut self, tag: u32) {
        let mut header = [0; 48];
        header[0] = 0x46;
        header[1] = 0x80;
        header[16..20].copy_from_slice(&tag.to_be_bytes());
        self.send(header, &[]);
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn send(&mut self, header: [u8; 48], data: &[u8]) {
        let bytes = self.bytes(header, data);
        self.send_bytes(&bytes);
    }

    fn bytes(&self, mut header: [u8; 48], data: &[u8]) -> Vec<u8> {
        header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        if header[0] & 0x3f != 0x05 {
            header[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
        }
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        if self.data_digest && !data.is_empty() {
            let digest = crc32c::crc32c(&bytes[header.len()..]);
            bytes.extend_from_slice(&digest.to_le_bytes());
        }
        bytes
    }

    /// The next PDU that is no ping.
    pub fn receive(&mut self) -> Pdu {
        self.try_receive().expect("a PDU must come")
    }

    /// The next PDU that is no ping, which must have this opcode.
    pub fn expect(&mut self, opcode: u8) -> Pdu {
        let pdu = self.receive();
        assert_eq!(pdu.opcode(), opcode, "{pdu:?}");
        pdu
    }

    /// The next PDU that is no ping, if it is there.
    pub fn receive_now(&mut self) -> Option<Pdu> {
        let mut header = [0; 48];
        loop {
            self.stream.set_nonblocking(true).unwrap();
            let found = self.stream.peek(&mut header);
            self.stream.set_nonblocking(false).unwrap();
            match (found, header[0] & 0x3f) {
                (Ok(48), NOP_IN) => self.stream.read_exact(&mut header).unwrap(),
                (Ok(48), _) => return Some(self.receive()),
                _ => return None,
            }
        }
    }

    /// Nothing comes but pings.
    pub fn expect_silence(&mut self) {
        self.stream.set_read_timeout(Some(SILENCE)).unwrap();
        let received = self.try_receive();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(received.is_err(), "{received:?}");
    }

    /// The connection ends.
    pub fn expect_end(&mut self) {
        let error = self.try_receive().expect_err("the connection must end");
        assert!(!matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
    }

    /// The next PDU that is no ping; `InvalidData` if its data digest is wrong.
    pub fn try_receive(&mut self) -> std::io::Result<Pdu> {
        loop {
            let mut header = [0; 48];
            self.stream.read_exact(&mut header)?;
            let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
            let mut data = vec![0; length.next_multiple_of(4)];
            self.stream.read_exact(&mut data)?;
            if self.data_digest && length > 0 {
                let mut digest = [0; 4];
                self.stream.read_exact(&mut digest)?;
                if crc32c::crc32c(&data).to_le_bytes() != digest {
                    return Err(std::io::ErrorKind::InvalidData.into());
                }
            }
            data.truncate(length);
            let pdu = Pdu { header, data };
            if !matches!(pdu.opcode(), R2T | NOP_IN) {
                self.exp_stat_sn = u32::from_be_bytes(header[24..28].try_into().unwrap()).wrapping_add(1);
            }
            if pdu.opcode() != NOP_IN {
                return Ok(pdu);
            }
        }
    }
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}
