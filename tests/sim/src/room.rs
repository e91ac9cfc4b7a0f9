//! How much a model store can take: its log is bounded and used again when what is in it was applied, and its disk may be
//! full. It promises replicas what it has room for, and keeps that for them.

use huntaway_replica::{Credit, Entry, FREEING_BYTES};

use crate::Random;

/// What a block of data takes on the disk.
const DATA_BYTES: u64 = 4096;

/// The largest record of a run: two blocks.
const LARGEST_BYTES: u64 = 10 << 10;

/// A store promises no more at a time.
const MOST_PROMISED_BYTES: u64 = FREEING_BYTES + 2 * LARGEST_BYTES;

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
    /// Of the entries in the log: all of them, and the data in them, which may come to objects.
    logged_bytes: u64,
    logged_data_bytes: u64,
    /// Writes since the process began, and how many were promised to be taken.
    taken_bytes: u64,
    promised_bytes: u64,
    /// It was given more than it has room for.
    pub(crate) is_overdrawn: bool,
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
            taken_bytes: 0,
            promised_bytes: 0,
            is_overdrawn: false,
        }
    }

    /// A store draws what it has room for.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let log_bytes = FREEING_BYTES + random.pick(&[1, 2, 4]) * LARGEST_BYTES;
        Self::new(log_bytes, random.pick(&[4, 8, 20]))
    }

    fn free_bytes(&self) -> u64 {
        let used = self.others_bytes + self.applied_bytes + self.logged_data_bytes;
        self.disk_bytes.saturating_sub(used)
    }

    /// What is promised and not taken yet, of the disk.
    fn set_aside_bytes(&self) -> u64 {
        self.promised_bytes.saturating_sub(self.taken_bytes + FREEING_BYTES)
    }

    /// What it promises by now.
    pub(crate) fn promise(&mut self) -> Credit {
        let reserves = ROLL_FORWARD_RESERVE_BYTES + COPY_RESERVE_BYTES;
        let disk = self.free_bytes().saturating_sub(reserves) + FREEING_BYTES;
        let log = self.log_bytes.saturating_sub(self.logged_bytes);
        let promised = self.taken_bytes + disk.min(log).min(MOST_PROMISED_BYTES);
        self.promised_bytes = self.promised_bytes.max(promised);
        let when_applied = self.disk_bytes.saturating_sub(self.others_bytes + self.applied_bytes);
        let is_full = when_applied < reserves + LARGEST_BYTES;
        Credit { limit_bytes: self.promised_bytes, is_full }
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

    /// An entry goes to the log.
    pub(crate) fn log(&mut self, entry: &Entry) {
        self.is_overdrawn |= data_bytes(entry) > self.free_bytes();
        if let Entry::Write { record, .. } = entry {
            self.taken_bytes += record.size_bytes();
        }
        self.is_overdrawn |= self.taken_bytes > self.promised_bytes + ROLL_FORWARD_RESERVE_BYTES;
        self.add(entry);
    }

    fn add(&mut self, entry: &Entry) {
        self.logged_bytes += size_bytes(entry);
        self.logged_data_bytes += data_bytes(entry);
    }

    /// An entry was applied, and left the log.
    pub(crate) fn applied(&mut self, entry: &Entry) {
        self.logged_bytes -= size_bytes(entry);
        self.logged_data_bytes -= data_bytes(entry);
    }

    /// So many blocks of data are in objects.
    pub(crate) fn holds(&mut self, data_blocks: u64) {
        self.applied_bytes = data_blocks * DATA_BYTES;
    }

    /// A process begins with these entries in the log.
    pub(crate) fn restart<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) {
        (self.logged_bytes, self.logged_data_bytes) = (0, 0);
        (self.taken_bytes, self.promised_bytes) = (0, 0);
        entries.for_each(|entry| self.add(entry));
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
