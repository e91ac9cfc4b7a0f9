//! How much a model store can take: its log is bounded and used again when what is in it was applied, and its disk may be
//! full. It promises replicas what it has room for, and keeps that for them.

use std::collections::VecDeque;

use huntaway_replica::{Credit, Entry};

use crate::Random;

/// What a block of data takes on the disk.
const DATA_BYTES: u64 = 4096;

/// The largest record of a run: two blocks.
const LARGEST_BYTES: u64 = 10 << 10;

/// A store promises no more at a time.
const MOST_PROMISED_BYTES: u64 = 2 * LARGEST_BYTES;

/// Kept for what is rolled forward to a process that does not know what the one before it had promised: no more than that.
const ROLL_FORWARD_RESERVE_BYTES: u64 = MOST_PROMISED_BYTES;

/// Kept for blocks that are put in place: lessons, and what is mended.
const COPY_RESERVE_BYTES: u64 = 4 * DATA_BYTES;

/// The room of one store.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    log_bytes: u64,
    disk_bytes: u64,
    /// What others have on the disk.
    others_bytes: u64,
    /// Data in objects.
    applied_bytes: u64,
    /// Of the entries in the log: all of them, and the data in them that comes to objects where there was none.
    logged_bytes: u64,
    logged_data_bytes: u64,
    /// The same, entry by entry.
    logged: VecDeque<(u64, u64)>,
    /// Writes since the process began, and how many were promised to be taken: all, and those that take space.
    taken_bytes: u64,
    promised_bytes: u64,
    promised_space_bytes: u64,
}

impl Room {
    /// A log and a disk for a few blocks.
    pub(crate) fn new(log_bytes: u64, data_blocks: u64) -> Self {
        Self {
            log_bytes,
            disk_bytes: ROLL_FORWARD_RESERVE_BYTES + COPY_RESERVE_BYTES + data_blocks * DATA_BYTES,
            others_bytes: 0,
            applied_bytes: 0,
            logged_bytes: 0,
            logged_data_bytes: 0,
            logged: VecDeque::new(),
            taken_bytes: 0,
            promised_bytes: 0,
            promised_space_bytes: 0,
        }
    }

    /// A store draws what it has room for.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let log_bytes = random.pick(&[2, 4, 8]) * LARGEST_BYTES;
        Self::new(log_bytes, random.pick(&[4, 8, 20]))
    }

    fn free_bytes(&self) -> u64 {
        let used = self.others_bytes + self.applied_bytes + self.logged_data_bytes;
        self.disk_bytes.saturating_sub(used)
    }

    /// What is promised and not taken yet, of the disk.
    fn set_aside_bytes(&self) -> u64 {
        self.promised_space_bytes.saturating_sub(self.taken_bytes)
    }

    /// What it promises by now.
    pub(crate) fn promise(&mut self) -> Credit {
        let reserves = ROLL_FORWARD_RESERVE_BYTES + COPY_RESERVE_BYTES;
        let log = self.log_bytes.saturating_sub(self.logged_bytes).min(MOST_PROMISED_BYTES);
        let disk = self.free_bytes().saturating_sub(reserves).min(log);
        self.promised_bytes = self.promised_bytes.max(self.taken_bytes + log);
        self.promised_space_bytes = self.promised_space_bytes.max(self.taken_bytes + disk);
        let when_applied = self.disk_bytes.saturating_sub(self.others_bytes + self.applied_bytes);
        let is_full = when_applied < reserves + LARGEST_BYTES;
        let space_limit_bytes = self.promised_space_bytes;
        Credit { limit_bytes: self.promised_bytes, space_limit_bytes, is_full }
    }

    /// Whether blocks can be put in place: what is kept for promises and for what is rolled forward is not for them.
    pub(crate) fn takes(&self, entry: &Entry) -> bool {
        let kept = self.set_aside_bytes() + ROLL_FORWARD_RESERVE_BYTES;
        match entry {
            Entry::Copy { .. } | Entry::Replace { .. } => {
                data_bytes(entry) <= self.free_bytes().saturating_sub(kept)
            }
            _ => true,
        }
    }

    /// Whether an entry is more than there is room for, or than was promised and may be rolled forward.
    pub(crate) fn is_overdrawn_by(&self, entry: &Entry, new_blocks: u64) -> bool {
        let taken_bytes = self.taken_bytes + written_bytes(entry);
        new_blocks * DATA_BYTES > self.free_bytes()
            || taken_bytes > self.promised_bytes + ROLL_FORWARD_RESERVE_BYTES
    }

    /// An entry goes to the log, with data for so many blocks that had none.
    pub(crate) fn log(&mut self, entry: &Entry, new_blocks: u64) {
        self.taken_bytes += written_bytes(entry);
        self.add(entry, new_blocks);
    }

    /// An entry is in the log.
    pub(crate) fn add(&mut self, entry: &Entry, new_blocks: u64) {
        let (bytes, data_bytes) = (size_bytes(entry), new_blocks * DATA_BYTES);
        self.logged_bytes += bytes;
        self.logged_data_bytes += data_bytes;
        self.logged.push_back((bytes, data_bytes));
    }

    /// The first entry was applied, and left the log.
    pub(crate) fn applied(&mut self) {
        let (bytes, data_bytes) = self.logged.pop_front().unwrap_or_default();
        self.logged_bytes -= bytes;
        self.logged_data_bytes -= data_bytes;
    }

    /// So many blocks of data are in objects.
    pub(crate) fn holds(&mut self, data_blocks: u64) {
        self.applied_bytes = data_blocks * DATA_BYTES;
    }

    /// A process begins, whose log is still to be looked through.
    pub(crate) fn restart(&mut self) {
        (self.logged_bytes, self.logged_data_bytes) = (0, 0);
        self.logged.clear();
        (self.taken_bytes, self.promised_bytes, self.promised_space_bytes) = (0, 0, 0);
    }

    /// Others fill the disk, but for what is kept and a little.
    pub(crate) fn fill(&mut self, left_bytes: u64) {
        let kept = self.set_aside_bytes() + ROLL_FORWARD_RESERVE_BYTES + COPY_RESERVE_BYTES + left_bytes;
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

fn written_bytes(entry: &Entry) -> u64 {
    if let Entry::Write { record, .. } = entry { record.size_bytes() } else { 0 }
}
