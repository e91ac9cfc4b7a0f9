//! How much a model store can take: its log is bounded and used again when what is in it was applied, and its disk may be
//! full. It promises replicas what it has room for, and keeps that for them.

use std::collections::VecDeque;

use huntaway_replica::{Credit, Entry, NEW_OBJECT_BYTES, WHOLE_OBJECT_BYTES};

use crate::Random;

/// What a block of data takes on the disk.
const DATA_BYTES: u64 = 4096;

/// The largest record of a run: two blocks.
const LARGEST_BYTES: u64 = 10 << 10;

/// What it takes on the disk, in runs in which nobody sets space aside.
const LARGEST_SPACE_BYTES: u64 = NEW_OBJECT_BYTES + 2 * DATA_BYTES;

/// A store promises no more of its log at a time.
const MOST_PROMISED_BYTES: u64 = 2 * LARGEST_BYTES;

/// The room of one store.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    log_bytes: u64,
    disk_bytes: u64,
    /// What the largest write takes of the disk.
    largest_bytes: u64,
    /// No more of the disk is promised at a time. As much is kept for what is rolled forward to a process that does not know what
    /// the one before it had promised, and as much for blocks that are put in place: lessons, and what is mended.
    most_promised_bytes: u64,
    /// What others have on the disk.
    others_bytes: u64,
    /// Objects.
    applied_bytes: u64,
    /// Of the entries in the log: all of them, and what they will take of the disk that is not taken yet.
    logged_bytes: u64,
    logged_space_bytes: u64,
    /// The same, entry by entry.
    logged: VecDeque<(u64, u64)>,
    /// What writes took since the process began, at most, of the log and of the disk, and what they were promised.
    taken_bytes: u64,
    taken_space_bytes: u64,
    promised_bytes: u64,
    promised_space_bytes: u64,
}

impl Room {
    /// A log, and a disk for so many of the largest writes.
    fn new(log_bytes: u64, largest_bytes: u64, most_promised_bytes: u64, writes: u64) -> Self {
        Self {
            log_bytes,
            disk_bytes: 2 * most_promised_bytes + writes * largest_bytes,
            largest_bytes,
            most_promised_bytes,
            others_bytes: 0,
            applied_bytes: 0,
            logged_bytes: 0,
            logged_space_bytes: 0,
            logged: VecDeque::new(),
            taken_bytes: 0,
            taken_space_bytes: 0,
            promised_bytes: 0,
            promised_space_bytes: 0,
        }
    }

    /// A store draws what it has room for.
    pub(crate) fn draw(reserves: bool, random: &mut Random) -> Self {
        let (largest_bytes, promised) =
            if reserves { (WHOLE_OBJECT_BYTES, 1) } else { (LARGEST_SPACE_BYTES, 2) };
        let log_bytes = random.pick(&[2, 4, 8]) * LARGEST_BYTES;
        Self::new(log_bytes, largest_bytes, promised * largest_bytes, random.pick(&[2, 3, 8]))
    }

    fn free_bytes(&self) -> u64 {
        let used = self.others_bytes + self.applied_bytes + self.logged_space_bytes;
        self.disk_bytes.saturating_sub(used)
    }

    /// What is promised and not taken yet, of the disk.
    fn set_aside_bytes(&self) -> u64 {
        self.promised_space_bytes.saturating_sub(self.taken_space_bytes)
    }

    /// What it promises by now.
    pub(crate) fn promise(&mut self) -> Credit {
        let reserves = 2 * self.most_promised_bytes;
        let log = self.log_bytes.saturating_sub(self.logged_bytes).min(MOST_PROMISED_BYTES);
        let disk = self.free_bytes().saturating_sub(reserves).min(self.most_promised_bytes);
        self.promised_bytes = self.promised_bytes.max(self.taken_bytes + log);
        self.promised_space_bytes = self.promised_space_bytes.max(self.taken_space_bytes + disk);
        let when_applied = self.disk_bytes.saturating_sub(self.others_bytes + self.applied_bytes);
        let is_full = when_applied < reserves + self.largest_bytes;
        let space_limit_bytes = self.promised_space_bytes;
        Credit { limit_bytes: self.promised_bytes, space_limit_bytes, is_full }
    }

