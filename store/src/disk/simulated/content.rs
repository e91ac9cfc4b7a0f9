//! What a simulated file holds, and what it may hold after a power loss.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::SeededRandom;
use super::pages::Pages;

/// What a disk writes whole or not at all, in bytes.
pub(super) const SECTOR_BYTES: usize = 512;

/// What space is counted in, in bytes.
pub(super) const PAGE_BYTES: usize = 4096;

const SECTORS_PER_PAGE: u64 = (PAGE_BYTES / SECTOR_BYTES) as u64;

/// Most states of one sector, or of a file's length, remembered between two syncs.
const MAX_VERSIONS: usize = 4;

pub(super) type Sector = [u8; SECTOR_BYTES];

/// Length and bytes of a file as its readers see them, with what they replaced since the last sync.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    length: u64,
    /// Pages that take space. Where nothing was written, it is only set aside.
    taken: Pages,
    /// Those of them that were written. Copies of a disk share what they have in common.
    stored: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
    /// Earlier contents of the sectors written since the last sync; the first of each is the one on stable storage.
    replaced: BTreeMap<u64, Vec<Sector>>,
    /// Earlier lengths since the last sync; the first is the one on stable storage.
    lengths: Vec<u64>,
    /// Sectors of a failed sync: the system forgot that they are to be written.
    forgotten: BTreeMap<u64, Vec<Sector>>,
    /// Pages that cannot be read until they are written again.
    spoilt: BTreeSet<u64>,
}

impl Content {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Pages that take space.
    pub(super) fn pages(&self) -> u64 {
        self.taken.count()
    }

    /// Pages of the range that take no space yet.
    pub(super) fn missing_pages(&self, offset: u64, length: u64) -> u64 {
        let pages = pages_of(offset, length);
        pages.end - pages.start - self.taken.count_in(pages)
    }

    /// The page at `offset` cannot be read any more.
    pub(super) fn spoil(&mut self, offset: u64) {
        self.spoilt.insert(offset / PAGE_BYTES as u64);
    }

