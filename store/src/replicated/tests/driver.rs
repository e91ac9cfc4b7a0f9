//! One thread that drives a replica, alone in its set, over the store on a directory: the first piece of a node's process.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use huntaway_replica::{
    Answer, Block, Command, Configuration, Input, Moment, Outcome, Output, Process, Replica, Request,
    RequestId, Vdi, Vdis,
};
use huntaway_wire::{ByteRange, Durability, Incarnation, NodeId, Oid, Partition, Pepoch, Stamp};

use super::{block, oid, options, partition};
use crate::Store;
use crate::disk::FileDisk;

const NODE: NodeId = NodeId([1; 16]);
const GATEWAY: Process = Process { node: NodeId([9; 16]), incarnation: Incarnation(1) };

/// A process: its clock goes on when it is told to.
struct Driver {
    store: Store<FileDisk>,
    replica: Replica,
    partition: Partition,
    me: Process,
    now: Moment,
    /// What the store did, and the replica is to be told.
    stored: VecDeque<Input>,
    /// Syncs that are asked for: one for all of them, when there is nothing else to do.
    syncs: Vec<Input>,
    answers: Vec<(u64, Answer)>,
}

impl Driver {
    /// The process of that number starts, hears of the ledger, and serves.
    fn start(directory: &Path, incarnation: u64) -> Self {
        let disk = Arc::new(FileDisk::new(directory).unwrap());
        let store = Store::open(disk, options()).unwrap();
        let (partition, me) = (partition(3), Process { node: NODE, incarnation: Incarnation(incarnation) });
        let replica = Replica::new(partition, me, Moment(0), store.recovered(partition));
        let (stored, syncs, answers) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut driver = Self { store, replica, partition, me, now: Moment(0), stored, syncs, answers };
        // Later than whatever the process before it may have granted.
        driver.now = Moment(1_000_000);
        driver.step(Input::LedgerLease { until: Moment(9_000_000) });
        driver.step(Input::Configured(Arc::new(driver.configuration())));
        driver.settle();
        for _ in 0..3 {
            driver.step(Input::Tick);
            driver.settle();
        }
        assert!(driver.replica.is_serving());
        driver
    }

    fn configuration(&self) -> Configuration {
        let vdi = Vdi {
            parent: None,
            layout: 1,
            fence: 1,
            is_frozen: false,
            is_deleted: false,
            hold: None,
            holds_reads: false,
        };
        Configuration {
            pepoch: Pepoch(self.me.incarnation.0 as u32),
            in_sync: vec![self.me],
            doubtful: Vec::new(),
            damaged: Vec::new(),
            failed: Vec::new(),
            is_lost: false,
            primary: NODE,
            candidates: Vec::new(),
            keepers: vec![NODE],
            copies: 1,
            min_copies: 1,
            gateways: vec![GATEWAY],
            vdis: Arc::new(Vdis::from_iter([(oid(0).vid(), vdi)])),
        }
    }

    /// One step, and what it wants done; then the log is told what is known, if that is due.
    fn step(&mut self, input: Input) {
        self.now = self.now.after(10);
        for output in self.replica.step(self.now, input) {
            self.carry_out(output);
        }
        for due in self.store.checkpoints_due() {
            assert_eq!(due, self.partition);
            self.store.log_entry(due, &self.replica.checkpoint()).unwrap();
        }
    }

    fn carry_out(&mut self, output: Output) {
        let (ticket, outcome) = match output {
            Output::Log { ticket, entry } => {
                // What a replica alone logs is never refused for the log's bound.
                self.store.log_entry(self.partition, &entry).unwrap();
                (ticket, Outcome::Done)
            }
            Output::Sync { ticket } => {
                self.syncs.push(Input::Stored { ticket, outcome: Outcome::Done });
                return;
            }
            Output::Read { ticket, oid, blocks } => {
                (ticket, self.store.read_blocks(self.partition, oid, blocks))
            }
            Output::Digests { ticket, after, most } => {
                (ticket, self.store.digests(self.partition, after, most))
            }
            Output::Versions { ticket, oid } => (ticket, self.store.versions(self.partition, oid)),
            Output::Verify { ticket, oid } => (ticket, self.store.verify(self.partition, oid)),
            Output::Answer { id, answer, .. } => {
                self.answers.push((id.number, answer));
                return;
            }
            Output::Send { .. } | Output::Propose(_) | Output::GaveUp { .. } | Output::Held { .. } => {
                panic!("nobody else is there: {output:?}")
            }
        };
        self.stored.push_back(Input::Stored { ticket, outcome });
    }

