//! Starts of processes, by which a disk is told from a new one or an old copy of it.

/// Most starts that a disk remembers. Of more that were proposed, and that nobody knows to be recorded, the oldest are forgotten, for
/// the ledger takes no start that is older than the one it has. Should it have one of those, the disk counts as another one, which is
/// safe.
pub const MAX_STARTS: usize = 64;

/// Names one start of a process on one disk. It is drawn at random and written to the disk before anybody is told of it, so a copy
/// of the disk that was made before does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartId(pub u64);

impl StartId {
    /// The start of every node's first process, by which its disk was made.
    pub const FIRST: Self = Self(1);
}

/// What a disk remembers of starts: the last one that is known to be recorded, and all after it. Any of these may be recorded by
/// now, or will be: who starts knows nothing of what the processes before it have sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Starts {
    /// The oldest first.
    ids: Vec<StartId>,
    /// The ledger may have been told of the last one: otherwise it has never had it, and never will.
    is_proposed: bool,
}

impl Starts {
    /// What the disk of a node's first process remembers. A new disk remembers nothing: that is the default.
    pub fn first() -> Self {
        Self { ids: vec![StartId::FIRST], is_proposed: true }
    }

    /// What a disk says that it remembers.
    pub fn remembered(ids: Vec<StartId>, is_proposed: bool) -> Self {
        Self { ids, is_proposed }
    }

    /// Whether the ledger may have been told of the last one.
    pub fn is_proposed(&self) -> bool {
        self.is_proposed
    }

    /// Those of them that another disk of the same node remembers as well.
    #[must_use]
    pub fn known_to(mut self, other: &Self) -> Self {
        let last = self.ids.last().copied();
        self.ids.retain(|id| other.ids.contains(id));
        self.is_proposed |= other.is_proposed || self.ids.last().copied() != last;
        self
    }

    /// The starts, the oldest first.
    pub fn ids(&self) -> &[StartId] {
        &self.ids
    }

    /// A process starts. To be on the disk before anybody is told of it. Returns the starts before it.
    pub fn begin(&mut self, start: StartId) -> Vec<StartId> {
        if !std::mem::replace(&mut self.is_proposed, false) {
            self.ids.pop();
        }
        let before = self.ids.clone();
        if self.ids.len() >= MAX_STARTS {
            self.ids.remove(1);
        }
        self.ids.push(start);
        before
    }

    /// The ledger is about to be told of the last start. To be on the disk before that.
    pub fn proposed(&mut self) {
        self.is_proposed = true;
    }

    /// The ledger has the last start: it will not have any earlier one any more.
    pub fn recorded(&mut self) {
        let last = self.ids.len().saturating_sub(1);
        self.ids.drain(..last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process starts, and has the ledger told of that.
    fn begin(starts: &mut Starts, start: u64) -> Vec<StartId> {
        let before = starts.begin(StartId(start));
        starts.proposed();
        before
    }

    #[test]
    fn all_starts_since_the_last_one_that_is_known_to_be_recorded_are_remembered() {
        let mut starts = Starts::first();
        assert_eq!(begin(&mut starts, 7), [StartId::FIRST]);
        assert_eq!(begin(&mut starts, 8), [StartId::FIRST, StartId(7)]);
        assert_eq!(begin(&mut starts, 9), [StartId::FIRST, StartId(7), StartId(8)]);
        starts.recorded();
        assert_eq!(begin(&mut starts, 10), [StartId(9)]);
    }

    #[test]
    fn of_too_many_the_one_that_is_recorded_is_kept() {
        let mut starts = Starts::first();
        (2..200).for_each(|id| drop(begin(&mut starts, id)));
        assert_eq!(starts.ids().len(), MAX_STARTS);
        assert_eq!((starts.ids()[0], starts.ids()[MAX_STARTS - 1]), (StartId::FIRST, StartId(199)));
    }

    #[test]
    fn a_start_that_nobody_was_told_of_takes_no_place() {
        let mut starts = Starts::first();
        begin(&mut starts, 7);
        (8..300).for_each(|id| drop(starts.begin(StartId(id))));
        assert_eq!(starts.ids(), [StartId::FIRST, StartId(7), StartId(299)]);
        let mut new = Starts::default();
        assert_eq!((new.begin(StartId(1)), new.begin(StartId(2))), (vec![], vec![]));
    }
}
