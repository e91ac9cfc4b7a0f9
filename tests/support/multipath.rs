//! An initiator with a path through every gateway, which takes turns among those that work. It writes blocks that each have a
//! value of their own, and keeps what it sent, what came of it, and when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use huntaway_judge::{Attempt, Effect, History, Random, Violation};

use super::initiator::{Initiator, Login};

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Most blocks of one command.
pub(crate) const MOST_BLOCKS: u64 = 4;
/// Time between looks at a path that does not work.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(3);
/// Time that a login may take.
const LOGIN_LIMIT: Duration = Duration::from_millis(1500);
/// Most sessions that are given up and not closed.
const MOST_ABANDONED: usize = 4;
/// How long no path at all may work, or a command may fail.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a command that was not answered may still have an effect (ARCHITECTURE.md, Active/active without ghosts).
const MAY_ACT_FOR: Duration = Duration::from_millis(2860);
/// Blocks of an object (4 MiB): each object has its own replicas.
pub(crate) const OBJECT_BLOCKS: u64 = 1024;
/// Objects of the disk.
pub(crate) const OBJECTS: u64 = 16;
/// Blocks before and after the border of two objects that are worked on.
const NEAR_BORDER: u64 = 4;

/// What was done to each block.
pub(crate) type Seen = BTreeMap<u64, Vec<Attempt>>;

/// One initiator; it sends one command at a time.
pub(crate) struct Multipath {
    name: String,
    target: String,
    paths: Vec<Path>,
    /// The sessions that it gave up last: that they are closed arrives as little as anything else on a path that failed.
    abandoned: Vec<Initiator>,
    turn: usize,
    random: Random,
    began: Instant,
    next_value: u64,
    /// How long it waits for an answer on its next sessions; as long as each draws, unless told.
    pub(crate) answered_within: Option<Duration>,
    /// What it saw so far.
    pub(crate) seen: Seen,
    /// How its commands ended.
    pub(crate) ends: Ends,
}

/// The sense key of what happened to a disk or a session, and no error.
pub(crate) const UNIT_ATTENTION: u8 = 6;

/// How many commands ended in which way.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ends {
    /// Done.
    pub(crate) done: u64,
    /// By sense key, code and qualifier.
    pub(crate) failed: BTreeMap<(u8, u8, u8), u64>,
    /// Without an answer.
    pub(crate) lost: u64,
    /// The longest time from first sending a command to its answer, after all failures.
    pub(crate) slowest: Duration,
}

struct Path {
    portal: String,
    session: Option<Initiator>,
    not_before: Instant,
}

/// What came of one command on one path.
enum End<T> {
    Done(T),
    Failed,
    Lost,
}

impl Multipath {
    /// One that nobody else has the number of. Times count from `began`.
    pub(crate) fn new(number: u64, target: &str, portals: &[String], random: Random, began: Instant) -> Self {
        let path = |portal: &String| Path { portal: portal.clone(), session: None, not_before: began };
        Self {
            name: format!("iqn.2026-11.dev.huntaway:initiator-{number}"),
            target: target.to_owned(),
            paths: portals.iter().map(path).collect(),
            abandoned: Vec::new(),
            turn: 0,
            random,
            began,
            next_value: (number + 1) << 40,
            answered_within: None,
            seen: Seen::new(),
            ends: Ends::default(),
        }
    }

    /// Writes these blocks, on one path after the other until one has done it.
    pub(crate) fn write(&mut self, block: u64, count: u64) {
        // One that is not done within its patience ends in a panic.
        self.try_write(block, count, 2 * PATIENCE);
    }