    /// Says what the store did until there is nothing left to do.
    fn settle(&mut self) {
        loop {
            while let Some(stored) = self.stored.pop_front() {
                self.step(stored);
            }
            if self.syncs.is_empty() {
                break;
            }
            let asked = std::mem::take(&mut self.syncs);
            self.store.sync().unwrap();
            self.stored.extend(asked);
        }
        if self.store.apply_is_due() {
            self.store.sync().unwrap();
            self.store.apply().unwrap();
        }
    }

    /// What a request is answered by.
    fn ask(&mut self, number: u64, command: Command) -> Answer {
        let request = Request {
            id: RequestId { gateway: GATEWAY, number },
            resend: 1,
            unanswered_from: number,
            pepoch: Pepoch(self.me.incarnation.0 as u32),
            stamp: Stamp { incarnation: self.me.incarnation, clock: Duration::from_micros(self.now.0) },
            layout: 1,
            fence: 1,
            command,
        };
        self.step(Input::Requested(request));
        self.settle();
        let (answered, answer) = self.answers.pop().unwrap();
        assert_eq!((answered, self.answers.len()), (number, 0));
        answer
    }

    fn write(&mut self, number: u64, (oid, first): (Oid, u32), bytes: &[u8], durability: Durability) {
        let pieces: Vec<Block> = bytes.iter().copied().map(block).collect();
        let range = ByteRange::new(first * 4096, bytes.len() as u32 * 4096).unwrap();
        assert_eq!(self.ask(number, Command::Write { oid, range, pieces, durability }), Answer::Done);
    }

    fn read(&mut self, number: u64, oid: Oid, blocks: Range<u32>) -> Vec<u8> {
        match self.ask(number, Command::Read { oid, blocks }) {
            Answer::Data(found) => {
                found.into_iter().map(|found| found.map_or(0, |found| found.bytes[9])).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_replica_has_what_it_acknowledged_whenever_its_process_is_killed() {
    let directory =
        tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "." }).unwrap();
    let mut number = 1;
    let mut expected = [[0; 8]; 3];
    for start in (1..12).step_by(2) {
        let mut driver = Driver::start(directory.path(), start);
        for (index, expected) in expected.iter().enumerate() {
            assert_eq!(driver.read(number, oid(index as u32), 0..8), expected);
            number += 1;
        }
        for round in 0..40 {
            let (index, first) = (round % 3, round % 5);
            let byte = (start * 20 + u64::from(round)) as u8 | 1;
            let durability = if round % 7 == 0 { Durability::Stable } else { Durability::Logged };
            driver.write(number, (oid(index), first), &[byte, byte ^ 2, byte ^ 4], durability);
            let first = first as usize;
            expected[index as usize][first..first + 3].copy_from_slice(&[byte, byte ^ 2, byte ^ 4]);
            driver.write(number + 1, (oid(index), 300), &[byte; 30], Durability::Logged);
            number += 2;
        }
        let range = ByteRange::new(4096 * 7, 4096).unwrap();
        let discard = Command::Discard { oid: oid(1), range, durability: Durability::Logged };
        assert_eq!(driver.ask(number, discard.clone()), Answer::Done);
        expected[1][7] = 0;
        drop(driver);
        // The answer was lost with the process: the request comes again.
        let mut driver = Driver::start(directory.path(), start + 1);
        assert_eq!(driver.ask(number, discard), Answer::Done);
        assert_eq!(driver.ask(number + 1, Command::Flush), Answer::Done);
        number += 2;
    }
    let store = Driver::start(directory.path(), 20).store;
    assert!(store.wal.written().0 > 2 * (10 << 20), "the log was used again");
}
