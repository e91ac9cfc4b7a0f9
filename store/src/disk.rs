//! The files a store keeps, as an interface: the real file system, or a simulated disk that loses power.
//!
//! Paths are relative to the disk's directory and use `/`. What is written is visible to reads at once, but survives a
//! power loss only once [`Disk::sync_data`] of the file returned (its content and length), and, for a file's *name*
//! (created, renamed, removed), once [`Disk::sync_dir`] of its directory returned.
//! A failed sync means that disk is no longer to be trusted: it is never repeated (its data may be lost silently).

mod file;
mod mapping;
mod ring;
mod simulated;

use std::io::{self, IoSlice};
use std::sync::Arc;

pub use file::FileDisk;
pub use mapping::MappableFile;
pub(crate) use ring::{Bell, Part, Ring};
pub use simulated::{
    Crash, Fault, FileImage, Misdirected, Operation, SeededRandom, SimulatedDisk, SimulatedFile,
};

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// It must exist.
    Existing,
    /// It must not exist: it is made, empty.
    New,
}

/// One directory of files. All calls may come from several threads at once.
pub trait Disk: Send + Sync + 'static {
    /// An open file; closed when the last clone of the `Arc` is dropped.
    type File: Send + Sync + 'static;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` / `AlreadyExists` by [`Open`]; otherwise the operating system's.
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<Self::File>>;

    /// Fills `buffer` from `offset`; returns how many bytes there were (less only at the end of the file).
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Whether no read waits for more than memory, so that all may be carried out at once.
    fn is_memory(&self) -> bool {
        true
    }

    /// As [`Disk::read_at`] if all of `buffer` can be had without waiting; false if not, or if that is not known, or if the
    /// file ends before, or on an error: `read_at` tells which. The content of `buffer` is unspecified then.
    fn read_at_hand(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> bool {
        self.is_memory() && self.read_at(file, buffer, offset).is_ok_and(|count| count == buffer.len())
    }

    /// Writes all of `parts`, one after another, at `offset`.
    fn write_at(&self, file: &Self::File, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Writes what all of `parts` hold, one after another, at `offset`. They are of other files, and nobody changes them
    /// meanwhile.
    fn copy(&self, parts: &[Extent<Self::File>], file: &Self::File, offset: u64) -> io::Result<()> {
        copy_through_memory(self, parts, file, offset)
    }

    /// Gives back what [`Disk::copy`] took of this process's memory for reading the file.
    fn let_go(&self, _file: &Self::File) {}

    /// Puts content and length on stable storage.
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;

    /// The file's length in bytes.
    fn length(&self, file: &Self::File) -> io::Result<u64>;

    /// Cuts or extends (with zeroes, sparsely) the file.
    fn set_length(&self, file: &Self::File, length: u64) -> io::Result<()>;

    /// Sets space aside for a range, so that writing there cannot fail for want of space. The content does not change;
    /// a file that ends before the range does is extended.
    fn allocate(&self, file: &Self::File, offset: u64, length: u64) -> io::Result<()>;

    /// Gives the space of a range back; it reads as zeroes.
    fn punch_hole(&self, file: &Self::File, offset: u64, length: u64) -> io::Result<()>;

    /// Makes a directory; it may exist. Its name needs a `sync_dir` of its parent.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// Names of the files and directories in a directory, sorted. `""` is the disk's own.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// Gives a file or directory another name, replacing what was there.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Puts the names in a directory on stable storage.
    fn sync_dir(&self, path: &str) -> io::Result<()>;

    /// Bytes that can still be written, and the size of it all.
    fn space(&self) -> io::Result<Space>;

    /// Carries out `jobs`, which mostly wait for this disk and do not wait for one another: in any order, here one after
    /// another. Returns when all are done.
    fn carry_out(&self, jobs: Vec<Job<'_>>) {
        jobs.into_iter().for_each(|job| job());
    }
}

/// What is to be copied cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("what is to be written there cannot be read: {0}")]
struct CopyError(io::Error);

/// As [`Disk::copy`], by reading all of it first.
fn copy_through_memory<D: Disk + ?Sized>(
    disk: &D,
    parts: &[Extent<D::File>],
    file: &D::File,
    offset: u64,
) -> io::Result<()> {
    let mut bytes = vec![0; parts.iter().map(|part| part.length).sum()];
    let mut rest = bytes.as_mut_slice();
    for part in parts {
        let (buffer, after) = rest.split_at_mut(part.length);
        let read = disk.read_at(&part.file, buffer, part.offset);
        // Whoever asked knows the file that is written to.
        if read.map_err(|error| io::Error::new(error.kind(), CopyError(error)))? < part.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        rest = after;
    }
    disk.write_at(file, &[IoSlice::new(&bytes)], offset)
}

/// Bytes of a file.
#[derive(Debug)]
pub struct Extent<F> {
    /// Which file.
    pub file: Arc<F>,
    /// Where they begin in it.
    pub offset: u64,
    /// How many.
    pub length: usize,
}

/// Work with a disk that may be done at the same time as other work with it.
pub type Job<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Room on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes free for us.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}
