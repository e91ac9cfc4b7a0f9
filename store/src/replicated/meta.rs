//! The bytes of what a replica's entry says (`store/FORMAT.md`, "Entries of replicas").
//!
//! Blocks of data are not among them: these are the record's payload, in the order in which the entry names them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use huntaway_replica::{
    Block, Change, Completion, Content, CopiedBlock, Entry, Process, Record, RequestId, Requests,
    SET_ASIDE_BLOCK,
};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, BLOCKS_PER_OBJECT, Durability, Incarnation, NodeId, ObjectKind, Oid, Version, Vid,
};

use crate::object::Entry as BlockState;

const WRITE: u8 = 1;
const COPY: u8 = 2;
const REPLACE: u8 = 3;
const REMOVE: u8 = 4;
const KNOWN: u8 = 5;
const IN_DOUBT: u8 = 6;
const FORGET: u8 = 7;
const REQUESTS: u8 = 8;

/// Most requests of one gateway that are written together: of more of them there are several parts.
const MOST_REQUESTS: usize = 4096;

/// Most bytes of such parts in one record. With one more part it is within what the log takes.
const MOST_KNOWN_BYTES: usize = 400 << 10;

const CHANGE_WRITE: u8 = 0;
const CHANGE_REMOVE: u8 = 1;
const CHANGE_NOTHING: u8 = 2;
const CHANGE_FREE: u8 = 3;
const CHANGE_RESERVE: u8 = 4;

const NEVER: u8 = 0;
const DATA: u8 = 1;
const HOLE: u8 = 2;
const LOST: u8 = 3;

/// All blocks, and the one that stands for the space that is set aside.
const MOST_COPIED: usize = SET_ASIDE_BLOCK as usize + 1;

/// An entry, or a part of one, as a record of the log.
#[derive(Debug, Default)]
pub(crate) struct Encoded<'a> {
    /// The object, if it is about one.
    pub(crate) oid: Option<Oid>,
    pub(crate) version: Version,
    pub(crate) meta: Vec<u8>,
    /// The payload.
    pub(crate) data: Vec<&'a Block>,
}

/// What a record of the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Logged {
    /// A write.
    Write { record: Record, settled: Version },
    /// Blocks are replaced; if `replaces`, all others are gone.
    Copy { replaces: bool },
    /// The object is gone.
    Remove,
    /// What is known, once so many records have followed.
    Known { requests: Requests, settled: Version, following: u32 },
    /// One of these: more requests that are known.
    Requests { requests: Requests },
    /// One of these: a write that is in doubt.
    InDoubt { record: Record },
    /// Nothing of the partition is kept.
    Forget,
}

/// What a record does to blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct States {
    /// The object was as if it had never been written, before.
    pub(crate) replaces: bool,
    /// Whether space is set aside for all of the object from here on, if that changes.
    pub(crate) reserves: Option<bool>,
    /// What blocks become, in order, with the checksums of data.
    pub(crate) blocks: Vec<(u32, BlockState)>,
}

impl States {
    /// Of blocks, among which one stands for the space that is set aside.
    fn of(replaces: bool, blocks: impl Iterator<Item = (u32, BlockState)>) -> Self {
        let mut states = Self { replaces, ..Self::default() };
        for (block, state) in blocks {
            if block == SET_ASIDE_BLOCK {
                states.reserves = Some(state != BlockState::Inherit);
            } else {
                states.blocks.push((block, state));
            }
        }
        states
    }

    /// Whether they change anything.
    pub(crate) fn are_something(&self) -> bool {
        self.replaces || self.reserves.is_some() || !self.blocks.is_empty()
    }
}

/// What the record of an entry that is about no object says in place of one: the first object that there can be.
pub(crate) fn no_object() -> Option<Oid> {
    Vid::new(1).map(|vid| Oid::new(ObjectKind::Data, vid, 0)).ok()
}

