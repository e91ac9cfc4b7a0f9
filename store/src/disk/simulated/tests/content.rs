//! A simulated file has the bytes and takes the space that a plain list of both would.

use std::collections::BTreeSet;

use crate::disk::simulated::SeededRandom;
use crate::disk::simulated::content::{Content, PAGE_BYTES};

/// Bytes that the calls reach.
const REACH_BYTES: u64 = 24 * PAGE_BYTES as u64;

/// A file, in the plainest way.
#[derive(Default)]
struct Plain {
    bytes: Vec<u8>,
    /// Pages that take space, and those of them that were written.
    taken: BTreeSet<u64>,
    stored: BTreeSet<u64>,
}

impl Plain {
    fn pages(offset: u64, length: u64) -> impl Iterator<Item = u64> {
        (0..REACH_BYTES / PAGE_BYTES as u64).filter(move |page| {
            let start = page * PAGE_BYTES as u64;
            start < offset + length && offset < start + PAGE_BYTES as u64
        })
    }

    fn reach(&mut self, end: u64) {
        self.bytes.resize(self.bytes.len().max(end as usize), 0);
    }

    fn write(&mut self, data: &[u8], offset: u64) {
        self.reach(offset + data.len() as u64);
        self.bytes[offset as usize..][..data.len()].copy_from_slice(data);
        for page in Self::pages(offset, data.len() as u64) {
            self.taken.insert(page);
            if data.iter().any(|byte| *byte != 0) {
                self.stored.insert(page);
            }
        }
    }

    fn allocate(&mut self, offset: u64, length: u64) {
        self.reach(offset + length);
        self.taken.extend(Self::pages(offset, length));
    }

    fn zero(&mut self, offset: u64, length: u64) {
        let end = (offset + length).min(self.bytes.len() as u64);
        (offset..end).for_each(|at| self.bytes[at as usize] = 0);
        let is_left = |page: &u64| {
            let start = page * PAGE_BYTES as u64;
            start < offset || start + PAGE_BYTES as u64 > offset + length
        };
        self.taken.retain(is_left);
        self.stored.retain(is_left);
    }

    fn set_length(&mut self, length: u64) {
        if length < self.bytes.len() as u64 {
            let is_left = |page: &u64| page * (PAGE_BYTES as u64) < length;
            self.taken.retain(is_left);
            self.stored.retain(is_left);
        }
        self.bytes.resize(length as usize, 0);
    }

    fn agrees(&self, content: &mut Content, random: &mut SeededRandom) {
        let mut bytes = vec![7; REACH_BYTES as usize];
        let count = content.read(&mut bytes, 0);
        assert!(bytes[..count] == self.bytes && content.length() == self.bytes.len() as u64);
        assert_eq!(content.pages(), self.taken.len() as u64);
        let stored: Vec<u64> = self.stored.iter().map(|page| page * PAGE_BYTES as u64).collect();
        assert_eq!(content.stored_pages(), stored);
        let (offset, length) = somewhere(random);
        let missing = Self::pages(offset, length).filter(|page| !self.taken.contains(page)).count();
        assert_eq!(content.missing_pages(offset, length), missing as u64);
    }
}

/// A range that is not empty: half of them end and begin where pages do.
fn somewhere(random: &mut SeededRandom) -> (u64, u64) {
    let unit = if random.chance(1, 2) { PAGE_BYTES as u64 } else { 1 };
    let offset = random.below(REACH_BYTES / unit);
    let longest = (REACH_BYTES / unit - offset).min(8 * PAGE_BYTES as u64 / unit);
    (offset * unit, (1 + random.below(longest)) * unit)
}

#[test]
fn content_and_space_are_as_if_each_page_was_listed() {
    for seed in 0..100 {
        let mut random = SeededRandom::new(seed);
        let (mut content, mut plain) = (Content::default(), Plain::default());
        let mut synced = Vec::new();
        for step in 0..100 {
            let (offset, length) = somewhere(&mut random);
            let byte = if random.chance(1, 4) { 0 } else { step };
            match random.below(6) {
                0 | 1 => {
                    content.write(&vec![byte; length as usize], offset);
                    plain.write(&vec![byte; length as usize], offset);
                }
                2 => {
                    content.allocate(offset, length);
                    plain.allocate(offset, length);
                }
                3 => {
                    content.zero(offset, length);
                    plain.zero(offset, length);
                }
                4 => {
                    content.set_length(offset);
                    plain.set_length(offset);
                }
                _ => {
                    content.sync();
                    synced.clone_from(&plain.bytes);
                }
            }
            plain.agrees(&mut content, &mut random);
        }
        content.lose_power(&mut random, 0);
        let mut bytes = vec![7; REACH_BYTES as usize];
        let count = content.read(&mut bytes, 0);
        assert!(bytes[..count] == synced, "a power loss brings back what was synced");
    }
}