    /// Whether something of the range cannot be read.
    pub(super) fn is_spoilt(&self, offset: u64, length: u64) -> bool {
        self.spoilt.range(pages_of(offset, length)).next().is_some()
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        for (start, length) in cuts(offset, count, PAGE_BYTES) {
            let into = &mut buffer[(start - offset) as usize..][..length];
            match self.stored.get(&(start / PAGE_BYTES as u64)) {
                Some(page) => into.copy_from_slice(&page[start as usize % PAGE_BYTES..][..length]),
                None => into.fill(0),
            }
        }
        count
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        self.put(data, offset);
        let written = pages_of(offset, data.len() as u64);
        self.spoilt.retain(|page| !written.contains(page));
        let end = offset + data.len() as u64;
        if end > self.length {
            self.change_length(end);
        }
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.zero(length, self.length - length);
            let end = length.div_ceil(PAGE_BYTES as u64);
            self.stored.split_off(&end);
            self.taken.remove(end..u64::MAX);
        }
        if length != self.length {
            self.change_length(length);
        }
    }

    pub(super) fn allocate(&mut self, offset: u64, length: u64) {
        self.taken.insert(pages_of(offset, length));
        if offset + length > self.length {
            self.change_length(offset + length);
        }
    }

    /// Makes a range read as zeroes and gives the space of whole pages back.
    pub(super) fn zero(&mut self, offset: u64, length: u64) {
        let end = offset + length;
        let whole = offset.div_ceil(PAGE_BYTES as u64)..end / PAGE_BYTES as u64;
        let touched: Vec<u64> = self.stored.range(pages_of(offset, length)).map(|(page, _)| *page).collect();
        for page in touched {
            let start = page * PAGE_BYTES as u64;
            let (from, to) = (offset.max(start), end.min(start + PAGE_BYTES as u64));
            self.put(&[0; PAGE_BYTES][..(to - from) as usize], from);
            if whole.contains(&page) {
                self.stored.remove(&page);
            }
        }
        self.taken.remove(whole);
    }

    pub(super) fn sync(&mut self) {
        for sector in std::mem::take(&mut self.replaced).into_keys() {
            self.forgotten.remove(&sector);
        }
        self.lengths.clear();
    }

    /// What a failed sync leaves: readers still see the data, but no later sync writes it, unless it is written again.
    pub(super) fn forget(&mut self) {
        for (sector, versions) in std::mem::take(&mut self.replaced) {
            self.forgotten.entry(sector).or_insert(versions);
        }
    }

    /// What is there after a power loss: each sector and the length as it was at the last sync or at any time since.
    /// `newest` of 100 are as they were last; when it is 0, all are as they were at the last sync.
    pub(super) fn lose_power(&mut self, random: &mut SeededRandom, newest: u64) {
        let mut replaced = std::mem::take(&mut self.replaced);
        replaced.append(&mut self.forgotten);
        for (sector, versions) in replaced {
            if let Some(version) = choose(&versions, random, newest) {
                self.set_sector(sector, version);
            }
        }
        if let Some(length) = choose(&std::mem::take(&mut self.lengths), random, newest) {
            self.set_length(*length);
        }
        self.sync();
    }

    /// Where the pages begin that hold bytes.
    pub(super) fn stored_pages(&mut self) -> Vec<u64> {
        self.stored.keys().map(|page| page * PAGE_BYTES as u64).collect()
    }

    /// Changes a bit, if it is stored and on stable storage.
    pub(super) fn flip(&mut self, offset: u64, bit: u32) -> bool {
        if offset >= self.length || !self.is_settled(offset / SECTOR_BYTES as u64) {
            return false;
        }
        let Some(page) = self.stored.get_mut(&(offset / PAGE_BYTES as u64)) else { return false };
        Arc::make_mut(page)[offset as usize % PAGE_BYTES] ^= 1 << bit;
        true
    }

    /// Takes `earlier`, as it was seen then, for what is on stable storage.
    pub(super) fn return_to(&mut self, earlier: &Self) {
        *self = earlier.clone();
        self.forgotten.clear();
        self.sync();
    }

    /// Undoes what was written to a few sectors that follow one another, and returns the first one's number and what was
    /// to be written. `None` if nothing was written since the last sync.
    pub(super) fn lose_written(
        &mut self,
        random: &mut SeededRandom,
        most: u64,
    ) -> Option<(u64, Vec<Sector>)> {
        let first = *self.replaced.keys().nth(random.below(self.replaced.len() as u64) as usize)?;
        let mut lost = Vec::new();
        for sector in first..first + most {
            let Some(before) = self.replaced.get(&sector).and_then(|versions| versions.first().copied())
            else {
                break;
            };
            lost.push(self.sector(sector));
            self.set_sector(sector, &before);
        }
        Some((first, lost))
    }

    /// Takes in what was meant for `meant_for`, or another file: over stored sectors, on stable storage. Returns where;
    /// `None` if it found no place.
    pub(super) fn receive(
        &mut self,
        random: &mut SeededRandom,
        sectors: &[Sector],
        meant_for: u64,
    ) -> Option<u64> {
        let pages = self.stored_pages();
        let page = *pages.get(random.below(pages.len() as u64) as usize)?;
        let first = page / SECTOR_BYTES as u64 + random.below(SECTORS_PER_PAGE);
        let places = first..first + sectors.len() as u64;
        let is_free = |sector: u64| {
            self.is_settled(sector) && sector * (SECTOR_BYTES as u64) < self.length && sector != meant_for
        };
        if !places.clone().all(is_free) {
            return None;
        }
        places.zip(sectors).for_each(|(place, sector)| self.set_sector(place, sector));
        Some(first)
    }

    /// Whether the sector on stable storage is what readers see.
    fn is_settled(&self, sector: u64) -> bool {
        !self.replaced.contains_key(&sector) && !self.forgotten.contains_key(&sector)
    }

    fn sector(&self, sector: u64) -> Sector {
        let mut bytes = [0; SECTOR_BYTES];
        if let Some(page) = self.stored.get(&(sector / SECTORS_PER_PAGE)) {
            let start = (sector % SECTORS_PER_PAGE) as usize * SECTOR_BYTES;
            bytes.copy_from_slice(&page[start..start + SECTOR_BYTES]);
        }
        bytes
    }

    fn set_sector(&mut self, sector: u64, bytes: &Sector) {
        let start = (sector % SECTORS_PER_PAGE) as usize * SECTOR_BYTES;
        self.page_mut(sector / SECTORS_PER_PAGE)[start..start + SECTOR_BYTES].copy_from_slice(bytes);
    }

    fn page_mut(&mut self, page: u64) -> &mut [u8; PAGE_BYTES] {
        let taken = &mut self.taken;
        let stored = self.stored.entry(page).or_insert_with(|| {
            taken.insert(page..page + 1);
            Arc::new([0; PAGE_BYTES])
        });
        Arc::make_mut(stored)
    }

    /// A number that differs when the content does.
    pub(super) fn fingerprint(&self) -> u32 {
        self.taken.iter().fold(self.length as u32, |crc, number| {
            let crc = crc32c::crc32c_append(crc, &number.to_le_bytes());
            self.stored.get(&number).map_or(crc, |page| crc32c::crc32c_append(crc, &page[..]))
        })
    }

    fn put(&mut self, data: &[u8], offset: u64) {
        for (start, length) in cuts(offset, data.len(), PAGE_BYTES) {
            let data = &data[(start - offset) as usize..][..length];
            let page = start / PAGE_BYTES as u64;
            if !self.stored.contains_key(&page) && *data == [0; PAGE_BYTES][..length] {
                // Zeroes over zeroes change nothing but the space they take.
                self.taken.insert(page..page + 1);
                continue;
            }
            for (start, _) in cuts(start, length, SECTOR_BYTES) {
                self.remember(start / SECTOR_BYTES as u64);
            }
            self.page_mut(page)[start as usize % PAGE_BYTES..][..length].copy_from_slice(data);
        }
    }

    fn remember(&mut self, sector: u64) {
        let before = self.sector(sector);
        remember(self.replaced.entry(sector).or_default(), before);
    }

    fn change_length(&mut self, length: u64) {
        remember(&mut self.lengths, self.length);
        self.length = length;
    }
}

fn remember<T>(versions: &mut Vec<T>, before: T) {
    if versions.len() == MAX_VERSIONS {
        versions.remove(1);
    }
    versions.push(before);
}

/// The earlier version that a power loss brings back, or `None` for the newest.
fn choose<'a, T>(versions: &'a [T], random: &mut SeededRandom, newest: u64) -> Option<&'a T> {
    match newest {
        0 => versions.first(),
        _ if random.chance(newest, 100) => None,
        _ => versions.get(random.below(versions.len() as u64 + 1) as usize),
    }
}

fn pages_of(offset: u64, length: u64) -> std::ops::Range<u64> {
    offset / PAGE_BYTES as u64..(offset + length).div_ceil(PAGE_BYTES as u64)
}

/// Cuts a range at multiples of `unit`: (offset, length) of each part.
fn cuts(offset: u64, length: usize, unit: usize) -> impl Iterator<Item = (u64, usize)> {
    let (end, unit) = (offset + length as u64, unit as u64);
    let mut start = offset;
    std::iter::from_fn(move || {
        let part = (start < end).then(|| (start, (end.min((start / unit + 1) * unit) - start) as usize))?;
        start += part.1 as u64;
        Some(part)
    })
}
