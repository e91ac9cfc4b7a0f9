//! Reads by io_uring: many at a time for one thread, which neither waits for any of them nor is waited for.
//!
//! It is the only place where the kernel writes into memory that the compiler knows nothing of. Who uses it hands over a
//! buffer with each read, and gets it back when the kernel has let go of it.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::types::Fd;
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, PollFlags};
use rustix::io::Errno;

use super::mapping::MappableFile;

/// Most operations that the kernel has at a time.
const ENTRIES: u32 = 128;

/// Most reads under way, each of one or several operations.
const MAX_READS: usize = 128;

/// Most bytes of buffers under way, unless there is only one.
const MAX_BYTES: usize = 32 << 20;

/// What says of a completion that the bell was rung.
const BELL: u64 = u64::MAX;

/// Wakes the thread that waits for the ring.
#[derive(Debug, Clone)]
pub(crate) struct Bell(Arc<OwnedFd>);

impl Bell {
    /// Makes [`Ring::wait`] return, now or the next time.
    pub(crate) fn ring(&self) {
        // It fails when it was rung 2^64 times and never heard.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// A part of a read: so many bytes from one place of the file to one place in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where it is in the file, in bytes.
    pub(crate) offset: u64,
    /// Where it goes in the buffer; no two parts overlap.
    pub(crate) bytes: Range<usize>,
}

/// A read that is over.
#[derive(Debug)]
pub(crate) struct Finished<T> {
    /// Whose it is.
    pub(crate) owner: T,
    /// The buffer that came with it.
    pub(crate) buffer: Vec<u8>,
    /// All of every part is there.
    pub(crate) is_whole: bool,
}

/// Reads under way, each with an owner `T`.
pub(crate) struct Ring<T> {
    uring: IoUring,
    bell: Bell,
    is_bell_armed: bool,
    /// What the kernel reads from and into: nothing here is touched before its last operation is over.
    reads: Vec<Option<Reading<T>>>,
    free: Vec<u32>,
    bytes: usize,
    /// Operations that the kernel has no room for yet.
    queue: VecDeque<squeue::Entry>,
    in_kernel: u32,
    finished: VecDeque<Finished<T>>,
}

struct Reading<T> {
    owner: T,
    file: Arc<MappableFile>,
    buffer: Vec<u8>,
    operations: usize,
    is_whole: bool,
}

impl<T> Ring<T> {
    /// Sets a ring up.
    ///
    /// # Errors
    /// The kernel has no io_uring, or not all that is needed of it, or does not let this process use it: read otherwise.
    pub(crate) fn new() -> io::Result<Self> {
        let uring = IoUring::builder().dontfork().build(ENTRIES)?;
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe)?;
        if ![opcode::Read::CODE, opcode::PollAdd::CODE].iter().all(|code| probe.is_supported(*code)) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            uring,
            bell: Bell(Arc::new(bell)),
            is_bell_armed: false,
            reads: Vec::new(),
            free: Vec::new(),
            bytes: 0,
            queue: VecDeque::new(),
            in_kernel: 0,
            finished: VecDeque::new(),
        })
    }

    /// What wakes the thread that waits.
    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Whether another read should be begun.
    pub(crate) fn has_room(&self) -> bool {
        self.reads.len() - self.free.len() < MAX_READS && self.bytes < MAX_BYTES
    }

    /// Begins to read `parts`, of which there is at least one, into `buffer`.
    pub(crate) fn read(
        &mut self,
        owner: T,
        file: Arc<MappableFile>,
        mut buffer: Vec<u8>,
        parts: impl Iterator<Item = Part>,
    ) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.reads.push(None);
            self.reads.len() as u32 - 1
        });
        let fd = Fd(file.as_raw_fd());
        let before = self.queue.len();
        for Part { offset, bytes } in parts {
            let target = &mut buffer[bytes];
            let length = target.len() as u32;
            let entry = opcode::Read::new(fd, target.as_mut_ptr(), length).offset(offset).build();
            self.queue.push_back(entry.user_data(u64::from(number) << 32 | u64::from(length)));
        }
        let operations = self.queue.len() - before;
        self.bytes += buffer.len();
        self.reads[number as usize] = Some(Reading { owner, file, buffer, operations, is_whole: true });
    }

    /// Hands the kernel what it has room for, and waits until something is over or the bell is rung.
    ///
    /// # Errors
    /// The ring is of no use any more.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        self.hand_over();
        match self.uring.submit_and_wait(1) {
            Ok(_) => {}
            // Short of something, or of room for what is over: that is taken first.
            Err(error)
                if matches!(Errno::from_io_error(&error), Some(Errno::INTR | Errno::AGAIN | Errno::BUSY)) => {
            }
            Err(error) => return Err(error),
        }
        let completions: Vec<cqueue::Entry> = self.uring.completion().collect();
        for completion in completions {
            match completion.user_data() {
                BELL => self.hear(),
                data => self.complete((data >> 32) as usize, completion.result() == data as u32 as i32),
            }
        }
        Ok(())
    }

    fn hand_over(&mut self) {
        if !self.is_bell_armed {
            let poll = opcode::PollAdd::new(Fd(self.bell.0.as_raw_fd()), PollFlags::IN.bits().into());
            self.queue.push_front(poll.build().user_data(BELL));
            self.is_bell_armed = true;
        }
        let mut submission = self.uring.submission();
        while self.in_kernel < ENTRIES
            && let Some(entry) = self.queue.pop_front()
        {
            // SAFETY: the entry polls the bell, which is as old as the ring, or reads from the file into the buffer of a
            // `Reading` in `reads`. Both stay there, the buffer untouched, until `complete` has counted all of its
            // operations, or for ever (`Drop`). The buffer's memory does not move with the `Vec`.
            if unsafe { submission.push(&entry) }.is_err() {
                self.queue.push_front(entry);
                break;
            }
            self.in_kernel += 1;
        }
    }

    fn hear(&mut self) {
        self.in_kernel -= 1;
        self.is_bell_armed = false;
        // Nothing is there if somebody was too quick; the bell is heard then all the same.
        let _ = rustix::io::read(&self.bell.0, &mut [0; 8]);
    }

    fn complete(&mut self, number: usize, is_whole: bool) {
        self.in_kernel -= 1;
        let Some(place) = self.reads.get_mut(number) else { return };
        let Some(reading) = place else { return };
        reading.is_whole &= is_whole;
        reading.operations -= 1;
        if reading.operations == 0
            && let Some(Reading { owner, file, buffer, is_whole, .. }) = place.take()
        {
            drop(file);
            self.free.push(number as u32);
            self.bytes -= buffer.len();
            self.finished.push_back(Finished { owner, buffer, is_whole });
        }
    }

    /// A read that is over, if there is one.
    pub(crate) fn finished(&mut self) -> Option<Finished<T>> {
        self.finished.pop_front()
    }

    /// Whose reads are not over.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &T> {
        self.reads.iter().flatten().map(|reading| &reading.owner)
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // What the kernel may still write to must never be anything else: a disk that does not answer costs memory.
        self.reads.drain(..).flatten().for_each(|reading| mem::forget((reading.file, reading.buffer)));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// A ring, unless this machine allows none, which is said aloud.
    fn ring<T>() -> Option<Ring<T>> {
        match Ring::new() {
            Ok(ring) => Some(ring),
            Err(error) => {
                assert!(std::env::var_os("HUNTAWAY_REQUIRE_TOOLS").is_none(), "no io_uring: {error}");
                eprintln!("skipped: no io_uring here: {error}");
                None
            }
        }
    }

    fn file(bytes: &[u8]) -> Arc<MappableFile> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Arc::new(MappableFile::new(file))
    }

    fn next<T>(ring: &mut Ring<T>) -> Finished<T> {
        loop {
            if let Some(finished) = ring.finished() {
                return finished;
            }
            ring.wait().unwrap();
        }
    }

    #[test]
    fn every_part_comes_to_its_place() {
        let Some(mut ring) = ring() else { return };
        let file = file(&(0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        // More operations than the kernel takes at a time, each of four bytes.
        for owner in 0..3_u32 {
            let part = |n: u32| Part {
                offset: u64::from(owner * 1000 + n * 7) * 4,
                bytes: n as usize * 8..n as usize * 8 + 4,
            };
            ring.read(owner, file.clone(), vec![0xff; 8000], (0..1000).map(part));
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            let Finished { owner, buffer, is_whole } = next(&mut ring);
            assert!(is_whole);
            for (n, found) in (0..).zip(buffer.chunks(8)) {
                assert_eq!(
                    (&found[..4], &found[4..]),
                    (&(owner * 1000 + n * 7).to_le_bytes()[..], &[0xff; 4][..])
                );
            }
            seen.push(owner);
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
        assert!(ring.has_room() && ring.owners().next().is_none());
    }

    #[test]
    fn a_part_that_is_not_all_there_is_told() {
        let Some(mut ring) = ring() else { return };
        let file = file(&[7; 10]);
        let parts = [Part { offset: 0, bytes: 0..4 }, Part { offset: 8, bytes: 4..8 }];
        ring.read((), file, vec![0; 8], parts.into_iter());
        assert!(!next(&mut ring).is_whole);
    }

    #[test]
    fn the_bell_is_heard_each_time() {
        let Some(mut ring) = ring::<()>() else { return };
        let bell = ring.bell();
        for _ in 0..3 {
            let ringer = std::thread::spawn({
                let bell = bell.clone();
                move || bell.ring()
            });
            ring.wait().unwrap();
            ringer.join().unwrap();
        }
        assert!(ring.finished().is_none());
    }

    #[test]
    fn no_more_is_begun_than_there_is_room_for() {
        let Some(mut ring) = ring() else { return };
        let file = file(&[7; 4096]);
        let mut begun = 0;
        while ring.has_room() {
            ring.read(
                begun,
                file.clone(),
                vec![0; 4096],
                std::iter::once(Part { offset: 0, bytes: 0..4096 }),
            );
            begun += 1;
        }
        assert_eq!(begun, MAX_READS);
        (0..begun).for_each(|_| assert!(next(&mut ring).buffer == [7; 4096]));
        ring.read(0, file, vec![0; MAX_BYTES], std::iter::once(Part { offset: 0, bytes: 0..4096 }));
        assert!(!ring.has_room());
    }
}
