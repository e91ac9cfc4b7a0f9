//! What a worker knows of its share of the LUN, and whether what it reads is that.

use std::fmt;

use super::block::{Content, Stamp};
use super::journal::{Journal, JournalError, Unit};

/// Something else was read than was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mismatch {
    lba: u64,
    unit: Unit,
    found: Content,
    /// What was found was written by another run.
    is_of_another_run: bool,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lba, unit, found, is_of_another_run } = self;
        write!(f, "wrong data at LBA {lba}: found {found}")?;
        if *is_of_another_run {
            write!(f, " of another run")?;
        }
        match unit {
            Unit { acknowledged, pending: 0 } => write!(f, " instead of generation {acknowledged}"),
            Unit { acknowledged, pending } => write!(f, " instead of generation {acknowledged} or {pending}"),
        }
    }
}

/// The units from `first` on.
pub(super) struct Verifier<'a> {
    journal: &'a Journal,
    first: u64,
    units: Vec<Unit>,
    busy: Vec<bool>,
    unit_bytes: usize,
    block_bytes: usize,
}

impl<'a> Verifier<'a> {
    /// # Errors
    /// The journal cannot be read.
    pub(super) fn new(
        journal: &'a Journal,
        (first, end): (u64, u64),
        unit_bytes: u32,
        block_bytes: u32,
    ) -> Result<Self, JournalError> {
        let units = journal.units(first, end - first)?;
        let busy = vec![false; units.len()];
        Ok(Self {
            journal,
            first,
            units,
            busy,
            unit_bytes: unit_bytes as usize,
            block_bytes: block_bytes as usize,
        })
    }

    /// This unit, or the next one of the share on which no I/O is. There are more units than I/Os.
    pub(super) fn idle_unit(&self, number: u64) -> u64 {
        let at = self.index(number);
        let around = (at..self.busy.len()).chain(0..at);
        around.into_iter().find(|index| !self.busy[*index]).map_or(number, |index| self.first + index as u64)
    }

    /// Whether it is in doubt what a unit holds: then it is read before it is written again.
    pub(super) fn is_in_doubt(&self, number: u64) -> bool {
        self.units[self.index(number)].pending != 0
    }

    /// The first unit from `number` on, and before `end`, that was ever written.
    pub(super) fn next_known(&self, number: u64, end: u64) -> Option<u64> {
        (number..end).find(|number| self.units[self.index(*number)].is_known())
    }

    fn index(&self, number: u64) -> usize {
        (number - self.first) as usize
    }

    /// A read begins.
    pub(super) fn begin_read(&mut self, number: u64) {
        let index = self.index(number);
        self.busy[index] = true;
    }