    /// The same, for so long at most: false if none has done it.
    pub(crate) fn try_write(&mut self, block: u64, count: u64, limit: Duration) -> bool {
        let first = Instant::now();
        while first.elapsed() < limit {
            // One value for each try: one that failed is done by then, or never.
            let value = self.next_value;
            self.next_value += 1;
            let data = value.to_le_bytes().repeat(count as usize * BLOCK_BYTES / 8);
            let began = self.began;
            let session = self.session();
            let start = micros(began);
            let end = match session.try_tell(0, &cdb(0x2a, block, count), &data) {
                Ok(Ok(())) => End::Done(()),
                Ok(Err(sense)) => self.failed(sense),
                Err(_) => self.lost(),
            };
            let answered = matches!(end, End::Done(()));
            let acts_for = if matches!(end, End::Lost) { MAY_ACT_FOR.as_micros() as u64 } else { 0 };
            let end_time = micros(began) + acts_for;
            let effect = Effect::Write(value);
            let attempt = Attempt { effect, start, end: end_time, answered, stable: false };
            (block..block + count).for_each(|block| self.seen.entry(block).or_default().push(attempt));
            if self.is_done(&end, first) {
                return true;
            }
        }
        false
    }

    /// Reads these blocks, on one path after the other until one has done it.
    ///
    /// # Panics
    /// If a block is made up of several.
    pub(crate) fn read(&mut self, block: u64, count: u64) {
        let first = Instant::now();
        loop {
            let began = self.began;
            let session = self.session();
            let start = micros(began);
            let end = match session.try_ask(0, &cdb(0x28, block, count), count as u32 * BLOCK_BYTES as u32) {
                Ok(Ok(data)) => End::Done(data),
                Ok(Err(sense)) => self.failed(sense),
                Err(_) => self.lost(),
            };
            if let End::Done(data) = &end {
                let time = micros(began);
                assert_eq!(data.len(), count as usize * BLOCK_BYTES);
                for (block, data) in (block..).zip(data.chunks(BLOCK_BYTES)) {
                    let effect = Effect::Read(value(block, data));
                    let attempt = Attempt { effect, start, end: time, answered: true, stable: false };
                    self.seen.entry(block).or_default().push(attempt);
                }
            }
            if self.is_done(&end, first) {
                return;
            }
        }
    }

    /// Reads and writes near the borders of objects, where most commands overlap others, until it is over.
    pub(crate) fn work(&mut self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Acquire) {
            let border = OBJECT_BLOCKS * self.random.between(1, OBJECTS - 1);
            let count = self.random.between(1, MOST_BLOCKS);
            let block = border - NEAR_BORDER + self.random.below(2 * NEAR_BORDER - count + 1);
            if self.random.percent(50) { self.write(block, count) } else { self.read(block, count) }
        }
    }

    /// Reads all that [`work`](Self::work) may have written, and some more of the beginning of each object.
    pub(crate) fn read_all(&mut self) {
        for object in 0..OBJECTS {
            let begin = object * OBJECT_BLOCKS;
            self.read(begin, MOST_BLOCKS);
            self.read(begin + MOST_BLOCKS, MOST_BLOCKS);
            self.read(begin + OBJECT_BLOCKS - MOST_BLOCKS, MOST_BLOCKS);
        }
    }

    /// Counts how a command ended, and waits before it is sent again. Returns whether it is done.
    fn is_done<T>(&mut self, end: &End<T>, first: Instant) -> bool {
        assert!(first.elapsed() < PATIENCE, "{}: one command is not served: {:?}", self.name, self.ends);
        match end {
            End::Done(_) => {
                self.ends.done += 1;
                self.ends.slowest = self.ends.slowest.max(first.elapsed());
            }
            // On another path at once, but not thousands of times in a second.
            End::Failed => thread::sleep(Duration::from_millis(5)),
            // What was not answered may still be done for a while, so nobody sends it elsewhere at once. Most initiators
            // wait for 5 s; 3 s are the least.
            End::Lost => thread::sleep(Duration::from_millis(self.random.between(3000, 3500))),
        }
        matches!(end, End::Done(_))
    }

    fn failed<T>(&mut self, sense: (u8, u8, u8)) -> End<T> {
        *self.ends.failed.entry(sense).or_default() += 1;
        if sense.0 != UNIT_ATTENTION {
            self.turn += 1;
        }
        End::Failed
    }

    fn lost<T>(&mut self) -> End<T> {
        self.ends.lost += 1;
        let turn = self.turn % self.paths.len();
        let path = &mut self.paths[turn];
        self.abandoned.extend(path.session.take());
        let most = self.abandoned.len().saturating_sub(MOST_ABANDONED);
        self.abandoned.drain(..most);
        path.not_before = Instant::now() + TRIED_AGAIN_AFTER;
        self.turn += 1;
        End::Lost
    }

    /// The session whose turn it is. A path that cannot be had is passed over.
    fn session(&mut self) -> &mut Initiator {
        let deadline = Instant::now() + PATIENCE;
        if self.random.percent(30) {
            self.turn += 1;
        }
        for tried in 1.. {
            let turn = self.turn % self.paths.len();
            if self.is_there(turn) {
                break;
            }
            assert!(Instant::now() < deadline, "{} had no path for {PATIENCE:?}", self.name);
            self.turn += 1;
            if tried % self.paths.len() == 0 {
                thread::sleep(Duration::from_millis(50));
            }
        }
        let turn = self.turn % self.paths.len();
        self.paths[turn].session.as_mut().expect("it is there")
    }

    fn is_there(&mut self, turn: usize) -> bool {
        let path = &mut self.paths[turn];
        if path.session.is_some() {
            return true;
        }
        if Instant::now() < path.not_before {
            return false;
        }
        let target = Some(&*self.target);
        let login =
            Login { portal: &path.portal, initiator: &self.name, target, account: None, mutual: None };
        // Some commands are there still when a node that hung goes on.
        let longest_ms = if self.random.percent(50) { 3000 } else { 15_000 };
        let drawn = Duration::from_millis(self.random.between(1000, longest_ms));
        let limit = self.answered_within.unwrap_or(drawn);
        match login.try_log_in(LOGIN_LIMIT) {
            Ok(Ok(mut session)) => {
                session.limit(limit);
                path.session = Some(session);
            }
            Ok(Err(_)) | Err(_) => path.not_before = Instant::now() + TRIED_AGAIN_AFTER,
        }
        path.session.is_some()
    }
}

