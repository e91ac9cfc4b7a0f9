//! The steps of a life: random requests, and the work that is due later.

use bytes::Bytes;
use huntaway_store::Store;
use huntaway_store::disk::SimulatedDisk;
use huntaway_wire::{
    BLOCK_SIZE_BYTES, ByteRange, Durability, OBJECT_SIZE_BYTES, ObjectKind, ObjectRequest, Oid, Operation,
    Read, Request, Segments, Vid, piece_crcs, pieces,
};

use super::{INDEXES, Simulation, VIDS, partition};
use crate::cells::{CELL_BYTES, content};
use crate::outstanding::{Effect, Outstanding};

impl Simulation {
    /// Does one thing.
    pub(super) fn step(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        match self.random.below(100) {
            0..34 => self.write(store),
            34..38 => self.or(store),
            38..42 => self.compare_and_write(store),
            42..52 => self.read(store),
            52..58 => {
                let effect = Effect::Flush { acknowledged: self.model.acknowledged() };
                self.submit(store, effect, Request::Flush)
            }
            58..66 => self.discard(store),
            66..68 => {
                let oid = self.object();
                let (durability, stable) = self.durability();
                let effect = Effect::Change { places: self.model.remove(oid), stable };
                self.ask(store, oid, effect, Operation::Remove { durability })
            }
            68..70 => {
                let oid = self.object();
                self.reserved.insert(oid);
                self.ask(store, oid, Effect::Reserve, Operation::Reserve)
            }
            70..73 => {
                let (oid, range) = (self.object(), self.range());
                let effect = Effect::Map { range, expected: self.model.newest(oid, range) };
                self.ask(store, oid, effect, Operation::Map { range })
            }
            73..85 => self.sync(store),
            _ => self.apply(store),
        }
    }

    fn write(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        let (oid, range) = (self.object(), self.range());
        let (durability, stable) = self.durability();
        self.next_number += 1;
        let mut data = Bytes::from(content(oid, range, self.next_number));
        let rest = data.split_off(self.random.below(data.len() as u64) as usize);
        let data: Segments = [data, rest].into_iter().collect();
        let crcs = piece_crcs(range, &data);
        let effect = Effect::Change { places: self.model.change(oid, range, self.next_number), stable };
        self.ask(store, oid, effect, Operation::Write { range, data, crcs, durability })
    }

    fn or(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        let (oid, range) = (self.object(), self.range());
        let (durability, stable) = self.durability();
        self.next_number += 1;
        let data = Segments::from_iter([Bytes::from(content(oid, range, self.next_number))]);
        let crcs = piece_crcs(range, &data);
        let effect = Effect::Change { places: self.model.or(oid, range, self.next_number), stable };
        self.ask(store, oid, effect, Operation::Or { range, data, crcs, durability })
    }

    /// Compares with what is there, or with something else by one bit.
    fn compare_and_write(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        let (oid, range) = (self.object(), self.range());
        let (durability, stable) = self.durability();
        let mut expected = self.model.newest_bytes(oid, range);
        self.next_number += 1;
        let data = Segments::from_iter([Bytes::from(content(oid, range, self.next_number))]);
        let crcs = piece_crcs(range, &data);
        let effect = if self.random.chance(1, 3) {
            let offset = self.random.below(range.length().into()) as u32;
            expected[offset as usize] ^= 1;
            Effect::Miscompare { offset }
        } else {
            Effect::Change { places: self.model.change(oid, range, self.next_number), stable }
        };
        let expected = Segments::from_iter([Bytes::from(expected)]);
        self.ask(store, oid, effect, Operation::CompareAndWrite { range, expected, data, crcs, durability })
    }

    fn discard(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        let (oid, mut range) = (self.object(), self.range());
        let (durability, stable) = self.durability();
        let places = if self.random.chance(1, 6) {
            range = ByteRange::new(0, OBJECT_SIZE_BYTES).expect("an object is as long as itself");
            self.model.remove(oid)
        } else {
            self.model.change(oid, range, 0)
        };
        self.ask(store, oid, Effect::Change { places, stable }, Operation::Discard { range, durability })
    }