    /// A write begins: fills in what it has to write.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub(super) fn begin_write(&mut self, number: u64, data: &mut [u8]) -> Result<(), JournalError> {
        let index = self.index(number);
        self.busy[index] = true;
        let unit = &mut self.units[index];
        unit.pending = unit.acknowledged.wrapping_add(1).max(1);
        self.journal.note(number, *unit)?;
        let generation = unit.pending;
        for (lba, block) in (self.first_lba(number)..).zip(data.chunks_exact_mut(self.block_bytes)) {
            Stamp { seed: self.journal.seed, lba, generation }.fill(block);
        }
        Ok(())
    }

    fn first_lba(&self, number: u64) -> u64 {
        number * (self.unit_bytes / self.block_bytes) as u64
    }

    /// An I/O has ended without success: a write may still have happened.
    pub(super) fn fail(&mut self, number: u64) {
        let index = self.index(number);
        self.busy[index] = false;
    }

    /// A write was acknowledged.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub(super) fn end_write(&mut self, number: u64) -> Result<(), JournalError> {
        let index = self.index(number);
        self.busy[index] = false;
        let unit = &mut self.units[index];
        *unit = Unit { acknowledged: unit.pending, pending: 0 };
        self.journal.note(number, *unit)?;
        self.journal.count_write()
    }

    /// A read has ended: whether anything is known of the unit, and what is wrong with what was read.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub(super) fn end_read(
        &mut self,
        number: u64,
        data: &[u8],
    ) -> Result<(bool, Option<Mismatch>), JournalError> {
        let index = self.index(number);
        self.busy[index] = false;
        let unit = self.units[index];
        if !unit.is_known() {
            return Ok((false, None));
        }
        let (mut lowest, mut highest) = (u32::MAX, 0);
        for (lba, block) in (self.first_lba(number)..).zip(data.chunks_exact(self.block_bytes)) {
            match self.generation(unit, lba, block) {
                Err(mismatch) => return Ok((true, Some(mismatch))),
                Ok(generation) => (lowest, highest) = (lowest.min(generation), highest.max(generation)),
            }
        }
        // a write that was never acknowledged may have happened in part: then either generation stays right for each block
        if unit.pending != 0 && lowest == highest {
            self.units[index] = Unit { acknowledged: highest, pending: 0 };
            self.journal.note(number, self.units[index])?;
        }
        Ok((true, None))
    }

    /// The generation that a block holds; 0 if it was never written.
    fn generation(&self, unit: Unit, lba: u64, block: &[u8]) -> Result<u32, Mismatch> {
        let found = Content::of(block);
        let seed = self.journal.seed;
        let mismatch = |is_of_another_run| Mismatch { lba, unit, found, is_of_another_run };
        match found {
            Content::Zeroes if unit.acknowledged == 0 => Ok(0),
            Content::Intact(stamp) if stamp.seed != seed => Err(mismatch(true)),
            Content::Intact(Stamp { lba: of, generation, .. })
                if of == lba && (generation == unit.acknowledged || generation == unit.pending) =>
            {
                Ok(generation)
            }
            _ => Err(mismatch(false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 512;

    fn verifier(journal: &Journal) -> Verifier<'_> {
        Verifier::new(journal, (10, 20), 1024, BLOCK as u32).unwrap()
    }

    #[test]
    fn only_the_acknowledged_generation_is_right_after_a_write() {
        let journal = Journal::in_memory();
        let mut verifier = verifier(&journal);
        let mut first = vec![0; 2 * BLOCK];
        assert_eq!(verifier.end_read(12, &first).unwrap(), (false, None));
        verifier.begin_write(12, &mut first).unwrap();
        verifier.end_write(12).unwrap();
        assert_eq!(verifier.end_read(12, &first).unwrap(), (true, None));
        let mut second = first.clone();
        verifier.begin_write(12, &mut second).unwrap();
        verifier.end_write(12).unwrap();
        assert_eq!(verifier.end_read(12, &second).unwrap(), (true, None));
        let (_, old) = verifier.end_read(12, &first).unwrap();
        let told = old.unwrap().to_string();
        assert_eq!(told, "wrong data at LBA 24: found generation 1 of LBA 24 instead of generation 2");
        second[BLOCK + 100] ^= 1;
        let told = verifier.end_read(12, &second).unwrap().1.unwrap().to_string();
        assert!(told.starts_with("wrong data at LBA 25: found a damaged block"), "{told}");
    }

    #[test]
    fn a_write_in_doubt_may_have_happened_in_part_and_then_counts_as_what_was_read() {
        let journal = Journal::in_memory();
        let mut verifier = verifier(&journal);
        let mut old = vec![0; 2 * BLOCK];
        verifier.begin_write(15, &mut old).unwrap();
        verifier.end_write(15).unwrap();
        let mut new = old.clone();
        verifier.begin_write(15, &mut new).unwrap();
        verifier.fail(15);
        let mixed = [&new[..BLOCK], &old[BLOCK..]].concat();
        assert_eq!(verifier.end_read(15, &mixed).unwrap(), (true, None));
        assert!(verifier.is_in_doubt(15));
        assert_eq!(verifier.end_read(15, &old).unwrap(), (true, None));
        assert!(!verifier.is_in_doubt(15));
        assert!(verifier.end_read(15, &new).unwrap().1.is_some(), "it was seen not to have happened");
    }

    #[test]
    fn zeroes_and_other_places_are_found_out() {
        let journal = Journal::in_memory();
        let mut verifier = verifier(&journal);
        let (mut here, mut there) = (vec![0; 2 * BLOCK], vec![0; 2 * BLOCK]);
        verifier.begin_write(10, &mut here).unwrap();
        verifier.end_write(10).unwrap();
        verifier.begin_write(11, &mut there).unwrap();
        for wrong in [&there, &vec![0; 2 * BLOCK]] {
            assert!(verifier.end_read(10, wrong).unwrap().1.is_some());
        }
        let other = Journal::in_memory();
        let mut other = Verifier::new(&other, (10, 20), 1024, 512).unwrap();
        other.begin_write(10, &mut there).unwrap();
        let told = verifier.end_read(10, &there).unwrap().1.unwrap().to_string();
        assert!(told.contains("of another run"), "{told}");
    }

    #[test]
    fn an_idle_unit_is_found_around_the_end() {
        let journal = Journal::in_memory();
        let mut verifier = verifier(&journal);
        (18..20).for_each(|number| verifier.begin_read(number));
        assert_eq!((verifier.idle_unit(18), verifier.idle_unit(12)), (10, 12));
    }
}