/// The records that an entry becomes, in order; `None` if one cannot be read again as it is.
pub(crate) fn encode(entry: &Entry) -> Option<Vec<Encoded<'_>>> {
    Some(match entry {
        Entry::Write { record, settled } => vec![encode_record(WRITE, record, *settled)?],
        Entry::Copy { oid, blocks } => vec![encode_copy(COPY, *oid, blocks)?],
        Entry::Replace { oid, blocks } => vec![encode_copy(REPLACE, *oid, blocks)?],
        Entry::Remove { oid } => {
            vec![Encoded { oid: Some(*oid), meta: vec![REMOVE], ..Encoded::default() }]
        }
        Entry::Known { requests, settled, in_doubt } => {
            let known = encode_known(requests, *settled, in_doubt.len()).into_iter().map(Some);
            let records = in_doubt.iter().map(|record| encode_record(IN_DOUBT, record, *settled));
            known.chain(records).collect::<Option<Vec<_>>>()?
        }
        Entry::Forget => vec![Encoded { meta: vec![FORGET], ..Encoded::default() }],
    })
}

/// What an entry does to blocks of an object; `None` if it is not about one.
pub(crate) fn states(entry: &Entry) -> Option<(Oid, States)> {
    let removed = States { replaces: true, ..States::default() };
    match entry {
        Entry::Write { record, .. } => match &record.change {
            Change::Write { first_block, blocks } => {
                let blocks = (*first_block..).zip(blocks);
                let blocks = blocks.map(|(block, content)| (block, written(record.version, content)));
                Some((record.oid, States::of(false, blocks)))
            }
            Change::Remove => Some((record.oid, removed)),
            Change::Reserve => Some((record.oid, States { reserves: Some(true), ..States::default() })),
            Change::Free { runs } => {
                let blocks = runs.iter().cloned().flatten().map(|block| (block, BlockState::Inherit));
                Some((record.oid, States::of(false, blocks)))
            }
            Change::Nothing => None,
        },
        Entry::Copy { oid, blocks } => Some((*oid, States::of(false, copied(blocks)))),
        Entry::Replace { oid, blocks } => Some((*oid, States::of(true, copied(blocks)))),
        Entry::Remove { oid } => Some((*oid, removed)),
        Entry::Known { .. } | Entry::Forget => None,
    }
}

fn written(version: Version, content: &Content) -> BlockState {
    match content {
        Some(block) => BlockState::Data { crc: block.crc, version },
        None => BlockState::Hole { version },
    }
}

fn copied(blocks: &[CopiedBlock]) -> impl Iterator<Item = (u32, BlockState)> {
    blocks.iter().map(|copied| (copied.block, copied_state(copied)))
}

fn copied_state(copied: &CopiedBlock) -> BlockState {
    let version = copied.stored.version;
    match (version == Version::NEVER, copied.is_lost) {
        (true, _) => BlockState::Inherit,
        _ if copied.block == SET_ASIDE_BLOCK => BlockState::Hole { version },
        (false, true) => BlockState::Lost { version },
        (false, false) => written(version, &copied.stored.content),
    }
}

