//! Which pages of a simulated file take space: as ranges, for a file has much of it set aside at once.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of pages' numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Pages {
    /// End by start; ranges neither touch nor overlap, and none is empty.
    ranges: BTreeMap<u64, u64>,
    count: u64,
}

impl Pages {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// How many of `pages` are in the set.
    pub(super) fn count_in(&self, pages: Range<u64>) -> u64 {
        let before = self.ranges.range(..pages.start).next_back();
        let within = self.ranges.range(pages.start..pages.end.max(pages.start));
        let shared = |(start, end): (&u64, &u64)| pages.end.min(*end).saturating_sub(pages.start.max(*start));
        before.into_iter().chain(within).map(shared).sum()
    }

    pub(super) fn insert(&mut self, pages: Range<u64>) {
        if pages.is_empty() {
            return;
        }
        let Range { mut start, mut end } = pages;
        while let Some((from, to)) = self.ranges.range(..=end).next_back().map(|(from, to)| (*from, *to)) {
            if to < start {
                break;
            }
            if from <= start && to >= end {
                return;
            }
            self.ranges.remove(&from);
            self.count -= to - from;
            (start, end) = (start.min(from), end.max(to));
        }
        self.ranges.insert(start, end);
        self.count += end - start;
    }

    pub(super) fn remove(&mut self, pages: Range<u64>) {
        if pages.is_empty() {
            return;
        }
        while let Some((from, to)) = self.ranges.range(..pages.end).next_back().map(|(from, to)| (*from, *to))
        {
            if to <= pages.start {
                break;
            }
            self.ranges.remove(&from);
            self.count -= to - from;
            self.restore(from..pages.start);
            self.restore(pages.end..to);
        }
    }

    /// What is left of a range that was taken out.
    fn restore(&mut self, rest: Range<u64>) {
        if !rest.is_empty() {
            self.ranges.insert(rest.start, rest.end);
            self.count += rest.end - rest.start;
        }
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.ranges.iter().flat_map(|(start, end)| *start..*end)
    }
}