/// Has all of them work at once, for as long as that takes.
pub(crate) fn work_during(initiators: &mut [Multipath], during: impl FnOnce()) {
    /// Ends the work, also when there was a panic.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = End(&is_over);
        let at_work: Vec<_> =
            initiators.iter_mut().map(|initiator| scope.spawn(|| initiator.work(&is_over))).collect();
        during();
        drop(end);
        at_work.into_iter().for_each(|thread| thread.join().expect("an initiator comes to its end"));
    });
}

/// Judges what all initiators saw of each block.
///
/// # Panics
/// If that cannot be explained by one disk; all that was seen of one such block is shown.
pub(crate) fn judge<'a>(seen: impl IntoIterator<Item = &'a Seen>) {
    let mut histories: BTreeMap<u64, History> = BTreeMap::new();
    for (block, attempts) in seen.into_iter().flatten() {
        let history = histories.entry(*block).or_default();
        attempts.iter().for_each(|attempt| history.add(*attempt));
    }
    let judged = histories.iter().filter_map(|(block, history)| Some((block, history.check().err()?)));
    let broken: Vec<(&u64, Violation)> = judged.collect();
    let Some((block, _)) = broken.first() else { return };
    let mut attempts = histories[*block].attempts().to_vec();
    attempts.sort_by_key(|attempt| attempt.start);
    attempts.iter().for_each(|attempt| eprintln!("block {block}: {attempt:x?}"));
    let told: Vec<String> = broken.iter().map(|(block, why)| format!("block {block}: {why}")).collect();
    panic!("{} of {} blocks: {}", broken.len(), histories.len(), told.join("; "));
}

fn micros(began: Instant) -> u64 {
    began.elapsed().as_micros() as u64
}

/// READ(10) or WRITE(10).
fn cdb(operation: u8, block: u64, count: u64) -> [u8; 10] {
    let block = (block as u32).to_be_bytes();
    [operation, 0, block[0], block[1], block[2], block[3], 0, 0, count as u8, 0]
}

/// The value that a block was written with.
fn value(block: u64, data: &[u8]) -> u64 {
    let (words, _) = data.as_chunks::<8>();
    let value = words.first().map_or(0, |word| u64::from_le_bytes(*word));
    let torn = words.iter().position(|word| u64::from_le_bytes(*word) != value);
    assert_eq!(torn, None, "block {block} is made up of several writes");
    value
}
