//! Starts of processes, by which a disk is told from a new one or an old copy of it.

/// Most starts that a disk remembers. Of more that nobody knows to be recorded, the oldest are forgotten: should the ledger
/// come to have one of those, the disk counts as another one, which is safe.
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
}

impl Starts {
    /// What the disk of a node's first process remembers. A new disk remembers nothing: that is the default.
    pub fn first() -> Self {
        Self { ids: vec![StartId::FIRST] }
    }

    /// The starts, the oldest first.
    pub fn ids(&self) -> &[StartId] {
        &self.ids
    }

    /// A process starts. To be on the disk before anybody is told of it. Returns the starts before it.
    pub fn begin(&mut self, start: StartId) -> Vec<StartId> {
        let before = self.ids.clone();
        if self.ids.len() >= MAX_STARTS {
            self.ids.remove(1);
        }
        self.ids.push(start);
        before
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

    #[test]
    fn all_starts_since_the_last_one_that_is_known_to_be_recorded_are_remembered() {
        let mut starts = Starts::first();
        assert_eq!(starts.begin(StartId(7)), [StartId::FIRST]);
        assert_eq!(starts.begin(StartId(8)), [StartId::FIRST, StartId(7)]);
        assert_eq!(starts.begin(StartId(9)), [StartId::FIRST, StartId(7), StartId(8)]);
        starts.recorded();
        assert_eq!(starts.begin(StartId(10)), [StartId(9)]);
    }

    #[test]
    fn of_too_many_the_one_that_is_recorded_is_kept() {
        let mut starts = Starts::first();
        (2..200).for_each(|id| drop(starts.begin(StartId(id))));
        assert_eq!(starts.ids().len(), MAX_STARTS);
        assert_eq!((starts.ids()[0], starts.ids()[MAX_STARTS - 1]), (StartId::FIRST, StartId(199)));
    }
}
