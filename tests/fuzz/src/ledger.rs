//! The ledger: records one after the other, and the state as a whole.

use huntaway_ledger::{
    DiskRecord, GatewayState, Ledger, NodeState, PREAMBLE_BYTES, Record, RecoveryPolicy, SetRecord, State,
};

/// So few that a state is small.
const PARTITIONS: u16 = 2;

/// Most records of one input.
const MAX_RECORDS: usize = 64;

/// Takes a snapshot, or records, as the first byte says.
pub fn run(bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    match choice % 3 {
        0 => snapshot(&sealed_snapshot(bytes)),
        1 => snapshot(bytes),
        _ => records(bytes),
    }
}

/// What is read as a snapshot is one, and so is whatever follows it.
fn snapshot(bytes: &[u8]) {
    let Ok(ledger) = Ledger::of_snapshot(bytes) else { return };
    assert_eq!(ledger.snapshot().expect("there is memory"), bytes);
    for record in records_after(ledger.state()) {
        if let Ok(next) = ledger.follow(&record) {
            check(&next.ledger);
        }
    }
}

/// The snapshot of a ledger is read as what it is.
fn check(ledger: &Ledger) {
    let read = Ledger::of_snapshot(&ledger.snapshot().expect("there is memory")).expect("it was written");
    assert!(read.state() == ledger.state() && read.hash() == ledger.hash());
}

/// Records each of which might follow.
fn records_after(state: &State) -> Vec<Record> {
    let mut records = Vec::new();
    for (node, NodeState { incarnation, start, .. }) in state.sets().nodes() {
        records.push(Record::Sets(SetRecord::NodeUp { node }));
        records.push(Record::Sets(SetRecord::NodesDown { nodes: vec![node] }));
        let incarnation = huntaway_ledger::Incarnation(incarnation.0.saturating_add(1));
        for after in [Vec::new(), vec![start]] {
            let memory = huntaway_ledger::Memory::Stable;
            records.push(Record::Sets(SetRecord::NodeStarted { node, incarnation, memory, start, after }));
        }
    }
    for (disk, _) in state.disks().disks() {
        let hold = state.disks().last_hold();
        records.push(Record::Disks(DiskRecord::Fence { disk }));
        records.push(Record::Disks(DiskRecord::Hold { disks: vec![disk], reads: true }));
        records.push(Record::Disks(DiskRecord::Commit { hold }));
        records.push(Record::Disks(DiskRecord::RollBack { hold, to: disk }));
        records.push(Record::Disks(DiskRecord::DeleteDisk { disk }));
        records.push(Record::ResizeVdi { vid: disk, size_bytes: 1 << 20 });
        records.push(Record::DeleteVdi { vid: disk });
    }
    for (name, known) in state.gateways() {
        let GatewayState { node, incarnation, start } = *known;
        let incarnation = huntaway_ledger::Incarnation(incarnation.0.saturating_add(1));
        records.push(Record::GatewayStarted { name: name.clone(), node, incarnation, start });
    }
    records.push(Record::Recovery(RecoveryPolicy { is_paused: true, ..state.recovery() }));
    records.push(Record::Copies { copies: 1, min_copies: 1 });
    records
}

/// The bytes with length and checksums as they should be.
fn sealed_snapshot(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some((preamble, payload)) = bytes.split_first_chunk_mut::<PREAMBLE_BYTES>() {
        preamble[48..56].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        preamble[56..60].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        seal(preamble);
    }
    bytes
}

fn seal(preamble: &mut [u8; PREAMBLE_BYTES]) {
    let crc = crc32c::crc32c(&preamble[..60]);
    preamble[60..].copy_from_slice(&crc.to_le_bytes());
}

/// Payloads, each with its kind and its length before it: what they add up to is a state like any other.
fn records(mut bytes: &[u8]) {
    let mut ledger = Ledger::default();
    ledger.plant(|state| *state = State::with_partitions(PARTITIONS));
    for _ in 0..MAX_RECORDS {
        let Some((&[kind, low, high], rest)) = bytes.split_first_chunk() else { break };
        let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        bytes = rest;
        let record = record(&ledger, kind, payload);
        let before = ledger.state().number();
        match ledger.read(&record) {
            Ok((_, length)) => assert_eq!((length, ledger.state().number()), (record.len(), before + 1)),
            Err(_) => assert_eq!(ledger.state().number(), before),
        }
    }
    check(&ledger);
}

/// The payload in the frame of the record that would be next.
fn record(ledger: &Ledger, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut preamble = [0; PREAMBLE_BYTES];
    preamble[..4].copy_from_slice(b"HTLR");
    (preamble[4], preamble[6]) = (1, kind);
    preamble[8..16].copy_from_slice(&(ledger.state().number() + 1).to_le_bytes());
    preamble[16..48].copy_from_slice(&ledger.hash().0);
    preamble[48..52].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    preamble[52..56].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    seal(&mut preamble);
    let mut bytes = [&preamble[..], payload].concat();
    bytes.resize(PREAMBLE_BYTES + payload.len().next_multiple_of(8), 0);
    bytes
}