fn encode_record(kind: u8, record: &Record, settled: Version) -> Option<Encoded<'_>> {
    let durability = u8::from(record.durability == Durability::Stable);
    let mut meta = vec![kind, durability];
    put_completion(&mut meta, record.completion);
    meta.push(u8::from(record.request.is_some()));
    if let Some(request) = record.request {
        put_process(&mut meta, request.gateway);
        put(&mut meta, &request.number.to_le_bytes());
    }
    put(&mut meta, &record.unanswered_from.to_le_bytes());
    put_version(&mut meta, settled);
    match &record.change {
        Change::Write { first_block, blocks } => {
            meta.push(CHANGE_WRITE);
            put_numbers(&mut meta, &[*first_block, blocks.len() as u32]);
            meta.extend(blocks.iter().map(|content| if content.is_some() { DATA } else { HOLE }));
        }
        Change::Remove => meta.push(CHANGE_REMOVE),
        Change::Reserve => meta.push(CHANGE_RESERVE),
        Change::Free { runs } => {
            meta.push(CHANGE_FREE);
            put_numbers(&mut meta, &[runs.len() as u32]);
            runs.iter().for_each(|run| put_numbers(&mut meta, &[run.start, run.end]));
        }
        Change::Nothing => meta.push(CHANGE_NOTHING),
    }
    let is_inside = match &record.change {
        Change::Free { runs } => are_runs(runs),
        Change::Reserve => true,
        _ => record.extent().end <= BLOCKS_PER_OBJECT,
    };
    let data: Vec<&Block> = record.contents().iter().flatten().collect();
    (is_inside && is_version(record.version) && are_whole(&data)).then_some(Encoded {
        oid: Some(record.oid),
        version: record.version,
        meta,
        data,
    })
}

fn encode_copy(kind: u8, oid: Oid, blocks: &[CopiedBlock]) -> Option<Encoded<'_>> {
    let mut meta = vec![kind];
    put(&mut meta, &(blocks.len() as u16).to_le_bytes());
    let mut data = Vec::with_capacity(blocks.len());
    for copied in blocks {
        let state = copied_state(copied);
        let code = match state {
            BlockState::Data { .. } => DATA,
            BlockState::Hole { .. } => HOLE,
            BlockState::Lost { .. } => LOST,
            BlockState::Inherit | BlockState::Damaged => NEVER,
        };
        put(&mut meta, &(copied.block as u16).to_le_bytes());
        meta.push(code);
        put_version(&mut meta, copied.stored.version);
        data.extend(copied.stored.content.iter().filter(|_| code == DATA));
    }
    let is_right = |copied: &CopiedBlock| {
        let has_place = copied.block < BLOCKS_PER_OBJECT
            || copied.block == SET_ASIDE_BLOCK && copied.stored.content.is_none();
        has_place && copied.stored.version.seq <= Version::MAX_SEQ
    };
    let are_right = blocks.len() <= MOST_COPIED && blocks.iter().all(is_right);
    (are_right && are_whole(&data)).then_some(Encoded { oid: Some(oid), meta, data, ..Encoded::default() })
}

fn encode_known(requests: &Requests, settled: Version, in_doubt: usize) -> Vec<Encoded<'static>> {
    let mut records = encode_requests(requests);
    let following = records.len() - 1 + in_doubt;
    for (place, (parts, bytes)) in records.iter_mut().enumerate() {
        let mut meta = vec![if place == 0 { KNOWN } else { REQUESTS }];
        if place == 0 {
            put(&mut meta, &(following as u32).to_le_bytes());
            put_version(&mut meta, settled);
        }
        put(&mut meta, &parts.to_le_bytes());
        meta.append(bytes);
        *bytes = meta;
    }
    records.into_iter().map(|(_, meta)| Encoded { meta, ..Encoded::default() }).collect()
}