    fn read(&mut self, store: &Store<SimulatedDisk>) -> Result<(), String> {
        let (oid, range) = (self.object(), self.range());
        let expected = self.model.newest(oid, range);
        let mut bytes = vec![0xee; range.length() as usize];
        let read = Read { partition: partition(oid), pepoch: store.pepoch(), oid, range };
        let mut crcs = vec![0; range.blocks().len()];
        match store.read_now(&read, &mut bytes, Some(&mut crcs)) {
            Some(Ok(())) if !are_right(range, &bytes, &crcs) => {
                Err(format!("object {oid} {range:?}: the checksums are not those of what was read"))
            }
            Some(Ok(())) if self.random.chance(1, 2) => {
                self.note(|| format!("read {oid} {range:?}"));
                self.model.check_read(oid, range, &expected, &bytes)
            }
            Some(_) | None => {
                self.ask(store, oid, Effect::Read { oid, range, expected }, Operation::Read { range })
            }
        }
    }

    fn ask(
        &mut self,
        store: &Store<SimulatedDisk>,
        oid: Oid,
        effect: Effect,
        operation: Operation,
    ) -> Result<(), String> {
        let request = ObjectRequest { partition: partition(oid), pepoch: store.pepoch(), oid, operation };
        self.submit(store, effect, Request::Object(request))
    }

    fn submit(
        &mut self,
        store: &Store<SimulatedDisk>,
        effect: Effect,
        request: Request,
    ) -> Result<(), String> {
        self.summary.requests += 1;
        let told = self.trace.is_some().then(|| tell(&request, self.next_number));
        let submission = store.submit(request);
        self.note(|| format!("{}: {submission:?}", told.unwrap_or_default()));
        self.outstanding.push(Outstanding::new(effect, submission));
        self.poll()?;
        // Where requests may be refused or fail, each is over before the next: such a one leaves nothing behind.
        let mut rounds = 0;
        while self.one_at_a_time && !self.outstanding.is_empty() && !self.disk.is_dead() && !self.is_over {
            rounds += 1;
            self.is_over = rounds > 3;
            self.work(store)?;
        }
        Ok(())
    }

    fn object(&mut self) -> Oid {
        let vid = Vid::new(1 + self.random.below(VIDS.into()) as u32).expect("it is small");
        Oid::new(ObjectKind::Data, vid, self.random.below(INDEXES.into()) as u32)
    }

    /// Bytes at the beginning or the end of an object: whole blocks, or not.
    fn range(&mut self) -> ByteRange {
        let unit = if self.random.chance(1, 2) { BLOCK_SIZE_BYTES } else { CELL_BYTES };
        let window = self.window_blocks * BLOCK_SIZE_BYTES / unit;
        let start = self.random.below(window.into()) as u32;
        let length = 1 + self.random.below(u64::from(window - start).min(40)) as u32;
        let origin = if self.random.chance(1, 4) { OBJECT_SIZE_BYTES - window * unit } else { 0 };
        let length = if self.window_blocks > 8 { window - start } else { length };
        ByteRange::new(origin + start * unit, length * unit).expect("the window is in the object")
    }

    fn durability(&mut self) -> (Durability, bool) {
        if self.random.chance(1, 4) { (Durability::Stable, true) } else { (Durability::Logged, false) }
    }
}

/// Whether the whole blocks that were read sum up to these.
fn are_right(range: ByteRange, bytes: &[u8], crcs: &[u32]) -> bool {
    let computed = piece_crcs(range, &Segments::from_iter([Bytes::copy_from_slice(bytes)]));
    pieces(range)
        .zip(computed.iter().zip(crcs))
        .all(|(piece, (computed, crc))| piece.len() < BLOCK_SIZE_BYTES as usize || computed == crc)
}

fn tell(request: &Request, number: u64) -> String {
    match request {
        Request::Flush => "flush".into(),
        Request::Space { .. } => "space".into(),
        Request::Object(ObjectRequest { oid, operation, .. }) => match operation {
            Operation::Write { range, durability, .. } => {
                format!("write {number} to {oid} {range:?} {durability:?}")
            }
            Operation::Or { range, durability, .. } => {
                format!("or {number} to {oid} {range:?} {durability:?}")
            }
            Operation::CompareAndWrite { range, durability, .. } => {
                format!("compare and write {number} to {oid} {range:?} {durability:?}")
            }
            other => format!("{oid} {other:?}"),
        },
    }
}