    /// Whether blocks can be put in place that take so much of the disk: what is kept for promises and for what is rolled
    /// forward is not for them.
    pub(crate) fn takes(&self, entry: &Entry, space_bytes: u64) -> bool {
        let kept = self.set_aside_bytes() + self.most_promised_bytes;
        match entry {
            Entry::Copy { .. } | Entry::Replace { .. } => {
                space_bytes <= self.free_bytes().saturating_sub(kept)
            }
            _ => true,
        }
    }

    /// Whether an entry is more than there is room for, or than was promised and may be rolled forward.
    pub(crate) fn is_overdrawn_by(&self, entry: &Entry, space_bytes: u64) -> bool {
        let taken_bytes = self.taken_bytes + written_bytes(entry).0;
        space_bytes > self.free_bytes() || taken_bytes > self.promised_bytes + MOST_PROMISED_BYTES
    }

    /// An entry goes to the log, and will take so much of the disk.
    pub(crate) fn log(&mut self, entry: &Entry, space_bytes: u64) {
        let (taken_bytes, taken_space_bytes) = written_bytes(entry);
        self.taken_bytes += taken_bytes;
        self.taken_space_bytes += taken_space_bytes;
        self.add(entry, space_bytes);
    }

    /// An entry is in the log.
    pub(crate) fn add(&mut self, entry: &Entry, space_bytes: u64) {
        let bytes = size_bytes(entry);
        self.logged_bytes += bytes;
        self.logged_space_bytes += space_bytes;
        self.logged.push_back((bytes, space_bytes));
    }

    /// The first entry was applied, and left the log.
    pub(crate) fn applied(&mut self) {
        let (bytes, space_bytes) = self.logged.pop_front().unwrap_or_default();
        self.logged_bytes -= bytes;
        self.logged_space_bytes -= space_bytes;
    }

    /// Objects take so much.
    pub(crate) fn holds(&mut self, space_bytes: u64) {
        self.applied_bytes = space_bytes;
    }

    /// A process begins, whose log is still to be looked through.
    pub(crate) fn restart(&mut self) {
        (self.logged_bytes, self.logged_space_bytes) = (0, 0);
        self.logged.clear();
        (self.taken_bytes, self.taken_space_bytes) = (0, 0);
        (self.promised_bytes, self.promised_space_bytes) = (0, 0);
    }

    /// Others fill the disk, but for what is kept and a little.
    pub(crate) fn fill(&mut self, left_bytes: u64) {
        let kept = self.set_aside_bytes() + 2 * self.most_promised_bytes + left_bytes;
        self.others_bytes += self.free_bytes().saturating_sub(kept);
    }

    /// What others had is gone.
    pub(crate) fn empty(&mut self) {
        self.others_bytes = 0;
    }

    /// There is room for everything.
    pub(crate) fn enlarge(&mut self) {
        (self.disk_bytes, self.log_bytes) = (1 << 40, 1 << 40);
    }
}

/// What an object with so many blocks of data takes on the disk.
pub(crate) fn object_bytes(data_blocks: usize) -> u64 {
    if data_blocks > 0 { NEW_OBJECT_BYTES + data_blocks as u64 * DATA_BYTES } else { 0 }
}

fn data_bytes(entry: &Entry) -> u64 {
    let blocks = match entry {
        Entry::Write { record, .. } => record.contents().iter().flatten().count(),
        Entry::Copy { blocks, .. } | Entry::Replace { blocks, .. } => {
            blocks.iter().filter(|copied| copied.stored.content.is_some()).count()
        }
        Entry::Remove { .. } | Entry::Forget | Entry::Known { .. } => 0,
    };
    blocks as u64 * DATA_BYTES
}

fn size_bytes(entry: &Entry) -> u64 {
    match entry {
        Entry::Write { record, .. } => record.size_bytes(),
        entry => data_bytes(entry) + 1024,
    }
}

/// What a write was promised, of the log and of the disk.
fn written_bytes(entry: &Entry) -> (u64, u64) {
    if let Entry::Write { record, .. } = entry { (record.size_bytes(), record.space_bytes()) } else { (0, 0) }
}