/// The bytes of the requests for each record, at least one, and how many parts they are.
fn encode_requests(requests: &Requests) -> Vec<(u32, Vec<u8>)> {
    let mut records = Vec::new();
    let (mut parts, mut bytes) = (0_u32, Vec::new());
    for (gateway, unanswered_from, _) in requests.gateways() {
        let all: Vec<_> = requests.of(gateway).collect();
        let mut rest = all.as_slice();
        loop {
            let (part, later) = rest.split_at(rest.len().min(MOST_REQUESTS));
            put_process(&mut bytes, gateway);
            put(&mut bytes, &unanswered_from.to_le_bytes());
            put(&mut bytes, &(part.len() as u32).to_le_bytes());
            for (number, completion) in part {
                put(&mut bytes, &number.to_le_bytes());
                put_completion(&mut bytes, *completion);
            }
            parts += 1;
            if bytes.len() > MOST_KNOWN_BYTES {
                records.push((std::mem::take(&mut parts), std::mem::take(&mut bytes)));
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
    }
    if parts > 0 || records.is_empty() {
        records.push((parts, bytes));
    }
    records
}

fn are_whole(data: &[&Block]) -> bool {
    data.iter().all(|block| block.bytes.len() == BLOCK_SIZE_BYTES as usize)
}

fn is_version(version: Version) -> bool {
    version != Version::NEVER && version.seq <= Version::MAX_SEQ
}

fn put(meta: &mut Vec<u8>, bytes: &[u8]) {
    meta.extend_from_slice(bytes);
}

fn put_numbers(meta: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| put(meta, &(*number as u16).to_le_bytes()));
}

/// Whether these are blocks of an object, in order.
fn are_runs(runs: &[Range<u32>]) -> bool {
    let is_run = |run: &Range<u32>| run.start < run.end && run.end <= SET_ASIDE_BLOCK + 1;
    runs.iter().all(is_run) && runs.windows(2).all(|pair| pair[0].end <= pair[1].start)
}

fn put_version(meta: &mut Vec<u8>, version: Version) {
    put(meta, &version.pepoch.to_le_bytes());
    put(meta, &version.seq.to_le_bytes());
}

fn put_process(meta: &mut Vec<u8>, process: Process) {
    put(meta, &process.node.0);
    put(meta, &process.incarnation.0.to_le_bytes());
}

fn put_completion(meta: &mut Vec<u8>, completion: Completion) {
    let (kind, offset) = match completion {
        Completion::Done => (0, 0),
        Completion::Miscompare { offset } => (1, offset),
    };
    meta.push(kind);
    put(meta, &offset.to_le_bytes());
}

/// Reads what a record says and does; `None` if it is nothing that [`encode`] makes.
pub(crate) fn decode(
    (oid, version): (Oid, Version),
    meta: &[u8],
    crcs: &[u32],
    payload: &Bytes,
) -> Option<(Logged, States)> {
    let mut reader = Reader { rest: meta };
    let mut states = States::default();
    let mut data = Data { crcs, payload, used: 0 };
    let logged = match reader.byte()? {
        kind @ (WRITE | IN_DOUBT) => {
            let (record, settled) = decode_record(&mut reader, (oid, version), &mut data)?;
            let entry = Entry::Write { record: Arc::new(record.clone()), settled };
            if kind == IN_DOUBT {
                Logged::InDoubt { record }
            } else {
                states = self::states(&entry).map(|(_, states)| states).unwrap_or_default();
                Logged::Write { record, settled }
            }
        }
        kind @ (COPY | REPLACE) => {
            states = decode_copy(&mut reader, &mut data)?;
            states.replaces = kind == REPLACE;
            Logged::Copy { replaces: states.replaces }
        }
        REMOVE => {
            states.replaces = true;
            Logged::Remove
        }
        KNOWN => {
            let (following, settled) = (reader.u32()?, reader.version()?);
            Logged::Known { requests: decode_requests(&mut reader)?, settled, following }
        }
        REQUESTS => Logged::Requests { requests: decode_requests(&mut reader)? },
        FORGET => Logged::Forget,
        _ => return None,
    };
    (reader.rest.is_empty() && data.used == crcs.len()).then_some((logged, states))
}

fn decode_record(
    reader: &mut Reader<'_>,
    (oid, version): (Oid, Version),
    data: &mut Data<'_>,
) -> Option<(Record, Version)> {
    let durability = match reader.byte()? {
        0 => Durability::Logged,
        1 => Durability::Stable,
        _ => return None,
    };
    let completion = reader.completion()?;
    let request = match reader.byte()? {
        0 => None,
        1 => Some(RequestId { gateway: reader.process()?, number: reader.u64()? }),
        _ => return None,
    };
    let (unanswered_from, settled) = (reader.u64()?, reader.version()?);
    let change = decode_change(reader, data)?;
    let record = Record { version, oid, change, completion, request, unanswered_from, durability };
    is_version(version).then_some((record, settled))
}

fn decode_change(reader: &mut Reader<'_>, data: &mut Data<'_>) -> Option<Change> {
    Some(match reader.byte()? {
        CHANGE_WRITE => {
            let (first_block, count) = (u32::from(reader.u16()?), reader.u16()?);
            if first_block + u32::from(count) > BLOCKS_PER_OBJECT {
                return None;
            }
            let mut blocks = Vec::with_capacity(count.into());
            for _ in 0..count {
                blocks.push(match reader.byte()? {
                    DATA => Some(data.next()?),
                    HOLE => None,
                    _ => return None,
                });
            }
            Change::Write { first_block, blocks }
        }
        CHANGE_REMOVE => Change::Remove,
        CHANGE_RESERVE => Change::Reserve,
        CHANGE_FREE => {
            let mut runs = Vec::new();
            for _ in 0..reader.u16()? {
                runs.push(u32::from(reader.u16()?)..u32::from(reader.u16()?));
            }
            are_runs(&runs).then_some(Change::Free { runs })?
        }
        CHANGE_NOTHING => Change::Nothing,
        _ => return None,
    })
}

fn decode_copy(reader: &mut Reader<'_>, data: &mut Data<'_>) -> Option<States> {
    let count = reader.u16()?;
    let mut blocks = Vec::new();
    for _ in 0..count {
        let block = u32::from(reader.u16()?);
        let code = reader.byte()?;
        let version = reader.version()?;
        let state = match code {
            NEVER if version == Version::NEVER => BlockState::Inherit,
            DATA if is_version(version) => BlockState::Data { crc: data.next()?.crc, version },
            HOLE if is_version(version) => BlockState::Hole { version },
            LOST if is_version(version) => BlockState::Lost { version },
            _ => return None,
        };
        let is_space = matches!(state, BlockState::Inherit | BlockState::Hole { .. });
        let is_right = block < BLOCKS_PER_OBJECT || block == SET_ASIDE_BLOCK && is_space;
        if !is_right || blocks.len() >= MOST_COPIED {
            return None;
        }
        blocks.push((block, state));
    }
    Some(States::of(false, blocks.into_iter()))
}

fn decode_requests(reader: &mut Reader<'_>) -> Option<Requests> {
    let mut requests = Requests::default();
    for _ in 0..reader.u32()? {
        let (gateway, unanswered_from) = (reader.process()?, reader.u64()?);
        requests.trim(gateway, unanswered_from);
        for _ in 0..reader.u32()? {
            let number = reader.u64()?;
            requests.put(RequestId { gateway, number }, reader.completion()?);
        }
    }
    Some(requests)
}

/// The blocks of a payload, one after another.
struct Data<'a> {
    crcs: &'a [u32],
    payload: &'a Bytes,
    used: usize,
}

impl Data<'_> {
    fn next(&mut self) -> Option<Block> {
        let crc = *self.crcs.get(self.used)?;
        let start = self.used * BLOCK_SIZE_BYTES as usize;
        let end = start + BLOCK_SIZE_BYTES as usize;
        // Whoever only wants to know what changes has no payload.
        let bytes = if end <= self.payload.len() { self.payload.slice(start..end) } else { Bytes::new() };
        self.used += 1;
        Some(Block { crc, bytes })
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn version(&mut self) -> Option<Version> {
        Some(Version { pepoch: self.u32()?, seq: self.u32()? })
    }

    fn process(&mut self) -> Option<Process> {
        Some(Process { node: NodeId(self.take()?), incarnation: Incarnation(self.u64()?) })
    }

    fn completion(&mut self) -> Option<Completion> {
        match (self.byte()?, self.u32()?) {
            (0, 0) => Some(Completion::Done),
            (1, offset) => Some(Completion::Miscompare { offset }),
            _ => None,
        }
    }
}
